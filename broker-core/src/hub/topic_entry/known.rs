//! What the last read of a topic brought, kept for those who resume soon after it: of a storm that trickles in, the first reads for all (rule J10).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Joiner, State, TopicEntry, Who};
use crate::{
    Position, Publication, Recovery, Resume, Since,
    hub::{
        missed::Missed,
        ports::{Errand, Ports},
        resume::Log,
    },
};

/// How long it is kept: longer than everybody takes to come back after the death of a node.
pub(crate) const KNOWN_FOR: Duration = Duration::from_secs(5);
/// More is not kept: a storm may be on thousands of topics.
const KNOWN_MAX_BYTES: usize = 64 * 1024;
/// Publications that are sequenced meanwhile; more means another read.
const SINCE_MAX: usize = 64;

/// A log that was read, and what was sequenced since.
pub(super) struct Known {
    log: Log,
    since: Vec<Arc<Publication>>,
    bytes: usize,
    over_at: Instant,
}

impl Known {
    /// `None`: it is too much, or part of it ends by its own ttl.
    fn new(log: Log) -> Option<Self> {
        let bytes = log.publications().iter().map(|publication| publication.weight_bytes()).sum();
        let stays = log.publications().iter().all(|publication| publication.expires_at.is_none());
        (stays && bytes <= KNOWN_MAX_BYTES).then(|| Self { log, since: Vec::new(), bytes, over_at: Instant::now() + KNOWN_FOR })
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.over_at
    }

    /// Whether it goes on with the next publication in order.
    fn take(&mut self, publication: &Arc<Publication>) -> bool {
        self.bytes += publication.weight_bytes();
        let stays = publication.expires_at.is_none() && self.bytes <= KNOWN_MAX_BYTES && self.since.len() < SINCE_MAX;
        if stays {
            self.since.push(publication.clone());
        }
        stays
    }

    /// Everything after a position up to where the members stand; `None`: only a read can tell.
    fn after(&mut self, position: Position) -> Option<Missed> {
        if !self.since.is_empty() {
            self.log = self.log.followed_by(&self.since);
            self.since.clear();
        }
        self.log.after(position)
    }
}

impl TopicEntry {
    /// Keeps what a read brought.
    pub(super) fn keep_known(self: &Arc<Self>, state: &mut State, ports: &Ports, log: Log) {
        if self.recovery != Recovery::Stream || !self.shared {
            return;
        }
        state.known = Known::new(log);
        if state.known.is_some() {
            ports.queue(Errand::Forget { entry: self.clone() });
        }
    }

    /// The next publication in order.
    pub(super) fn know(state: &mut State, publication: &Arc<Publication>) {
        if state.known.as_mut().is_some_and(|known| !known.take(publication)) {
            state.known = None;
        }
    }

    /// Makes those members at once who resume from where it is known what they missed: their members stand where they would stand after a read.
    pub(super) fn serve_known(self: &Arc<Self>, state: &mut State, ports: &Ports) {
        let Some(mut known) = state.known.take_if(|known| !known.is_over()) else { return };
        for joiner in std::mem::take(&mut state.joiners) {
            match Self::resumed(&mut known, &joiner) {
                Some((missed, resume)) => self.admit(state, ports, joiner, missed, Some(resume)),
                None => state.joiners.push_back(joiner),
            }
        }
        state.known = Some(known);
    }

    /// What a joiner missed, where that is known in full.
    fn resumed(known: &mut Known, joiner: &Joiner) -> Option<(Missed, Resume)> {
        let (Who::Member { .. }, Some(since @ Since::Position(position))) = (&joiner.who, joiner.since) else { return None };
        let missed = known.after(position)?;
        Some((missed, Resume { since, recovered: true, gap: None }))
    }

    /// The time is over.
    pub(crate) fn forget_known(&self) {
        let mut state = self.state.lock();
        if state.known.as_ref().is_some_and(Known::is_over) {
            state.known = None;
        }
    }

    /// What is kept of the history was removed.
    pub(crate) fn history_removed(&self) {
        self.state.lock().known = None;
    }
}
