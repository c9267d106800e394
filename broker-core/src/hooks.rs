//! Where the application has a say: the hooks, what they are asked, and what they may answer.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{CloseReason, Connect, Head, Identity, Payload, Publish, Refusal, SessionId, Subject, Subscribe, Topic};

/// A future that hooks and questions share.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A hook: called with `A`, answers `R` in its own time, within the hook timeout.
pub(crate) type Hook<A, R> = Arc<dyn Fn(A) -> BoxFuture<R> + Send + Sync>;

/// Every hook of the application; what is `None` has the engine's own answer.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) connect: Option<Hook<ConnectRequest, Result<Identity, Refusal>>>,
    pub(crate) subscribe: Option<Hook<SubscribeRequest, Result<Grant, Refusal>>>,
    pub(crate) publish: Option<Hook<PublishRequest, Result<Publish, Refusal>>>,
    pub(crate) message: Option<Hook<MessageRequest, Result<Vec<Action>, Refusal>>>,
    pub(crate) call: Option<Hook<CallRequest, Result<Payload, Refusal>>>,
    pub(crate) refresh: Option<Hook<RefreshRequest, Result<Renewal, Refusal>>>,
    pub(crate) disconnect: Option<Hook<Disconnected, ()>>,
    pub(crate) occupied: Option<Hook<Topic, ()>>,
    pub(crate) vacated: Option<Hook<Topic, ()>>,
    pub(crate) snapshots: HashMap<Box<str>, SnapshotHook>,
}

/// Gives the current state of a topic; `None`: it has none.
pub(crate) type SnapshotHook = Hook<Topic, Result<Option<Payload>, SnapshotFailed>>;

impl Hooks {
    /// Whether anybody is told which topics have listeners.
    pub(crate) fn hear_occupancy(&self) -> bool {
        self.occupied.is_some() || self.vacated.is_some()
    }

    /// The snapshot hook of a topic: by its whole name, or by its namespace, which is empty where it has none.
    pub(crate) fn snapshot_of(&self, topic: &Topic) -> Option<&SnapshotHook> {
        self.snapshots.get(topic.as_str()).or_else(|| self.snapshots.get(topic.namespace().unwrap_or_default()))
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = [
            ("connect", self.connect.is_some()),
            ("subscribe", self.subscribe.is_some()),
            ("publish", self.publish.is_some()),
            ("message", self.message.is_some()),
            ("call", self.call.is_some()),
            ("refresh", self.refresh.is_some()),
            ("disconnect", self.disconnect.is_some()),
            ("occupied", self.occupied.is_some()),
            ("vacated", self.vacated.is_some()),
            ("snapshot", !self.snapshots.is_empty()),
        ];
        f.debug_set().entries(set.iter().filter(|(_, set)| *set).map(|(name, _)| name)).finish()
    }
}

/// A session asks to be connected: who is it?
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// The session that asks.
    pub session: SessionId,
    /// The kind of pipe: `websocket`.
    pub transport: &'static str,
    /// The name of the protocol that the client speaks: `plain-raw`.
    pub protocol: &'static str,
    /// The head of the request that opened the connection; empty when credentials are renewed in place.
    pub head: Head,
    /// What the client said of itself.
    pub connect: Connect,
}

impl ConnectRequest {
    pub(crate) fn new(subject: &Subject, head: Head, connect: Connect) -> Self {
        let Subject { transport, protocol, .. } = *subject;
        Self { session: subject.session, transport, protocol, head, connect }
    }
}

/// A session asks to subscribe; the authorizer has allowed it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscribeRequest {
    /// Who asks.
    pub subject: Arc<Subject>,
    /// What is asked.
    pub subscribe: Subscribe,
}

impl SubscribeRequest {
    pub(crate) fn new(subject: Arc<Subject>, subscribe: Subscribe) -> Self {
        Self { subject, subscribe }
    }
}

/// What the application adds to a subscription that it allows.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Grant {
    /// One JSON value that others see beside the session in this topic.
    pub topic_info: Option<bytes::Bytes>,
    /// Sent to the client in the answer.
    pub data: Option<Payload>,
    /// When the subscription ends unless its credentials are renewed.
    pub expires_at: Option<SystemTime>,
}

impl Grant {
    /// Allowed, nothing added.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Sets what others see beside the session in this topic: one JSON value.
    pub fn topic_info(mut self, json: impl Into<bytes::Bytes>) -> Self {
        self.topic_info = Some(json.into());
        self
    }

    /// Sets what the client is told in the answer.
    pub fn data(mut self, data: Payload) -> Self {
        self.data = Some(data);
        self
    }

    /// Sets when the subscription ends unless its credentials are renewed.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }
}

/// A session asks to publish; the authorizer has allowed it. The hook may change what is published, or refuse.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishRequest {
    /// Who asks.
    pub subject: Arc<Subject>,
    /// Where.
    pub topic: Topic,
    /// What.
    pub publish: Publish,
}

impl PublishRequest {
    pub(crate) fn new(subject: Arc<Subject>, topic: Topic, publish: Publish) -> Self {
        Self { subject, topic, publish }
    }
}

/// A session sent a message of the application's own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MessageRequest {
    /// Who sent it.
    pub subject: Arc<Subject>,
    /// What was sent.
    pub data: Payload,
    /// The path of the request that opened the connection, without the query: one hook serves several routes.
    pub path: Arc<str>,
}

impl MessageRequest {
    pub(crate) fn new(subject: Arc<Subject>, data: Payload, path: Arc<str>) -> Self {
        Self { subject, data, path }
    }
}

/// What the application wants done about a message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Send this to the session.
    Reply(Payload),
    /// Subscribe the session, as if it had asked; the authorizer decides.
    Subscribe(Topic),
    /// End a subscription of the session.
    Unsubscribe(Topic),
    /// Publish, in the session's name; not asked again.
    Publish(Topic, Publish),
    /// Tell the session that its message was refused, and why.
    Refuse(Refusal),
    /// Close the session with a code (4000 to 4999) and a text.
    Close {
        /// The code.
        code: u16,
        /// The text.
        reason: Cow<'static, str>,
    },
}

/// A session called a method of the application.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallRequest {
    /// Who called.
    pub subject: Arc<Subject>,
    /// Which method.
    pub method: String,
    /// Its argument.
    pub data: Payload,
}

impl CallRequest {
    pub(crate) fn new(subject: Arc<Subject>, method: String, data: Payload) -> Self {
        Self { subject, method, data }
    }
}

/// The credentials of a session that the server renews itself are about to end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefreshRequest {
    /// Whose.
    pub subject: Arc<Subject>,
}

impl RefreshRequest {
    pub(crate) fn new(subject: Arc<Subject>) -> Self {
        Self { subject }
    }
}

/// How long renewed credentials hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Renewal {
    /// Their new end; `None`: they have none.
    pub expires_at: Option<SystemTime>,
}

impl Renewal {
    /// Until this moment.
    pub fn until(at: SystemTime) -> Self {
        Self { expires_at: Some(at) }
    }

    /// Without an end.
    pub fn forever() -> Self {
        Self { expires_at: None }
    }
}

/// A session that was connected has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Disconnected {
    /// Who it was.
    pub subject: Arc<Subject>,
    /// Why it ended.
    pub reason: CloseReason,
    /// How long it was open.
    pub after: Duration,
}

impl Disconnected {
    pub(crate) fn new(subject: Arc<Subject>, reason: CloseReason, after: Duration) -> Self {
        Self { subject, reason, after }
    }
}

/// The application could not say the current state. Logged once per outage; subscribers are told to try again, unless
/// [`Settings::snapshot_stale_max`](crate::Settings) lets an older snapshot stand in.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
#[non_exhaustive]
pub struct SnapshotFailed {
    /// Why, for the operator.
    pub reason: String,
    /// When trying again can help; subscribers are told. Default: 1 s.
    pub retry_after: Duration,
}

impl SnapshotFailed {
    /// It failed for this reason, which the operator reads.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry_after: Duration::from_secs(1) }
    }

    /// Sets when trying again can help.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }
}
