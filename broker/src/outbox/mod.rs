//! Publications that are stored in the application's own transaction, and published after it: what was committed is published, what was
//! rolled back never is. The words and the trait live here; how a store keeps them lives in `sqlite`, how they are published in `worker`.
//!
//! A handler that writes to a database and then publishes can die between the two, or publish what is rolled back afterwards. With an outbox it
//! *stages* the publication in the same transaction; a task of the [`Outbox`] publishes it when the transaction has been committed.
#![cfg_attr(feature = "outbox-sqlite", doc = "")]
#![cfg_attr(feature = "outbox-sqlite", doc = "```")]
#![cfg_attr(feature = "outbox-sqlite", doc = include_str!("example.rs"))]
#![cfg_attr(feature = "outbox-sqlite", doc = "```")]
//!
//! # What is promised
//!
//! - **At least once.** A row leaves the store when the backplane has taken its publication. A process that dies in between publishes the row
//!   again, with the row's id as idempotency key: subscribers get it once, as long as that is within five minutes of the first attempt.
//! - **Past those five minutes** nobody can tell whether an attempt without an answer was stored. [`PastWindow`] says what is done: it is
//!   published again, perhaps for the second time, and counted in [`OutboxStatus::perhaps_doubled`]; or it is put aside for an operator. Only attempts
//!   without an answer count: what waited for an hour because the backplane was down was never sent, and is published once. The same holds after
//!   the loss of a topic's history (a new epoch), which forgets the keys.
//! - **Order.** Rows of one topic are published in the order in which they were staged. Nothing is promised across topics.
//! - **A publication that the broker refuses for good** is put aside with the reason, and does not stand in the way of those behind it:
//!   [`OutboxHandle::refused`], [`OutboxHandle::retry`], [`OutboxHandle::discard`].
//! - **Several nodes on one store** share the work by topic; a claim that its node does not end passes to another when its lease is over.
//! - **Bounds.** A batch holds so many rows and bytes ([`OutboxOptions`]); what waits stays in the store.
//!
//! # To whom?
//!
//! A row goes to a topic: that of a group ([`Topic::group`](crate::Topic::group)), of a user ([`Topic::of_user`](crate::Topic::of_user)), or any other, with
//! [`Publish::except`](crate::Publish::except) for whoever caused it. A
//! send to a set of targets or to one session has neither history nor idempotency key; it cannot be repeated safely and is refused by `stage`.
//! A user who listens to two of the topics gets two publications: give the data an id.

mod backoff;
mod batch;
mod handle;
mod options;
#[cfg(feature = "outbox-sqlite")]
mod sqlite;
mod store;
#[cfg(feature = "outbox-testing")]
pub mod testing;
mod worker;

#[cfg(feature = "outbox-sqlite")]
pub use self::sqlite::{SqliteOutbox, StageError};
pub use self::{
    handle::{Outbox, OutboxHandle, OutboxStatus},
    options::{OutboxOptions, PastWindow},
    store::{Claim, OutboxCounts, OutboxRow, OutboxStore, Outcome, RefusedRow, RowId, RowState, Settled, StoreFailed, Unstageable},
};
/// The SQLite crate whose connections and transactions [`SqliteOutbox`] takes.
#[cfg(feature = "outbox-sqlite")]
pub use rusqlite;
