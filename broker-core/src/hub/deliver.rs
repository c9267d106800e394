//! How a shard passes publications and signals to the members of a topic: in turns over topics, in bounded portions, encoded once per variant.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    batch::{Batch, Encoded},
    conn::Occupant,
    inbox::{Job, SlotRef},
    members::{Codec, Cursor, Group, Member, Members, Variant},
    reports::{self, Counting},
    selecting::Choice,
    shard::{Shard, WRITES_MAX},
    topic_entry::TopicEntry,
};
use crate::{
    CloseReason, Except, FrameWriter, Gap, GapReason, Priority, Publication, Push, Selection, SlowConsumer, Topic,
    backplane::Announcement,
    panics,
    session::{Answer, AskId},
    stream::StreamItem,
};

/// Members of one topic that are visited before the next topic has its turn.
const QUANTUM: usize = 32;
/// Bytes of publications that one pass takes along.
const PASS_BYTES_MAX: usize = 256 * 1024;

/// One topic in one shard.
pub(super) struct ShardTopic {
    pub(super) entry: Arc<TopicEntry>,
    members: Members,
    /// What those members chose that do not want everything at once, by slot.
    pub(super) choices: HashMap<u32, Choice>,
    queue: VecDeque<Task>,
    pass: Option<Pass>,
    active: bool,
    /// The topic went past this shard; it catches up when the queue is empty.
    lagged: bool,
}

/// What waits for its turn in a topic.
enum Task {
    Job(Job),
    /// The answer to a publish, after what it published.
    Answer(Due),
}

/// The answer to a question of a session, due after what stands before it in a topic's queue.
type Due = (SlotRef, AskId, Box<Answer>);

/// One walk over all members.
struct Pass {
    what: Passed,
    cursor: Cursor,
    /// Bytes to give back to the topic's share when it is done (I3).
    weight: usize,
    /// What is answered when it is done: the publishes of what it passes.
    answers: Vec<Due>,
    /// What becomes of its only publication, where somebody asks.
    counting: Option<Box<Counting>>,
}

enum Passed {
    /// `except` belongs to the only publication of the pass.
    Publications {
        publications: Vec<(u64, Arc<Publication>)>,
        batches: Vec<Option<Arc<Batch>>>,
        except: Option<Arc<Except>>,
    },
    Announcement {
        after: u64,
        announcement: Arc<Announcement>,
        frames: Vec<Option<Bytes>>,
    },
    Gap {
        after: u64,
        seq: u64,
        gap: Gap,
        frames: Vec<Option<Bytes>>,
    },
}

impl Shard {
    pub(super) fn topic_of(&self, topic: &Topic) -> Option<u64> {
        self.names.get(topic).copied()
    }

    pub(super) fn add_member(
        &mut self,
        entry: &Arc<TopicEntry>,
        variant: Variant,
        codec: Option<Codec>,
        member: Member,
        selection: Option<Arc<Selection>>,
    ) {
        let id = entry.incarnation;
        self.names.insert(entry.topic.clone(), id);
        let topic = self.topics.entry(id).or_insert_with(|| Box::new(ShardTopic::new(entry.clone())));
        if let Some(selection) = selection {
            topic.choices.insert(member.slot, Choice::new(selection, self.now));
        }
        topic.members.add(variant, codec, member);
    }

    /// Takes a member out; the caller leaves the hub with the entry that is given.
    pub(super) fn remove_member(&mut self, variant: Variant, slot: u32, topic: &Topic) -> Option<(Arc<TopicEntry>, Member)> {
        let id = self.topic_of(topic)?;
        let topic = self.topics.get_mut(&id)?;
        let cursor = topic.pass.as_mut().map(|pass| &mut pass.cursor);
        let removed = topic.members.remove(variant, slot, cursor).map(|member| (topic.entry.clone(), member));
        if removed.as_ref().is_some_and(|(_, member)| member.chooses) {
            topic.choices.remove(&slot);
        }
        self.forget_if_empty(id);
        removed
    }

    pub(super) fn leave_stream(&mut self, at: SlotRef, topic: &Topic) {
        if let Some((entry, _)) = self.remove_member(Variant::STREAM, at.slot, topic) {
            entry.leave(&self.hub.ports, self.index);
        }
        self.hub.run_errands();
    }

    pub(super) fn queue_job(&mut self, entry: &Arc<TopicEntry>, job: Job) {
        match self.topics.get_mut(&entry.incarnation) {
            // Nobody is left here: the share is given back at once.
            None => {
                entry.give_back(self.index, job.weight_bytes());
                if let Job::Publication { publication, .. } = &job
                    && let Some(reporting) = reports::of(publication)
                {
                    reporting.shard_is_done();
                }
            }
            Some(topic) => {
                topic.queue.push_back(Task::Job(job));
                self.activate(entry.incarnation);
            }
        }
    }

    pub(super) fn answer_after(&mut self, at: SlotRef, ask: AskId, answer: Box<Answer>, topic: u64, now: Instant) {
        match self.topics.get_mut(&topic) {
            Some(topic) if topic.active => topic.queue.push_back(Task::Answer((at, ask, answer))),
            _ => self.converse(at, now, |session, now, effects| session.handle_answer(ask, *answer, now, effects)),
        }
    }

    pub(super) fn lagged(&mut self, entry: &Arc<TopicEntry>) {
        self.hub.stats.lags.add(1);
        if let Some(topic) = self.topics.get_mut(&entry.incarnation) {
            topic.lagged = true;
            self.activate(entry.incarnation);
        } else {
            entry.shard_caught_up(&self.hub.ports, self.index);
            self.hub.run_errands();
        }
    }

    fn activate(&mut self, id: u64) {
        if let Some(topic) = self.topics.get_mut(&id)
            && !mem::replace(&mut topic.active, true)
        {
            match topic.entry.namespace.priority {
                Priority::High => self.active.push_front(id),
                Priority::Normal => self.active.push_back(id),
            }
        }
    }

    /// Gives each topic with something to deliver its turn, until about `writes` writes are made.
    pub(super) fn deliver(&mut self, mut writes: usize, now: Instant) {
        while writes > 0 {
            let Some(id) = self.active.pop_front() else { return };
            let Some(mut topic) = self.topics.remove(&id) else { continue };
            let answers = self.turn(&mut topic);
            let done = topic.pass.is_none() && topic.queue.is_empty();
            let caught_up = done && mem::take(&mut topic.lagged);
            topic.active = !done;
            if !done {
                self.active.push_back(id);
            }
            if caught_up {
                topic.entry.shard_caught_up(&self.hub.ports, self.index);
            }
            self.topics.insert(id, topic);
            self.settle(answers, now);
            self.forget_if_empty(id);
            if caught_up {
                self.hub.run_errands();
            }
            let written = self.flush_dirty(WRITES_MAX, now);
            writes = writes.saturating_sub(written.max(1));
        }
    }

    /// Visits the next members of a topic. Gives the answers that were due between passes.
    fn turn(&mut self, topic: &mut ShardTopic) -> Vec<Due> {
        let mut visited = 0;
        loop {
            let Some(pass) = &mut topic.pass else {
                match topic.next_pass() {
                    Next::Nothing => return Vec::new(),
                    Next::Answers(answers) => return answers,
                    Next::Pass => continue,
                }
            };
            for slot in topic.members.upcoming(pass.cursor, QUANTUM - visited) {
                if let Some(Occupant::Connection(conn)) = &self.slots[slot as usize].occupant {
                    conn.warm();
                }
            }
            while let Some((at, member)) = topic.members.next(&mut pass.cursor) {
                let group = topic.members.group(at);
                let before = pass.counting.as_ref().map(|_| self.mark(member.slot));
                match (&mut pass.what, topic.choices.get_mut(&member.slot).filter(|_| member.chooses)) {
                    (Passed::Publications { publications, except, .. }, Some(choice)) => {
                        self.visit_choosing(group, member, publications, except.as_deref(), choice, &topic.entry);
                    }
                    (what, choice) => {
                        if let (Some(choice), Passed::Gap { .. }, Some(codec)) = (choice, &what, &group.codec) {
                            // What waits for its time was published before.
                            self.release(member.slot, group.variant, codec, choice, &topic.entry);
                        }
                        // Whoever fell behind with that is told by the history what is missing.
                        if self.behind.is_empty() || !self.fell_behind(member.slot) {
                            self.visit(group, at, member, what, &topic.entry);
                        }
                    }
                }
                if let (Some(counting), Some(before)) = (&mut pass.counting, before) {
                    self.count_visit(counting, member, topic.choices.get(&member.slot), before);
                }
                visited += 1;
                if visited == QUANTUM {
                    return Vec::new();
                }
            }
            let weight = pass.weight;
            let answers = mem::take(&mut pass.answers);
            if let Some(counting) = pass.counting.take() {
                self.counted(*counting);
            }
            topic.pass = None;
            topic.entry.give_back(self.index, weight);
            if !answers.is_empty() || !self.ended.is_empty() || !self.slow.is_empty() || !self.behind.is_empty() {
                // Those must be out, and the answers in the backlogs, before the next pass visits anybody.
                return answers;
            }
        }
    }

    /// What a turn has put off because it concerns whole sessions.
    pub(super) fn settle(&mut self, answers: Vec<Due>, now: Instant) {
        self.settle_behind();
        for (slot, topic) in mem::take(&mut self.ended) {
            let at = self.at(slot);
            self.converse(at, now, |session, _, effects| session.forget_subscription(&topic, effects));
        }
        for (slot, backlog_bytes) in mem::take(&mut self.slow) {
            let at = self.at(slot);
            self.converse(at, now, |session, _, effects| session.close(CloseReason::SlowConsumer { backlog_bytes }, effects));
        }
        for (at, ask, answer) in answers {
            self.converse(at, now, |session, now, effects| session.handle_answer(ask, *answer, now, effects));
        }
    }

    fn visit(&mut self, group: &Group, at: usize, member: Member, what: &mut Passed, entry: &Arc<TopicEntry>) {
        let Some(codec) = &group.codec else { return self.feed_stream(member, what) };
        match what {
            Passed::Publications { publications, batches, except } => {
                if except.as_ref().is_some_and(|except| self.is_meant(member.slot, except)) {
                    return;
                }
                let batch = match per_group(batches, at) {
                    Some(batch) => batch,
                    empty => empty.insert(self.encode_batch(codec, entry, publications)),
                };
                let from = batch.publications.partition_point(|publication| publication.seq <= member.last);
                if batch.ends && from == batch.publications.len() {
                    // It ended before this member came: what followed is encoded for those that came then.
                    let later: Vec<_> = publications.iter().filter(|(seq, _)| *seq > member.last).cloned().collect();
                    if !later.is_empty() {
                        self.push_selected(member.slot, group.variant, codec, entry, &later);
                    }
                    return;
                }
                self.push_batch(member.slot, batch, from as u32, entry);
                if batch.ends {
                    self.ended.push((member.slot, entry.topic.clone()));
                }
            }
            Passed::Announcement { after, announcement, frames } => {
                if member.join_leave && *after >= member.last {
                    let push = || match &**announcement {
                        Announcement::Join(who) => Push::Join { topic: entry.topic.clone(), who: who.clone() },
                        Announcement::Leave(who) => Push::Leave { topic: entry.topic.clone(), who: who.clone() },
                    };
                    let frames = per_group(frames, at).get_or_insert_with(|| self.encode_shared(codec, push())).clone();
                    self.push_shared(member.slot, frames);
                }
            }
            Passed::Gap { after, seq, gap, frames } => {
                if *seq > member.last {
                    let push = |gap| Push::Gap { topic: entry.topic.clone(), gap };
                    let mut gap = *gap;
                    let frames = if member.last > *after {
                        // Joined in the midst of it: the beginning is another one, and is left out.
                        gap.from = None;
                        self.encode_shared(codec, push(gap))
                    } else {
                        per_group(frames, at).get_or_insert_with(|| self.encode_shared(codec, push(gap))).clone()
                    };
                    self.hub.stats.gaps.add(1);
                    self.push_gap(member.slot, entry, gap, frames);
                    if codec.protocol.gap_ends_subscription() {
                        self.ended.push((member.slot, entry.topic.clone()));
                    }
                }
            }
        }
    }

    /// Whether a connection's session is one of those who do not get something.
    pub(super) fn is_meant(&self, slot: u32, except: &Except) -> bool {
        let Some(Occupant::Connection(conn)) = &self.slots[slot as usize].occupant else { return false };
        except.means(conn.session.info())
    }

    fn feed_stream(&self, member: Member, what: &Passed) {
        let Some(occupant @ Occupant::Stream(..)) = &self.slots[member.slot as usize].occupant else { return };
        match what {
            Passed::Publications { publications, .. } => {
                for (seq, publication) in publications {
                    if *seq > member.last {
                        occupant.feed(StreamItem::Publication(publication.clone()));
                    }
                }
            }
            Passed::Gap { after, seq, gap, .. } if *seq > member.last => {
                // Joined in the midst of it: the beginning is another one, and is left out.
                let from = gap.from.filter(|_| member.last <= *after);
                occupant.feed(StreamItem::Gap(Gap { from, ..*gap }));
            }
            _ => {}
        }
    }

    pub(super) fn push_batch(&mut self, slot: u32, batch: &Arc<Batch>, from: u32, entry: &Arc<TopicEntry>) {
        let count = batch.publications.len() as u32 - from;
        let (max, is_full) = (self.backlog_max(), self.is_full);
        let Some(Occupant::Connection(conn)) = &mut self.slots[slot as usize].occupant else { return };
        match entry.namespace.priority {
            Priority::Normal => conn.backlog.push_batch(batch, from),
            Priority::High => conn.backlog.push_urgent_batch(batch, from),
        }
        if conn.blocked && entry.namespace.slow_consumer == SlowConsumer::Latest && conn.backlog.wants_conflation() {
            self.hub.stats.conflated.add(conn.backlog.conflate(&entry.topic, &self.hub.held));
        }
        conn.life.frames_out = conn.life.frames_out.saturating_add(count);
        self.tally.deliveries += u64::from(count);
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push_back(slot);
        }
        if conn.backlog.weight(is_full) > max {
            self.overflow(slot, entry);
        }
    }

    /// For what promises nothing: a backlog over its bound goes without.
    fn push_shared(&mut self, slot: u32, frames: Bytes) {
        let max = self.hub.rules.settings.backlog_max_bytes;
        if let Some(Occupant::Connection(conn)) = &mut self.slots[slot as usize].occupant
            && conn.backlog.bytes() <= max
        {
            conn.backlog.push_loose(frames);
            conn.life.frames_out = conn.life.frames_out.saturating_add(1);
            self.mark_dirty(slot);
        }
    }

    pub(super) fn push_gap(&mut self, slot: u32, entry: &TopicEntry, gap: Gap, frames: Bytes) {
        if let Some(Occupant::Connection(conn)) = &mut self.slots[slot as usize].occupant {
            conn.backlog.push_gap(&entry.topic, gap, frames, entry.namespace.priority == Priority::High);
            conn.life.frames_out = conn.life.frames_out.saturating_add(1);
            self.mark_dirty(slot);
        }
    }

    pub(super) fn encode_batch(&mut self, codec: &Codec, entry: &TopicEntry, publications: &[(u64, Arc<Publication>)]) -> Arc<Batch> {
        let topic = &entry.topic;
        let mut frames = mem::take(&mut self.frames);
        frames.clear();
        let mut encoded = Vec::with_capacity(publications.len());
        let mut ends = false;
        for (seq, publication) in publications {
            let start = frames.len();
            let mut out = FrameWriter::new(&*codec.framing, &mut frames);
            let push = Push::Publication(publication.clone());
            if panics::catch(&self.hub.stats, "codec", || codec.protocol.encode_push(&push, &mut out)).is_err() {
                frames.truncate(start);
                let gap = Gap { from: publication.position, to: publication.position, reason: GapReason::Unreadable };
                let push = Push::Gap { topic: topic.clone(), gap };
                let mut out = FrameWriter::new(&*codec.framing, &mut frames);
                if panics::catch(&self.hub.stats, "codec", || codec.protocol.encode_push(&push, &mut out)).is_err() {
                    frames.truncate(start);
                }
                if codec.protocol.gap_ends_subscription() {
                    // Nothing follows the end of a subscription.
                    encoded.push(Encoded { seq: *seq, position: publication.position, end: frames.len() as u32 });
                    ends = true;
                    break;
                }
            }
            encoded.push(Encoded { seq: *seq, position: publication.position, end: frames.len() as u32 });
        }
        let keys = match entry.namespace.slow_consumer {
            SlowConsumer::Latest => publications.iter().take(encoded.len()).map(|(_, publication)| publication.key.clone()).collect(),
            _ => Box::default(),
        };
        let mut batch = Batch::new(topic.clone(), frames.clone(), encoded.into(), keys, &self.hub.held);
        self.frames = frames;
        batch.ends = ends;
        Arc::new(batch)
    }

    pub(super) fn encode_shared(&self, codec: &Codec, push: Push) -> Bytes {
        let mut frames = Vec::new();
        let mut out = FrameWriter::new(&*codec.framing, &mut frames);
        match panics::catch(&self.hub.stats, "codec", || codec.protocol.encode_push(&push, &mut out)) {
            Ok(()) => self.hub.held.counted(frames, 0),
            Err(_) => Bytes::new(),
        }
    }

    fn forget_if_empty(&mut self, id: u64) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        if topic.members.len() > 0 || topic.active {
            return;
        }
        if let Some(topic) = self.topics.remove(&id)
            && self.names.get(&topic.entry.topic) == Some(&id)
        {
            self.names.remove(&topic.entry.topic);
        }
    }
}

enum Next {
    Nothing,
    Pass,
    Answers(Vec<Due>),
}

impl ShardTopic {
    /// Slots of the members.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.members.slots()
    }

    fn new(entry: Arc<TopicEntry>) -> Self {
        Self {
            entry,
            members: Members::default(),
            choices: HashMap::new(),
            queue: VecDeque::new(),
            pass: None,
            active: false,
            lagged: false,
        }
    }

    /// Begins a pass with what waits: as many publications for everybody as stand together, or one that is not for all, or one signal.
    fn next_pass(&mut self) -> Next {
        let mut publications: Vec<(u64, Arc<Publication>)> = Vec::new();
        let mut answers = Vec::new();
        let mut except = None;
        let mut alone = false;
        let mut weight = 0;
        loop {
            match self.queue.front() {
                Some(Task::Job(Job::Publication { publication, .. }))
                    if publications.is_empty() || !alone && !publication.goes_alone() && weight < PASS_BYTES_MAX => {}
                Some(Task::Answer(_)) => {}
                Some(_) if publications.is_empty() && answers.is_empty() => {}
                _ => break,
            }
            let what = match self.queue.pop_front() {
                None => break,
                Some(Task::Answer(due)) => {
                    answers.push(due);
                    continue;
                }
                Some(Task::Job(job)) => {
                    weight += job.weight_bytes();
                    match job {
                        Job::Publication { seq, publication } => {
                            except.clone_from(&publication.except);
                            alone = publication.goes_alone();
                            publications.push((seq, publication));
                            continue;
                        }
                        Job::Announcement { after, announcement } => Passed::Announcement { after, announcement, frames: Vec::new() },
                        Job::Gap { after, seq, gap } => Passed::Gap { after, seq, gap, frames: Vec::new() },
                    }
                }
            };
            self.pass = Some(Pass { what, cursor: Cursor::default(), weight, answers, counting: None });
            return Next::Pass;
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        if publications.is_empty() {
            return if answers.is_empty() { Next::Nothing } else { Next::Answers(answers) };
        }
        let counting = publications.first().filter(|_| alone).and_then(|(seq, publication)| {
            let reporting = reports::of(publication)?;
            Some(Box::new(Counting::new(reporting, &publication.topic, *seq)))
        });
        let what = Passed::Publications { publications, batches: Vec::new(), except };
        self.pass = Some(Pass { what, cursor: Cursor::default(), weight, answers, counting });
        Next::Pass
    }
}

/// The place for what is encoded once for a group.
fn per_group<T>(places: &mut Vec<Option<T>>, at: usize) -> &mut Option<T> {
    if places.len() <= at {
        places.resize_with(at + 1, || None);
    }
    &mut places[at]
}
