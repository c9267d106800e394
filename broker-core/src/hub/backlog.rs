//! What waits for one connection, in order, until its outlet takes it.
//!
//! Publications wait as pointers into a batch that all members of the same variant share; only a partly written frame is the connection's own.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::{Gap, GapReason, Position, Topic};

/// The publications of one pass over a topic, encoded for one variant.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) topic: Topic,
    /// All frames, one after the other.
    pub(crate) bytes: Bytes,
    /// Where each publication's frames end in `bytes`.
    pub(crate) publications: Box<[Encoded]>,
    /// The last publication could not be encoded, and the gap in its place ends the subscription.
    pub(crate) ends: bool,
}

/// One publication in a [`Batch`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoded {
    pub(crate) seq: u64,
    pub(crate) position: Option<Position>,
    pub(crate) end: u32,
}

impl Batch {
    fn start(&self, from: u32) -> usize {
        from.checked_sub(1).map_or(0, |before| self.publications[before as usize].end as usize)
    }

    fn rest(&self, from: u32) -> Bytes {
        self.bytes.slice(self.start(from)..)
    }

    fn rest_len(&self, from: u32) -> usize {
        self.bytes.len() - self.start(from)
    }
}

#[derive(Debug)]
enum Entry {
    /// Publications of a batch, beginning with this one.
    Batch(Arc<Batch>, u32),
    /// Frames that are never dropped: replies and signals.
    Frames(Bytes),
    /// Publications that were dropped here; grows with further ones of its topic.
    Gap(Topic, Gap, Bytes),
}

/// What waits for one connection.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// The rest of a frame of which a part is written: nothing goes before it.
    partial: Option<Bytes>,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Backlog {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds the publications of a batch, beginning with the `from`th.
    pub(crate) fn push_batch(&mut self, batch: &Arc<Batch>, from: u32) {
        let len = batch.rest_len(from);
        if len > 0 {
            self.bytes += len;
            self.entries.push_back(Entry::Batch(batch.clone(), from));
        }
    }

    /// Adds frames that are never dropped.
    pub(crate) fn push_frames(&mut self, frames: Bytes) {
        if !frames.is_empty() {
            self.bytes += frames.len();
            self.entries.push_back(Entry::Frames(frames));
        }
    }

    /// Adds all that waits in another one, of which nothing is written.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        self.entries.append(&mut other.entries);
    }

    /// Adds what is to be written first, up to `max` entries, to `chunks`.
    pub(crate) fn chunks(&self, max: usize, chunks: &mut Vec<Bytes>) {
        chunks.extend(self.partial.iter().cloned());
        for entry in self.entries.iter().take(max) {
            chunks.push(match entry {
                Entry::Batch(batch, from) => batch.rest(*from),
                Entry::Frames(frames) | Entry::Gap(_, _, frames) => frames.clone(),
            });
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
            let Some(entry) = self.entries.pop_front() else { break };
            len = self.written_of(entry, len);
        }
        if self.entries.is_empty() && self.entries.capacity() > 4 {
            // An idle connection keeps nothing of a busy time.
            self.entries = VecDeque::new();
        }
    }

    /// Takes `len` bytes of the entry; puts back what is left of it. Gives what is left of `len`.
    fn written_of(&mut self, entry: Entry, len: usize) -> usize {
        match entry {
            Entry::Frames(frames) | Entry::Gap(_, _, frames) if len >= frames.len() => len - frames.len(),
            Entry::Frames(frames) | Entry::Gap(_, _, frames) => {
                self.partial = Some(frames.slice(len..));
                0
            }
            Entry::Batch(batch, from) => {
                let rest = batch.rest_len(from);
                if len >= rest {
                    return len - rest;
                }
                let reached = batch.start(from) + len;
                let current = batch.publications.partition_point(|publication| publication.end as usize <= reached);
                let start = batch.start(current as u32);
                let next = if start < reached {
                    let end = batch.publications[current].end as usize;
                    self.partial = Some(batch.bytes.slice(reached..end));
                    current + 1
                } else {
                    current
                };
                if next < batch.publications.len() {
                    self.entries.push_front(Entry::Batch(batch, next as u32));
                }
                0
            }
        }
    }

    /// Adds a signal that publications of a topic are missing. Never dropped, but it may grow.
    pub(crate) fn push_gap(&mut self, topic: &Topic, gap: Gap, frames: Bytes) {
        self.bytes += frames.len();
        self.entries.push_back(Entry::Gap(topic.clone(), gap, frames));
    }

    /// Takes the oldest publications of a topic out until at least `excess` bytes are gone or none is left; one gap takes their place, and
    /// that of every gap between or before them.
    ///
    /// Gives the number of publications that went.
    pub(crate) fn drop_oldest(&mut self, topic: &Topic, excess: usize, encode: &mut dyn FnMut(Gap) -> Bytes) -> u64 {
        let Some(dropped) = self.take_oldest(topic, excess) else { return 0 };
        let frames = encode(dropped.gap);
        self.bytes += frames.len();
        self.entries.insert(dropped.at, Entry::Gap(topic.clone(), dropped.gap, frames));
        dropped.count
    }

    /// Takes every waiting publication of a topic out, and says what is missing then.
    pub(crate) fn drop_all(&mut self, topic: &Topic) -> Option<Dropped> {
        self.take_oldest(topic, usize::MAX)
    }

    fn take_oldest(&mut self, topic: &Topic, excess: usize) -> Option<Dropped> {
        let mut dropped: Option<Dropped> = None;
        let mut gone = 0;
        let mut at = 0;
        while at < self.entries.len() && gone < excess {
            match &mut self.entries[at] {
                Entry::Batch(batch, from) if batch.topic == *topic => {
                    let first = *from;
                    let start = batch.start(first);
                    let mut next = first;
                    while (next as usize) < batch.publications.len() && gone < excess {
                        gone += batch.publications[next as usize].end as usize - batch.start(next);
                        next += 1;
                    }
                    let last = batch.publications[next as usize - 1];
                    self.bytes -= last.end as usize - start;
                    let gap = Gap { from: batch.publications[first as usize].position, to: last.position, reason: GapReason::SlowConsumer };
                    Dropped::add(&mut dropped, at, gap, u64::from(next - first));
                    if (next as usize) < batch.publications.len() {
                        *from = next;
                    } else {
                        self.entries.remove(at);
                    }
                }
                Entry::Gap(of, gap, frames) if of == topic => {
                    Dropped::add(&mut dropped, at, *gap, 0);
                    self.bytes -= frames.len();
                    self.entries.remove(at);
                }
                _ => at += 1,
            }
        }
        dropped
    }

    /// Takes everything out but the rest of a partly written frame.
    pub(crate) fn clear(&mut self) {
        self.entries = VecDeque::new();
        self.bytes = self.partial.as_ref().map_or(0, Bytes::len);
    }
}

/// Publications that were taken out of a backlog.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Dropped {
    /// Index where the first of them stood.
    at: usize,
    /// What is missing with them.
    pub(crate) gap: Gap,
    pub(crate) count: u64,
}

impl Dropped {
    /// What is missing grows at its end. A gap between epochs stays one.
    fn add(dropped: &mut Option<Self>, at: usize, gap: Gap, count: u64) {
        match dropped {
            None => *dropped = Some(Self { at, gap, count }),
            Some(so_far) => {
                so_far.gap.to = gap.to;
                so_far.count += count;
                if gap.reason != GapReason::SlowConsumer {
                    so_far.gap.reason = gap.reason;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    fn batch(topic: &str, first: u64, frames: &[&str]) -> Arc<Batch> {
        let mut end = 0;
        let publications = frames.iter().zip(first..).map(|(frame, offset)| {
            end += frame.len() as u32;
            Encoded { seq: offset, position: Some(Position { offset, epoch: Epoch::from_random(1) }), end }
        });
        Arc::new(Batch { topic: topic.parse().unwrap(), publications: publications.collect(), bytes: frames.concat().into(), ends: false })
    }

    fn text(backlog: &Backlog) -> String {
        let mut chunks = Vec::new();
        backlog.chunks(64, &mut chunks);
        chunks.iter().map(|chunk| std::str::from_utf8(chunk).unwrap()).collect()
    }

    #[test]
    fn what_is_written_byte_by_byte_is_what_was_pushed() {
        for step in 1..20 {
            let mut backlog = Backlog::default();
            backlog.push_frames(Bytes::from_static(b"<reply>"));
            backlog.push_batch(&batch("a", 1, &["[one]", "[two]", "[three]"]), 0);
            backlog.push_batch(&batch("a", 4, &["[four]", "[five]"]), 1);
            let mut out = String::new();
            while !backlog.is_empty() {
                let rest = text(&backlog);
                let len = step.min(rest.len());
                out.push_str(&rest[..len]);
                backlog.written(len);
            }
            assert_eq!(out, "<reply>[one][two][three][five]");
        }
    }

    #[test]
    fn a_gap_between_epochs_is_part_of_the_gap_that_swallows_it() {
        let mut backlog = Backlog::default();
        let a: Topic = "a".parse().unwrap();
        let next = Position { offset: 5, epoch: Epoch::from_random(2) };
        backlog.push_batch(&batch("a", 3, &["[three]"]), 0);
        backlog.push_gap(&a, Gap { from: None, to: Some(next), reason: GapReason::Epoch }, Bytes::from_static(b"<epoch>"));
        backlog.push_batch(&batch("a", 6, &["[six]"]), 0);
        let mut told = Vec::new();
        let mut encode = |gap: Gap| {
            told.push(gap);
            Bytes::from_static(b"<gap>")
        };
        assert_eq!(backlog.drop_oldest(&a, 8, &mut encode), 2);
        assert_eq!(text(&backlog), "<gap>");
        assert_eq!((told[0].from.unwrap().offset, told[0].to.unwrap().offset, told[0].reason), (3, 6, GapReason::Epoch));
    }

    #[test]
    fn the_oldest_publications_go_and_a_started_frame_stays() {
        let mut backlog = Backlog::default();
        backlog.push_batch(&batch("a", 1, &["[one]", "[two]", "[three]"]), 0);
        backlog.push_batch(&batch("b", 1, &["[other]"]), 0);
        backlog.push_batch(&batch("a", 4, &["[four]"]), 0);
        backlog.written(2);
        let a = "a".parse().unwrap();
        let mut encode = |gap: Gap| Bytes::from(format!("<gap {}-{}>", gap.from.unwrap().offset, gap.to.unwrap().offset));
        assert_eq!(backlog.drop_oldest(&a, 6, &mut encode), 2);
        assert_eq!(text(&backlog), "ne]<gap 2-3>[other][four]");
        assert_eq!(backlog.bytes(), text(&backlog).len());
        backlog.push_batch(&batch("a", 5, &["[five]"]), 0);
        assert_eq!(backlog.drop_oldest(&a, 1, &mut encode), 1);
        assert_eq!(text(&backlog), "ne]<gap 2-4>[other][five]");
        assert_eq!(backlog.drop_all(&a).map(|dropped| dropped.count), Some(1));
        assert_eq!(text(&backlog), "ne][other]", "whoever takes all tells what is missing");
        assert_eq!(backlog.drop_all(&"a".parse().unwrap()), None);
        assert_eq!(backlog.bytes(), text(&backlog).len());
    }
}
