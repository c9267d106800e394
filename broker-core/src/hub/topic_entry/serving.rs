//! How a topic's joiners become members: with what they missed, with the application's snapshot, or not (rules J6 and J7).

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{Joiner, State, TopicEntry, Wants, Who};
use crate::{
    Gap, GapReason, Payload, Recovery, Refusal, Resume, Since,
    hub::{
        inbox::{Item, Joined},
        missed::Missed,
        ports::{Errand, Ports},
        resume::{Log, ReadAnswer, StateRead, resume},
        snapshots::Taken,
    },
};

/// Reads that may serve one joiner before it is told that it was not recovered (J6).
const TRIES_MAX: u8 = 3;

/// What an answer has for a joiner.
enum Lot {
    /// It becomes a member with this.
    Admitted(Missed, Option<Resume>),
    /// The next read can do better.
    Waits,
    /// No read kept up with what is published.
    GivenUp,
}

/// The rows of one answer with what changed since: put together once for all who get them.
enum Rows {
    Unasked,
    Known(Option<Missed>),
}

impl Rows {
    fn of(&mut self, log: &Log, state: &StateRead) -> Option<Missed> {
        if let Self::Unasked = self {
            *self = Self::Known(log.with_state(state));
        }
        match self {
            Self::Known(missed) => missed.clone(),
            Self::Unasked => None,
        }
    }
}

impl TopicEntry {
    pub(super) fn serve_without_log(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        while let Some(joiner) = state.joiners.pop_front() {
            match joiner.who {
                Who::Member { .. } => {
                    let resume = joiner.since.map(|since| {
                        let reason = if since == Since::Unreadable { GapReason::Unreadable } else { GapReason::Trimmed };
                        Resume { since, recovered: false, gap: Some(Gap { from: None, to: None, reason }) }
                    });
                    self.admit(state, ports, joiner, Missed::default(), resume);
                }
                Who::Shard(shard) => self.close_lag(state, ports, shard, None),
            }
        }
    }

    /// Serves the joiners that waited when the read was issued (J1).
    pub(super) fn serve(self: &Arc<Self>, state: &mut State, ports: &Ports, served: usize, read: &ReadAnswer) {
        let joiners: Vec<Joiner> = state.joiners.drain(..served.min(state.joiners.len())).collect();
        if joiners.is_empty() {
            return;
        }
        let mut log = Log::new(read, &state.ring, state.ring_overflowed, state.position.unwrap_or(read.page.top));
        if self.keeps_rows {
            log.keep_to_changes(read, &state.ring);
        }
        let mut rows = Rows::Unasked;
        let resumes = joiners.iter().any(|joiner| matches!(joiner.since, Some(Since::Position(_))));
        let mut kept = Vec::new();
        for mut joiner in joiners {
            match joiner.who {
                Who::Shard(shard) => self.close_lag(state, ports, shard, Some(&log)),
                Who::Member { wants, .. } => match self.lot_of(&mut joiner, wants, &log, read, &mut rows) {
                    Lot::Admitted(missed, outcome) => self.admit(state, ports, joiner, missed, outcome),
                    Lot::Waits => kept.push(joiner),
                    Lot::GivenUp => {
                        let refusal = Refusal::unavailable("more is published than the state keeps up with, try again");
                        self.refuse_joiner(ports, &joiner, refusal.retry_after(Duration::from_millis(500)));
                    }
                },
            }
        }
        for joiner in kept.into_iter().rev() {
            state.joiners.push_front(joiner);
        }
        if resumes {
            self.keep_known(state, ports, log);
        }
    }

    /// What an answer has for a member that joins.
    fn lot_of(&self, joiner: &mut Joiner, wants: Wants, log: &Log, read: &ReadAnswer, rows: &mut Rows) -> Lot {
        let last_try = joiner.tries >= TRIES_MAX;
        // What it missed while it got its pages is no resume of its own.
        let recovery = if wants.again { Recovery::Stream } else { self.recovery };
        let Some((missed, outcome)) = resume(log, joiner.since, recovery, last_try) else {
            joiner.tries += 1;
            return Lot::Waits;
        };
        if !self.gives_rows(wants) || outcome.is_some_and(|outcome| outcome.recovered) {
            return Lot::Admitted(missed, outcome);
        }
        joiner.needs_rows = true;
        let Some(state) = &read.state else {
            // This read was issued before anybody needed them: the next one brings them.
            return Lot::Waits;
        };
        match rows.of(log, state) {
            Some(missed) => Lot::Admitted(missed, outcome),
            None if last_try && joiner.can_be_refused() => Lot::GivenUp,
            None => {
                joiner.tries = joiner.tries.saturating_add(1);
                Lot::Waits
            }
        }
    }

    /// Whether a new member begins with the topic's rows; where the application has a snapshot of its own, it goes in their place.
    pub(super) fn gives_rows(&self, wants: Wants) -> bool {
        self.keeps_rows && !(self.has_snapshot && wants.snapshot)
    }

    /// Makes a joiner a member, or lets it wait for the application's snapshot.
    pub(super) fn admit(self: &Arc<Self>, state: &mut State, ports: &Ports, joiner: Joiner, missed: Missed, resume: Option<Resume>) {
        let wants_snapshot = matches!(joiner.who, Who::Member { wants, .. } if wants.snapshot && !wants.again);
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

    /// The application answered with the current state, or that there is none.
    pub(crate) fn snapshot_done(self: &Arc<Self>, ports: &Ports, answer: Result<Option<Payload>, Refusal>) {
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
            Err(_) if state.snapshots.stands_in() => {
                self.serve_snapshot(&mut state, ports);
                None
            }
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = refusal {
            for joiner in state.snapshots.failed() {
                self.refuse_joiner(ports, &joiner, refusal.clone());
            }
        }
        self.go_on(&mut state, ports);
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

    /// Gives the snapshot to those who wait for it. Where there is none, the topic's own rows stand in, which a read must bring: the caller
    /// goes on with that.
    pub(super) fn serve_snapshot(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        while let Some(served) = state.snapshots.next_served(state.position.filter(|_| self.keeps_log)) {
            if served.payload.is_none() && self.keeps_rows {
                state.joiners.push_back(served.joiner.for_rows());
                continue;
            }
            self.make_member(state, ports, &served.joiner, served.since.into(), served.resume, served.payload);
        }
    }

    /// J7: counted and told in one step.
    pub(super) fn make_member(
        self: &Arc<Self>,
        state: &mut State,
        ports: &Ports,
        joiner: &Joiner,
        missed: Missed,
        resume: Option<Resume>,
        snapshot: Option<Payload>,
    ) {
        let Who::Member { member, wants } = joiner.who else { return };
        let shard = usize::from(member.at.shard);
        state.counts[shard] += u32::from(!wants.again);
        let joined = Joined {
            entry: self.clone(),
            member,
            join_leave: wants.join_leave,
            again: wants.again,
            rows: joiner.needs_rows && !missed.is_empty(),
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
