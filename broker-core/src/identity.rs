//! Who is behind a session: user, session id, and what the application said about them.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc, time::SystemTime};

use bytes::Bytes;

use crate::{Capability, Payload, Tenant, Topic};

/// The application's id of a user; empty for an anonymous one. Cloning copies a pointer.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(from = "String", into = "String"))]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The user of a session without credentials.
    pub fn anonymous() -> Self {
        Self("".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nobody in particular is meant.
    pub fn is_anonymous(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for UserId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for UserId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of one session, random and unguessable; written as a UUID.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "String", into = "String"))]
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(u128);

impl SessionId {
    /// An id from 128 random bits, of which six give way to the UUID's version and variant.
    pub fn from_random(random: u128) -> Self {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0x3 << 62;
        Self((random & !VERSION & !VARIANT) | (4 << 76) | (2 << 62))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            id >> 96,
            (id >> 80) & 0xffff,
            (id >> 64) & 0xffff,
            (id >> 48) & 0xffff,
            id & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        let bytes = text.as_bytes();
        let dashes = [8, 13, 18, 23];
        if bytes.len() != 36 || !dashes.iter().all(|at| bytes[*at] == b'-') {
            return Err(InvalidSessionId);
        }
        let digits: String = text.chars().filter(|digit| *digit != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(InvalidSessionId);
        }
        u128::from_str_radix(&digits, 16).map(Self).map_err(|_| InvalidSessionId)
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(text: String) -> Result<Self, InvalidSessionId> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.to_string()
    }
}

/// The text is not the UUID of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a session id is a UUID, as it was received")]
pub struct InvalidSessionId;

/// Who a session is, as others see it: in presence, in join and leave, beside a publication.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionInfo {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: UserId,
    /// What the application said of the user when the session connected: one JSON value.
    pub info: Option<Bytes>,
    /// What the application said of the user in this topic: one JSON value.
    pub topic_info: Option<Bytes>,
}

/// What the application answers to "who is this?" when a session connects.
///
/// ```
/// use broker_core::Identity;
///
/// let identity = Identity::user("ris1").info(r#"{"name":"Kim"}"#);
/// assert_eq!(identity.user.as_str(), "ris1");
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Identity {
    /// The user; empty for an anonymous one.
    pub user: UserId,
    /// One JSON value that others see in presence, join and leave, and publications.
    pub info: Option<Bytes>,
    /// When the credentials end; the session is closed then unless they were renewed.
    pub expires_at: Option<SystemTime>,
    /// Whether the server asks the application itself for a renewal, through the refresh hook; otherwise the client brings new credentials.
    pub renewed_by_server: bool,
    /// The groups that the session joins, by name: `ocs_ris`. Inside the tenant, where there is one.
    pub groups: Vec<Box<str>>,
    /// Topics that the server subscribes the session to, beside those of its groups and its user.
    pub subscriptions: Vec<ServerSubscription>,
    /// What the session may do beyond what its topics' namespaces allow.
    pub capabilities: Vec<Capability>,
    /// The application's own data, for its hooks; clients never see it. One JSON value.
    pub meta: Option<Bytes>,
    /// The tenant that everything the session names is inside of.
    pub tenant: Option<Tenant>,
    /// The id of the token, by which it can be revoked.
    pub token_id: Option<Box<str>>,
    /// When the credentials were issued, for revocations. `None`: by the application, at the moment it was asked; no earlier revocation means them.
    pub issued_at: Option<SystemTime>,
    /// Sent to the client in the answer to its connect; see [`Identity::data`].
    pub data: Option<Payload>,
    /// Which rule made this identity, for the log line of the session: `"hs256 token"`, `"anonymous"`.
    pub rule: Cow<'static, str>,
}

/// A topic that the server subscribes a session to. Called *server-side subscription* in Centrifugo.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSubscription {
    /// The topic, by its local name where the session has a tenant.
    pub topic: Topic,
    /// One JSON value that others see beside the session in this topic.
    pub topic_info: Option<Bytes>,
    /// Sent to the client with the subscription.
    pub data: Option<Payload>,
}

impl ServerSubscription {
    /// Only the topic.
    pub fn new(topic: Topic) -> Self {
        Self { topic, topic_info: None, data: None }
    }

    /// Sets what others see beside the session in this topic: one JSON value.
    pub fn topic_info(mut self, json: impl Into<Bytes>) -> Self {
        self.topic_info = Some(json.into());
        self
    }

    /// Sets what the client is sent with the subscription.
    pub fn data(mut self, data: Payload) -> Self {
        self.data = Some(data);
        self
    }
}

impl Identity {
    /// A user with this id; an empty id is the anonymous user.
    pub fn user(id: impl Into<UserId>) -> Self {
        Self {
            user: id.into(),
            info: None,
            expires_at: None,
            renewed_by_server: false,
            groups: Vec::new(),
            subscriptions: Vec::new(),
            capabilities: Vec::new(),
            meta: None,
            tenant: None,
            token_id: None,
            issued_at: None,
            data: None,
            rule: Cow::Borrowed("application"),
        }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { rule: Cow::Borrowed("anonymous"), ..Self::user("") }
    }

    /// Sets what others see of the user: one JSON value.
    pub fn info(mut self, json: impl Into<Bytes>) -> Self {
        self.info = Some(json.into());
        self
    }

    /// Sets when the credentials end.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Lets the server ask the refresh hook for a renewal before the end.
    pub fn renewed_by_server(mut self) -> Self {
        self.renewed_by_server = true;
        self
    }

    /// Adds a group, by its name.
    pub fn group(mut self, name: impl Into<Box<str>>) -> Self {
        self.groups.push(name.into());
        self
    }

    /// Adds a topic that the server subscribes the session to.
    pub fn subscription(mut self, subscription: ServerSubscription) -> Self {
        self.subscriptions.push(subscription);
        self
    }

    /// Adds a right beyond what namespaces allow.
    pub fn capability(mut self, capability: Capability) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// Sets the application's own data: one JSON value.
    pub fn meta(mut self, json: impl Into<Bytes>) -> Self {
        self.meta = Some(json.into());
        self
    }

    /// Sets the tenant that everything the session names is inside of.
    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Sets the id of the token.
    pub fn token_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.token_id = Some(id.into());
        self
    }

    /// Sets when the credentials were issued.
    pub fn issued_at(mut self, at: SystemTime) -> Self {
        self.issued_at = Some(at);
        self
    }

    /// Sets what the client is told in the answer to its connect. In the plain protocol's raw format it is the first frame, as it is: a greeting.
    pub fn data(mut self, data: Payload) -> Self {
        self.data = Some(data);
        self
    }

    /// Names the rule that made this identity, for the session's log line.
    pub fn rule(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.rule = rule.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_version_4_uuids_and_read_back() {
        let id = SessionId::from_random(u128::MAX);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("".parse::<SessionId>(), Err(InvalidSessionId));
        assert_eq!("ffffffff-ffff-4fff-bfff-fffffffffff+".parse::<SessionId>(), Err(InvalidSessionId));
    }
}
