//! The application's snapshot of one topic: asked for once for all who wait, spliced with what is published meanwhile.
//!
//! A snapshot asked for at `seq` holds everything published before; what was published after is kept here and sent behind it. So a new member
//! misses nothing, and gets at most twice what the snapshot reflects already. While a snapshot is fresh and everything since is kept, it serves
//! later joiners too: they end where members from the beginning stand.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::topic_entry::{Joiner, Who};
use crate::{Payload, Publication, Resume, hub::inbox::MemberRef};

/// Publications that are kept behind a snapshot; more means that it is asked for again.
const KEPT_MAX: usize = 256;
/// Times that the application is asked in a row before those who wait are refused.
const ASKED_MAX: u8 = 3;

#[derive(Default)]
pub(super) struct Snapshots {
    /// How long a snapshot serves later joiners.
    max_age: Duration,
    /// The application was asked, and has not answered.
    asking: bool,
    /// Times it was asked for those who wait.
    asked: u8,
    fresh: Option<(Payload, Instant)>,
    /// What was sequenced since the snapshot was asked for.
    since: VecDeque<Arc<Publication>>,
    /// More was sequenced than is kept.
    overflowed: bool,
    waiting: VecDeque<(Joiner, Option<Resume>)>,
}

/// A joiner that gets a snapshot.
pub(super) struct Served {
    pub(super) joiner: Joiner,
    pub(super) resume: Option<Resume>,
    pub(super) payload: Payload,
    /// What was published since the snapshot was asked for.
    pub(super) since: Vec<Arc<Publication>>,
}

/// What is to be done with the application's answer.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// Serve those who wait.
    Serve,
    /// More was published meanwhile than is kept: ask again.
    AskAgain,
    /// Asked too often: refuse those who wait.
    GiveUp,
}

impl Snapshots {
    pub(super) fn new(max_age: Duration) -> Self {
        Self { max_age, ..Self::default() }
    }

    /// A joiner needs a snapshot. True: the application must be asked now.
    pub(super) fn wait(&mut self, joiner: Joiner, resume: Option<Resume>) -> bool {
        self.waiting.push_back((joiner, resume));
        if self.asking || self.serves() {
            return false;
        }
        self.asked = 0;
        self.ask();
        true
    }

    /// The application is asked: what is sequenced from here on is kept.
    pub(super) fn ask(&mut self) {
        self.asking = true;
        self.asked += 1;
        self.fresh = None;
        self.since.clear();
        self.overflowed = false;
    }

    /// The application answered.
    pub(super) fn taken(&mut self, payload: Payload) -> Taken {
        self.asking = false;
        if !self.overflowed {
            self.fresh = Some((payload, Instant::now()));
            Taken::Serve
        } else if self.waiting.is_empty() {
            Taken::Serve
        } else if self.asked < ASKED_MAX {
            Taken::AskAgain
        } else {
            Taken::GiveUp
        }
    }

    /// The application failed: those who waited.
    pub(super) fn failed(&mut self) -> Vec<Joiner> {
        self.asking = false;
        self.fresh = None;
        self.since.clear();
        self.waiting.drain(..).map(|(joiner, _)| joiner).collect()
    }

    /// The next joiner that a snapshot serves, with what follows it.
    pub(super) fn next_served(&mut self) -> Option<Served> {
        if self.asking {
            return None;
        }
        let payload = self.fresh.as_ref()?.0.clone();
        let (joiner, resume) = self.waiting.pop_front()?;
        Some(Served { joiner, resume, payload, since: self.since.iter().cloned().collect() })
    }

    /// Whether what is sequenced must be recorded here.
    pub(super) fn records(&self) -> bool {
        self.asking || self.fresh.is_some()
    }

    pub(super) fn record(&mut self, publication: &Arc<Publication>) {
        if self.since.len() < KEPT_MAX && (self.asking || self.serves()) {
            self.since.push_back(publication.clone());
        } else {
            self.invalidate();
        }
    }

    /// Something was sequenced that cannot be kept behind a snapshot.
    pub(super) fn invalidate(&mut self) {
        self.overflowed = true;
        self.fresh = None;
        self.since.clear();
    }

    /// J9: takes a joiner back.
    pub(super) fn cancel(&mut self, member: MemberRef) -> bool {
        let found =
            self.waiting.iter().position(|(joiner, _)| matches!(joiner.who, Who::Member { member: waiting, .. } if waiting == member));
        found.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// Whether nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Delivery ends: nothing here is true any more.
    pub(super) fn clear(&mut self) {
        self.fresh = None;
        self.since.clear();
        self.overflowed = true;
    }

    /// Whether the snapshot at hand serves one more joiner.
    fn serves(&self) -> bool {
        self.fresh.as_ref().is_some_and(|(_, taken_at)| taken_at.elapsed() < self.max_age)
    }
}
