//! The lines of the Centrifuge JSON protocol: commands as they are written, replies and pushes as they are read.
//! What they mean for the client does not live here.
//!
//! spec: centrifuge client protocol, "Command / Reply / Push fields"

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Payload, Position, Publication, Refusal, SessionInfo, Since};

/// One command, in the order of its fields on the wire. Exactly one request is set.
#[derive(Default, Serialize)]
pub(crate) struct Command<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connect: Option<Connect<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscribe: Option<Subscribe<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unsubscribe: Option<OnTopic<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publish: Option<Publish<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presence: Option<OnTopic<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presence_stats: Option<OnTopic<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<History<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rpc: Option<Rpc<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) send: Option<Send<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refresh: Option<Refresh<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sub_refresh: Option<SubRefresh<'a>>,
}

impl Command<'_> {
    /// The command as one line, without its line break.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("a command is maps with text keys")
    }
}

#[derive(Serialize)]
pub(crate) struct Connect<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'a Payload>,
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    /// Subscriptions of the server's making, to resume.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) subs: BTreeMap<&'a str, ResumeServerSide<'a>>,
}

#[derive(Serialize)]
pub(crate) struct ResumeServerSide<'a> {
    recover: bool,
    epoch: &'a str,
    offset: u64,
}

impl<'a> From<&'a Position> for ResumeServerSide<'a> {
    fn from(position: &'a Position) -> Self {
        Self { recover: true, epoch: &position.epoch, offset: position.offset }
    }
}

#[derive(Serialize)]
pub(crate) struct Subscribe<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    recover: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    epoch: &'a str,
    #[serde(skip_serializing_if = "is_zero_u64")]
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Payload>,
    #[serde(skip_serializing_if = "is_false")]
    positioned: bool,
    #[serde(skip_serializing_if = "is_false")]
    recoverable: bool,
    #[serde(skip_serializing_if = "is_false")]
    join_leave: bool,
}

impl<'a> Subscribe<'a> {
    /// A subscribe that resumes where `since` is set, and asks for positions where `recoverable`.
    pub(crate) fn new(channel: &'a str, since: Option<&'a Since>, recoverable: bool) -> Self {
        let (epoch, offset) = since.map_or(("", 0), wire_position);
        Self {
            channel,
            token: None,
            recover: since.is_some(),
            epoch,
            offset,
            data: None,
            positioned: recoverable,
            recoverable,
            join_leave: false,
        }
    }

    pub(crate) fn with(mut self, token: Option<&'a str>, data: Option<&'a Payload>, join_leave: bool) -> Self {
        (self.token, self.data, self.join_leave) = (token, data, join_leave);
        self
    }
}

#[derive(Serialize)]
pub(crate) struct OnTopic<'a> {
    pub(crate) channel: &'a str,
}

#[derive(Serialize)]
pub(crate) struct Publish<'a> {
    pub(crate) channel: &'a str,
    pub(crate) data: &'a Payload,
}

#[derive(Serialize)]
pub(crate) struct History<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<WirePosition<'a>>,
    #[serde(skip_serializing_if = "is_false")]
    reverse: bool,
}

impl<'a> History<'a> {
    pub(crate) fn new(channel: &'a str, since: Option<&'a Since>, limit: u32, reverse: bool) -> Self {
        let since = since.map(wire_position).map(|(epoch, offset)| WirePosition { offset, epoch });
        Self { channel, limit, since, reverse }
    }
}

#[derive(Serialize)]
struct WirePosition<'a> {
    #[serde(skip_serializing_if = "is_zero_u64")]
    offset: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    epoch: &'a str,
}

#[derive(Serialize)]
pub(crate) struct Rpc<'a> {
    pub(crate) method: &'a str,
    pub(crate) data: &'a Payload,
}

#[derive(Serialize)]
pub(crate) struct Send<'a> {
    pub(crate) data: &'a Payload,
}

#[derive(Serialize)]
pub(crate) struct Refresh<'a> {
    pub(crate) token: &'a str,
}

#[derive(Serialize)]
pub(crate) struct SubRefresh<'a> {
    pub(crate) channel: &'a str,
    pub(crate) token: &'a str,
}

/// One line of the server: an answer where `id` is set, a push, or neither: a ping.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    pub(crate) id: u32,
    pub(crate) error: Option<WireError>,
    pub(crate) push: Option<Push>,
    pub(crate) connect: Option<ConnectResult>,
    pub(crate) subscribe: Option<SubscribeResult>,
    pub(crate) presence: Option<PresenceResult>,
    pub(crate) presence_stats: Option<StatsResult>,
    pub(crate) history: Option<HistoryResult>,
    pub(crate) rpc: Option<DataResult>,
    pub(crate) refresh: Option<RefreshResult>,
    pub(crate) sub_refresh: Option<RefreshResult>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireError {
    code: u32,
    message: String,
    temporary: bool,
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        let temporary = crate::codes::error_is_temporary(error.code, error.temporary);
        Self { code: error.code, message: error.message.into(), temporary }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectResult {
    pub(crate) client: String,
    pub(crate) expires: bool,
    pub(crate) ttl: u64,
    pub(crate) ping: u64,
    pub(crate) pong: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) subs: BTreeMap<String, SubscribeResult>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RefreshResult {
    pub(crate) expires: bool,
    pub(crate) ttl: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct SubscribeResult {
    pub(crate) expires: bool,
    pub(crate) ttl: u64,
    recoverable: bool,
    positioned: bool,
    epoch: String,
    offset: u64,
    pub(crate) recovered: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) publications: Vec<WirePublication>,
    pub(crate) data: Option<Payload>,
}

impl SubscribeResult {
    /// The position it states; `None` where the topic keeps none.
    pub(crate) fn position(&self) -> Option<Position> {
        let positioned = self.recoverable || self.positioned || !self.epoch.is_empty();
        positioned.then(|| Position { offset: self.offset, epoch: self.epoch.as_str().into() })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct WirePublication {
    data: Option<Payload>,
    info: Option<WireInfo>,
    pub(crate) offset: u64,
    pub(crate) epoch: String,
    tags: Option<BTreeMap<String, String>>,
    time: u64,
}

impl WirePublication {
    /// The publication, in the life of the history that the subscription stands in.
    pub(crate) fn in_epoch(self, epoch: Option<&Arc<str>>) -> Publication {
        let epoch = if self.epoch.is_empty() { epoch.cloned() } else { Some(self.epoch.into()) };
        Publication {
            data: self.data.unwrap_or_else(Payload::null),
            position: epoch.filter(|_| self.offset > 0).map(|epoch| Position { offset: self.offset, epoch }),
            publisher: self.info.map(|info| Arc::new(info.into())),
            tags: self.tags.unwrap_or_default(),
            published_at_ms: (self.time > 0).then_some(self.time),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireInfo {
    user: Box<str>,
    client: Box<str>,
    conn_info: Option<Payload>,
    chan_info: Option<Payload>,
}

impl From<WireInfo> for SessionInfo {
    fn from(info: WireInfo) -> Self {
        let text = |payload: Option<Payload>| payload.map(|payload| payload.as_str().into());
        Self { session: info.client, user: info.user, info: text(info.conn_info), topic_info: text(info.chan_info) }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct PresenceResult {
    #[serde(deserialize_with = "or_default")]
    pub(crate) presence: BTreeMap<String, WireInfo>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct StatsResult {
    pub(crate) num_clients: u64,
    pub(crate) num_users: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct HistoryResult {
    #[serde(deserialize_with = "or_default")]
    pub(crate) publications: Vec<WirePublication>,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct DataResult {
    pub(crate) data: Option<Payload>,
}

/// What the server tells of its own accord.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Push {
    pub(crate) channel: String,
    #[serde(rename = "pub")]
    pub(crate) publication: Option<WirePublication>,
    pub(crate) join: Option<InfoPush>,
    pub(crate) leave: Option<InfoPush>,
    pub(crate) unsubscribe: Option<CodePush>,
    pub(crate) subscribe: Option<SubscribeResult>,
    pub(crate) message: Option<DataResult>,
    pub(crate) disconnect: Option<CodePush>,
    pub(crate) refresh: Option<RefreshResult>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct InfoPush {
    pub(crate) info: WireInfo,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct CodePush {
    pub(crate) code: u32,
    pub(crate) reason: String,
}

fn wire_position(since: &Since) -> (&str, u64) {
    match since {
        // An empty epoch together with offset 0 means: from the beginning, whichever epoch it is.
        Since::Beginning => ("", 0),
        Since::Position(position) => (&position.epoch, position.offset),
    }
}

/// Some servers write an empty list or map as `null`.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscribe_that_resumes_carries_epoch_and_offset() {
        let since = Since::Position("17@Bx3k".parse().unwrap());
        let command = Command { id: 2, subscribe: Some(Subscribe::new("news", Some(&since), true)), ..Command::default() };
        assert_eq!(
            command.line(),
            r#"{"id":2,"subscribe":{"channel":"news","recover":true,"epoch":"Bx3k","offset":17,"positioned":true,"recoverable":true}}"#
        );
    }

    #[test]
    fn unknown_fields_and_nulls_are_tolerated() {
        let line: Line = serde_json::from_str(r#"{"id":1,"error":null,"subscribe":{"flag":7,"id":3,"recovered":true},"new":{}}"#).unwrap();
        assert!(line.error.is_none());
        assert!(line.subscribe.is_some_and(|result| result.recovered && result.position().is_none()));
    }
}
