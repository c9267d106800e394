//! Results of the server API as JSON, in the shapes that Centrifugo's published clients expect. Errors are written elsewhere.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::{
    GroupCount, HistoryPage, NodeInfo, NodeProbes, Payload, PayloadKind, PresenceStats, Publication, PublishReport, Published, Refusal,
    Sent, SessionInfo, SessionReport, StateRows, Tenant, TopicCount, UserSessions, unix_ms,
};

use super::{
    call::{ChannelsCall, GroupsCall},
    method::Method,
};
use crate::failure::write_error;

/// The result of one method, as one JSON value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    /// Length of the result, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Done, nothing to say.
    pub(crate) fn empty() -> Self {
        Self(b"{}".to_vec())
    }

    /// `publish`: where it stands, if it stands anywhere; and where its version was not newer, that it was not stored.
    pub(crate) fn published(published: Published) -> Self {
        let place = published.position.map(|position| format!(r#""offset":{},"epoch":"{}""#, position.offset, position.epoch));
        let outdated = published.outdated.then(|| r#""outdated":true"#.to_owned());
        let fields: Vec<String> = place.into_iter().chain(outdated).collect();
        Self(format!("{{{}}}", fields.join(",")).into_bytes())
    }

    /// `state`: rows, the top at that moment, and where the next page begins.
    pub(crate) fn state(state: &StateRows) -> Self {
        let mut out = br#"{"rows":["#.to_vec();
        separated(&mut out, &state.rows, |out, item| publication(out, item));
        out.extend_from_slice(format!(r#"],"epoch":"{}","offset":{}"#, state.position.epoch, state.position.offset).as_bytes());
        if let Some(next) = state.next {
            out.extend_from_slice(format!(r#","next":"{next}""#).as_bytes());
        }
        out.push(b'}');
        Self(out)
    }

    /// `publish` with `report`: where it stands, if it stands anywhere, and what became of it.
    pub(crate) fn reported(published: Published, report: &PublishReport) -> Self {
        let Self(mut out) = Self::published(published);
        out.pop();
        if out.len() > 1 {
            out.push(b',');
        }
        let PublishReport { nodes, matched, queued, written, filtered, .. } = report;
        let counts = format!(r#""nodes":{nodes},"matched":{matched},"queued":{queued},"written":{written},"filtered":{filtered}"#);
        out.extend_from_slice(format!(r#""report":{{{counts},"dropped":{{"#).as_bytes());
        separated(&mut out, &report.dropped, |out, (cause, count)| {
            text(out, cause);
            out.extend_from_slice(format!(":{count}").as_bytes());
        });
        out.extend_from_slice(b"}}}");
        Self(out)
    }

    /// `broadcast`: one answer each, in the order of the topics.
    pub(crate) fn broadcast(responses: Vec<Result<Self, Refusal>>, dev: bool) -> Self {
        let mut out = br#"{"responses":["#.to_vec();
        separated(&mut out, responses, |out, response| response_into(response, dev, out));
        out.extend_from_slice(b"]}");
        Self(out)
    }

    /// `send`: how many it reached, and where it stands, if it stands anywhere.
    pub(crate) fn sent(sent: &Sent) -> Self {
        let place = match sent.position {
            Some(position) => format!(r#","offset":{},"epoch":"{}""#, position.offset, position.epoch),
            // What went to no one topic is in no history, whatever its receivers keep.
            None if sent.topic.is_none() => r#","recoverable":false"#.to_owned(),
            None => String::new(),
        };
        Self(format!(r#"{{"sessions":{}{place}}}"#, sent.sessions).into_bytes())
    }

    /// With how many sessions it was done.
    pub(crate) fn sessions(sessions: usize) -> Self {
        Self(format!(r#"{{"sessions":{sessions}}}"#).into_bytes())
    }

    /// `group_members`: users with their sessions.
    pub(crate) fn group_members(members: &[UserSessions]) -> Self {
        let mut out = br#"{"members":["#.to_vec();
        separated(&mut out, members, |out, member| {
            out.extend_from_slice(br#"{"user":"#);
            text(out, member.user.as_str());
            out.extend_from_slice(br#","sessions":"#);
            list(out, &member.sessions, |out, session| out.extend_from_slice(format!(r#""{session}""#).as_bytes()));
            out.push(b'}');
        });
        out.extend_from_slice(b"]}");
        Self(out)
    }

    /// `groups`: groups that have sessions, by name; `more` where the limit left some out.
    pub(crate) fn groups(mut groups: Vec<GroupCount>, call: &GroupsCall) -> Self {
        groups.retain(|count| {
            let name = count.topic.as_group().unwrap_or_default();
            count.topic.tenant() == call.tenant.as_ref().map(Tenant::as_str)
                && call.pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
        });
        groups.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        let more = groups.len() > call.limit;
        groups.truncate(call.limit);
        let mut out = br#"{"groups":"#.to_vec();
        list(&mut out, groups, |out, count| {
            out.extend_from_slice(br#"{"group":"#);
            text(out, count.topic.as_group().unwrap_or_default());
            out.extend_from_slice(format!(r#","sessions":{},"users":{}}}"#, count.sessions, count.users).as_bytes());
        });
        out.extend_from_slice(if more { br#","more":true}"# } else { b"}" });
        Self(out)
    }

    /// `connections`: what is known of sessions, oldest first; `more` where there are others.
    pub(crate) fn connections(mut reports: Vec<SessionReport>, limit: usize) -> Self {
        let more = reports.len() > limit;
        reports.truncate(limit);
        reports.sort_unstable_by_key(|report| (report.since, report.session));
        let mut out = br#"{"connections":"#.to_vec();
        list(&mut out, &reports, session_report);
        out.extend_from_slice(if more { br#","more":true}"# } else { b"}" });
        Self(out)
    }

    /// `ticket`: the ticket, and how long it can be used, where that is known.
    pub(crate) fn ticket(ticket: &str, holds: Option<Duration>) -> Self {
        let mut out = br#"{"ticket":"#.to_vec();
        text(&mut out, ticket);
        if let Some(holds) = holds {
            out.extend_from_slice(format!(r#","expires_in_ms":{}"#, holds.as_millis()).as_bytes());
        }
        out.push(b'}');
        Self(out)
    }

    /// `rpc`: what the application answered.
    pub(crate) fn called(data: &Payload) -> Self {
        let mut out = br#"{"data":"#.to_vec();
        payload(&mut out, data);
        out.push(b'}');
        Self(out)
    }

    /// `presence`: who listens, by session.
    pub(crate) fn presence(sessions: &[impl AsRef<SessionInfo>]) -> Self {
        let mut out = br#"{"presence":{"#.to_vec();
        separated(&mut out, sessions, |out, info| {
            let info = info.as_ref();
            out.extend_from_slice(format!(r#""{}":"#, info.session).as_bytes());
            session_info(out, info);
        });
        out.extend_from_slice(b"}}");
        Self(out)
    }

    /// `presence_stats`: how many listen.
    pub(crate) fn presence_stats(stats: PresenceStats) -> Self {
        Self(format!(r#"{{"num_clients":{},"num_users":{}}}"#, stats.sessions, stats.users).into_bytes())
    }

    /// `history`: publications, and the top of the history at that moment.
    pub(crate) fn history(page: &HistoryPage) -> Self {
        let mut out = br#"{"publications":["#.to_vec();
        separated(&mut out, &page.publications, |out, item| publication(out, item));
        out.extend_from_slice(format!(r#"],"epoch":"{}","offset":{}}}"#, page.position.epoch, page.position.offset).as_bytes());
        Self(out)
    }

    /// `channels`: topics with their listeners, by name; `more` where the limit left some out.
    pub(crate) fn channels(mut topics: Vec<TopicCount>, call: &ChannelsCall) -> Self {
        // One for every user would hide the others, and says what `connections` says.
        topics.retain(|count| count.topic.namespace() != Some("user"));
        if let Some(pattern) = &call.pattern {
            topics.retain(|count| pattern.matches(count.topic.as_str()));
        }
        topics.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        let more = topics.len() > call.limit;
        topics.truncate(call.limit);
        let mut out = br#"{"channels":{"#.to_vec();
        separated(&mut out, topics, |out, count| {
            text(out, count.topic.as_str());
            out.extend_from_slice(format!(r#":{{"num_clients":{}}}"#, count.sessions).as_bytes());
        });
        out.extend_from_slice(if more { br#"},"more":true}"# } else { b"}}" });
        Self(out)
    }

    /// `info`: the nodes.
    pub(crate) fn info(nodes: &[NodeInfo]) -> Self {
        let mut out = br#"{"nodes":["#.to_vec();
        separated(&mut out, nodes, |out, node| {
            node_info(out, node);
            out.push(b'}');
        });
        out.extend_from_slice(b"]}");
        Self(out)
    }

    /// `probe`: of each node whose probes it heard, which nodes it knows, its clock, and fingerprints of its settings.
    pub(crate) fn probes(probes: &NodeProbes) -> Self {
        let mut out = br#"{"nodes":["#.to_vec();
        separated(&mut out, &probes.nodes, |out, probe| {
            node_info(out, &probe.node);
            out.extend_from_slice(br#","heard":"#);
            list(out, &probe.heard, |out, node| text(out, node));
            out.extend_from_slice(br#","knows":"#);
            list(out, &probe.knows, |out, node| text(out, node));
            if let Some(trouble) = &probe.trouble {
                out.extend_from_slice(br#","trouble":"#);
                text(out, trouble);
            }
            out.extend_from_slice(format!(r#","shared":{},"clock_ms":{},"settings":{{"#, probe.is_shared, probe.clock_ms).as_bytes());
            separated(out, &probe.settings, |out, (name, fingerprint)| {
                text(out, name);
                out.push(b':');
                text(out, fingerprint);
            });
            out.extend_from_slice(b"}}");
        });
        out.extend_from_slice(br#"],"silent":"#);
        list(&mut out, &probes.silent, |out, node| text(out, node));
        out.push(b'}');
        Self(out)
    }

    /// `batch`: one answer each, in the order of the commands, under the names of their methods.
    pub(crate) fn replies(replies: Vec<Result<(Method, Self), Refusal>>, dev: bool) -> Self {
        let mut out = br#"{"replies":["#.to_vec();
        separated(&mut out, replies, |out, reply| match reply {
            Ok((method, answer)) => {
                out.extend_from_slice(format!(r#"{{"{}":"#, method.name()).as_bytes());
                out.extend_from_slice(&answer.0);
                out.push(b'}');
            }
            Err(refusal) => error_into(&refusal, dev, out),
        });
        out.extend_from_slice(b"]}");
        Self(out)
    }

    /// The body of an answer to one method alone.
    pub(crate) fn into_body(self, method: Method) -> Vec<u8> {
        // As Centrifugo has it: a batch has no result around its replies.
        if method == Method::Batch {
            return self.0;
        }
        let mut out = br#"{"result":"#.to_vec();
        out.extend_from_slice(&self.0);
        out.push(b'}');
        out
    }
}

fn response_into(response: Result<Answer, Refusal>, dev: bool, out: &mut Vec<u8>) {
    match response {
        Ok(answer) => {
            out.extend_from_slice(br#"{"result":"#);
            out.extend_from_slice(&answer.0);
            out.push(b'}');
        }
        Err(refusal) => error_into(&refusal, dev, out),
    }
}

fn error_into(refusal: &Refusal, dev: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"error":"#);
    write_error(refusal, dev, out);
    out.push(b'}');
}

fn separated<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    separated(out, items, write);
    out.push(b']');
}

/// The fields of a node, without the closing brace.
fn node_info(out: &mut Vec<u8>, node: &NodeInfo) {
    out.extend_from_slice(br#"{"uid":"#);
    text(out, &node.id);
    out.extend_from_slice(br#","name":"#);
    text(out, &node.name);
    out.extend_from_slice(br#","version":"#);
    text(out, &node.version);
    let counts = format!(
        r#","num_clients":{},"num_users":{},"num_channels":{},"num_subs":{},"uptime":{}"#,
        node.sessions,
        node.users,
        node.topics,
        node.subscriptions,
        node.uptime.as_secs()
    );
    out.extend_from_slice(counts.as_bytes());
    out.extend_from_slice(br#","problems":"#);
    list(out, &node.troubles, |out, trouble| text(out, trouble));
}

fn session_report(out: &mut Vec<u8>, report: &SessionReport) {
    out.extend_from_slice(format!(r#"{{"session":"{}","user":"#, report.session).as_bytes());
    text(out, report.user.as_str());
    let address = report.address.map_or_else(|| "null".to_owned(), |address| format!(r#""{address}""#));
    out.extend_from_slice(format!(r#","since":{},"address":{address},"transport":"#, unix_ms(report.since)).as_bytes());
    text(out, &report.transport);
    out.extend_from_slice(br#","protocol":"#);
    text(out, &report.protocol);
    out.extend_from_slice(br#","groups":"#);
    list(out, &report.groups, |out, group| text(out, group));
    out.extend_from_slice(br#","topics":"#);
    list(out, &report.topics, |out, topic| text(out, topic.as_str()));
    out.extend_from_slice(format!(r#","backlog_bytes":{},"node":"#, report.backlog_bytes).as_bytes());
    text(out, &report.node);
    out.push(b'}');
}

fn publication(out: &mut Vec<u8>, publication: &Publication) {
    out.extend_from_slice(br#"{"data":"#);
    payload(out, &publication.data);
    if let Some(position) = publication.position {
        out.extend_from_slice(format!(r#","offset":{}"#, position.offset).as_bytes());
    }
    if let Some(publisher) = &publication.publisher {
        out.extend_from_slice(br#","info":"#);
        session_info(out, publisher);
    }
    if let Some(tags) = &publication.tags {
        out.extend_from_slice(br#","tags":{"#);
        separated(out, tags.iter(), |out, (name, value)| {
            text(out, name);
            out.push(b':');
            text(out, value);
        });
        out.push(b'}');
    }
    if let Some(key) = &publication.key {
        out.extend_from_slice(br#","key":"#);
        text(out, key);
    }
    if publication.removed {
        out.extend_from_slice(br#","removed":true"#);
    }
    out.extend_from_slice(format!(r#","time":{}}}"#, publication.published_at_ms).as_bytes());
}

/// The value of `data`, with `b64data` beside it for bytes.
fn payload(out: &mut Vec<u8>, payload: &Payload) {
    match payload.kind() {
        // No bytes are no JSON value.
        PayloadKind::Json if payload.is_empty() => out.extend_from_slice(b"null"),
        PayloadKind::Json => out.extend_from_slice(payload.bytes()),
        PayloadKind::Text => text(out, &String::from_utf8_lossy(payload.bytes())),
        PayloadKind::Binary => {
            out.extend_from_slice(br#"null,"b64data":""#);
            out.extend_from_slice(STANDARD.encode(payload.bytes()).as_bytes());
            out.push(b'"');
        }
    }
}

fn session_info(out: &mut Vec<u8>, info: &SessionInfo) {
    out.extend_from_slice(format!(r#"{{"client":"{}","user":"#, info.session).as_bytes());
    text(out, info.user.as_str());
    for (name, json) in [("conn_info", &info.info), ("chan_info", &info.topic_info)] {
        if let Some(json) = json {
            out.extend_from_slice(format!(r#","{name}":"#).as_bytes());
            out.extend_from_slice(json);
        }
    }
    out.push(b'}');
}

fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text can always be written to memory");
}
