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
    entry::{self, Unreadable},
    frame::{self, Message},
    listener::Listener,
    reports::Reports,
};

/// A topic that this node listens to.
pub(crate) struct Follow {
    pub(crate) topic: Topic,
    listener: Arc<Listener>,
    reports: Arc<Reports>,
    told: Arc<Told>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The engine has, or was told to read, everything up to here.
    seen: Option<Position>,
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
    /// More was published than came, and it was so a moment ago: it is lost, and has been asked for.
    Lost,
    /// Another life of the data, or less than there was: only the fence can tell.
    Doubtful,
}

impl Follow {
    pub(crate) fn new(topic: Topic, listener: Arc<Listener>, reports: Arc<Reports>, told: Arc<Told>) -> Self {
        Self { topic, listener, reports, told, state: Mutex::default() }
    }

    /// The engine has read the log up to here.
    pub(crate) fn read(&self, top: Position, keep: Keep) {
        let mut state = self.state.lock();
        state.keep = Some(keep);
        state.see(top);
    }

    /// What is kept of the topic; `None`: nothing, or the engine has not read it.
    pub(crate) fn keep(&self) -> Option<Keep> {
        self.state.lock().keep
    }

    /// Compares with what stands in Redis, where `same_life` says whether the fence would find nothing new.
    pub(crate) fn compare(&self, top: Position, same_life: bool) -> Verdict {
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
            Some(suspect) if suspect.epoch == top.epoch && suspect.offset > seen.offset => {
                state.suspect = None;
                state.see(top);
                drop(state);
                self.told.tops_missed.fetch_add(1, Relaxed);
                self.gapped();
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

    fn publications(&self, sink: &dyn Sink, items: Vec<(&[u8], Option<Position>)>, top: Position) {
        let mut all_read = true;
        for (bytes, position) in items {
            match entry::decode(bytes) {
                Ok(entry) => sink.publication(Arc::new(self.publication(entry, position))),
                Err(error) => {
                    self.told.unreadable(error);
                    all_read &= position.is_none();
                }
            }
        }
        if top.offset > 0 {
            self.state.lock().see(top);
        }
        if !all_read {
            // The engine stands before it; a read tells that it is lost for this node.
            sink.gapped(&self.topic);
        }
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
                let is_new = {
                    let mut state = self.state.lock();
                    let is_new = state.seen.is_some_and(|seen| seen.epoch != top.epoch);
                    state.see(top);
                    is_new
                };
                if is_new {
                    self.told.epochs.fetch_add(1, Relaxed);
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
        self.gapped();
    }
}
