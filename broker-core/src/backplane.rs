//! What carries publications between nodes and keeps their history: the trait, and what it may answer.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;

use crate::{Position, Publication, Publish, SessionInfo, Topic};

/// What carries publications between nodes and keeps their history: an ordered log per topic, with reliable delivery or not.
///
/// Called *broker* in Centrifugo, *adapter* in Phoenix and Socket.IO, *channel layer* in Django Channels.
/// Every implementation passes the suite in [`testing`](crate::testing) (feature `testing`).
#[async_trait]
pub trait Backplane: Send + Sync + 'static {
    /// Begins to deliver to `sink`. Called once, before anything else. The sink goes when the engine's last handle does.
    fn start(&self, sink: Weak<dyn Sink>);

    /// What this backplane can do.
    fn capabilities(&self) -> Capabilities;

    /// Appends to the topic's history and sends to everyone who has an interest, in one atomic step.
    ///
    /// Without a position where `keep` keeps nothing or the publish skips the history. Cancelled, it may have happened or not.
    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed>;

    /// Tells everyone who has an interest in the topic; keeps nothing, promises nothing.
    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable>;

    /// Begins or ends delivery of topics to this node. When it answers, everything published later arrives, or nothing does.
    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable>;

    /// Reads the history. What was appended before the call is in the answer or above its limit.
    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable>;

    /// Forgets what is kept; positions go on.
    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable>;
}

/// Where a backplane delivers. Synchronous: called in the order of each topic's log, may be called under a lock of the backplane.
pub trait Sink: Send + Sync {
    /// One publication, with its position where it has one.
    fn publication(&self, publication: Arc<Publication>);

    /// Someone came or went.
    fn announcement(&self, topic: &Topic, announcement: Announcement);

    /// Delivery may have had holes since some moment in the past: every topic is read again.
    fn link_restored(&self);
}

/// What a [`Backplane`] can do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// It keeps history.
    pub history: bool,
    /// What is delivered has no holes and no doubles.
    pub reliable: bool,
    /// Interest may name patterns.
    pub patterns: bool,
}

impl Capabilities {
    /// Can nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Keeps history.
    pub fn history(mut self) -> Self {
        self.history = true;
        self
    }

    /// Delivers without holes and doubles.
    pub fn reliable(mut self) -> Self {
        self.reliable = true;
        self
    }
}

/// What is kept of a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keep {
    /// Most publications; 0: none.
    pub size: usize,
    /// How long after the topic's last publication.
    pub ttl: Duration,
}

impl Keep {
    /// Nothing.
    pub const NOTHING: Self = Self { size: 0, ttl: Duration::ZERO };
}

/// A publish that was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Published {
    /// Where it stands; `None` without history.
    pub position: Option<Position>,
    /// Whether the idempotency key had been seen: this is the first one's position, nothing was stored.
    pub duplicate: bool,
}

impl Published {
    /// Taken, stands here.
    pub fn at(position: Option<Position>) -> Self {
        Self { position, duplicate: false }
    }

    /// Seen before, stands here.
    pub fn duplicate_of(position: Option<Position>) -> Self {
        Self { position, duplicate: true }
    }
}

/// Which part of a topic's log is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogQuery {
    /// Only publications with a greater offset (forwards) or a smaller one (`reverse`). The caller compares the epoch.
    pub after: Option<u64>,
    /// Most publications; `None`: all that are kept.
    pub limit: Option<usize>,
    /// Newest first.
    pub reverse: bool,
}

/// Part of a topic's log.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// The position of the newest publication ever appended; offset 0 where there was none.
    pub top: Position,
    /// In the order asked for.
    pub publications: Vec<Arc<Publication>>,
}

/// Someone came to or went from a topic.
#[derive(Clone, Debug)]
pub enum Announcement {
    /// Someone came.
    Join(Arc<SessionInfo>),
    /// Someone went.
    Leave(Arc<SessionInfo>),
}

/// Why a backplane did not take a publish.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishFailed {
    /// It never reached the backplane: safe to retry.
    #[error("the publish was not sent: {0}")]
    NotSent(String),
    /// It was sent, but no answer came: retry with the same idempotency key.
    #[error("the publish was sent, but not confirmed: {0}")]
    Unconfirmed(String),
}

/// The backplane did not answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the backplane did not answer: {0}")]
pub struct Unavailable(pub String);
