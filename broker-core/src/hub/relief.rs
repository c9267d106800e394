//! When more waits on this node than may: those connections go that most waits for, and no more of them than it takes.
//!
//! One round at a time for the whole node. Every shard, sleeping or not, says what waits for its connections; the last one puts them in order,
//! and the list goes from owner to owner. Each closes those at its head that are its own and still have so much, until enough is free.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::AcqRel},
};

use tokio::time::{Duration, Instant};

use super::{
    conn::Occupant,
    inbox::{Item, SlotRef},
    shard::Shard,
    writing::write,
};
use crate::{CloseReason, sync::Mutex};

/// What one connection may let wait while the node is over its bound.
pub(super) const BACKLOG_MAX_WHEN_FULL: usize = 64 * 1024;
/// The part of the bound that is left to what is on its way while the rest is counted, once in a tick.
const UNDERWAY: usize = 64;
/// Time from the beginning of one round to the next.
const INTERVAL: Duration = Duration::from_millis(100);

/// Whether a round goes on, and when the next may begin.
#[derive(Debug, Default)]
pub(super) struct Relief(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    underway: bool,
    began_at: Option<Instant>,
    /// The last round found nobody more to close: until more is published, another would not either.
    in_vain: bool,
}

impl Relief {
    /// Begins a round, if none goes on and the last one was long enough ago.
    fn begin(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        let may_begin = !state.underway && state.began_at.is_none_or(|at| now >= at + INTERVAL);
        if may_begin {
            *state = State { underway: true, began_at: Some(now), in_vain: false };
        }
        may_begin
    }

    fn end(&self, in_vain: bool) {
        let mut state = self.0.lock();
        state.underway = false;
        state.in_vain = in_vain;
    }

    /// When a shard that has nothing else to do is to look again, at the earliest now.
    fn next_at(&self, now: Instant) -> Option<Instant> {
        let state = self.0.lock();
        let is_due = !state.underway && !state.in_vain;
        is_due.then(|| state.began_at.map_or(now, |at| now.max(at + INTERVAL)))
    }
}

/// What waits for the connections of all shards, while they are asked.
#[derive(Debug)]
pub(crate) struct Weighing {
    /// Shards that have not said it.
    missing: AtomicUsize,
    found: Mutex<Vec<Candidate>>,
}

/// A connection, and how many bytes wait for it, with their list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    weight: usize,
    at: SlotRef,
}

impl Shard {
    fn is_over(&self) -> bool {
        let max = self.hub.rules.settings.backlogs_max_bytes;
        self.hub.held.bytes() > max - max / UNDERWAY
    }

    /// Looks whether more waits on this node than may, and sees to it that it becomes less.
    pub(super) fn watch_bound(&mut self, now: Instant) {
        self.is_full = self.is_over();
        if self.is_full && self.hub.relief.begin(now) {
            let shards = self.hub.shards_len();
            let weighing = Arc::new(Weighing { missing: AtomicUsize::new(shards), found: Mutex::default() });
            for shard in 0..shards {
                self.hub.ports.push(shard, Item::Weigh(weighing.clone()));
            }
        }
    }

    /// When the bound is to be looked at again, although nothing happens.
    pub(super) fn next_relief(&self) -> Option<Instant> {
        if self.is_over() { self.hub.relief.next_at(self.now) } else { None }
    }

    /// Says what waits for the connections here.
    pub(super) fn weigh(&mut self, weighing: &Weighing, now: Instant) {
        let candidates = self.slots.iter().zip(0..).filter_map(|(slot, place)| {
            let Some(Occupant::Connection(conn)) = &slot.occupant else { return None };
            let weight = conn.backlog.weight(true);
            let is_meant = weight > BACKLOG_MAX_WHEN_FULL && !conn.session.is_closed();
            is_meant.then(|| Candidate { weight, at: self.at(place) })
        });
        weighing.found.lock().extend(candidates);
        if weighing.missing.fetch_sub(1, AcqRel) == 1 {
            let mut all = std::mem::take(&mut *weighing.found.lock());
            all.sort_unstable_by_key(|candidate| candidate.weight);
            self.close_largest(all, now);
        }
    }

    /// Closes connections, beginning with the last one of the list, and passes on the list when it comes to another shard's.
    pub(super) fn close_largest(&mut self, mut candidates: Vec<Candidate>, now: Instant) {
        while let Some(Candidate { at, .. }) = candidates.last().copied().filter(|_| self.is_over()) {
            if usize::from(at.shard) != self.index {
                return self.hub.push(at, Item::CloseLargest(candidates));
            }
            candidates.pop();
            let slot = self.slots.get_mut(at.slot as usize).filter(|slot| slot.generation == at.generation);
            let Some(Occupant::Connection(conn)) = slot.and_then(|slot| slot.occupant.as_mut()) else { continue };
            // Who would take it has only not had its turn.
            write(conn, &mut self.chunks, &mut self.tally);
            if conn.backlog.weight(true) > BACKLOG_MAX_WHEN_FULL {
                let backlog_bytes = conn.backlog.bytes();
                self.converse(at, now, |session, _, effects| session.close(CloseReason::SlowConsumer { backlog_bytes }, effects));
            }
        }
        self.hub.relief.end(self.is_over());
    }
}
