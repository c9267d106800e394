//! What this node hears of one topic: publications go to the engine, and it is known up to where they came.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{Announcement, Keep, Position, Publication, Sink, Topic};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    bus::Hearer,
    calls::positions_ttl,
    entry::{self, Unreadable},
    frame::{self, Message},
    listener::Listener,
    refill::Refill,
    reports::Reports,
};

/// What somebody listens to is kept alive at least so often.
const PROLONG: Duration = Duration::from_secs(60);

/// A topic that this node listens to.
pub(crate) struct Follow {
    pub(crate) topic: Topic,
    listener: Arc<Listener>,
    reports: Arc<Reports>,
    told: Arc<Told>,
    refill: Arc<Refill>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The engine has, or was told to read, everything up to here.
    seen: Option<Position>,
    /// Messages may have been missed, and the top has not been looked at since.
    is_unsure: bool,
    /// The engine is to read it.
    awaits_read: bool,
    /// When what is kept of it was last kept alive.
    prolonged_at: Option<Instant>,
    /// What is kept of the topic, since the engine read it.
    keep: Option<Keep>,
    /// The top was found here, and nothing of it had come: if that is so still in a moment, something was lost.
    suspect: Option<Position>,
}

/// What went wrong with messages, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Messages or entries that this version cannot read.
    pub(crate) unreadable: AtomicU64,
    /// The version of the last one that was written by another version, and when it came.
    foreign: Mutex<Option<(u8, Instant)>>,
    /// Losses on the bus that were noticed by comparing tops.
    pub(crate) tops_missed: AtomicU64,
    /// Lives of a history that began anew.
    pub(crate) epochs: AtomicU64,
}

/// So long after the last message of another version its nodes count as gone, or replaced.
const FOREIGN_FOR: Duration = Duration::from_secs(60);

impl Told {
    /// The version that another node writes, if one does.
    pub(crate) fn foreign_version(&self) -> Option<u8> {
        self.foreign.lock().filter(|(_, last)| last.elapsed() < FOREIGN_FOR).map(|(version, _)| version)
    }

    pub(crate) fn unreadable(&self, error: Unreadable) {
        self.unreadable.fetch_add(1, Relaxed);
        if let Unreadable::Version(version) = error {
            *self.foreign.lock() = Some((version, Instant::now()));
        }
    }
}

/// What a look at a topic's top in Redis means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Everything came.
    Fine,
    /// More was published than came; it may be on its way.
    Behind,
    /// More was published than came, and it is not on its way: the engine must read it.
    Lost,
    /// Another life of the data, or less than there was: only the fence can tell, and a read runs it.
    Doubtful,
}

impl Follow {
    pub(crate) fn new(topic: Topic, listener: Arc<Listener>, reports: Arc<Reports>, told: Arc<Told>, refill: Arc<Refill>) -> Self {
        Self { topic, listener, reports, told, refill, state: Mutex::default() }
    }

    /// The engine has read the log up to here.
    pub(crate) fn read(&self, top: Position, keep: Keep) {
        let mut state = self.state.lock();
        state.keep = Some(keep);
        state.awaits_read = false;
        state.see(top);
    }

    /// What is kept of the topic; `None`: nothing, or the engine has not read it.
    pub(crate) fn keep(&self) -> Option<Keep> {
        self.state.lock().keep
    }

    /// Whether the engine is still to do a read that it was told to do.
    pub(crate) fn awaits_read(&self) -> bool {
        self.state.lock().awaits_read
    }

    /// The engine is to read it; says whether it was not before.
    pub(crate) fn wants_read(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().awaits_read, true)
    }

    /// Nobody waits for the read any more.
    pub(crate) fn gives_up(&self) {
        self.state.lock().awaits_read = false;
    }

    /// Whether messages may have been missed since the top was last looked at.
    pub(crate) fn is_unsure(&self) -> bool {
        self.state.lock().is_unsure
    }

    /// The top is looked at from here on; gives whether messages may have been missed before.
    pub(crate) fn look(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_unsure)
    }

    /// The look failed.
    pub(crate) fn stays_unsure(&self) {
        self.state.lock().is_unsure = true;
    }

    /// Whether what is kept must be kept alive now, since somebody listens; then that counts as done. Well before it would go.
    pub(crate) fn takes_prolonging(&self, now: Instant) -> Option<Keep> {
        let mut state = self.state.lock();
        let keep = state.keep?;
        let interval = (positions_ttl(keep) / 3).min(PROLONG);
        if state.prolonged_at.is_some_and(|at| now.duration_since(at) < interval) {
            return None;
        }
        state.prolonged_at = Some(now);
        Some(keep)
    }

    /// Compares with what stands in Redis, where `same_life` says whether the fence would find nothing new. `was_unsure`: what is not here was
    /// missed, and is not on its way.
    pub(crate) fn compare(&self, top: Position, same_life: bool, was_unsure: bool) -> Verdict {
        let mut state = self.state.lock();
        let Some(seen) = state.seen else { return Verdict::Fine };
        if !same_life || top.epoch != seen.epoch || top.offset < seen.offset {
            return Verdict::Doubtful;
        }
        if top.offset == seen.offset {
            state.suspect = None;
            return Verdict::Fine;
        }
        match state.suspect {
            _ if was_unsure => Verdict::Lost,
            Some(suspect) if suspect.epoch == top.epoch && suspect.offset > seen.offset => {
                state.suspect = None;
                self.told.tops_missed.fetch_add(1, Relaxed);
                Verdict::Lost
            }
            _ => {
                state.suspect = Some(top);
                Verdict::Behind
            }
        }
    }

    /// Lets the engine read the topic.
    pub(crate) fn gapped(&self) {
        if let Some(sink) = self.listener.sink() {
            sink.gapped(&self.topic);
        }
    }

    fn publications(&self, sink: &dyn Sink, items: Vec<(&[u8], Option<Position>)>, top: Option<Position>) {
        // What has positions shows the engine by itself where something is missing before it.
        let mut is_read = items.iter().any(|(_, position)| position.is_some()) || top.is_none_or(|top| self.has_seen(top));
        for (bytes, position) in items {
            match entry::decode(bytes) {
                Ok(entry) => sink.publication(Arc::new(self.publication(entry, position))),
                Err(error) => {
                    self.told.unreadable(error);
                    is_read &= position.is_none();
                }
            }
        }
        if let Some(top) = top {
            self.state.lock().see(top);
        }
        if !is_read {
            // The engine stands before it; a read brings it, or tells that it is lost for this node.
            sink.gapped(&self.topic);
        }
    }

    /// Whether everything up to here came, or the engine has not begun: then it reads.
    fn has_seen(&self, top: Position) -> bool {
        self.state.lock().seen.is_none_or(|seen| seen.epoch == top.epoch && seen.offset >= top.offset)
    }

    fn publication(&self, entry: entry::Entry, position: Option<Position>) -> Publication {
        let Some(publish) = entry.report.and_then(|report| self.reports.take(report)) else {
            return entry.into_publication(self.topic.clone(), position);
        };
        let mut publication = Publication::new(self.topic.clone(), publish);
        publication.position = position;
        publication.published_at_ms = entry.published_at_ms;
        publication
    }
}

impl State {
    fn see(&mut self, top: Position) {
        match &mut self.seen {
            Some(seen) if seen.epoch == top.epoch => seen.offset = seen.offset.max(top.offset),
            seen => *seen = Some(top),
        }
    }
}

impl Hearer for Follow {
    fn message(&self, payload: &Bytes) {
        let Some(sink) = self.listener.sink() else { return };
        match frame::decode(payload) {
            Ok(Message::Publications { items, top }) => self.publications(&*sink, items, top),
            Ok(Message::Epoch(top)) => {
                let must_read = {
                    let mut state = self.state.lock();
                    let is_new = state.seen.is_some_and(|seen| seen.epoch != top.epoch);
                    self.told.epochs.fetch_add(u64::from(is_new), Relaxed);
                    if state.awaits_read {
                        // Most likely it is that read by which the epoch began. If not, the next look finds that this was not seen.
                        false
                    } else {
                        state.see(top);
                        is_new
                    }
                };
                if must_read {
                    sink.gapped(&self.topic);
                }
            }
            Ok(Message::Join(who)) => sink.announcement(&self.topic, Announcement::Join(Arc::new(who))),
            Ok(Message::Leave(who)) => sink.announcement(&self.topic, Announcement::Leave(Arc::new(who))),
            Err(error) => {
                self.told.unreadable(error);
                sink.gapped(&self.topic);
            }
        }
    }

    fn restored(&self) {
        // Of many topics at once nothing was missed in most: a look at the top is a tenth of a read.
        self.stays_unsure();
        self.refill.look();
    }
}
