//! What carries publications between nodes and keeps their history: the trait, and what it may answer.

use std::sync::{Arc, Weak};

use async_trait::async_trait;

use crate::{Full, Keep, Kept, Position, Publication, Publish, SessionInfo, Topic};

/// What carries publications between nodes and keeps their history: an ordered log per topic, with reliable delivery or not.
///
/// Called *broker* in Centrifugo, *adapter* in Phoenix and Socket.IO, *channel layer* in Django Channels.
/// Every implementation passes the suite in [`testing`](crate::testing) (feature `testing`).
///
/// A call that does not answer in time ([`Settings::publish_timeout`](crate::Settings), [`Settings::backplane_timeout`](crate::Settings)) is dropped,
/// and made again where it must succeed: whatever was half done then must not stand in the way of the next call.
#[async_trait]
pub trait Backplane: Send + Sync + 'static {
    /// Begins to deliver to `sink`. Called once, before anything else. The sink goes when the engine's last handle does.
    fn start(&self, sink: Weak<dyn Sink>);

    /// What this backplane can do.
    fn capabilities(&self) -> Capabilities;

    /// Appends to the topic's history and state, and sends to everyone who has an interest, in one atomic step.
    ///
    /// Without a position where `keep` keeps nothing or the publish skips the history. What is a duplicate or outdated is neither kept nor
    /// sent; nor is what there is no room for. Cancelled, it may have happened or not.
    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed>;

    /// Tells everyone who has an interest in the topic; keeps nothing, promises nothing.
    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable>;

    /// Begins or ends delivery of topics to this node. When it answers, everything published later arrives, or nothing does. Repeated after a
    /// call that failed or was dropped; a topic may be wanted that is had, and the other way round.
    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable>;

    /// Reads the history. What was appended before the call is in the answer or above its limit.
    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable>;

    /// Forgets the history; positions go on, and so does the state.
    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable>;

    /// Reads the state: the newest publication of each key, in the order of their offsets.
    ///
    /// A row that changes between two pages moves behind all others, so that whoever reads to the end has every row; one that is removed
    /// meanwhile is missing from later pages only, and the history after the first page's top says so.
    async fn state(&self, topic: &Topic, query: StateQuery, keep: Keep) -> Result<StatePage, Unavailable> {
        let _ = (query, keep);
        Err(Unavailable(format!("this backplane keeps no state, also not of {}", topic.local())))
    }

    /// Bytes that are kept in this process; nothing where it keeps elsewhere.
    fn kept(&self) -> Kept {
        Kept::default()
    }

    /// What keeps it from doing all of this at the moment, in words for whoever operates the node; empty: nothing. Answers at once.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Where a backplane delivers. Synchronous: called in the order of each topic's log, may be called under a lock of the backplane.
pub trait Sink: Send + Sync {
    /// One publication, with its position where it has one.
    fn publication(&self, publication: Arc<Publication>);

    /// Someone came or went.
    fn announcement(&self, topic: &Topic, announcement: Announcement);

    /// Delivery may have had holes since some moment in the past: every topic is read again.
    fn link_restored(&self);

    /// Delivery of this topic may have had holes, or its history has begun anew: it is read again.
    fn gapped(&self, topic: &Topic);
}

/// What a [`Backplane`] can do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// It keeps history.
    pub history: bool,
    /// It keeps the newest publication of each key beside the history.
    pub state: bool,
    /// What is delivered has no holes and no doubles.
    pub reliable: bool,
    /// Interest may name patterns.
    pub patterns: bool,
    /// Other nodes share it: a position that one of them gave out means the same on every other.
    pub shared: bool,
    /// Publishes to one topic are taken in the order in which their futures were first polled, also while earlier ones have no answer yet: so
    /// those that come together may go together.
    pub in_line: bool,
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

    /// Keeps state.
    pub fn state(mut self) -> Self {
        self.state = true;
        self
    }

    /// Is shared with other nodes.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Takes publishes to one topic in the order in which they were first polled.
    pub fn in_line(mut self) -> Self {
        self.in_line = true;
        self
    }

    /// Delivers without holes and doubles.
    pub fn reliable(mut self) -> Self {
        self.reliable = true;
        self
    }
}

/// A publish that was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Published {
    /// Where it stands; `None` without history. Where it was not stored: where the first one stands, or the top.
    pub position: Option<Position>,
    /// Whether the idempotency key had been seen: this is the first one's position, nothing was stored.
    pub duplicate: bool,
    /// Whether something of the same or a newer version had been taken: this is the top, nothing was stored.
    pub outdated: bool,
}

impl Published {
    /// Taken, stands here.
    pub fn at(position: Option<Position>) -> Self {
        Self { position, duplicate: false, outdated: false }
    }

    /// Seen before, stands here.
    pub fn duplicate_of(position: Option<Position>) -> Self {
        Self { duplicate: true, ..Self::at(position) }
    }

    /// Not newer than what was taken; the history stands here.
    pub fn outdated(top: Option<Position>) -> Self {
        Self { outdated: true, ..Self::at(top) }
    }

    /// Whether this call stored and sent something.
    pub fn is_new(&self) -> bool {
        !self.duplicate && !self.outdated
    }
}

/// Which part of a topic's log is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogQuery {
    /// Only publications with a greater offset (forwards) or a smaller one (`reverse`). The caller compares the epoch.
    pub after: Option<u64>,
    /// Most publications; `None`: all that are kept.
    pub limit: Option<usize>,
    /// Most bytes, as they count against bounds; the first publication is given whatever it weighs. `None`: no bound.
    pub bytes: Option<usize>,
    /// Newest first.
    pub reverse: bool,
    /// Read for those who listen: what was appended up to the answer counts as delivered to this node, once the answer reaches the top
    /// ([`LogPage::next`]).
    pub delivers: bool,
}

impl LogQuery {
    /// Everything that is kept after an offset.
    pub fn after(offset: u64) -> Self {
        Self { after: Some(offset), ..Self::default() }
    }

    /// Only where the log stands.
    pub fn top() -> Self {
        Self { limit: Some(0), ..Self::default() }
    }

    /// Says that the answer is for those who listen.
    pub fn delivers(mut self) -> Self {
        self.delivers = true;
        self
    }
}

/// Part of a topic's log.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// The position of the newest publication ever appended; offset 0 where there was none.
    pub top: Position,
    /// What has a greater offset is kept, except where its own ttl has passed: a hole behind this offset is no loss. Where there is a state,
    /// a publication with a key leaves no such hole: whoever did not hear it may have an older row. 0: nothing was ever forgotten.
    pub kept_from: u64,
    /// In the order asked for.
    pub publications: Vec<Arc<Publication>>,
    /// Where the next page begins: [`LogQuery::after`] of the query for it. `None`: nothing is left out for the sake of the query's bounds, or
    /// nothing but the top was asked for.
    pub next: Option<u64>,
}

/// Which part of a topic's state is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StateQuery {
    /// Only rows with a greater offset: [`StatePage::next`] of the page before.
    pub after: Option<u64>,
    /// Most rows; `None`: all.
    pub limit: Option<usize>,
    /// Most bytes, as they count against bounds; the first row is given whatever it weighs. `None`: no bound.
    pub bytes: Option<usize>,
}

/// Part of a topic's state.
#[derive(Clone, Debug)]
pub struct StatePage {
    /// The position of the newest publication ever appended.
    pub top: Position,
    /// The newest publication of each key, in the order of their offsets. None is a removal.
    pub rows: Vec<Arc<Publication>>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<u64>,
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
    /// There is no room for it: nothing was stored or sent. What expires makes room.
    #[error(transparent)]
    Full(#[from] Full),
}

/// The backplane did not answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the backplane did not answer: {0}")]
pub struct Unavailable(pub String);
