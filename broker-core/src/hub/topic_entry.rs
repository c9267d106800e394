//! One topic on this node: its order, its read machine, its interest, who joins and how many listen.
//!
//! The rules and their names (J, T, I) are in docs/decisions/0002-joining.md; every rule has a planted bug in the model test that shows it is needed.
//! What is read from and told to the outside goes through [`Ports`]; nothing here waits, calls a backplane or a hook.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    inbox::{Item, Job, Joined, MemberRef},
    ports::{Errand, Ports},
    reports,
    resume::{Log, resume},
    snapshots::{Snapshots, Taken},
};
use crate::{
    Epoch, Gap, GapReason, Namespace, Payload, Position, Publication, Recovery, Refusal, Resume, Since, Topic,
    backplane::{Announcement, LogPage, LogQuery, Unavailable},
    sync::Mutex,
};

/// Publications that are kept while a read is in flight; more means another read.
const RING_MAX: usize = if cfg!(broker_model) { 2 } else { 256 };
/// Publications that wait for a read in flight; more means another read.
const PENDING_MAX: usize = if cfg!(broker_model) { 2 } else { 256 };
/// Reads that may serve one joiner before it is told that it was not recovered (J6).
const TRIES_MAX: u8 = 3;
/// Failed reads in a row after which those who wait are refused.
const FAILURES_MAX: u32 = 3;

/// One topic on this node.
pub(crate) struct TopicEntry {
    pub(crate) topic: Topic,
    pub(crate) namespace: Arc<Namespace>,
    /// Unique on this node; greater for later entries.
    pub(crate) incarnation: u64,
    /// Whether the backplane keeps a log of this topic.
    pub(crate) keeps_log: bool,
    has_snapshot: bool,
    share_max_bytes: usize,
    /// Bytes of this topic that wait for each shard (I3: given back when the job is done).
    shares: Box<[AtomicUsize]>,
    /// Whether the snapshot hook failed when it was last called.
    snapshot_failing: AtomicBool,
    state: Mutex<State>,
}

/// Whether the backplane delivers this topic (T1). One command is in flight at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Interest {
    None,
    Adding,
    On,
    Removing,
}

struct State {
    /// Out of the directory: whoever finds this looks the topic up again.
    dead: bool,
    interest: Interest,
    /// The number of the last thing that was sequenced. Local to the node.
    seq: u64,
    /// The position of the last publication that was sequenced.
    position: Option<Position>,
    /// Moves with everything that has no offset of its own, so that a lag knows what a refill cannot bring.
    run: u64,
    /// The epoch before this one.
    retired: Option<Epoch>,
    /// A read is in flight; it serves so many of `joiners` (J1).
    reading: Option<usize>,
    /// Another read is needed.
    again: bool,
    failures: u32,
    joiners: VecDeque<Joiner>,
    /// Publications ahead of the position, while a read is in flight (J4).
    pending: Vec<Arc<Publication>>,
    /// Whether what is sequenced goes into `ring` (J6): while a read is in flight, and what its answer lets through; not the answer itself.
    recording: bool,
    ring: VecDeque<Arc<Publication>>,
    ring_overflowed: bool,
    counts: Box<[u32]>,
    lags: Box<[Option<Lag>]>,
    snapshots: Snapshots,
    occupied: bool,
    /// Members that ever wanted to join.
    joins: u64,
    /// The time without listeners runs.
    lingering: bool,
}

/// Where a shard that is left out has stopped.
#[derive(Clone, Copy, Debug)]
struct Lag {
    position: Option<Position>,
    /// The number of the last thing that went there.
    seq: u64,
    run: u64,
}

/// What happens when a topic's share of a shard's inbox is used up.
#[derive(Clone, Copy)]
enum OnFull {
    /// The item promises nothing and is left out.
    Skip,
    /// The topic goes past the shard from this position on.
    Lag(Option<Position>),
}

/// Who waits for a read.
pub(super) struct Joiner {
    pub(super) who: Who,
    pub(super) since: Option<Since>,
    tries: u8,
}

pub(super) enum Who {
    Member {
        member: MemberRef,
        wants: Wants,
    },
    /// A shard that lags (I2).
    Shard(usize),
}

/// What a member wants besides publications.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wants {
    /// To be told who comes and goes.
    pub(crate) join_leave: bool,
    /// The application's snapshot, where it begins without what came before.
    pub(crate) snapshot: bool,
}

/// What an entry is made from.
pub(crate) struct NewTopic {
    pub(crate) topic: Topic,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) incarnation: u64,
    pub(crate) keeps_log: bool,
    pub(crate) has_snapshot: bool,
    pub(crate) snapshot_max_age: Duration,
    pub(crate) snapshot_stale_max: Duration,
    pub(crate) share_max_bytes: usize,
    pub(crate) shards: usize,
}

impl TopicEntry {
    pub(crate) fn new(new: NewTopic) -> Self {
        Self {
            topic: new.topic,
            namespace: new.namespace,
            incarnation: new.incarnation,
            keeps_log: new.keeps_log,
            has_snapshot: new.has_snapshot,
            share_max_bytes: new.share_max_bytes,
            shares: (0..new.shards).map(|_| AtomicUsize::new(0)).collect(),
            snapshot_failing: AtomicBool::new(false),
            state: Mutex::new(State {
                dead: false,
                interest: Interest::None,
                // J8: an entry that follows another one of the same name never repeats its numbers.
                seq: new.incarnation << 32,
                position: None,
                run: 0,
                retired: None,
                reading: None,
                again: false,
                failures: 0,
                joiners: VecDeque::new(),
                pending: Vec::new(),
                recording: false,
                ring: VecDeque::new(),
                ring_overflowed: false,
                counts: vec![0; new.shards].into(),
                lags: vec![None; new.shards].into(),
                snapshots: Snapshots::new(new.snapshot_max_age, new.snapshot_stale_max),
                occupied: false,
                joins: 0,
                lingering: false,
            }),
        }
    }

    /// A member wants to join. False: the entry is dead, look the topic up again (T2).
    pub(crate) fn join(self: &Arc<Self>, ports: &Ports, member: MemberRef, since: Option<Since>, wants: Wants) -> bool {
        let mut state = self.state.lock();
        if state.dead {
            return false;
        }
        if !state.occupied {
            state.occupied = true;
            ports.queue(Errand::Occupancy { topic: self.topic.clone(), occupied: true });
        }
        state.joins += 1;
        state.joiners.push_back(Joiner { who: Who::Member { member, wants }, since, tries: 0 });
        if state.interest == Interest::None {
            state.interest = Interest::Adding;
            ports.queue(Errand::Interest { entry: self.clone(), wanted: true });
        }
        self.go_on(&mut state, ports);
        true
    }

    /// J9: takes a joiner back. False: its `Joined` is in an inbox, already counted.
    pub(crate) fn cancel(self: &Arc<Self>, ports: &Ports, member: MemberRef) -> bool {
        let mut state = self.state.lock();
        let found = state.joiners.iter().position(|joiner| matches!(joiner.who, Who::Member { member: waiting, .. } if waiting == member));
        if let Some(at) = found {
            state.joiners.remove(at);
            if let Some(served) = state.reading.as_mut()
                && at < *served
            {
                *served -= 1;
            }
        } else if !state.snapshots.cancel(member) {
            return false;
        }
        self.end_if_empty(&mut state, ports);
        true
    }

    /// A member is gone from a shard.
    pub(crate) fn leave(self: &Arc<Self>, ports: &Ports, shard: usize) {
        let mut state = self.state.lock();
        state.counts[shard] -= 1;
        if state.counts[shard] == 0 {
            state.lags[shard] = None;
        }
        self.end_if_empty(&mut state, ports);
    }

    /// One publication from the backplane (J3).
    pub(crate) fn publication(self: &Arc<Self>, ports: &Ports, publication: Arc<Publication>) {
        let mut state = self.state.lock();
        if state.dead {
            return;
        }
        let Some(position) = publication.position.filter(|_| self.keeps_log) else {
            return self.sequence_unpositioned(&mut state, ports, publication);
        };
        match state.position {
            Some(current) if current.epoch == position.epoch => {
                if position.offset == current.offset + 1 {
                    self.sequence(&mut state, ports, publication);
                    self.drain_pending(&mut state, ports);
                } else if position.offset > current.offset {
                    self.hold(&mut state, ports, publication);
                }
            }
            _ if state.retired == Some(position.epoch) => {}
            _ => self.hold(&mut state, ports, publication),
        }
    }

    /// Someone came or went.
    pub(crate) fn announcement(self: &Arc<Self>, ports: &Ports, announcement: Announcement) {
        let mut state = self.state.lock();
        if !state.dead {
            let job = Job::Announcement { after: state.seq, announcement: Arc::new(announcement) };
            for shard in 0..state.counts.len() {
                // A lagging shard goes without: an announcement promises nothing.
                if state.counts[shard] > 0 && state.lags[shard].is_none() {
                    self.push_job(&mut state, ports, shard, job.clone(), OnFull::Skip);
                }
            }
        }
    }

    /// The backplane answered a read (J5).
    pub(crate) fn read_done(self: &Arc<Self>, ports: &Ports, answer: Result<LogPage, Unavailable>) {
        let mut state = self.state.lock();
        let Some(served) = state.reading.take() else { return };
        state.recording = false;
        if state.dead {
            return;
        }
        match answer {
            Err(error) => self.read_failed(&mut state, ports, served, &error),
            Ok(page) => {
                state.failures = 0;
                self.advance(&mut state, ports, &page);
                state.recording = true;
                self.drain_pending(&mut state, ports);
                state.recording = false;
                state.again |= !state.pending.is_empty();
                self.serve(&mut state, ports, served, &page);
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

    /// The backplane confirmed that delivery began or ended (T1, T2). True: the entry is dead; the caller holds the directory.
    pub(crate) fn confirmed(self: &Arc<Self>, ports: &Ports, wanted: bool) -> bool {
        let mut state = self.state.lock();
        if state.dead {
            return false;
        }
        if wanted {
            state.interest = Interest::On;
            state.again |= self.keeps_log;
            self.go_on(&mut state, ports);
            self.end_if_empty(&mut state, ports);
            return false;
        }
        if state.joiners.is_empty() && state.snapshots.is_idle() {
            state.interest = Interest::None;
            state.dead = true;
            if state.occupied {
                ports.queue(Errand::Occupancy { topic: self.topic.clone(), occupied: false });
            }
            return true;
        }
        state.interest = Interest::Adding;
        ports.queue(Errand::Interest { entry: self.clone(), wanted: true });
        false
    }

    /// The backplane did not begin or end the delivery, and is asked again: who waited long enough is refused.
    pub(crate) fn interest_failed(self: &Arc<Self>, ports: &Ports, failures: u32, error: &Unavailable) {
        let mut state = self.state.lock();
        if failures.is_multiple_of(FAILURES_MAX) && state.interest != Interest::On {
            for joiner in std::mem::take(&mut state.joiners) {
                let refusal = Refusal::unavailable("the topic could not be listened to, try again").rule(error.to_string());
                self.refuse_joiner(ports, &joiner, refusal);
            }
        }
    }

    /// The time without listeners is over: ends the delivery if there are none (T1), and nobody came and went since it began.
    pub(crate) fn linger_over(self: &Arc<Self>, ports: &Ports, joins: u64) {
        let mut state = self.state.lock();
        state.lingering = false;
        if state.joins != joins {
            return self.end_if_empty(&mut state, ports);
        }
        if !state.dead && state.interest == Interest::On && Self::is_empty(&state) {
            state.interest = Interest::Removing;
            // What is not delivered cannot advance the position; a later life of this entry starts from a read.
            state.position = None;
            state.snapshots.invalidate();
            ports.queue(Errand::Interest { entry: self.clone(), wanted: false });
        }
    }

    /// A lagging shard has done all it had of this topic and wants the rest (I2).
    pub(crate) fn shard_caught_up(self: &Arc<Self>, ports: &Ports, shard: usize) {
        let mut state = self.state.lock();
        if state.dead || state.lags[shard].is_none() {
            return;
        }
        state.joiners.push_back(Joiner { who: Who::Shard(shard), since: None, tries: 0 });
        self.go_on(&mut state, ports);
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

    /// Whether a publish may be appended: no shard with members of this topic has its share used up.
    pub(crate) fn has_room(&self, weight_bytes: usize) -> bool {
        self.shares.iter().all(|share| {
            let waiting = share.load(Relaxed);
            waiting == 0 || waiting + weight_bytes <= self.share_max_bytes
        })
    }

    /// I3: a job is done.
    pub(crate) fn give_back(&self, shard: usize, bytes: usize) {
        self.shares[shard].fetch_sub(bytes, Relaxed);
    }

    /// Number of members on this node.
    pub(crate) fn members_len(&self) -> usize {
        self.state.lock().counts.iter().map(|count| *count as usize).sum()
    }

    // ---- under the lock ----

    fn is_empty(state: &State) -> bool {
        let members_waiting = state.joiners.iter().any(|joiner| matches!(joiner.who, Who::Member { .. }));
        !members_waiting && state.counts.iter().all(|count| *count == 0) && state.snapshots.is_idle()
    }

    fn end_if_empty(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        if state.interest == Interest::On && Self::is_empty(state) {
            state.joiners.clear();
            if let Some(served) = state.reading.as_mut() {
                *served = 0;
            }
            if !std::mem::replace(&mut state.lingering, true) {
                ports.queue(Errand::Linger { entry: self.clone(), joins: state.joins });
            }
        }
    }

    /// Serves or reads, as far as the interest allows.
    fn go_on(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        if state.interest != Interest::On {
            return;
        }
        if self.keeps_log {
            self.read_if_needed(state, ports);
        } else {
            self.serve_without_log(state, ports);
        }
    }

    /// J1, J2: one read at a time, only while the backplane delivers.
    fn read_if_needed(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        if state.reading.is_some() || state.failures > 0 || !state.again && state.joiners.is_empty() {
            return;
        }
        state.again = false;
        state.pending.clear();
        state.ring.clear();
        state.ring_overflowed = false;
        state.reading = Some(state.joiners.len());
        state.recording = true;
        ports.queue(Errand::Read { entry: self.clone(), query: read_query(state, self.namespace.recovery) });
    }

    fn read_failed(self: &Arc<Self>, state: &mut State, ports: &Ports, served: usize, error: &Unavailable) {
        state.failures += 1;
        state.again = true;
        if state.failures.is_multiple_of(FAILURES_MAX) {
            let refused: Vec<Joiner> = state.joiners.drain(..served).collect();
            for joiner in refused {
                match joiner.who {
                    Who::Member { .. } => {
                        let refusal = Refusal::unavailable("the history could not be read, try again").rule(error.to_string());
                        self.refuse_joiner(ports, &joiner, refusal);
                    }
                    Who::Shard(_) => state.joiners.push_back(joiner),
                }
            }
        }
        ports.queue(Errand::ReadLater { entry: self.clone(), failures: state.failures });
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

    /// J4: a publication that does not fit. Without a read in flight it is forgotten: it was appended before, so the read brings it.
    fn hold(self: &Arc<Self>, state: &mut State, ports: &Ports, publication: Arc<Publication>) {
        if state.reading.is_none() {
            state.again = true;
            self.go_on(state, ports);
        } else if state.pending.len() < PENDING_MAX {
            state.pending.push(publication);
        } else {
            state.again = true;
        }
    }

    fn drain_pending(self: &Arc<Self>, state: &mut State, ports: &Ports) {
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
    fn advance(self: &Arc<Self>, state: &mut State, ports: &Ports, page: &LogPage) {
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
            let Some(position) = publication.position else { continue };
            let Some(current) = state.position else { continue };
            if position.offset <= current.offset {
                continue;
            }
            if position.offset != current.offset + 1 {
                self.trimmed(state, ports, current, position.offset - 1);
            }
            self.sequence(state, ports, publication.clone());
        }
        if let Some(current) = state.position
            && page.top.offset > current.offset
        {
            self.trimmed(state, ports, current, page.top.offset);
        }
    }

    /// Publications after `current` up to `last` are gone for every member.
    fn trimmed(self: &Arc<Self>, state: &mut State, ports: &Ports, current: Position, last: u64) {
        let epoch = current.epoch;
        state.position = Some(Position { offset: last, epoch });
        let gap = Gap {
            from: Some(Position { offset: current.offset + 1, epoch }),
            to: Some(Position { offset: last, epoch }),
            reason: GapReason::Trimmed,
        };
        self.signal(state, ports, gap, current);
    }

    /// The next publication in order, for every member.
    fn sequence(self: &Arc<Self>, state: &mut State, ports: &Ports, publication: Arc<Publication>) {
        let before = state.position;
        state.position = publication.position;
        state.seq += 1;
        if state.recording || state.snapshots.records() {
            Self::record(state, &publication);
        }
        let job = Job::Publication { seq: state.seq, publication };
        self.emit(state, ports, &job, before);
    }

    /// J8: something without an offset of its own takes a number, and a refill cannot bring it.
    fn sequence_unpositioned(self: &Arc<Self>, state: &mut State, ports: &Ports, publication: Arc<Publication>) {
        let before = state.position;
        state.seq += 1;
        if state.snapshots.records() {
            state.snapshots.record(&publication);
        }
        let job = Job::Publication { seq: state.seq, publication };
        self.emit(state, ports, &job, before);
        state.run += 1;
    }

    /// Tells every member that publications are missing after `before`.
    fn signal(self: &Arc<Self>, state: &mut State, ports: &Ports, gap: Gap, before: Position) {
        state.seq += 1;
        state.snapshots.invalidate();
        let job = Job::Gap { after: state.seq - 1, seq: state.seq, gap };
        self.emit(state, ports, &job, Some(before));
        state.run += 1;
    }

    fn record(state: &mut State, publication: &Arc<Publication>) {
        if state.recording {
            if state.ring.len() < RING_MAX {
                state.ring.push_back(publication.clone());
            } else {
                state.ring_overflowed = true;
            }
        }
        if state.snapshots.records() {
            state.snapshots.record(publication);
        }
    }

    fn emit(self: &Arc<Self>, state: &mut State, ports: &Ports, job: &Job, before: Option<Position>) {
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
    fn push_job(self: &Arc<Self>, state: &mut State, ports: &Ports, shard: usize, job: Job, on_full: OnFull) {
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

    fn serve_without_log(self: &Arc<Self>, state: &mut State, ports: &Ports) {
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
    fn serve(self: &Arc<Self>, state: &mut State, ports: &Ports, served: usize, page: &LogPage) {
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
    fn admit(self: &Arc<Self>, state: &mut State, ports: &Ports, joiner: Joiner, missed: Vec<Arc<Publication>>, resume: Option<Resume>) {
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

    fn serve_snapshot(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        while let Some(served) = state.snapshots.next_served(state.position.filter(|_| self.keeps_log)) {
            self.make_member(state, ports, &served.joiner, served.since, served.resume, served.payload);
        }
    }

    /// J7: counted and told in one step.
    fn make_member(
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

    fn refuse_joiner(self: &Arc<Self>, ports: &Ports, joiner: &Joiner, refusal: Refusal) {
        if let Who::Member { member, .. } = joiner.who {
            ports.push(usize::from(member.at.shard), Item::JoinFailed(member, self.clone(), Box::new(refusal)));
        }
    }

    /// I2: one batch from the log, or one gap, and the shard is served again.
    fn close_lag(self: &Arc<Self>, state: &mut State, ports: &Ports, shard: usize, log: Option<&Log<'_>>) {
        let Some(lag) = state.lags[shard].take() else { return };
        if state.counts[shard] == 0 {
            return;
        }
        let refill = log.filter(|_| lag.run == state.run).and_then(|log| log.after(lag.position?));
        let jobs = if let Some(publications) = refill {
            let first = state.seq + 1 - publications.len() as u64;
            publications.into_iter().zip(first..).map(|(publication, seq)| Job::Publication { seq, publication }).collect()
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

/// From where a read must bring publications: the smallest offset that anybody asks for.
fn read_query(state: &State, recovery: Recovery) -> LogQuery {
    let own = state.position.map(|position| position.offset);
    let lags = state.lags.iter().flatten().filter_map(|lag| lag.position).map(|position| position.offset);
    let asked = state.joiners.iter().filter_map(|joiner| joiner.since).map(|since| match since {
        // The newest one may stand before a position of another epoch.
        _ if recovery == Recovery::Cache => 0,
        Since::Beginning => 0,
        Since::Position(position) => position.offset,
    });
    match own.into_iter().chain(lags).chain(asked).min() {
        Some(after) => LogQuery { after: Some(after), limit: None, reverse: false },
        None => LogQuery { after: None, limit: Some(0), reverse: false },
    }
}
