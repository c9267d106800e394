//! What a client is told: answers to its commands, and pushes. In words that no protocol owns.

use std::{sync::Arc, time::Duration};

use crate::{CloseReason, Payload, Position, Publication, Refusal, SessionId, SessionInfo, Since, Topic, UserId};

/// The answer to one command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// To connect.
    Connected(Connected),
    /// To subscribe; what was missed is in it.
    Subscribed(Box<Subscribed>),
    /// To unsubscribe.
    Unsubscribed {
        /// The topic.
        topic: Topic,
    },
    /// To publish.
    Published {
        /// The topic.
        topic: Topic,
        /// Where the publication stands; `None` without history.
        position: Option<Position>,
    },
    /// To presence.
    Presence {
        /// The topic.
        topic: Topic,
        /// Who listens.
        sessions: Vec<Arc<SessionInfo>>,
    },
    /// To presence stats.
    PresenceStats {
        /// The topic.
        topic: Topic,
        /// Sessions that listen.
        sessions: usize,
        /// Different users among them.
        users: usize,
    },
    /// To history.
    History {
        /// The topic.
        topic: Topic,
        /// The top of the history.
        position: Position,
        /// In the order asked for.
        publications: Vec<Arc<Publication>>,
    },
    /// To refresh.
    Refreshed {
        /// The session.
        session: SessionId,
        /// Whose credentials they are.
        user: UserId,
        /// Time until the client should renew again; `None`: they do not end.
        ttl: Option<Duration>,
        /// Topics that the session listens to no more, since the credentials are those of another identity.
        left: Vec<Topic>,
        /// Topics that the server subscribed the session to for its new identity.
        joined: Vec<Topic>,
    },
    /// To the renewal of a subscription.
    SubscriptionRefreshed {
        /// The topic.
        topic: Topic,
        /// Time until the client should renew again; `None`: it does not end.
        ttl: Option<Duration>,
    },
    /// To a call: the application's answer.
    CallResult(Payload),
    /// To a ping of the client.
    Pong {
        /// Whether the ping was the bare text.
        bare: bool,
    },
    /// To any command: no.
    Refused(Refusal),
}

/// The arguments of [`Reply::Connected`].
#[derive(Clone, Debug)]
pub struct Connected {
    /// The session's id.
    pub session: SessionId,
    /// Who the broker takes the client for.
    pub user: UserId,
    /// Time until the client should renew its credentials; `None`: it need not.
    pub ttl: Option<Duration>,
    /// The application's own data.
    pub data: Option<Payload>,
    /// Silence after which the broker pings.
    pub ping_interval: Duration,
    /// Topics that the server subscribed the session to; all are live.
    pub subscriptions: Vec<Subscribed>,
}

/// The arguments of [`Reply::Subscribed`].
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// The topic.
    pub topic: Topic,
    /// The top of the history at this moment; `None` where the namespace keeps none.
    pub position: Option<Position>,
    /// Whether this subscription can be resumed from a position.
    pub recoverable: bool,
    /// How the resume went, where one was asked for.
    pub resume: Option<Resume>,
    /// The current state, from the application.
    pub snapshot: Option<Payload>,
    /// What was missed, oldest first; these are sent before anything live.
    pub missed: Vec<Arc<Publication>>,
    /// The application's own data from the subscribe hook.
    pub data: Option<Payload>,
    /// Time until the client should renew the subscription's credentials; `None`: it need not.
    pub ttl: Option<Duration>,
    /// The client asked for rows and their changes, see [`Subscribe::keyed`](crate::Subscribe::keyed).
    pub keyed: bool,
}

/// How the resume of a subscription went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resume {
    /// What the client asked for.
    pub since: Since,
    /// True only where nothing is missing.
    pub recovered: bool,
    /// What is missing, where `recovered` is false.
    pub gap: Option<Gap>,
}

/// Publications that this subscription does not get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    /// The first missing position, where known.
    pub from: Option<Position>,
    /// The last missing position, where known.
    pub to: Option<Position>,
    /// Why.
    pub reason: GapReason,
}

/// Why publications are missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum GapReason {
    /// The client did not read fast enough, or this node was overloaded.
    SlowConsumer,
    /// The history began a new life.
    Epoch,
    /// The history is no longer kept that far back.
    Trimmed,
    /// A publication could not be encoded for this client, or the position that the client came with is none.
    Unreadable,
}

/// What the broker tells a client of its own accord.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Push {
    /// Someone sent something.
    Publication(Arc<Publication>),
    /// Someone came.
    Join {
        /// The topic.
        topic: Topic,
        /// Who.
        who: Arc<SessionInfo>,
    },
    /// Someone went.
    Leave {
        /// The topic.
        topic: Topic,
        /// Who.
        who: Arc<SessionInfo>,
    },
    /// The server ended a subscription.
    Unsubscribed {
        /// The topic.
        topic: Topic,
        /// Why.
        reason: UnsubscribeReason,
    },
    /// The server made a subscription.
    Subscribed(Box<Subscribed>),
    /// Publications that this subscription does not get.
    Gap {
        /// The topic.
        topic: Topic,
        /// Which, and why.
        gap: Gap,
    },
    /// A message of the application to this session.
    Message(Payload),
    /// The credentials end soon.
    Expiring {
        /// Time until then.
        within: Duration,
    },
    /// The server has set another end of the credentials.
    Refreshed {
        /// Time until then; `None`: they do not end.
        ttl: Option<Duration>,
    },
    /// The server has given the session another identity.
    Identity {
        /// The new user.
        user: UserId,
        /// Topics that the session listens to no more.
        left: Vec<Topic>,
        /// Topics that the server subscribed the session to.
        joined: Vec<Topic>,
    },
    /// A mistake that belongs to no command.
    Refused(Refusal),
    /// Are you there?
    Ping,
    /// The connection ends; the transport's close follows.
    Closing(CloseReason),
}

/// Why the server ended a subscription.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum UnsubscribeReason {
    /// The server wanted so; final.
    Server,
    /// Positions were lost: subscribe again.
    InsufficientState,
    /// The subscription's credentials ended: subscribe again with new ones.
    Expired,
}
