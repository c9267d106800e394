//! Members that do not want everything at once: filters on tags, and a pace at which the newest arrives.
//!
//! Their publications are encoded once for all who choose the same in one tick.

use std::{cmp::Reverse, mem, sync::Arc};

use tokio::time::{Duration, Instant};

use super::{
    batch::Batch,
    conn::Occupant,
    members::{Codec, Group, Member, Variant},
    shard::Shard,
    topic_entry::TopicEntry,
};
use crate::{Except, Publication, Selection};

/// Keys that wait for their time; more, and they are sent early.
const WAITING_MAX: usize = 1024;
/// Members whose time comes, below which nobody looks who of them is gone.
const PACED_MIN: usize = 1024;
/// Encoded choices of one tick that are looked through; beyond, each is encoded by itself.
const SHARED_MAX: usize = 16;

/// What one member of a topic chose.
pub(super) struct Choice {
    selection: Arc<Selection>,
    pace: Option<Pace>,
}

struct Pace {
    interval: Duration,
    /// When the next update may go out.
    next_at: Instant,
    /// Whether the shard will look at that time.
    scheduled: bool,
    /// The newest of each key.
    waiting: Vec<(u64, Arc<Publication>)>,
}

/// What was chosen in this tick, encoded.
pub(super) struct Shared {
    topic: u64,
    variant: Variant,
    batch: Arc<Batch>,
}

/// A member whose time comes: when, in which topic, which slot.
pub(super) type Due = Reverse<(Instant, u64, u32)>;

impl Choice {
    pub(super) fn new(selection: Arc<Selection>, now: Instant) -> Self {
        let pace = selection.interval().map(|interval| Pace { interval, next_at: now, scheduled: false, waiting: Vec::new() });
        Self { selection, pace }
    }

    /// Whether the shard looks after it at this time.
    fn is_due(&self, at: Instant) -> bool {
        self.pace.as_ref().is_some_and(|pace| pace.scheduled && pace.next_at == at)
    }

    /// Whether a publication waits for the member's time.
    pub(super) fn waits(&self, seq: u64) -> bool {
        self.pace.as_ref().is_some_and(|pace| pace.waiting.iter().any(|(waiting, _)| *waiting == seq))
    }
}

impl Pace {
    fn take(&mut self, publications: Vec<(u64, Arc<Publication>)>) {
        for (seq, publication) in publications {
            // In the order of the newest: whatever is older of its key goes.
            self.waiting.retain(|(_, older)| older.key != publication.key);
            self.waiting.push((seq, publication));
        }
    }
}

impl Shard {
    /// Gives a member what it chose of these, now or at its time.
    pub(super) fn visit_choosing(
        &mut self,
        group: &Group,
        member: Member,
        publications: &[(u64, Arc<Publication>)],
        except: Option<&Except>,
        choice: &mut Choice,
        entry: &Arc<TopicEntry>,
    ) {
        let Some(codec) = &group.codec else { return };
        if except.is_some_and(|except| self.is_meant(member.slot, except)) {
            return;
        }
        let wanted = publications.iter().filter(|(seq, publication)| *seq > member.last && choice.selection.wants(publication));
        let wanted: Vec<_> = wanted.cloned().collect();
        if wanted.is_empty() {
            return;
        }
        let Some(pace) = &mut choice.pace else {
            return self.push_selected(member.slot, group.variant, codec, entry, &wanted);
        };
        pace.take(wanted);
        if pace.next_at <= self.now || pace.waiting.len() >= WAITING_MAX {
            self.release(member.slot, group.variant, codec, choice, entry);
        } else if !mem::replace(&mut pace.scheduled, true) {
            self.paced.push(Reverse((pace.next_at, entry.incarnation, member.slot)));
        }
    }

    /// Sends what waits for a member's time.
    pub(super) fn release(&mut self, slot: u32, variant: Variant, codec: &Codec, choice: &mut Choice, entry: &Arc<TopicEntry>) {
        let Some(pace) = choice.pace.as_mut().filter(|pace| !pace.waiting.is_empty()) else { return };
        pace.next_at = self.now + pace.interval;
        // Before its time, the shard looks in vain then: what comes meanwhile has another time.
        pace.scheduled = false;
        let waiting = mem::take(&mut pace.waiting);
        self.push_selected(slot, variant, codec, entry, &waiting);
    }

    /// Sends what waits for those whose time has come.
    pub(super) fn release_due(&mut self) {
        while let Some(Reverse((at, id, slot))) = self.paced.peek().copied()
            && at <= self.now
        {
            self.paced.pop();
            let Some(mut topic) = self.topics.remove(&id) else { continue };
            if let Some(choice) = topic.choices.get_mut(&slot)
                && choice.is_due(at)
                && let Some(Occupant::Connection(conn)) = &self.slots[slot as usize].occupant
            {
                let (variant, codec) = (conn.variant, conn.codec.clone());
                self.release(slot, variant, &codec, choice, &topic.entry);
            }
            self.topics.insert(id, topic);
        }
        self.settle(Vec::new(), self.now);
    }

    /// Whoever leaves before its time leaves its place in the heap behind: bounded by twice those who wait.
    pub(super) fn forget_stale_paces(&mut self) {
        if self.paced.len() <= self.paced_max.max(PACED_MIN) {
            return;
        }
        let topics = &self.topics;
        self.paced.retain(|Reverse((at, id, slot))| {
            let choice = topics.get(id).and_then(|topic| topic.choices.get(slot));
            choice.is_some_and(|choice| choice.is_due(*at))
        });
        self.paced.shrink_to(PACED_MIN);
        self.paced_max = self.paced.len() * 2;
    }

    /// Encodes publications for some members of a variant, once in a tick for all who chose the same.
    pub(super) fn push_selected(
        &mut self,
        slot: u32,
        variant: Variant,
        codec: &Codec,
        entry: &Arc<TopicEntry>,
        publications: &[(u64, Arc<Publication>)],
    ) {
        // What is read again has positions of its own, and numbers that only say where it stands; nothing tells what has neither apart.
        let has_numbers = publications.iter().all(|(seq, _)| *seq > 0);
        let is_same = |shared: &&Shared| {
            let encoded = shared.batch.publications.iter().map(|encoded| (encoded.seq, encoded.position));
            has_numbers
                && shared.topic == entry.incarnation
                && shared.variant == variant
                && encoded.eq(publications.iter().map(|(seq, publication)| (*seq, publication.position)))
        };
        let same = self.shared.iter().find(is_same).map(|shared| shared.batch.clone());
        let batch = same.unwrap_or_else(|| {
            let batch = self.encode_batch(codec, entry, publications);
            if self.shared.len() < SHARED_MAX {
                self.shared.push(Shared { topic: entry.incarnation, variant, batch: batch.clone() });
            }
            batch
        });
        self.push_batch(slot, &batch, 0, entry);
        if batch.ends {
            self.ended.push((slot, entry.topic.clone()));
        }
    }
}
