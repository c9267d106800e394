//! A store in memory: for tests of what stands on an outbox. Nothing is left of it when the process ends, so it keeps none of an outbox's promises.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use broker_core::{Publish, Topic};
use tokio::time::Instant;

use super::Stageable;
use crate::outbox::{Claim, OutboxCounts, OutboxRow, OutboxStore, Outcome, RefusedRow, RowId, RowState, Settled, StoreFailed, Unstageable};

/// An outbox in memory. Cloning gives another handle to the same rows.
#[derive(Clone)]
pub struct MemoryOutbox {
    id: Arc<str>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last: i64,
    rows: Vec<Kept>,
    claims: HashMap<Topic, (String, Instant)>,
}

struct Kept {
    row: OutboxRow,
    before: Option<SystemTime>,
    refused: Option<String>,
}

impl MemoryOutbox {
    /// An empty store.
    pub fn new() -> Self {
        Self { id: format!("{:016x}", fastrand::u64(..)).into(), state: Arc::default() }
    }

    /// Stages a publication.
    pub fn stage(&self, topic: &Topic, publish: Publish) -> Result<RowId, Unstageable> {
        Unstageable::check(topic)?;
        let mut state = self.state();
        state.last += 1;
        let id = RowId(state.last);
        let row = OutboxRow { id, topic: topic.clone(), publish, staged_at: SystemTime::now(), tried_at: None };
        state.rows.push(Kept { row, before: None, refused: None });
        Ok(id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryOutbox {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Stageable for MemoryOutbox {
    async fn stage(&self, topic: &Topic, publish: Publish) -> RowId {
        Self::stage(self, topic, publish).expect("the suite stages what can be staged")
    }
}

#[async_trait]
impl OutboxStore for MemoryOutbox {
    fn id(&self) -> &str {
        &self.id
    }

    async fn claim(&self, claim: Claim<'_>) -> Result<Vec<OutboxRow>, StoreFailed> {
        let mut state = self.state();
        let State { rows, claims, .. } = &mut *state;
        let now = Instant::now();
        claims.retain(|_, (_, until)| *until > now);
        let mut topics: HashMap<Topic, usize> = HashMap::new();
        for kept in rows.iter().filter(|kept| kept.refused.is_none()) {
            let is_free = claims.get(&kept.row.topic).is_none_or(|(worker, _)| worker == claim.worker);
            if is_free && !claim.except.contains(&kept.row.topic) && topics.len() < claim.rows {
                topics.insert(kept.row.topic.clone(), 0);
            }
        }
        let share = (claim.rows / topics.len().max(1)).max(1);
        let mut given = Vec::new();
        let mut bytes = 0;
        for kept in rows.iter_mut().filter(|kept| kept.refused.is_none()) {
            let topic = &kept.row.topic;
            let Some(of_topic) = topics.get_mut(topic).filter(|of_topic| **of_topic < share) else { continue };
            *of_topic += 1;
            bytes += kept.row.publish.data.len();
            if given.len() == claim.rows || (bytes > claim.bytes && !given.is_empty()) {
                break;
            }
            claims.insert(topic.clone(), (claim.worker.to_owned(), now + claim.lease));
            given.push(kept.row.clone());
            kept.before = kept.row.tried_at;
            kept.row.tried_at.get_or_insert_with(SystemTime::now);
        }
        Ok(given)
    }

    async fn settle(&self, worker: &str, settled: &[Settled]) -> Result<(), StoreFailed> {
        let mut state = self.state();
        for Settled { row, outcome } in settled {
            let Some(at) = state.rows.iter().position(|kept| kept.row.id == *row) else { continue };
            match outcome {
                Outcome::Published => drop(state.rows.remove(at)),
                Outcome::Refused { reason } => state.rows[at].refused = Some(reason.clone()),
                Outcome::NotSent => state.rows[at].row.tried_at = state.rows[at].before,
                Outcome::Unconfirmed => {}
            }
        }
        state.claims.retain(|_, (of, _)| of != worker);
        Ok(())
    }

    async fn counts(&self) -> Result<OutboxCounts, StoreFailed> {
        let state = self.state();
        let pending = || state.rows.iter().filter(|kept| kept.refused.is_none());
        let refused = state.rows.len() - pending().count();
        let oldest_staged_at = pending().next().map(|kept| kept.row.staged_at);
        Ok(OutboxCounts { pending: pending().count() as u64, oldest_staged_at, refused: refused as u64 })
    }

    async fn state(&self, row: RowId) -> Result<RowState, StoreFailed> {
        let state = self.state();
        let kept = state.rows.iter().find(|kept| kept.row.id == row);
        Ok(kept.map_or(RowState::Gone, |kept| kept.refused.clone().map_or(RowState::Pending, RowState::Refused)))
    }

    async fn refused(&self, limit: usize) -> Result<Vec<RefusedRow>, StoreFailed> {
        let state = self.state();
        let refused = state.rows.iter().filter_map(|Kept { row, refused, .. }| {
            let reason = refused.clone()?;
            Some(RefusedRow { id: row.id, topic: row.topic.as_str().to_owned(), staged_at: row.staged_at, reason })
        });
        Ok(refused.take(limit).collect())
    }

    async fn retry(&self, row: Option<RowId>) -> Result<usize, StoreFailed> {
        let mut state = self.state();
        let refused = state.rows.iter_mut().filter(|kept| kept.refused.is_some() && row.is_none_or(|row| row == kept.row.id));
        let retried = refused.map(|kept| {
            kept.refused = None;
            kept.row.tried_at = None;
        });
        Ok(retried.count())
    }

    async fn discard(&self, row: RowId) -> Result<bool, StoreFailed> {
        let mut state = self.state();
        let before = state.rows.len();
        state.rows.retain(|kept| kept.row.id != row || kept.refused.is_none());
        Ok(state.rows.len() < before)
    }
}

impl fmt::Debug for MemoryOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryOutbox").field("id", &self.id).finish_non_exhaustive()
    }
}
