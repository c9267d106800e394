//! The publications of one pass over a topic, encoded once for all members of a variant, and runs of them that wait for a connection.
//!
//! Batches that follow one another are linked. Whoever does not read holds one run, however long it grows, and all who stand at the same place
//! hold the same batches: ten thousand stuck subscribers of a busy topic cost its bytes once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;

use super::held::{Held, allocated};
use crate::{Position, Topic};

/// What a publication is about, where it is about anything.
pub(crate) type Key = Option<Box<str>>;

/// The publications of one pass over a topic, encoded for one variant.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) topic: Topic,
    /// All frames, one after the other; they are counted together with the batch, since a part of them may outlive it.
    pub(crate) bytes: Bytes,
    /// Where each publication's frames end in `bytes`.
    pub(crate) publications: Box<[Encoded]>,
    /// The keys of the publications, in the same order, where the newest may replace older ones of its key; otherwise empty.
    keys: Box<[Key]>,
    /// The last publication could not be encoded, and the gap in its place ends the subscription.
    pub(crate) ends: bool,
    /// The batch that followed for those who got both.
    next: OnceLock<Arc<Batch>>,
    /// Bytes of the batches before it in the longest chain that it stands in.
    behind: AtomicUsize,
    held: Held,
}

/// Bytes of a batch beside its frames, its publications and their keys.
const BESIDE: usize = allocated::<Batch>(1) + 2 * size_of::<usize>();

/// The rest of a partly written frame up to so many bytes is copied.
const COPIED_MAX: usize = 4 * 1024;
/// Bytes of batches that hang on one another. Whoever holds the first holds them all, also those that it does not get: longer chains begin anew.
const CHAIN_MAX: usize = 256 * 1024;

/// One publication in a [`Batch`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoded {
    pub(crate) seq: u64,
    pub(crate) position: Option<Position>,
    pub(crate) end: u32,
}

impl Batch {
    pub(crate) fn new(topic: Topic, frames: Vec<u8>, publications: Box<[Encoded]>, keys: Box<[Key]>, held: &Held) -> Self {
        let of_keys: usize = keys.iter().flatten().map(|key| allocated::<u8>(key.len())).sum();
        let beside = BESIDE + allocated::<Encoded>(publications.len()) + allocated::<Key>(keys.len()) + of_keys;
        let bytes = held.counted(frames, beside);
        Self { topic, bytes, publications, keys, ends: false, next: OnceLock::new(), behind: AtomicUsize::new(0), held: held.clone() }
    }

    fn len(&self) -> u32 {
        self.publications.len() as u32
    }

    fn start(&self, from: u32) -> usize {
        from.checked_sub(1).map_or(0, |before| self.publications[before as usize].end as usize)
    }

    fn end(&self, at: u32) -> usize {
        self.publications[at as usize].end as usize
    }

    fn rest(&self, from: u32) -> Bytes {
        self.bytes.slice(self.start(from)..)
    }

    pub(crate) fn rest_len(&self, from: u32) -> usize {
        self.bytes.len() - self.start(from)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // In a loop: a long run of them must not unwind on the stack.
        let mut next = self.next.take();
        while let Some(mut batch) = next.and_then(Arc::into_inner) {
            next = batch.next.take();
        }
    }
}

/// Publications of one topic that stand together in a backlog: batches linked to one another, the first of them from its `from`th publication on.
#[derive(Debug)]
pub(super) struct Run {
    first: Arc<Batch>,
    from: u32,
    /// The last batch, where it is not the first.
    last: Option<Arc<Batch>>,
}

/// Bytes and publications that a run has lost at its front.
pub(super) struct Taken {
    pub(super) first: Encoded,
    pub(super) last: Encoded,
    pub(super) bytes: usize,
    pub(super) count: u64,
}

impl Run {
    pub(super) fn new(batch: &Arc<Batch>, from: u32) -> Self {
        Self { first: batch.clone(), from, last: None }
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.first.topic
    }

    /// Takes a whole batch behind the last one. False: another one has followed it, or the chain is long enough.
    pub(super) fn extend(&mut self, batch: &Arc<Batch>) -> bool {
        let last = self.last.as_ref().unwrap_or(&self.first);
        let behind = last.behind.load(Relaxed) + last.bytes.len() + BESIDE;
        if behind > CHAIN_MAX || last.topic != batch.topic || !Arc::ptr_eq(last.next.get_or_init(|| batch.clone()), batch) {
            return false;
        }
        if batch.behind.load(Relaxed) < behind {
            batch.behind.fetch_max(behind, Relaxed);
        }
        self.last = Some(batch.clone());
        true
    }

    /// What is to be written of it, up to `max` chunks.
    pub(super) fn chunks(&self, max: usize, chunks: &mut Vec<Bytes>) {
        let (mut batch, mut from) = (&self.first, self.from);
        for _ in 0..max {
            chunks.push(batch.rest(from));
            match &self.last {
                Some(last) if !Arc::ptr_eq(batch, last) => {}
                _ => return,
            }
            let Some(next) = batch.next.get() else { return };
            (batch, from) = (next, 0);
        }
    }

    /// `len` bytes of it are written: `Err` with what is left of `len` where that was all; otherwise the rest of a frame that was begun.
    pub(super) fn written(&mut self, mut len: usize) -> Result<Written, usize> {
        loop {
            let rest = self.first.rest_len(self.from);
            if len < rest {
                break;
            }
            len -= rest;
            if !self.step() {
                return Err(len);
            }
        }
        if len == 0 {
            return Ok(Written { partial: None, is_empty: false });
        }
        let batch = self.first.clone();
        let reached = batch.start(self.from) + len;
        let current = batch.publications.partition_point(|publication| publication.end as usize <= reached) as u32;
        let partial = (batch.start(current) < reached).then(|| {
            let rest = batch.bytes.slice(reached..batch.end(current));
            // A part keeps all frames of the batch in memory.
            if rest.len() <= COPIED_MAX { batch.held.counted(rest.to_vec(), 0) } else { rest }
        });
        self.from = current + u32::from(partial.is_some());
        let is_empty = self.from == batch.len() && !self.step();
        Ok(Written { partial, is_empty })
    }

    /// Takes publications from the front until at least `excess` bytes are gone. True with it: nothing is left.
    pub(super) fn take(&mut self, excess: usize) -> (Taken, bool) {
        let first = self.first.publications[self.from as usize];
        let mut taken = Taken { first, last: first, bytes: 0, count: 0 };
        loop {
            let batch = &self.first;
            let next = batch.publications[self.from as usize];
            // One without a position hides none that went before it.
            taken.last = Encoded { position: next.position.or(taken.last.position), ..next };
            taken.bytes += batch.end(self.from) - batch.start(self.from);
            taken.count += 1;
            self.from += 1;
            if self.from == batch.len() && !self.step() {
                return (taken, true);
            }
            if taken.bytes >= excess {
                return (taken, false);
            }
        }
    }

    /// Every publication in it, with its bytes.
    pub(super) fn publications(&self) -> impl Iterator<Item = Waiting<'_>> {
        let (mut batch, mut at) = (Some(&self.first), self.from);
        std::iter::from_fn(move || {
            let here = batch?;
            let waiting = Waiting { batch: here, at };
            at += 1;
            if at == here.len() {
                let is_last = self.last.as_ref().is_none_or(|last| Arc::ptr_eq(here, last));
                batch = if is_last { None } else { here.next.get() };
                at = 0;
            }
            Some(waiting)
        })
    }

    /// Goes on to the next batch. False: there is none.
    fn step(&mut self) -> bool {
        let Some(last) = &self.last else { return false };
        let Some(next) = self.first.next.get().cloned() else { return false };
        if Arc::ptr_eq(&next, last) {
            self.last = None;
        }
        (self.first, self.from) = (next, 0);
        true
    }
}

/// A run after a write.
pub(super) struct Written {
    pub(super) partial: Option<Bytes>,
    pub(super) is_empty: bool,
}

/// One publication that waits.
pub(super) struct Waiting<'a> {
    batch: &'a Batch,
    at: u32,
}

impl<'a> Waiting<'a> {
    pub(super) fn len(&self) -> usize {
        self.batch.end(self.at) - self.batch.start(self.at)
    }

    pub(super) fn frames(&self) -> Bytes {
        self.batch.bytes.slice(self.batch.start(self.at)..self.batch.end(self.at))
    }

    pub(super) fn encoded(&self) -> Encoded {
        self.batch.publications[self.at as usize]
    }

    /// What it is about, where the batch knows it.
    pub(super) fn key(&self) -> Option<&'a Key> {
        self.batch.keys.get(self.at as usize)
    }
}

/// Puts what is left of several batches into one.
pub(super) fn merge(topic: &Topic, kept: &[Waiting<'_>], held: &Held) -> Batch {
    let mut bytes = Vec::with_capacity(kept.iter().map(Waiting::len).sum());
    let publications = kept
        .iter()
        .map(|waiting| {
            bytes.extend_from_slice(&waiting.frames());
            Encoded { end: bytes.len() as u32, ..waiting.encoded() }
        })
        .collect();
    let keys = kept.iter().filter_map(|waiting| waiting.key().cloned()).collect();
    Batch::new(topic.clone(), bytes, publications, keys, held)
}
