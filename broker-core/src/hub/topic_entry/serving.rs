//! How a topic's joiners become members: with what they missed, with the application's snapshot, or not (rules J6 and J7).

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Joiner, State, TopicEntry, Who};
use crate::{
    Gap, GapReason, Payload, Publication, Refusal, Resume,
    backplane::LogPage,
    hub::{
        inbox::{Item, Joined},
        ports::{Errand, Ports},
        resume::{Log, resume},
        snapshots::Taken,
    },
};

/// Reads that may serve one joiner before it is told that it was not recovered (J6).
const TRIES_MAX: u8 = 3;

impl TopicEntry {
    pub(super) fn serve_without_log(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        while let Some(joiner) = state.joiners.pop_front() {
            match joiner.who {
                Who::Member { .. } => {
                    let gap = Gap { from: None, to: None, reason: GapReason::Trimmed };
                    let resume = joiner.since.map(|since| Resume { since, recovered: false, gap: Some(gap) });
                    self.admit(state, ports, joiner, Vec::new(), resume);
                }
                Who::Shard(shard) => self.close_lag(state, ports, shard, None),
            }
        }
    }

    /// Serves the joiners that waited when the read was issued (J1).
    pub(super) fn serve(self: &Arc<Self>, state: &mut State, ports: &Ports, served: usize, page: &LogPage) {
        let joiners: Vec<Joiner> = state.joiners.drain(..served.min(state.joiners.len())).collect();
        let mut kept = Vec::new();
        for mut joiner in joiners {
            let ring = std::mem::take(&mut state.ring);
            let position = state.position.unwrap_or(page.top);
            let log = Log { page, ring: &ring, ring_overflowed: state.ring_overflowed, position };
            match joiner.who {
                Who::Shard(shard) => self.close_lag(state, ports, shard, Some(&log)),
                Who::Member { .. } => match resume(&log, joiner.since, self.namespace.recovery, joiner.tries >= TRIES_MAX) {
                    None => {
                        joiner.tries += 1;
                        kept.push(joiner);
                    }
                    Some((missed, outcome)) => self.admit(state, ports, joiner, missed, outcome),
                },
            }
            state.ring = ring;
        }
        for joiner in kept.into_iter().rev() {
            state.joiners.push_front(joiner);
        }
    }

    /// Makes a joiner a member, or lets it wait for the application's snapshot.
    pub(super) fn admit(
        self: &Arc<Self>,
        state: &mut State,
        ports: &Ports,
        joiner: Joiner,
        missed: Vec<Arc<Publication>>,
        resume: Option<Resume>,
    ) {
        let wants_snapshot = matches!(joiner.who, Who::Member { wants, .. } if wants.snapshot);
        if self.has_snapshot && wants_snapshot && !resume.is_some_and(|resume| resume.recovered) {
            if state.snapshots.wait(joiner, resume) {
                ports.queue(Errand::Snapshot { entry: self.clone() });
            } else {
                self.serve_snapshot(state, ports);
            }
            return;
        }
        self.make_member(state, ports, &joiner, missed, resume, None);
    }

    /// The application answered with the current state.
    pub(crate) fn snapshot_done(self: &Arc<Self>, ports: &Ports, answer: Result<Payload, Refusal>) {
        let mut state = self.state.lock();
        if state.dead {
            return;
        }
        let refusal = match answer.map(|payload| state.snapshots.taken(payload)) {
            Ok(Taken::Serve) => {
                self.serve_snapshot(&mut state, ports);
                None
            }
            Ok(Taken::AskAgain) => {
                state.snapshots.ask();
                ports.queue(Errand::Snapshot { entry: self.clone() });
                None
            }
            Ok(Taken::GiveUp) => Some(Refusal::unavailable("more is published than the snapshot keeps up with, try again")),
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = refusal {
            for joiner in state.snapshots.failed() {
                self.refuse_joiner(ports, &joiner, refusal.clone());
            }
        }
        self.end_if_empty(&mut state, ports);
    }

    /// Logs the beginning and the end of an outage of the snapshot hook, once each.
    pub(crate) fn snapshot_outcome(&self, error: Option<&str>) {
        let failed_before = self.snapshot_failing.swap(error.is_some(), Relaxed);
        match error {
            Some(error) if !failed_before => tracing::error!(topic = %self.topic, error, "the snapshot hook fails"),
            None if failed_before => tracing::info!(topic = %self.topic, "the snapshot hook answers again"),
            _ => {}
        }
    }

    pub(super) fn serve_snapshot(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        while let Some(served) = state.snapshots.next_served() {
            self.make_member(state, ports, &served.joiner, served.since, served.resume, Some(served.payload));
        }
    }

    /// J7: counted and told in one step.
    pub(super) fn make_member(
        self: &Arc<Self>,
        state: &mut State,
        ports: &Ports,
        joiner: &Joiner,
        missed: Vec<Arc<Publication>>,
        resume: Option<Resume>,
        snapshot: Option<Payload>,
    ) {
        let Who::Member { member, wants } = joiner.who else { return };
        let shard = usize::from(member.at.shard);
        state.counts[shard] += 1;
        let joined = Joined {
            entry: self.clone(),
            member,
            join_leave: wants.join_leave,
            last: state.seq,
            position: state.position.filter(|_| self.keeps_log),
            resume,
            missed,
            snapshot,
        };
        ports.push(shard, Item::Joined(Box::new(joined)));
    }

    pub(super) fn refuse_joiner(self: &Arc<Self>, ports: &Ports, joiner: &Joiner, refusal: Refusal) {
        if let Who::Member { member, .. } = joiner.who {
            ports.push(usize::from(member.at.shard), Item::JoinFailed(member, self.clone(), Box::new(refusal)));
        }
    }
}
