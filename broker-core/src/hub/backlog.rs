//! What waits for one connection, in order, until its outlet takes it.
//!
//! Publications wait as runs of batches that all members of the same variant share (`batch`); only a partly written frame is the connection's own.
//! Those of urgent topics overtake the others, up to the last frame whose place matters: the answer to a subscribe stays in front of what it announces.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    batch::{Batch, Run, Waiting, merge},
    held::Held,
};
use crate::{Gap, GapReason, Position, Topic};

/// Bytes that may wait before the newest replace older ones of their key.
const CONFLATE_FROM: usize = 4 * 1024;
/// Entries for which an idle connection keeps room.
const ROOM_KEPT: usize = 4;

#[derive(Debug)]
enum Entry {
    /// Publications of one topic.
    Run(Run),
    /// Frames that are never dropped: replies and signals.
    Frames(Bytes),
    /// Publications that were dropped here; grows with further ones of its topic.
    Gap(Box<GapEntry>),
}

impl Entry {
    /// Takes a whole batch behind what it holds. False: it belongs elsewhere.
    fn extend(&mut self, batch: &Arc<Batch>) -> bool {
        match self {
            Self::Run(run) => run.extend(batch),
            _ => false,
        }
    }
}

#[derive(Debug)]
struct GapEntry {
    topic: Topic,
    gap: Gap,
    frames: Bytes,
}

/// What waits for one connection.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// The rest of a frame of which a part is written: nothing goes before it.
    partial: Option<Bytes>,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// What is urgent goes here: behind so many entries, which are urgent themselves or must stay in front.
    urgent_at: u32,
    /// Bytes at which it is looked again for what newer publications replace.
    conflate_at: u32,
}

impl Backlog {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait, with what their list takes where that counts too: of small publications of several topics it is the larger part.
    pub(crate) fn weight(&self, with_list: bool) -> usize {
        self.bytes + if with_list { self.entries.len() * size_of::<Entry>() } else { 0 }
    }

    /// Bytes that the list has taken, beyond what an idle connection keeps of it.
    pub(crate) fn list_bytes(&self) -> usize {
        self.entries.capacity().saturating_sub(ROOM_KEPT) * size_of::<Entry>()
    }

    /// Adds the publications of a batch, beginning with the `from`th.
    pub(crate) fn push_batch(&mut self, batch: &Arc<Batch>, from: u32) {
        let len = batch.rest_len(from);
        if len > 0 {
            self.bytes += len;
            let goes_on = self.entries.back_mut().is_some_and(|entry| from == 0 && entry.extend(batch));
            if !goes_on {
                self.entries.push_back(Entry::Run(Run::new(batch, from)));
            }
        }
    }

    /// The same before everything that is less urgent.
    pub(crate) fn push_urgent_batch(&mut self, batch: &Arc<Batch>, from: u32) {
        let len = batch.rest_len(from);
        if len > 0 {
            self.bytes += len;
            let before = (self.urgent_at as usize).checked_sub(1).and_then(|at| self.entries.get_mut(at));
            let goes_on = before.is_some_and(|entry| from == 0 && entry.extend(batch));
            if !goes_on {
                self.insert_urgent(Entry::Run(Run::new(batch, from)));
            }
        }
    }

    /// Adds frames that are never dropped, and that nothing overtakes.
    pub(crate) fn push_frames(&mut self, frames: Bytes) {
        if !frames.is_empty() {
            self.push_loose(frames);
            self.urgent_at = self.entries.len() as u32;
        }
    }

    /// Adds frames that are never dropped; what is urgent may overtake them.
    pub(crate) fn push_loose(&mut self, frames: Bytes) {
        if !frames.is_empty() {
            self.bytes += frames.len();
            self.entries.push_back(Entry::Frames(frames));
        }
    }

    /// Adds frames before everything else that waits: signs of life, which have no place in any order.
    pub(crate) fn push_first(&mut self, frames: Bytes) {
        if !frames.is_empty() {
            self.bytes += frames.len();
            self.entries.push_front(Entry::Frames(frames));
            self.urgent_at += 1;
        }
    }

    /// Adds all that waits in another one, of which nothing is written.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        if other.urgent_at > 0 {
            self.urgent_at = self.entries.len() as u32 + other.urgent_at;
        }
        self.entries.append(&mut other.entries);
    }

    /// Adds what is to be written first, up to `max` pieces, to `chunks`.
    pub(crate) fn chunks(&self, max: usize, chunks: &mut Vec<Bytes>) {
        chunks.extend(self.partial.iter().cloned());
        let max = chunks.len().saturating_add(max);
        for entry in &self.entries {
            if chunks.len() >= max {
                return;
            }
            match entry {
                Entry::Run(run) => run.chunks(max - chunks.len(), chunks),
                Entry::Frames(frames) => chunks.push(frames.clone()),
                Entry::Gap(gap) => chunks.push(gap.frames.clone()),
            }
        }
    }

    /// So many bytes from the front are written.
    pub(crate) fn written(&mut self, mut len: usize) {
        self.bytes -= len;
        if let Some(partial) = &mut self.partial {
            let taken = len.min(partial.len());
            drop(partial.split_to(taken));
            len -= taken;
            if partial.is_empty() {
                self.partial = None;
            }
        }
        while len > 0 {
            let Some(entry) = self.entries.front_mut() else { break };
            let (frames, is_empty) = match entry {
                Entry::Run(run) => match run.written(len) {
                    Ok(written) => {
                        self.partial = written.partial;
                        len = 0;
                        (None, written.is_empty)
                    }
                    Err(left) => {
                        len = left;
                        (None, true)
                    }
                },
                Entry::Frames(frames) => (Some(frames), true),
                Entry::Gap(gap) => (Some(&mut gap.frames), true),
            };
            if let Some(frames) = frames {
                let taken = len.min(frames.len());
                self.partial = (taken < frames.len()).then(|| frames.slice(taken..));
                len -= taken;
            }
            if is_empty {
                self.entries.pop_front();
                self.urgent_at = self.urgent_at.saturating_sub(1);
            }
        }
        if self.bytes == 0 {
            self.conflate_at = 0;
            // What could not be encoded has no bytes, and is not waited for.
            self.entries.clear();
            self.urgent_at = 0;
            if self.entries.capacity() > ROOM_KEPT {
                // An idle connection keeps nothing of a busy time.
                self.entries = VecDeque::new();
            }
        }
    }

    /// Adds a signal that publications of a topic are missing. Never dropped, but it may grow.
    pub(crate) fn push_gap(&mut self, topic: &Topic, gap: Gap, frames: Bytes, urgent: bool) {
        self.bytes += frames.len();
        let entry = Entry::Gap(Box::new(GapEntry { topic: topic.clone(), gap, frames }));
        if urgent {
            self.insert_urgent(entry);
        } else {
            self.entries.push_back(entry);
        }
    }

    /// Takes the oldest publications of a topic out until at least `excess` bytes are gone or none is left; one gap takes their place, and
    /// that of every gap between or before them.
    ///
    /// Gives the number of publications that went.
    pub(crate) fn drop_oldest(&mut self, topic: &Topic, excess: usize, encode: &mut dyn FnMut(Gap) -> Bytes) -> u64 {
        let Some(dropped) = self.take_oldest(topic, excess) else { return 0 };
        let frames = encode(dropped.gap);
        self.bytes += frames.len();
        if dropped.was_urgent {
            self.urgent_at += 1;
        }
        self.entries.insert(dropped.at, Entry::Gap(Box::new(GapEntry { topic: topic.clone(), gap: dropped.gap, frames })));
        dropped.count
    }

    /// Whether a publication waits whole.
    pub(crate) fn waits(&self, topic: &Topic, seq: u64) -> bool {
        // The newest stand at the end.
        self.entries.iter().rev().any(|entry| match entry {
            Entry::Run(run) if run.topic() == topic => run.publications().any(|waiting| waiting.encoded().seq == seq),
            _ => false,
        })
    }

    /// Whether anything waits besides the rest of a partly written frame.
    pub(crate) fn has_others(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether nothing of a topic waits, nor the rest of a frame: what was put here of it is certainly written, unless it was dropped.
    pub(crate) fn is_free_of(&self, topic: &Topic) -> bool {
        let is_of = |entry: &Entry| match entry {
            Entry::Run(run) => run.topic() == topic,
            Entry::Gap(gap) => gap.topic == *topic,
            Entry::Frames(_) => false,
        };
        self.partial.is_none() && !self.entries.iter().any(is_of)
    }

    /// The position of the first publication of a topic that waits; `None` also where a gap of it waits, or one that no history can bring again.
    pub(crate) fn first_of(&self, topic: &Topic) -> Option<Position> {
        let mut first = None;
        for entry in &self.entries {
            match entry {
                Entry::Gap(gap) if gap.topic == *topic => return None,
                Entry::Run(run) if run.topic() == topic => {
                    for waiting in run.publications() {
                        let position = waiting.encoded().position?;
                        first.get_or_insert(position);
                    }
                }
                _ => {}
            }
        }
        first
    }

    /// Takes every waiting publication of a topic out, and says what is missing then.
    pub(crate) fn drop_all(&mut self, topic: &Topic) -> Option<Dropped> {
        self.take_oldest(topic, usize::MAX)
    }

    /// Whether it is time to look for what newer publications replace: each look costs what waits, so the next is due when that has doubled.
    pub(crate) fn wants_conflation(&self) -> bool {
        self.bytes > (self.conflate_at as usize).max(CONFLATE_FROM)
    }

    /// Of a topic, leaves the newest publication of each key, and the newest without a key, and says how many went. They stand together then, where
    /// the first of them stood. What stands before, between and behind gaps is looked at apart, since it may be of different epochs.
    pub(crate) fn conflate(&mut self, topic: &Topic, held: &Held) -> u64 {
        let mut between_gaps: Vec<Vec<usize>> = vec![Vec::new()];
        for (at, entry) in self.entries.iter().enumerate() {
            match entry {
                Entry::Gap(gap) if gap.topic == *topic => between_gaps.push(Vec::new()),
                Entry::Run(run) if run.topic() == topic => between_gaps.last_mut().into_iter().for_each(|places| places.push(at)),
                _ => {}
            }
        }
        // From the end, so that the places before it stay right.
        let gone = between_gaps.iter().rev().map(|places| self.conflate_runs(topic, places, held)).sum();
        self.conflate_at = u32::try_from(self.bytes * 2).unwrap_or(u32::MAX);
        gone
    }

    /// Puts what is not replaced of these runs into the first of them.
    fn conflate_runs(&mut self, topic: &Topic, places: &[usize], held: &Held) -> u64 {
        let Some((first, others)) = places.split_first() else { return 0 };
        let mut seen = HashSet::new();
        let runs = places.iter().filter_map(|at| if let Entry::Run(run) = &self.entries[*at] { Some(run) } else { None });
        let mut kept: Vec<Waiting<'_>> = runs.flat_map(Run::publications).collect();
        let (before, freed): (usize, usize) = (kept.len(), kept.iter().map(Waiting::len).sum());
        // What is not known cannot be replaced.
        kept.reverse();
        kept.retain(|waiting| waiting.key().is_none_or(|key| seen.insert(key)));
        kept.reverse();
        let gone = (before - kept.len()) as u64;
        if gone == 0 {
            return 0;
        }
        let merged = Arc::new(merge(topic, &kept, held));
        self.bytes = self.bytes - freed + merged.rest_len(0);
        for at in others.iter().rev() {
            self.remove(*at);
        }
        self.entries[*first] = Entry::Run(Run::new(&merged, 0));
        gone
    }

    fn take_oldest(&mut self, topic: &Topic, excess: usize) -> Option<Dropped> {
        let mut dropped: Option<Dropped> = None;
        let mut gone = 0;
        let mut at = 0;
        while at < self.entries.len() && gone < excess {
            let is_urgent = at < self.urgent_at as usize;
            match &mut self.entries[at] {
                Entry::Run(run) if run.topic() == topic => {
                    let (taken, is_empty) = run.take(excess - gone);
                    gone += taken.bytes;
                    self.bytes -= taken.bytes;
                    let gap = Gap { from: taken.first.position, to: taken.last.position, reason: GapReason::SlowConsumer };
                    Dropped::add(&mut dropped, at, is_urgent, gap, taken.count);
                    if is_empty {
                        self.remove(at);
                    }
                }
                Entry::Gap(entry) if entry.topic == *topic => {
                    Dropped::add(&mut dropped, at, is_urgent, entry.gap, 0);
                    self.bytes -= entry.frames.len();
                    self.remove(at);
                }
                _ => at += 1,
            }
        }
        dropped
    }

    /// Takes everything out but the rest of a partly written frame.
    pub(crate) fn clear(&mut self) {
        self.entries = VecDeque::new();
        self.urgent_at = 0;
        self.bytes = self.partial.as_ref().map_or(0, Bytes::len);
    }

    fn insert_urgent(&mut self, entry: Entry) {
        self.entries.insert(self.urgent_at as usize, entry);
        self.urgent_at += 1;
    }

    fn remove(&mut self, at: usize) {
        self.entries.remove(at);
        if at < self.urgent_at as usize {
            self.urgent_at -= 1;
        }
    }
}

/// Publications that were taken out of a backlog.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Dropped {
    /// Index where the first of them stood.
    at: usize,
    /// It stood before what is less urgent.
    was_urgent: bool,
    /// What is missing with them.
    pub(crate) gap: Gap,
    pub(crate) count: u64,
}

impl Dropped {
    /// What is missing grows at its end. A gap between epochs stays one.
    fn add(dropped: &mut Option<Self>, at: usize, was_urgent: bool, gap: Gap, count: u64) {
        match dropped {
            None => *dropped = Some(Self { at, was_urgent, gap, count }),
            Some(so_far) => {
                so_far.gap.to = gap.to.or(so_far.gap.to);
                so_far.count += count;
                if gap.reason != GapReason::SlowConsumer {
                    so_far.gap.reason = gap.reason;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
