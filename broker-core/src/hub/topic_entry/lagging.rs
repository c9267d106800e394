//! What a topic pushes to the shards, within its share of each inbox, and who is left out until it has caught up (rules I2 and I3).

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Joiner, State, TopicEntry, Who};
use crate::{
    Gap, GapReason, Position, Publication,
    hub::{
        inbox::{Item, Job},
        ports::Ports,
        reports,
        resume::Log,
    },
};

/// Where a shard that is left out has stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    pub(super) position: Option<Position>,
    /// The number of the last thing that went there.
    pub(super) seq: u64,
    pub(super) run: u64,
}

/// What happens when a topic's share of a shard's inbox is used up.
#[derive(Clone, Copy)]
pub(super) enum OnFull {
    /// The item promises nothing and is left out.
    Skip,
    /// The topic goes past the shard from this position on.
    Lag(Option<Position>),
}

impl TopicEntry {
    /// A lagging shard has done all it had of this topic and wants the rest (I2).
    pub(crate) fn shard_caught_up(self: &Arc<Self>, ports: &Ports, shard: usize) {
        let mut state = self.state.lock();
        if state.dead || state.lags[shard].is_none() {
            return;
        }
        state.joiners.push_back(Joiner { who: Who::Shard(shard), since: None, tries: 0, needs_rows: false });
        self.go_on(&mut state, ports);
    }

    pub(super) fn emit(self: &Arc<Self>, state: &mut State, ports: &Ports, job: &Job, before: Option<Position>) {
        let asked = match job {
            Job::Publication { publication, .. } => reports::of(publication),
            _ => None,
        };
        if let Some(reporting) = &asked {
            let shards = state.counts.iter().zip(&state.lags).filter(|(count, lag)| **count > 0 && lag.is_none()).count();
            reporting.sequenced(state.counts.iter().copied().map(u64::from).sum(), shards);
        }
        for shard in 0..state.counts.len() {
            if state.counts[shard] > 0 && state.lags[shard].is_none() {
                self.push_job(state, ports, shard, job.clone(), OnFull::Lag(before));
                if let Some(reporting) = asked.as_ref().filter(|_| state.lags[shard].is_some()) {
                    reporting.shard_is_done();
                }
            }
        }
    }

    /// I2: pushes within the share; otherwise nothing of this topic goes to that shard until its lag is closed.
    pub(super) fn push_job(self: &Arc<Self>, state: &mut State, ports: &Ports, shard: usize, job: Job, on_full: OnFull) {
        let weight = job.weight_bytes();
        let waiting = self.shares[shard].load(Relaxed);
        if waiting == 0 || waiting + weight <= self.share_max_bytes {
            self.shares[shard].fetch_add(weight, Relaxed);
            ports.push(shard, Item::Job(self.clone(), job));
        } else if let OnFull::Lag(position) = on_full {
            // The item that does not fit has its number already.
            state.lags[shard] = Some(Lag { position, seq: state.seq - 1, run: state.run });
            ports.push(shard, Item::Lagged(self.clone()));
        }
    }

    /// I2: one batch from the log, or one gap, and the shard is served again.
    pub(super) fn close_lag(self: &Arc<Self>, state: &mut State, ports: &Ports, shard: usize, log: Option<&Log>) {
        let Some(lag) = state.lags[shard].take() else { return };
        if state.counts[shard] == 0 {
            return;
        }
        let refill = log.filter(|_| lag.run == state.run).and_then(|log| log.after(lag.position?));
        let jobs = if let (Some(missed), Some(top)) = (refill, state.position) {
            // J8: the numbers that they would have had.
            let seq = |publication: &Publication| state.seq - publication.position.map_or(0, |position| top.offset - position.offset);
            missed.rest().iter().map(|publication| Job::Publication { seq: seq(publication), publication: publication.clone() }).collect()
        } else {
            // Takes no number: only this shard's members miss something, and those that joined since then do not.
            let from = lag.position.map(|position| Position { offset: position.offset + 1, ..position });
            let from = from.filter(|from| state.position.is_some_and(|position| position.epoch == from.epoch));
            let gap = Gap { from, to: state.position.filter(|_| self.keeps_log), reason: GapReason::SlowConsumer };
            vec![Job::Gap { after: lag.seq, seq: state.seq, gap }]
        };
        let weight: usize = jobs.iter().map(Job::weight_bytes).sum();
        self.shares[shard].fetch_add(weight, Relaxed);
        ports.push(shard, Item::Refill(self.clone(), jobs));
    }
}
