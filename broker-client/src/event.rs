//! What a client hears: events of a subscription, states of the connection, answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{Closed, Payload, Position, Refusal, Since};

/// What happens on a subscription, in the order it happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The subscription is live: at first, and again after each cut. What was missed follows as publications.
    Subscribed(Subscribed),
    /// Someone sent something.
    Publication(Publication),
    /// Someone came.
    Join(Arc<SessionInfo>),
    /// Someone went.
    Leave(Arc<SessionInfo>),
    /// Publications are missing here. The only sign of loss: without it, nothing is missing. Load the state again.
    Gap(Gap),
    /// The subscription is over for good; the stream ends.
    Unsubscribed(Unsubscribed),
}

/// The arguments of [`Event::Subscribed`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Subscribed {
    /// The top of the history at this moment; `None` where the topic keeps none.
    pub position: Option<Position>,
    /// Whether everything since the position that was asked for follows; `None` where none was asked for.
    pub recovered: Option<bool>,
    /// The current state or other data from the server's application.
    pub snapshot: Option<Payload>,
}

/// One item that was sent to a topic.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Publication {
    /// What was sent.
    pub data: Payload,
    /// Its place in the history; `None` where the topic keeps none.
    pub position: Option<Position>,
    /// The session that sent it; `None` for servers.
    pub publisher: Option<Arc<SessionInfo>>,
    /// Short texts about it, for filters.
    pub tags: BTreeMap<String, String>,
    /// When the broker took it, in milliseconds of Unix time, where told.
    pub published_at_ms: Option<u64>,
}

/// Publications that this subscription did not get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// How many publications, where known.
    pub missed: Option<u64>,
}

/// Why publications are missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum GapReason {
    /// The server no longer keeps what was missed while there was no connection.
    NotRecovered,
    /// The topic keeps no history, recovery is off, or the server has declared the position void: what came while there was no connection is
    /// unknown.
    NoHistory,
    /// The application did not read its events in time.
    SlowReader,
}

/// Why a subscription is over for good.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Unsubscribed {
    /// The server refused the subscribe.
    Refused(Refusal),
    /// The server ended it.
    ByServer {
        /// The number on the wire, below 2500.
        code: u32,
        /// For people.
        reason: Arc<str>,
    },
    /// The client is closed.
    Closed(Closed),
}

/// What a client hears without having asked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// Something happened on a topic that the server subscribed this session to: a group, called *server-side subscription* elsewhere.
    Topic {
        /// The topic.
        topic: Arc<str>,
        /// What happened; after [`Event::Unsubscribed`] nothing more comes until the server subscribes the session again.
        event: Event,
    },
    /// A message of the server's application to this session.
    Message(Payload),
    /// Notices are missing here: they were not read in time.
    Gap(Gap),
}

/// Who is behind a session. Called *client info* on the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The session's id.
    pub session: Box<str>,
    /// The application's id of the user; empty for an anonymous one.
    pub user: Box<str>,
    /// What the application said about the session, as JSON text.
    pub info: Option<Box<str>>,
    /// What it said about the session in this topic, as JSON text.
    pub topic_info: Option<Box<str>>,
}

/// How many listen to a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PresenceStats {
    /// Sessions that listen.
    pub sessions: u64,
    /// Different users among them.
    pub users: u64,
}

/// What part of a history is asked for. Default: only the position of the top.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct HistoryQuery {
    /// After which position; in reverse, before which.
    pub since: Option<Since>,
    /// Most publications in the answer; the server may give fewer.
    pub limit: u32,
    /// Newest first.
    pub reverse: bool,
}

impl HistoryQuery {
    /// Up to so many publications, oldest first.
    pub fn oldest(limit: u32) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Up to so many publications, newest first.
    pub fn newest(limit: u32) -> Self {
        Self { limit, reverse: true, ..Self::default() }
    }

    /// Sets after which position.
    pub fn since(mut self, since: Since) -> Self {
        self.since = Some(since);
        self
    }
}

/// An answer to [`Client::history`](crate::Client::history).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistoryPage {
    /// The top of the history.
    pub position: Position,
    /// In the order asked for.
    pub publications: Vec<Publication>,
}

/// Where a client's connection stands.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// The first connection is being made.
    Connecting,
    /// Connected, and answering.
    Live {
        /// The session's id.
        session: Arc<str>,
    },
    /// The connection was cut, or could not be made; it is tried again for ever.
    Reconnecting {
        /// Time from the cut to the next try.
        next_in: Duration,
        /// What happened, for people.
        why: Arc<str>,
    },
    /// Over for good.
    Closed(Closed),
}
