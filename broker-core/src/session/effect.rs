//! What a session wants done: the outputs of the state machine, and the answers that come back.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use crate::{
    Action, CloseReason, CommandId, Connect, Connected, Grant, Identity, Namespace, Payload, PresenceStats, Publish, Published, Push,
    Refusal, Reply, SessionInfo, Since, Subject, Subscribe, Topic, backplane::LogPage,
};

/// What a session wants done, in this order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Answer a command.
    Reply(CommandId, Reply),
    /// Something without an answer was refused: the client is told nothing.
    Dropped(Refusal),
    /// Write nothing until `Welcome`: what arrives meanwhile waits.
    Hold,
    /// Answer the connect, before everything that was held back.
    Welcome(CommandId, Box<Connected>),
    /// Tell the client.
    Push(Push),
    /// Ask somebody; the answer comes back with the same id.
    Ask(AskId, Question),
    /// Listen to a topic; `Joined` comes back.
    Join(Join),
    /// Listen no more.
    Leave(Leave),
    /// The session is somebody.
    Connected(AsOf),
    /// The session was this one until here.
    IdentityChanged(Arc<Subject>, AsOf),
    /// The session stays in a topic, where others knew it as this one.
    Renamed { topic: Topic, namespace: Arc<Namespace>, before: Arc<SessionInfo> },
    /// A session that was opened with topics is live, or refused.
    Opened(Result<(), Refusal>),
    /// The session has ended: nothing follows.
    Close(CloseReason),
}

/// A question's id: unique among the open questions of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AskId(pub(crate) u32);

/// A subscription's number within its session: a late answer for an old one is void.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Generation(pub(crate) u32);

#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) topic: Topic,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) generation: Generation,
    pub(crate) since: Option<Since>,
    pub(crate) join_leave: bool,
}

#[derive(Debug)]
pub(crate) struct Leave {
    pub(crate) topic: Topic,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) generation: Generation,
    /// Whether the session was a member, or still joining.
    pub(crate) live: bool,
    pub(crate) who: Arc<SessionInfo>,
    /// Whether what waits of the topic is still sent: what came before a gap that ends the subscription.
    pub(crate) keeps_backlog: bool,
    /// Whether the session ends with its connection, so that its user may come back.
    pub(crate) closed: bool,
}

/// Whoever waits for something is told when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Completion(#[expect(dead_code, reason = "dropping it is its use")] pub(crate) Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completion")
    }
}

/// What must be asked outside the state machine.
#[derive(Debug)]
pub(crate) enum Question {
    /// Who is this?
    Identify(Connect),
    /// The application says who this is: is that revoked, and which groups does the server add?
    Adopt(Box<Identity>),
    /// May this subject keep these subscriptions?
    Reauthorize { subject: Arc<Subject>, topics: Vec<Kept> },
    /// How long do the credentials that the server renews itself hold on?
    Renew,
    /// What does the renewed token of a subscription grant?
    Redeem { topic: Topic, token: String },
    /// May it subscribe, and what is added?
    Subscribe { subscribe: Subscribe, namespace: Arc<Namespace>, authorize: bool },
    /// Publish, after asking those who must be asked.
    Publish { topic: Topic, publish: Publish, namespace: Arc<Namespace>, authorize: bool },
    /// Publish what the application wants published, asking nobody.
    PublishForApplication { topic: Topic, publish: Publish, namespace: Arc<Namespace> },
    /// Read a history.
    History { topic: Topic, namespace: Arc<Namespace>, since: Option<Since>, limit: usize, reverse: bool, authorize: bool },
    /// Who listens?
    Presence { topic: Topic, namespace: Arc<Namespace>, authorize: bool },
    /// How many listen?
    PresenceStats { topic: Topic, namespace: Arc<Namespace>, authorize: bool },
    /// Call the application.
    Call { method: String, data: Payload },
    /// Hand a message to the application.
    Message { data: Payload },
}

/// A subscription whose future is asked about.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) topic: Topic,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) authorize: bool,
}

/// Who a session is.
#[derive(Debug)]
pub(crate) struct Identified {
    pub(crate) identity: Identity,
    pub(crate) subject: Subject,
    /// Time until the credentials end; `None`: they do not.
    pub(crate) ttl: Option<Duration>,
    /// Whether the credentials came with the request that opened the connection, and not with the connect.
    pub(crate) by_request: bool,
    pub(crate) as_of: AsOf,
}

/// Up to which change of memberships an identity knows them: what came later is still to be done.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct AsOf(pub(crate) u64);

/// A subscription that is allowed.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) grant: Grant,
    /// Whether a token for this topic allowed it.
    pub(crate) by_token: bool,
    /// Time until the grant ends; `None`: it does not.
    pub(crate) ttl: Option<Duration>,
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub(crate) enum Answer {
    Identity(Result<Box<Identified>, Refusal>),
    /// For each topic asked about: what is granted, if it is.
    Reauthorized(Vec<Option<Granted>>),
    /// The time until the credentials end; `None`: they do not.
    Renewed(Result<Option<Duration>, Refusal>),
    Grant(Result<Granted, Refusal>),
    Published(Topic, Result<Published, Refusal>),
    History(Topic, Result<LogPage, Refusal>),
    Presence(Topic, Result<Vec<Arc<SessionInfo>>, Refusal>),
    PresenceStats(Topic, Result<PresenceStats, Refusal>),
    Call(Result<Payload, Refusal>),
    Actions(Result<Vec<Action>, Refusal>),
}
