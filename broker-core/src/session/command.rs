//! What a client asks, in words that no protocol owns.

use std::{fmt, sync::Arc};

use crate::{CloseReason, Payload, Refusal, Selection, Since, Topic};

/// One command of a client: what it asks, and the id its answer carries.
#[derive(Clone, Debug)]
pub struct Command {
    /// Echoed in the answer.
    pub id: CommandId,
    /// What is asked.
    pub request: Request,
}

/// The client's name for a command.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum CommandId {
    /// The command has no id: it is answered only where the protocol answers such commands.
    #[default]
    None,
    /// A number.
    Number(u64),
    /// Any other value, as it was written: for JSON protocols the JSON text of a string or number. Empty: the client gave no id, but is
    /// answered.
    Verbatim(Box<str>),
}

/// What a command asks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Request {
    /// Who I am. First command of protocols that have it.
    Connect(Connect),
    /// Listen to a topic.
    Subscribe(Subscribe),
    /// Listen no more.
    Unsubscribe {
        /// The topic.
        topic: Topic,
    },
    /// Send to a topic.
    Publish {
        /// The topic.
        topic: Topic,
        /// What is sent.
        data: Payload,
        /// See [`Publish::key`](crate::Publish::key).
        key: Option<Box<str>>,
        /// See [`Publish::idempotency_key`](crate::Publish::idempotency_key).
        idempotency_key: Option<Box<str>>,
        /// See [`Publish::removed`](crate::Publish::removed).
        removed: bool,
    },
    /// Who listens to a topic.
    Presence {
        /// The topic.
        topic: Topic,
    },
    /// How many listen to a topic.
    PresenceStats {
        /// The topic.
        topic: Topic,
    },
    /// What was sent to a topic.
    History {
        /// The topic.
        topic: Topic,
        /// From where.
        since: Option<Since>,
        /// Most publications in the answer; `None`: only the position is asked; `usize::MAX`: as many as the server gives.
        limit: Option<usize>,
        /// Newest first.
        reverse: bool,
    },
    /// Renewed credentials; or another user's, where the protocol lets a connection change hands.
    Refresh {
        /// The token.
        token: String,
    },
    /// Renewed credentials of one subscription.
    RefreshSubscription {
        /// The topic.
        topic: Topic,
        /// The token.
        token: String,
    },
    /// A call to the application, with an answer.
    Call {
        /// Which method.
        method: String,
        /// Its argument.
        data: Payload,
    },
    /// A message to the application, without an answer of the broker's own.
    Message {
        /// What was sent.
        data: Payload,
    },
    /// Asks for a sign of life. `bare`: the text `ping`, answered with the text `pong`.
    Ping {
        /// Whether it was the bare text.
        bare: bool,
    },
    /// The answer to the broker's ping.
    Pong,
    /// The codec could read whom to answer, but not what is asked: the answer to give.
    Mistake(Refusal),
    /// The codec could read nothing, and the protocol ends the connection for it.
    Unreadable(CloseReason),
}

/// The arguments of [`Request::Connect`].
#[derive(Clone, Debug, Default)]
pub struct Connect {
    /// Credentials.
    pub token: Option<String>,
    /// Credentials that hold once and for seconds, for where a URL must carry them. Beside a token they mean nothing.
    pub ticket: Option<String>,
    /// The application's own data, for the connect hook.
    pub data: Option<Payload>,
    /// What the client calls itself, for the log.
    pub name: Option<String>,
    /// The client's version, for the log.
    pub version: Option<String>,
    /// From where to resume topics that the server subscribes the session to.
    pub resume: Vec<(Topic, Since)>,
    /// From where to resume such topics that `resume` does not name.
    pub cursor: Option<Arc<dyn Cursor>>,
}

/// Positions that a client kept, asked by topic: for clients that do not know which topics the server will choose.
pub trait Cursor: fmt::Debug + Send + Sync {
    /// Where a topic resumes from, given by its name without a tenant; `None`: from now on.
    fn since(&self, topic: &str) -> Option<Since>;
}

/// The arguments of [`Request::Subscribe`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subscribe {
    /// The topic.
    pub topic: Topic,
    /// Resume from here.
    pub since: Option<Since>,
    /// Whether the client wants to be told who comes and goes, where the namespace tells it.
    pub join_leave: bool,
    /// Refuse with [`RefusalKind::UnrecoverablePosition`](crate::RefusalKind) when `since` cannot be recovered.
    pub refuse_unrecovered: bool,
    /// Credentials for this topic.
    pub token: Option<String>,
    /// The application's own data, for the subscribe hook.
    pub data: Option<Payload>,
    /// What of the topic is wanted, and how often.
    pub selection: Selection,
    /// The client keeps the topic's state by key, and takes what it gets for rows and changes of them: refused where the namespace keeps none.
    pub keyed: bool,
}

impl Subscribe {
    /// Listen to a topic from now on.
    pub fn new(topic: Topic) -> Self {
        Self {
            topic,
            since: None,
            join_leave: true,
            refuse_unrecovered: false,
            token: None,
            data: None,
            selection: Selection::ALL,
            keyed: false,
        }
    }

    /// Resume from here.
    pub fn since(mut self, since: Since) -> Self {
        self.since = Some(since);
        self
    }

    /// Only this of the topic, and this often.
    pub fn selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }
}
