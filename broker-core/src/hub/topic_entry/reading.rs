//! The read machine of a topic: when its log is read, and what an answer does to its members (rules J1 to J5).

use std::sync::Arc;

use super::{FAILURES_MAX, Joiner, RETRY_AFTER, State, TopicEntry};
use crate::{
    Gap, GapReason, Position, Publication, Recovery, Refusal, Since,
    backplane::{LogPage, LogQuery, Unavailable},
    hub::{
        ports::{Errand, Ports},
        resume::ReadResult,
    },
};

/// Publications that wait for a read in flight; more means another read.
const PENDING_MAX: usize = if cfg!(broker_model) { 2 } else { 256 };

impl TopicEntry {
    /// The backplane answered a read (J5).
    pub(crate) fn read_done(self: &Arc<Self>, ports: &Ports, answer: ReadResult) {
        let mut state = self.state.lock();
        let Some(served) = state.reading.take() else { return };
        state.recording = false;
        if state.dead {
            return;
        }
        match answer {
            Err(error) => self.read_failed(&mut state, ports, served, &error),
            Ok(read) => {
                state.failures = 0;
                self.advance(&mut state, ports, &read.page);
                state.recording = true;
                self.drain_pending(&mut state, ports);
                state.recording = false;
                state.again |= !state.pending.is_empty();
                self.serve(&mut state, ports, served, &read);
                state.ring.clear();
                self.go_on(&mut state, ports);
            }
        }
        self.end_if_empty(&mut state, ports);
    }

    /// Delivery may have had holes: read again (J2).
    pub(crate) fn read_again(self: &Arc<Self>, ports: &Ports) {
        let mut state = self.state.lock();
        if state.dead {
            return;
        }
        state.again |= self.keeps_log;
        self.go_on(&mut state, ports);
    }

    /// The pause after a failed read is over.
    pub(crate) fn retry_read(self: &Arc<Self>, ports: &Ports) {
        let mut state = self.state.lock();
        let failures = std::mem::take(&mut state.failures);
        if state.dead {
            return;
        }
        self.go_on(&mut state, ports);
        // The count of failures in a row goes on.
        state.failures = if state.reading.is_some() { failures } else { 0 };
    }

    /// J1, J2: one read at a time, only while the backplane delivers, and only where nothing is known already (J10).
    pub(super) fn read_if_needed(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        if state.reading.is_some() || state.failures > 0 || !state.again && state.joiners.is_empty() {
            return;
        }
        if !state.again {
            self.serve_known(state, ports);
            if state.joiners.is_empty() {
                return;
            }
        }
        state.again = false;
        state.known = None;
        state.pending.clear();
        state.ring.clear();
        state.ring_overflowed = false;
        state.reading = Some(state.joiners.len());
        state.recording = true;
        let rows = state.joiners.iter().any(|joiner| joiner.needs_rows);
        ports.queue(Errand::Read { entry: self.clone(), query: read_query(state, self.recovery), state: rows });
    }

    pub(super) fn read_failed(self: &Arc<Self>, state: &mut State, ports: &Ports, served: usize, error: &Unavailable) {
        state.failures += 1;
        state.again = true;
        if state.failures.is_multiple_of(FAILURES_MAX) {
            let refused: Vec<Joiner> = state.joiners.drain(..served).collect();
            for joiner in refused {
                if joiner.can_be_refused() {
                    let refusal = Refusal::unavailable("the history could not be read, try again").rule(error.to_string());
                    let refusal = refusal.retry_after(RETRY_AFTER);
                    self.refuse_joiner(ports, &joiner, refusal);
                } else {
                    state.joiners.push_back(joiner);
                }
            }
        }
        ports.queue(Errand::ReadLater { entry: self.clone(), failures: state.failures });
    }

    /// J4: a publication that does not fit. Without a read in flight it is forgotten: it was appended before, so the read brings it.
    pub(super) fn hold(self: &Arc<Self>, state: &mut State, ports: &Ports, publication: Arc<Publication>) {
        if state.reading.is_none() {
            state.again = true;
            self.go_on(state, ports);
        } else if state.pending.len() < PENDING_MAX {
            state.pending.push(publication);
        } else {
            state.again = true;
        }
    }

    pub(super) fn drain_pending(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        if state.pending.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut state.pending);
        pending.sort_by_key(|publication| publication.position.map(|position| position.offset));
        for publication in pending {
            let (Some(position), Some(current)) = (publication.position, state.position) else { continue };
            if position.epoch == current.epoch {
                if position.offset == current.offset + 1 {
                    self.sequence(state, ports, publication);
                } else if position.offset > current.offset {
                    state.pending.push(publication);
                }
            } else if state.retired != Some(position.epoch) {
                state.pending.push(publication);
            }
        }
    }

    /// J5: moves every member to what the log holds.
    pub(super) fn advance(self: &Arc<Self>, state: &mut State, ports: &Ports, page: &LogPage) {
        let Some(current) = state.position else {
            state.position = Some(page.top);
            return;
        };
        if current.epoch != page.top.epoch {
            state.retired = Some(current.epoch);
            state.position = Some(page.top);
            let gap = Gap { from: None, to: Some(page.top), reason: GapReason::Epoch };
            return self.signal(state, ports, gap, current);
        }
        for publication in &page.publications {
            if let Some(position) = publication.position
                && self.skip_to(state, ports, page, position.offset - 1)
            {
                self.sequence(state, ports, publication.clone());
            }
        }
        self.skip_to(state, ports, page, page.top.offset);
    }

    /// Nothing is left of what stands up to `last`: what was forgotten is told, what expired by its own ttl is passed over. False: the
    /// members stand behind it already.
    fn skip_to(self: &Arc<Self>, state: &mut State, ports: &Ports, page: &LogPage, last: u64) -> bool {
        let Some(current) = state.position.filter(|current| current.offset <= last) else { return false };
        let forgotten = page.kept_from.min(last);
        if forgotten > current.offset {
            self.trimmed(state, ports, current, forgotten);
        }
        let passed = last - current.offset.max(forgotten);
        if passed > 0 {
            // J8: they would have had numbers.
            state.seq += passed;
            state.position = Some(Position { offset: last, ..current });
        }
        true
    }

    /// Publications after `current` up to `last` are gone for every member.
    pub(super) fn trimmed(self: &Arc<Self>, state: &mut State, ports: &Ports, current: Position, last: u64) {
        let epoch = current.epoch;
        state.position = Some(Position { offset: last, epoch });
        let gap = Gap {
            from: Some(Position { offset: current.offset + 1, epoch }),
            to: Some(Position { offset: last, epoch }),
            reason: GapReason::Trimmed,
        };
        self.signal(state, ports, gap, current);
    }
}

/// From where a read must bring publications: the smallest offset that anybody asks for.
fn read_query(state: &State, recovery: Recovery) -> LogQuery {
    let own = state.position.map(|position| position.offset);
    let lags = state.lags.iter().flatten().filter_map(|lag| lag.position).map(|position| position.offset);
    let asked = state.joiners.iter().filter_map(|joiner| joiner.since).filter_map(|since| match since {
        // The newest one may stand before a position of another epoch.
        _ if recovery == Recovery::Cache => Some(0),
        Since::Beginning => Some(0),
        Since::Position(position) => Some(position.offset),
        Since::Unreadable => None,
    });
    match own.into_iter().chain(lags).chain(asked).min() {
        Some(after) => LogQuery::after(after),
        None => LogQuery::top(),
    }
}
