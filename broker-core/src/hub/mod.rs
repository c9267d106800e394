//! The engine's interior: who listens where, and the way of every publication from the backplane to the shards.
//!
//! `directory`, `topic_entry`, `resume` and `snapshots` decide order and joining; `inbox` and `ports` connect them with the shards;
//! `shard` and its neighbours own the connections; `errands` and `asks` call backplane and application outside every lock.

mod asks;
mod attendance;
mod backlog;
mod batch;
mod conn;
pub(crate) mod control;
mod converse;
mod deliver;
mod directory;
mod errands;
mod foreign;
mod held;
mod in_order;
mod in_time;
mod inbox;
mod life_log;
mod members;
mod missed;
#[cfg(all(test, broker_model))]
mod model;
mod occupancy;
mod orders;
mod paging;
mod ports;
mod probing;
mod publishing;
mod rates;
mod reading;
mod recent;
mod relief;
mod reports;
mod resume;
mod selecting;
mod shard;
mod slots;
mod slow;
mod snapshots;
mod topic_entry;
mod writing;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, time::Instant};

pub(crate) use asks::{call, history};
pub use conn::Start;
pub(crate) use conn::{Credit, NewConnection, NewOccupant};
pub(crate) use inbox::{Item, MemberRef, SlotRef};
pub(crate) use members::Codec;
pub(crate) use missed::Missed;
pub(crate) use publishing::check_keys;
pub use reports::PublishReport;
pub(crate) use reports::Reporting;
pub(crate) use shard::Shard;
pub(crate) use topic_entry::Wants;

use self::{
    attendance::Departures,
    directory::Directory,
    errands::LogPause,
    in_order::InOrder,
    ports::Ports,
    slots::SlotPool,
    topic_entry::{NewTopic, TopicEntry},
};
use crate::{
    Backplane, ControlBus, Keep, KeepState, Namespace, Presence, Publication, Registry, Since, Sink, Stats, Topic, UserId,
    backplane::Announcement, hooks::Hooks, session::Rules,
};

/// How long other nodes may take to answer a question.
pub(crate) const CONTROL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Everything that shards, connections and handles of one engine share.
pub(crate) struct Hub {
    pub(crate) ports: Ports,
    pub(crate) rules: Arc<Rules>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) hooks: Hooks,
    pub(crate) backplane: Arc<dyn Backplane>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) control: Arc<dyn ControlBus>,
    pub(crate) runtime: Option<Handle>,
    pub(crate) recent: recent::Recent,
    directory: Directory,
    in_order: InOrder,
    departures: Departures,
    users_spent: rates::Users,
    looks: probing::Looks,
    foreign: foreign::Foreign,
    log_pause: LogPause,
    /// Bytes that wait for connections, with what stands around them.
    held: held::Held,
    relief: relief::Relief,
    slots: Box<[SlotPool]>,
    next_shard: AtomicUsize,
    incarnations: AtomicU64,
    users: Mutex<HashMap<UserId, usize>>,
    node: Node,
    draining: AtomicBool,
    closed: AtomicBool,
    /// The last call of the backplane that took its time took too much of it.
    backplane_is_late: AtomicBool,
    /// Wakes the task that runs errands which a backplane's own task queued.
    errands_wait: Notify,
    /// Wakes whoever waits for the last connection to go.
    pub(crate) connection_gone: Notify,
}

/// Who this node is.
struct Node {
    id: Arc<str>,
    name: Arc<str>,
    version: &'static str,
    settings: Vec<(Box<str>, Box<str>)>,
    started_at: Instant,
}

/// What a hub is made from.
pub(crate) struct NewHub {
    pub(crate) rules: Arc<Rules>,
    pub(crate) hooks: Hooks,
    pub(crate) backplane: Arc<dyn Backplane>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) control: Arc<dyn ControlBus>,
    pub(crate) runtime: Option<Handle>,
    pub(crate) shards: usize,
    pub(crate) node_id: Arc<str>,
    pub(crate) node_name: Arc<str>,
    pub(crate) version: &'static str,
    pub(crate) settings: Vec<(Box<str>, Box<str>)>,
}

impl Hub {
    pub(crate) fn new(new: NewHub) -> Self {
        let recent = recent::Recent::new(new.rules.settings.hook_timeout);
        Self {
            ports: Ports::new(new.shards, new.hooks.hear_occupancy()),
            rules: new.rules,
            stats: Arc::default(),
            hooks: new.hooks,
            backplane: new.backplane,
            presence: new.presence,
            registry: new.registry,
            control: new.control,
            recent,
            runtime: new.runtime,
            directory: Directory::new(),
            in_order: InOrder::default(),
            departures: Departures::default(),
            users_spent: rates::Users::default(),
            looks: probing::Looks::default(),
            foreign: foreign::Foreign::default(),
            log_pause: LogPause::default(),
            held: held::Held::default(),
            relief: relief::Relief::default(),
            slots: (0..new.shards).map(|_| SlotPool::default()).collect(),
            next_shard: AtomicUsize::new(0),
            incarnations: AtomicU64::new(0),
            users: Mutex::default(),
            node: Node { id: new.node_id, name: new.node_name, version: new.version, settings: new.settings, started_at: Instant::now() },
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            backplane_is_late: AtomicBool::new(false),
            errands_wait: Notify::new(),
            connection_gone: Notify::new(),
        }
    }

    pub(crate) fn node_id(&self) -> Arc<str> {
        self.node.id.clone()
    }

    fn uptime(&self) -> std::time::Duration {
        self.node.started_at.elapsed()
    }

    pub(crate) fn shards_len(&self) -> usize {
        self.slots.len()
    }

    /// A free slot in the next shard.
    pub(crate) fn take_slot(&self) -> SlotRef {
        let shard = self.next_shard.fetch_add(1, Relaxed) % self.slots.len();
        self.slots[shard].take(shard as u16)
    }

    pub(crate) fn free_slot(&self, at: SlotRef) {
        self.slots[usize::from(at.shard)].free(at);
    }

    pub(crate) fn push(&self, at: SlotRef, item: Item) {
        self.ports.push(usize::from(at.shard), item);
    }

    /// The pipe or stream of this slot is gone.
    pub(crate) fn gone(&self, at: SlotRef) {
        self.push(at, Item::Gone(at));
    }

    /// A member wants to join a topic; `Joined` or `JoinFailed` comes to its shard's inbox. The caller runs the errands.
    pub(crate) fn join(&self, topic: &Topic, namespace: &Arc<Namespace>, member: MemberRef, since: Option<Since>, wants: Wants) {
        loop {
            let entry = self.directory.find_or_make(topic, || Arc::new(self.new_entry(topic, namespace)));
            if entry.join(&self.ports, member, since, wants) {
                return;
            }
        }
    }

    /// Takes a joiner back. False: its `Joined` is on its way and void.
    pub(crate) fn cancel(&self, topic: &Topic, member: MemberRef) -> bool {
        self.directory.find(topic).is_some_and(|entry| entry.cancel(&self.ports, member))
    }

    pub(crate) fn history_removed(&self, topic: &Topic) {
        if let Some(entry) = self.directory.find(topic) {
            entry.history_removed();
        }
    }

    pub(crate) fn user_connected(&self, user: &UserId) {
        if !user.is_anonymous() {
            *self.users.lock().entry(user.clone()).or_insert(0) += 1;
        }
    }

    pub(crate) fn user_gone(&self, user: &UserId) {
        let mut users = self.users.lock();
        if let Some(sessions) = users.get_mut(user) {
            *sessions -= 1;
            if *sessions == 0 {
                users.remove(user);
            }
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.draining.store(true, Relaxed);
        self.errands_wait.notify_one();
        self.departures.wake();
        self.ports.occupancy.close();
    }

    fn new_entry(&self, topic: &Topic, namespace: &Arc<Namespace>) -> TopicEntry {
        TopicEntry::new(NewTopic {
            topic: topic.clone(),
            namespace: namespace.clone(),
            incarnation: self.incarnations.fetch_add(1, Relaxed) + 1,
            keeps_log: namespace.keeps_history() && self.backplane.capabilities().history,
            keeps_rows: namespace.keeps_state() && self.backplane.capabilities().state,
            shared: self.backplane.capabilities().shared,
            has_snapshot: self.hooks.snapshot_of(topic).is_some(),
            snapshot_max_age: self.rules.settings.snapshot_max_age,
            snapshot_stale_max: self.rules.settings.snapshot_stale_max,
            share_max_bytes: self.rules.settings.inbox_share_max_bytes,
            shards: self.slots.len(),
        })
    }
}

/// What a namespace keeps of a topic.
pub(crate) fn keep_of(namespace: &Namespace) -> Keep {
    let keep = Keep::history(namespace.history_size, namespace.history_ttl).bytes(namespace.history_bytes).memory_max(namespace.memory_max);
    if !namespace.keeps_state() {
        return keep;
    }
    keep.state(KeepState { size: namespace.state_size, bytes: namespace.state_bytes, ttl: namespace.state_ttl })
}

impl Sink for Hub {
    fn publication(&self, publication: Arc<Publication>) {
        if self.looks.take(&publication) {
            return;
        }
        if let Some(entry) = self.directory.find(&publication.topic) {
            entry.publication(&self.ports, publication);
            self.wake_errands();
        }
    }

    fn announcement(&self, topic: &Topic, announcement: Announcement) {
        if let Some(entry) = self.directory.find(topic) {
            entry.announcement(&self.ports, announcement);
        }
    }

    fn link_restored(&self) {
        for entry in self.directory.all() {
            entry.read_again(&self.ports);
        }
        self.wake_errands();
    }

    fn gapped(&self, topic: &Topic) {
        if let Some(entry) = self.directory.find(topic) {
            entry.read_again(&self.ports);
            self.wake_errands();
        }
    }
}
