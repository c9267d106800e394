//! One shard: the only owner of its connections' sessions, of their backlogs and deadlines, and of who listens to what among them.
//!
//! `tick` takes what waits in the inbox, then works in bounded portions: it knows no runtime and can be simulated.
//! `converse` talks with sessions, `deliver` passes publications to members, `writing` hands bytes to outlets.

use std::{
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Hub,
    conn::{Conn, Life, NewConnection, NewOccupant, Occupant, Start},
    deliver::ShardTopic,
    inbox::{Inbox, Item, SlotRef},
    life_log::LifeLog,
    members::Variant,
    missed::Missed,
    orders::Whose,
    paging::Pages,
    reports::Counting,
    selecting::{Due, Shared},
    slow::Behind,
    writing::Tally,
};
use crate::{
    CloseReason, Gap, Position, Topic,
    session::{Effect, Session},
    stream::StreamItem,
};

/// Writes in one tick; then other tasks of the runtime have their turn.
pub(super) const WRITES_MAX: usize = 64;
/// Deadlines are looked at this often at most: a sweep over all connections is cheap, a timer for each is not.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// What a shard wants after a tick.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tick {
    /// There is more to do.
    More,
    /// Nothing to do until the inbox has something, or this moment.
    Sleep(Option<Instant>),
}

/// A connection's place.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) occupant: Option<Occupant>,
}

/// The only owner of its connections.
pub(crate) struct Shard {
    pub(super) index: usize,
    pub(super) hub: Arc<Hub>,
    pub(super) slots: Vec<Slot>,
    /// The next deadline of each slot.
    pub(super) deadlines: Vec<Option<Instant>>,
    pub(super) next_sweep: Option<Instant>,
    pub(super) topics: HashMap<u64, Box<ShardTopic>>,
    /// The newest of `topics` by name.
    pub(super) names: HashMap<Topic, u64>,
    pub(super) whose: Whose,
    /// Subscriptions that a gap has ended, while a topic has its turn.
    pub(super) ended: Vec<(u32, Topic)>,
    /// Connections that are to be closed as too slow, with what waited, while a topic has its turn.
    pub(super) slow: Vec<(u32, usize)>,
    /// Subscriptions that have to catch up, while a topic has its turn.
    pub(super) behind: Vec<Behind>,
    /// Slots of connections with subscriptions that catch up: these are members of no topic meanwhile.
    pub(super) catching_up: HashSet<u32>,
    /// Publications that somebody asks about, passed and perhaps not written yet.
    pub(super) counted: Vec<Counting>,
    /// The present tick's time.
    pub(super) now: Instant,
    /// Members whose time comes at which the newest is sent; soonest first.
    pub(super) paced: BinaryHeap<Due>,
    /// At so many of them, those that mean nobody any more are taken out.
    pub(super) paced_max: usize,
    /// What members chose in this tick, encoded.
    pub(super) shared: Vec<Shared>,
    /// More waits on this node than may.
    pub(super) is_full: bool,
    /// Topics that have something to deliver, in turn.
    pub(super) active: VecDeque<u64>,
    /// Connections that have something to write.
    pub(super) dirty: VecDeque<u32>,
    /// Subscribers that get what they missed in pages.
    pub(super) paging: Pages,
    pub(super) log: LifeLog,
    /// When each connection closes, while this node drains; soonest last.
    draining: Vec<(Instant, SlotRef)>,
    items: Vec<Item>,
    pub(super) effects: Vec<Effect>,
    pub(super) frames: Vec<u8>,
    pub(super) chunks: Vec<Bytes>,
    pub(super) tally: Tally,
}

impl Shard {
    pub(crate) fn new(index: usize, hub: Arc<Hub>) -> Self {
        let lines = hub.rules.settings.session_log_lines_per_second;
        Self {
            index,
            hub,
            slots: Vec::new(),
            deadlines: Vec::new(),
            next_sweep: None,
            topics: HashMap::new(),
            names: HashMap::new(),
            whose: Whose::default(),
            ended: Vec::new(),
            slow: Vec::new(),
            behind: Vec::new(),
            catching_up: HashSet::new(),
            counted: Vec::new(),
            now: Instant::now(),
            paced: BinaryHeap::new(),
            paced_max: 0,
            shared: Vec::new(),
            is_full: false,
            active: VecDeque::new(),
            dirty: VecDeque::new(),
            paging: Pages::new(),
            log: LifeLog::new(lines),
            draining: Vec::new(),
            items: Vec::new(),
            effects: Vec::new(),
            frames: Vec::new(),
            chunks: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Runs until the hub is closed. The caller's runtime polls it; a tick is bounded and gives way.
    #[cfg(not(broker_model))]
    pub(crate) async fn run(mut self) {
        let hub = self.hub.clone();
        let inbox = &hub.ports.inboxes[self.index];
        let mut sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        while !hub.is_closed() {
            let started = Instant::now();
            let tick = self.tick(started);
            match tick {
                Tick::More => {
                    hub.stats.tick_latency.record(started.elapsed());
                    tokio::task::yield_now().await;
                }
                Tick::Sleep(until) => {
                    if let Some(until) = until {
                        sleep.as_mut().reset(until);
                    }
                    std::future::poll_fn(|cx| {
                        inbox.signal().register(cx.waker());
                        let due = until.is_some() && sleep.as_mut().poll(cx).is_ready();
                        if due || !inbox.is_idle() || hub.is_closed() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
                    })
                    .await;
                }
            }
        }
        self.end();
    }

    /// Takes what waits, and does a bounded portion of what is to do.
    pub(crate) fn tick(&mut self, now: Instant) -> Tick {
        self.now = now;
        self.shared.clear();
        self.watch_bound(now);
        let mut items = std::mem::take(&mut self.items);
        let took = self.inbox().take(&mut items, self.active.is_empty() && self.dirty.is_empty());
        for item in items.drain(..) {
            self.handle(item, now);
        }
        self.items = items;
        if self.items.capacity() > 4096 {
            self.items = Vec::new();
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.sweep(now);
        }
        if self.paced.peek().is_some_and(|due| due.0.0 <= now) {
            self.release_due();
        }
        let written = self.flush_dirty(WRITES_MAX, now);
        self.deliver(WRITES_MAX.saturating_sub(written), now);
        self.forget_stale_paces();
        if !self.counted.is_empty() {
            self.tell_written();
        }
        self.tally.add_to(&self.hub.stats, &self.hub.held);
        if took || !self.active.is_empty() || !self.dirty.is_empty() {
            return Tick::More;
        }
        self.log.flush(now);
        let next_paced = self.paced.peek().map(|due| due.0.0);
        Tick::Sleep(self.next_sweep.into_iter().chain(next_paced).chain(self.next_relief()).min())
    }

    fn inbox(&self) -> &Inbox {
        &self.hub.ports.inboxes[self.index]
    }

    fn handle(&mut self, item: Item, now: Instant) {
        match item {
            Item::Open(at, new) => self.open(at, *new, now),
            Item::Commands(at, commands, bytes) => self.commands(at, commands, bytes, now),
            Item::Attach(at, outlet) => {
                if let Some(conn) = self.conn(at) {
                    conn.outlet = Some(outlet);
                    conn.blocked = false;
                    self.mark_dirty(at.slot);
                }
            }
            Item::Writable(at) => {
                if let Some(conn) = self.conn(at) {
                    conn.blocked = false;
                    self.mark_dirty(at.slot);
                }
            }
            Item::Heard(at) => {
                if let Some(conn) = self.conn(at) {
                    conn.life.heard_at = Some(now);
                    conn.session.heard();
                    self.note_deadline(at.slot);
                }
            }
            Item::TransportPing(at, payload) => {
                // Nothing follows the close frame.
                if let Some(conn) = self.conn(at).filter(|conn| !conn.session.is_closed()) {
                    conn.life.heard_at = Some(now);
                    conn.session.heard();
                    conn.pong = Some(payload);
                    self.mark_dirty(at.slot);
                    self.note_deadline(at.slot);
                }
            }
            Item::Closed(at, reason) => self.converse(at, now, |session, _, effects| session.close(reason, effects)),
            Item::Gone(at) => self.gone(at, now),
            Item::Answer(at, ask, answer) => {
                self.converse(at, now, |session, now, effects| session.handle_answer(ask, *answer, now, effects));
            }
            Item::AnswerAfter(at, ask, answer, topic) => self.answer_after(at, ask, answer, topic, now),
            Item::Joined(joined) if joined.again => self.joined_again(*joined, now),
            Item::Joined(joined) => self.joined(*joined, now),
            Item::JoinFailed(member, entry, refusal) => {
                if let Some(Slot { generation, occupant: Some(Occupant::Stream(feed, _)) }) = self.slots.get(member.at.slot as usize)
                    && *generation == member.at.generation
                {
                    return feed.end();
                }
                if self.catch_up_failed(member, &entry.topic, now) {
                    return;
                }
                self.converse(member.at, now, |session, now, effects| {
                    if session.awaits(&entry.topic, member.subscription) {
                        session.join_failed(&entry.topic, *refusal, now, effects);
                    }
                });
            }
            Item::Job(entry, job) => self.queue_job(&entry, job),
            Item::Lagged(entry) => self.lagged(&entry),
            Item::Refill(entry, jobs) => {
                for job in jobs {
                    self.queue_job(&entry, job);
                }
            }
            Item::Order(errand) => self.obey(&errand, now),
            Item::Weigh(weighing) => self.weigh(&weighing, now),
            Item::CloseLargest(candidates) => self.close_largest(candidates, now),
            Item::Drain(until) => self.begin_drain(until, now),
        }
    }

    fn open(&mut self, at: SlotRef, new: NewOccupant, now: Instant) {
        let slot = at.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, Slot::default);
            self.deadlines.resize(slot + 1, None);
        }
        self.slots[slot].generation = at.generation;
        match new {
            NewOccupant::Stream { feed, topic } => self.slots[slot].occupant = Some(Occupant::Stream(feed, topic)),
            NewOccupant::Connection(new) => self.open_connection(at, *new, now),
        }
    }

    fn open_connection(&mut self, at: SlotRef, new: NewConnection, now: Instant) {
        let NewConnection { session, codec, outlet, credit, head, transport, start, opened } = new;
        let life = Life {
            opened_at: now,
            peer: head.peer,
            path: head.path.as_str().into(),
            transport,
            frames_in: 0,
            frames_out: 0,
            heard_at: None,
            user: None,
        };
        let conn = Conn {
            session,
            variant: Variant::of(&*codec.protocol, &*codec.framing),
            codec,
            outlet,
            backlog: super::backlog::Backlog::default(),
            counted_backlog: 0,
            counted_list: 0,
            credit,
            held: VecDeque::new(),
            spent: None,
            catching_up: Vec::new(),
            stuck_until: None,
            dirty: false,
            blocked: false,
            pong: None,
            head: Some(head),
            opened,
            closing_until: None,
            finished: false,
            holding: false,
            life,
        };
        self.slots[at.slot as usize].occupant = Some(Occupant::Connection(Box::new(conn)));
        match start {
            Start::AwaitConnect => self.note_deadline(at.slot),
            Start::AtOnce { connect, subscriptions } => {
                self.converse(at, now, |session, now, effects| session.open(connect, subscriptions, now, effects));
            }
        }
    }

    /// The connection's task is gone: whatever is left of it here goes too, and the slot is free.
    fn gone(&mut self, at: SlotRef, now: Instant) {
        if self.slots.get(at.slot as usize).is_none_or(|slot| slot.generation != at.generation) {
            return;
        }
        self.converse(at, now, |session, _, effects| {
            session.close(CloseReason::TransportBroke("the connection's task ended".into()), effects);
        });
        let slot = &mut self.slots[at.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        match slot.occupant.take() {
            None => return,
            Some(Occupant::Stream(feed, topic)) => {
                feed.end();
                self.leave_stream(at, &topic);
            }
            Some(Occupant::Connection(conn)) => {
                self.hub.stats.backlog_bytes.sub(conn.counted_backlog as u64);
                // Not before it was added: what this tick found comes first.
                self.tally.add_to(&self.hub.stats, &self.hub.held);
                self.hub.held.sub(conn.counted_list);
                self.hub.stats.connections.sub(1);
                self.deadlines[at.slot as usize] = None;
            }
        }
        self.hub.free_slot(at);
        self.hub.connection_gone.notify_waiters();
    }

    /// The connection in a slot, if it is the one that is meant.
    pub(super) fn conn(&mut self, at: SlotRef) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(at.slot as usize).filter(|slot| slot.generation == at.generation)?;
        match &mut slot.occupant {
            Some(Occupant::Connection(conn)) => Some(conn),
            _ => None,
        }
    }

    pub(super) fn at(&self, slot: u32) -> SlotRef {
        SlotRef { shard: self.index as u16, slot, generation: self.slots[slot as usize].generation }
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(Occupant::Connection(conn)) = self.slots.get_mut(slot as usize).and_then(|slot| slot.occupant.as_mut())
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push_back(slot);
        }
    }

    /// Takes over the next deadline of a connection.
    pub(super) fn note_deadline(&mut self, slot: u32) {
        let Some(Occupant::Connection(conn)) = &self.slots[slot as usize].occupant else { return };
        let of_session = conn.session.next_timeout().map(Instant::from_std);
        let deadline = of_session.into_iter().chain(conn.closing_until).chain(conn.stuck_until).min();
        self.deadlines[slot as usize] = deadline;
        self.sweep_by(deadline);
    }

    fn sweep_by(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.next_sweep = Some(self.next_sweep.map_or(deadline, |at| at.min(deadline)));
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.next_sweep = None;
        for slot in 0..self.deadlines.len() {
            if self.deadlines[slot].is_some_and(|at| at <= now) {
                self.deadlines[slot] = None;
                self.due(slot as u32, now);
            }
        }
        while self.draining.last().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, at)) = self.draining.pop() {
                // Spread, so that whoever takes them over is not met by all at once.
                let reconnect_after = Duration::from_millis(fastrand::u64(500..2_000));
                self.converse(at, now, |session, _, effects| {
                    session.close(CloseReason::Shutdown { reconnect_after: Some(reconnect_after) }, effects);
                });
            }
        }
        let next = self.deadlines.iter().flatten().min().copied().into_iter().chain(self.draining.last().map(|(at, _)| *at)).min();
        self.next_sweep = next.map(|at| at.max(now + SWEEP_INTERVAL));
    }

    fn due(&mut self, slot: u32, now: Instant) {
        let at = self.at(slot);
        let hub = self.hub.clone();
        let Some(conn) = self.conn(at) else { return };
        hub.forget_if_back(conn, now);
        if conn.closing_until.is_some_and(|until| until <= now) {
            // Dropping the outlet ends the pipe whether the client took everything or not.
            conn.closing_until = None;
            conn.outlet = None;
            conn.backlog.clear();
        }
        if conn.stuck_until.is_some_and(|until| until <= now) {
            conn.stuck_until = None;
            let backlog_bytes = conn.backlog.bytes();
            return self.converse(at, now, |session, _, effects| session.close(CloseReason::SlowConsumer { backlog_bytes }, effects));
        }
        self.converse(at, now, Session::handle_timeout);
    }

    fn begin_drain(&mut self, until: Instant, now: Instant) {
        let occupied = |slot: &u32| matches!(self.slots[*slot as usize].occupant, Some(Occupant::Connection(_)));
        let connections: Vec<SlotRef> = (0..self.slots.len() as u32).filter(occupied).map(|slot| self.at(slot)).collect();
        let spread = until.saturating_duration_since(now);
        let step = spread.checked_div(connections.len() as u32).unwrap_or_default();
        self.draining = connections.iter().zip(0..).map(|(at, place)| (now + step * place, *at)).collect();
        self.draining.reverse();
        self.sweep_by(Some(now));
    }

    #[cfg(not(broker_model))]
    fn end(&mut self) {
        for item in self.inbox().close() {
            match item {
                Item::Open(at, new) => self.open(at, *new, Instant::now()),
                Item::Attach(at, outlet) => {
                    if let Some(conn) = self.conn(at) {
                        conn.outlet = Some(outlet);
                    }
                }
                _ => {}
            }
        }
        for slot in &mut self.slots {
            match slot.occupant.take() {
                Some(Occupant::Stream(feed, _)) => feed.end(),
                Some(Occupant::Connection(mut conn)) => {
                    if let Some(outlet) = &mut conn.outlet {
                        outlet.finish();
                    }
                }
                None => {}
            }
        }
    }
}

impl super::conn::Occupant {
    /// The stream in this slot is live.
    pub(super) fn begin(&self, position: Option<Position>, unrecovered: Option<Gap>, missed: Missed) {
        if let Self::Stream(feed, _) = self {
            feed.begin(position, unrecovered, missed);
        }
    }

    pub(super) fn feed(&self, item: StreamItem) {
        if let Self::Stream(feed, _) = self {
            feed.push(item);
        }
    }
}
