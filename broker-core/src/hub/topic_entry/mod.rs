//! One topic on this node: its order, its read machine, its interest, who joins and how many listen.
//!
//! The rules and their names (J, T, I) are in docs/decisions/0002-joining.md; every rule of order has a planted bug in the model test that shows it is
//! needed. J10 only spares reads, and is off there: `tests/it/storm.rs` has it.
//! What is read from and told to the outside goes through [`Ports`]; nothing here waits, calls a backplane or a hook.
//!
//! Here: what an entry is, who comes and goes, what is sequenced. `reading` is its read machine, `known` spares reads, `serving` makes joiners
//! members, `lagging` pushes to the shards and knows who is left out.

mod known;
mod lagging;
mod reading;
mod serving;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

pub(crate) use self::known::KNOWN_FOR;
use self::{
    known::Known,
    lagging::{Lag, OnFull},
};
use super::{
    inbox::{Job, MemberRef},
    ports::{Errand, Ports},
    snapshots::Snapshots,
};
use crate::{
    Epoch, Gap, Namespace, Position, Publication, Recovery, Refusal, Since, Topic,
    backplane::{Announcement, Unavailable},
    sync::Mutex,
};

/// Publications that are kept while a read is in flight; more means another read.
const RING_MAX: usize = if cfg!(broker_model) { 2 } else { 256 };
/// Failed reads in a row after which those who wait are refused.
const FAILURES_MAX: u32 = 3;
/// When those who were refused may try again: a backplane that is back is read by all of them at once.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// One topic on this node.
pub(crate) struct TopicEntry {
    pub(crate) topic: Topic,
    pub(crate) namespace: Arc<Namespace>,
    /// Unique on this node; greater for later entries.
    pub(crate) incarnation: u64,
    /// Whether the backplane keeps a log of this topic.
    pub(crate) keeps_log: bool,
    /// Whether the backplane keeps the newest publication of each key.
    keeps_rows: bool,
    recovery: Recovery,
    /// Whether the backplane is shared with other nodes: a read of it costs them something.
    shared: bool,
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
    /// What the last read brought (J10); nothing while one is in flight.
    known: Option<Known>,
    counts: Box<[u32]>,
    lags: Box<[Option<Lag>]>,
    snapshots: Snapshots,
    occupied: bool,
    /// Members that ever wanted to join.
    joins: u64,
    /// The time without listeners runs.
    lingering: bool,
}

/// Who waits for a read.
pub(super) struct Joiner {
    pub(super) who: Who,
    pub(super) since: Option<Since>,
    tries: u8,
    /// Only an answer with the topic's state can serve it.
    needs_rows: bool,
}

impl Joiner {
    /// The application has no snapshot for it: it begins with the topic's rows.
    fn for_rows(mut self) -> Self {
        if let Who::Member { wants, .. } = &mut self.who {
            wants.snapshot = false;
        }
        Self { tries: 0, needs_rows: true, ..self }
    }

    /// Whether it is one that nobody counts yet: whoever is counted already waits as long as it takes.
    fn can_be_refused(&self) -> bool {
        matches!(self.who, Who::Member { wants: Wants { again: false, .. }, .. })
    }
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
    /// It is counted already, and only wants what it missed while it got its pages.
    pub(crate) again: bool,
}

/// What an entry is made from.
pub(crate) struct NewTopic {
    pub(crate) topic: Topic,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) incarnation: u64,
    pub(crate) keeps_log: bool,
    pub(crate) keeps_rows: bool,
    pub(crate) shared: bool,
    pub(crate) has_snapshot: bool,
    pub(crate) snapshot_max_age: Duration,
    pub(crate) snapshot_stale_max: Duration,
    pub(crate) share_max_bytes: usize,
    pub(crate) shards: usize,
}

impl TopicEntry {
    pub(crate) fn new(new: NewTopic) -> Self {
        let recovery = match new.namespace.recovery {
            // The newest publication says nothing of other keys: the rows do.
            Recovery::Cache if new.keeps_rows => Recovery::Stream,
            recovery => recovery,
        };
        Self {
            topic: new.topic,
            namespace: new.namespace,
            keeps_rows: new.keeps_rows,
            recovery,
            shared: new.shared,
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
                known: None,
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
            ports.occupancy.note(&self.topic, true);
        }
        state.joins += 1;
        let needs_rows = since.is_none() && self.gives_rows(wants);
        state.joiners.push_back(Joiner { who: Who::Member { member, wants }, since, tries: 0, needs_rows });
        if state.interest == Interest::None {
            state.interest = Interest::Adding;
            ports.queue(Errand::Interest { entry: self.clone(), wanted: true });
        }
        self.go_on(&mut state, ports);
        true
    }

    /// A counted member has got its pages and wants what came after them (S2).
    pub(crate) fn join_again(self: &Arc<Self>, ports: &Ports, member: MemberRef, join_leave: bool, until: Position) {
        let mut state = self.state.lock();
        let wants = Wants { join_leave, snapshot: true, again: true };
        let since = Some(Since::Position(until));
        state.joiners.push_back(Joiner { who: Who::Member { member, wants }, since, tries: 0, needs_rows: false });
        self.go_on(&mut state, ports);
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

    /// Someone came or went. Whoever announces may know nothing of namespaces: it ends the stay of users whose node has ended.
    pub(crate) fn announcement(self: &Arc<Self>, ports: &Ports, announcement: Announcement) {
        if !self.namespace.join_leave {
            return;
        }
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
                ports.occupancy.note(&self.topic, false);
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
            let (refused, kept) = std::mem::take(&mut state.joiners).into_iter().partition(Joiner::can_be_refused);
            state.joiners = kept;
            let refused: VecDeque<Joiner> = refused;
            for joiner in refused {
                let refusal = Refusal::unavailable("the topic could not be listened to, try again").rule(error.to_string());
                let refusal = refusal.retry_after(RETRY_AFTER);
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
            state.known = None;
            state.snapshots.invalidate();
            ports.queue(Errand::Interest { entry: self.clone(), wanted: false });
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

    /// The next publication in order, for every member.
    fn sequence(self: &Arc<Self>, state: &mut State, ports: &Ports, publication: Arc<Publication>) {
        let before = state.position;
        state.position = publication.position;
        state.seq += 1;
        if state.recording || state.snapshots.records() {
            Self::record(state, &publication);
        }
        Self::know(state, &publication);
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
}
