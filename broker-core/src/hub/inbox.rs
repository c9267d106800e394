//! What waits for a shard: a mutexed list with a wake-up on its first item, and the items themselves.
//!
//! Rule I1: an item is pushed, and idle becomes queued, under the inbox's lock; the wake-up follows; the shard goes idle only when the list is
//! empty under the same lock. Publications are pushed under their topic's lock. Bounds are the topics' shares, see `topic_entry`.

use std::{mem, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    conn::NewOccupant,
    control::Errand,
    missed::Missed,
    relief::{Candidate, Weighing},
    topic_entry::TopicEntry,
};
use crate::{
    CloseReason, Command, Gap, Outlet, Payload, Position, Publication, Refusal, Resume,
    backplane::Announcement,
    session::{Answer, AskId, Generation},
    sync::{Mutex, Signal},
};

/// A connection's place in its shard. A place is used again with another generation: what refers to an old one is void.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SlotRef {
    pub(crate) shard: u16,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// One subscription of one session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MemberRef {
    pub(crate) at: SlotRef,
    pub(crate) subscription: Generation,
}

/// What waits for a shard.
pub(crate) enum Item {
    /// A connection or stream takes its slot.
    Open(SlotRef, Box<NewOccupant>),
    /// Decoded commands of one read, and the bytes they were read from.
    Commands(SlotRef, Vec<Command>, usize),
    /// The way out of a connection that was opened without one.
    Attach(SlotRef, Box<dyn Outlet>),
    /// Try writing again.
    Writable(SlotRef),
    /// A sign of life.
    Heard(SlotRef),
    /// The client's ping of the transport.
    TransportPing(SlotRef, Bytes),
    /// The pipe ended, or must end.
    Closed(SlotRef, CloseReason),
    /// The connection's task is gone: the slot is free.
    Gone(SlotRef),
    /// The answer to a session's question.
    Answer(SlotRef, AskId, Box<Answer>),
    /// The answer to a publish: handled after what the publish put into this topic's queue.
    AnswerAfter(SlotRef, AskId, Box<Answer>, u64),
    /// The hub counts a new member here.
    Joined(Box<Joined>),
    /// The hub could not serve a join; the member is not counted.
    JoinFailed(MemberRef, Arc<TopicEntry>, Box<Refusal>),
    /// Something for every member of a topic.
    Job(Arc<TopicEntry>, Job),
    /// The topic goes past this shard from here until one `Refill` or `Job::Gap`.
    Lagged(Arc<TopicEntry>),
    /// What a lagging shard has missed.
    Refill(Arc<TopicEntry>, Vec<Job>),
    /// Do this with sessions.
    Order(Arc<Errand>),
    /// Say what waits for the connections.
    Weigh(Arc<Weighing>),
    /// Close connections while too much waits on the node, the last one of the list first.
    CloseLargest(Vec<Candidate>),
    /// Close every connection until then, spread over the time.
    Drain(Instant),
}

/// A new member, counted already: whoever receives this releases it exactly once.
pub(crate) struct Joined {
    pub(crate) entry: Arc<TopicEntry>,
    pub(crate) member: MemberRef,
    pub(crate) join_leave: bool,
    /// It was counted before, and joins after its pages.
    pub(crate) again: bool,
    /// Whether `missed` begins with the rows of the topic's state.
    pub(crate) rows: bool,
    /// The member gets what has a greater `seq`.
    pub(crate) last: u64,
    pub(crate) position: Option<Position>,
    pub(crate) resume: Option<Resume>,
    pub(crate) missed: Missed,
    pub(crate) snapshot: Option<Payload>,
}

/// Something for every member of a topic, in the topic's order.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// One publication.
    Publication { seq: u64, publication: Arc<Publication> },
    /// Someone came or went; for members that had joined at `after`.
    Announcement { after: u64, announcement: Arc<Announcement> },
    /// Publications after number `after` up to `seq` are missing. A member that joined in between misses less than `gap` says.
    Gap { after: u64, seq: u64, gap: Gap },
}

impl Job {
    /// Bytes that count against the topic's share.
    pub(crate) fn weight_bytes(&self) -> usize {
        match self {
            Self::Publication { publication, .. } => publication.weight_bytes(),
            Self::Announcement { .. } | Self::Gap { .. } => 128,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Status {
    /// The shard sleeps.
    #[default]
    Idle,
    /// The shard runs or was woken.
    Queued,
    /// The shard has ended.
    #[cfg(not(broker_model))]
    Closed,
}

#[derive(Default)]
struct State {
    items: Vec<Item>,
    status: Status,
}

/// What waits for one shard.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    signal: Signal,
}

impl Inbox {
    pub(crate) fn push(&self, item: Item) {
        let mut state = self.state.lock();
        #[cfg(not(broker_model))]
        if state.status == Status::Closed {
            drop(state);
            // What the item holds, as an outlet, ends with it.
            return drop(item);
        }
        state.items.push(item);
        let wake = mem::replace(&mut state.status, Status::Queued) == Status::Idle;
        drop(state);
        if wake {
            self.signal.wake();
        }
    }

    /// Swaps what waits with an empty list. False: nothing waits, and the shard is idle from here on.
    pub(crate) fn take(&self, items: &mut Vec<Item>, may_sleep: bool) -> bool {
        debug_assert!(items.is_empty(), "the shard handles all it took before it takes more");
        let mut state = self.state.lock();
        if state.items.is_empty() {
            if may_sleep {
                state.status = Status::Idle;
            }
            return false;
        }
        mem::swap(&mut state.items, items);
        true
    }

    /// The shard has ended: gives what waits; what is pushed from here on is dropped.
    #[cfg(not(broker_model))]
    pub(crate) fn close(&self) -> Vec<Item> {
        let mut state = self.state.lock();
        state.status = Status::Closed;
        mem::take(&mut state.items)
    }

    /// Whether the shard may sleep: nothing came since it found the list empty.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.lock().status == Status::Idle
    }

    /// The wake-up of the shard.
    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }
}
