//! What a session wants done: the outputs of the state machine, and the answers that come back.

use std::{sync::Arc, time::Duration};

use crate::{
    Action, CloseReason, CommandId, Connect, Grant, Identity, Namespace, Payload, PresenceStats, Publish, Published, Push, Refusal, Reply,
    SessionInfo, Since, Subscribe, Topic, backplane::LogPage,
};

/// What a session wants done, in this order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Answer a command.
    Reply(CommandId, Reply),
    /// Tell the client.
    Push(Push),
    /// Ask somebody; the answer comes back with the same id.
    Ask(AskId, Question),
    /// Listen to a topic; `Joined` comes back.
    Join(Join),
    /// Listen no more.
    Leave(Leave),
    /// The session is connected, by this rule.
    Connected { rule: &'static str },
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
}

/// What must be asked outside the state machine.
#[derive(Debug)]
pub(crate) enum Question {
    /// Who is this?
    Identify(Connect),
    /// May it subscribe, and what is added?
    Subscribe { subscribe: Subscribe, namespace: Arc<Namespace>, authorize: bool },
    /// Publish, after asking those who must be asked.
    Publish { topic: Topic, publish: Publish, namespace: Arc<Namespace>, authorize: bool },
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

/// The answer to a [`Question`].
#[derive(Debug)]
pub(crate) enum Answer {
    /// The identity, and the time until its credentials end.
    Identity(Result<(Identity, Option<Duration>), Refusal>),
    Grant(Result<Grant, Refusal>),
    Published(Topic, Result<Published, Refusal>),
    History(Topic, Result<LogPage, Refusal>),
    Presence(Topic, Result<Vec<Arc<SessionInfo>>, Refusal>),
    PresenceStats(Topic, Result<PresenceStats, Refusal>),
    Call(Result<Payload, Refusal>),
    Actions(Result<Vec<Action>, Refusal>),
}
