//! What keeps the rows of an outbox: the trait and its words. Staging a row is each store's own affair, for it takes part in the
//! application's transaction.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use broker_core::{Publish, Topic};

/// What keeps the rows of an outbox. Every implementation passes the suite in `testing` (feature `outbox-testing`).
///
/// Several workers, in several processes, may share one store. A worker *claims* topics with their oldest rows, and *settles* every row that it was
/// given, which ends the claim. Between the two, no other worker is given rows of those topics, until the lease is over.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// The store's own random name: the same for all who share it, another for every other store. Idempotency keys begin with it. At most 64 bytes.
    fn id(&self) -> &str;

    /// Gives rows of topics that no other worker has, oldest first within a topic, and claims these topics. Topics that have waited longest come first, and
    /// each gets a share of the rows. What this worker has claimed already is given again. Each row is marked as tried.
    ///
    /// Cancelled, it may have happened or not.
    async fn claim(&self, claim: Claim<'_>) -> Result<Vec<OutboxRow>, StoreFailed>;

    /// Says what became of rows that this worker was given, and ends all its claims. A row that is gone is passed over.
    ///
    /// Cancelled, it may have happened or not; it can be repeated.
    async fn settle(&self, worker: &str, settled: &[Settled]) -> Result<(), StoreFailed>;

    /// How many rows there are. Cancel-safe.
    async fn counts(&self) -> Result<OutboxCounts, StoreFailed>;

    /// What is known of one row. Cancel-safe.
    async fn state(&self, row: RowId) -> Result<RowState, StoreFailed>;

    /// Rows that were put aside, oldest first, at most so many. Cancel-safe.
    async fn refused(&self, limit: usize) -> Result<Vec<RefusedRow>, StoreFailed>;

    /// Makes rows pending again that were put aside, as if they had never been tried: this one, or all. Answers how many.
    async fn retry(&self, row: Option<RowId>) -> Result<usize, StoreFailed>;

    /// Forgets a row that was put aside. Answers whether there was one.
    async fn discard(&self, row: RowId) -> Result<bool, StoreFailed>;
}

/// The id of a row: greater than that of every row of the store that was committed before, and never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RowId(pub i64);

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which rows a worker asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Who asks: a random name of the worker.
    pub worker: &'a str,
    /// Topics that are not asked for at the moment.
    pub except: &'a [Topic],
    /// Most rows.
    pub rows: usize,
    /// Most bytes of their data; the first row is given whatever it weighs.
    pub bytes: usize,
    /// How long the claim holds unless it is ended before. The same for all workers of a store.
    pub lease: Duration,
}

/// A publication that waits to be published.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    /// Its id.
    pub id: RowId,
    /// Where it goes.
    pub topic: Topic,
    /// What goes there, without an idempotency key: the outbox has its own.
    pub publish: Publish,
    /// When it was staged.
    pub staged_at: SystemTime,
    /// The first attempt whose end nobody knows; `None`: it was never sent before this claim.
    pub tried_at: Option<SystemTime>,
}

/// What became of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settled {
    /// Which row.
    pub row: RowId,
    /// What became of it.
    pub outcome: Outcome,
}

/// See [`Settled`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The backplane has it: the row goes.
    Published,
    /// It will never be taken: the row is put aside, with the reason.
    Refused {
        /// Why, for an operator.
        reason: String,
    },
    /// It was not sent in this claim: the row is as it was before.
    NotSent,
    /// It was sent, and nobody knows whether it was taken: the row stays, marked as tried.
    Unconfirmed,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OutboxCounts {
    /// Rows that wait to be published.
    pub pending: u64,
    /// When the oldest of them was staged.
    pub oldest_staged_at: Option<SystemTime>,
    /// Rows that were put aside.
    pub refused: u64,
}

/// What is known of one row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RowState {
    /// It waits to be published.
    Pending,
    /// It was put aside, for this reason.
    Refused(String),
    /// It was published or discarded, or there never was one.
    Gone,
}

/// A row that was put aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefusedRow {
    /// Its id.
    pub id: RowId,
    /// Where it was to go, as it is stored.
    pub topic: String,
    /// When it was staged.
    pub staged_at: SystemTime,
    /// Why it was put aside.
    pub reason: String,
}

/// The store did not do it; trying again can help.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the store of the outbox failed: {0}")]
pub struct StoreFailed(pub String);

/// Why a publication cannot be staged at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unstageable {
    /// What goes to one session has no idempotency key, so that a second attempt would double it.
    #[error("{topic} is one session's: it has no idempotency key, so what goes there cannot be staged; send to its user or group")]
    Session {
        /// The session's topic.
        topic: Topic,
    },
}

impl Unstageable {
    /// Looks whether something can be staged for a topic: every store's `stage` asks this first.
    pub fn check(topic: &Topic) -> Result<(), Self> {
        if topic.namespace() == Some("session") { Err(Self::Session { topic: topic.clone() }) } else { Ok(()) }
    }
}
