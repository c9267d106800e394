//! What a topic may reach while it is locked: the inboxes of the shards, what the application is told of
//! listeners, and the queue of things to do afterwards.

use std::{collections::VecDeque, sync::Arc};

use super::{
    inbox::{Inbox, Item},
    occupancy::Occupancy,
    topic_entry::TopicEntry,
};
use crate::{backplane::LogQuery, sync::Mutex};

/// What must be done outside every lock: calls of the backplane and the application.
pub(crate) enum Errand {
    /// Begin or end the delivery of a topic. `Hub::confirmed` takes the answer.
    Interest { entry: Arc<TopicEntry>, wanted: bool },
    /// Read a topic's log, and its state before it where somebody needs that. `Hub::read_done` takes the answer.
    Read { entry: Arc<TopicEntry>, query: LogQuery, state: bool },
    /// Try a read again after a pause, since the last one failed. `Hub::read_again` does.
    ReadLater { entry: Arc<TopicEntry>, failures: u32 },
    /// Ask the application for the current state. `Hub::snapshot_done` takes the answer.
    Snapshot { entry: Arc<TopicEntry> },
    /// What a read brought is forgotten after a while. `Hub` does it.
    Forget { entry: Arc<TopicEntry> },
    /// A topic without listeners waits for its end. `Hub::linger_over` ends it.
    Linger { entry: Arc<TopicEntry>, joins: u64 },
}

/// What a topic may reach while it is locked. All are leaves of the lock order.
pub(crate) struct Ports {
    pub(crate) occupancy: Occupancy,
    pub(crate) inboxes: Box<[Inbox]>,
    errands: Mutex<VecDeque<Errand>>,
}

impl Ports {
    pub(crate) fn new(shards: usize, hears_occupancy: bool) -> Self {
        Self {
            occupancy: Occupancy::new(hears_occupancy),
            inboxes: (0..shards).map(|_| Inbox::default()).collect(),
            errands: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn push(&self, shard: usize, item: Item) {
        self.inboxes[shard].push(item);
    }

    pub(crate) fn wake(&self, shard: usize) {
        self.inboxes[shard].signal().wake();
    }

    pub(crate) fn queue(&self, errand: Errand) {
        self.errands.lock().push_back(errand);
    }

    pub(crate) fn has_errands(&self) -> bool {
        !self.errands.lock().is_empty()
    }

    pub(crate) fn next_errand(&self) -> Option<Errand> {
        self.errands.lock().pop_front()
    }
}
