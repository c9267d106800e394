//! For tests of stores: the suite that every store of an outbox passes, and a store in memory. (Feature `outbox-testing`.)

mod memory;
mod suite;

use async_trait::async_trait;
use broker_core::{Publish, Topic};

pub use self::{memory::MemoryOutbox, suite::outbox_suite};
use super::{OutboxStore, RowId};

/// A store that the suite can put rows into.
#[async_trait]
pub trait Stageable: OutboxStore {
    /// Stages a publication in a transaction of its own.
    async fn stage(&self, topic: &Topic, publish: Publish) -> RowId;
}
