//! The application's snapshot of one topic: asked for once for all who wait, spliced with what is published meanwhile.
//!
//! A snapshot asked for at `seq` holds everything published before; what was published after is kept here and sent behind it. So a new member
//! misses nothing, and gets at most twice what the snapshot reflects already. While a snapshot is fresh and everything since is kept, it serves
//! later joiners too: they end where members from the beginning stand. Longer than that it may stand in for an answer that does not come.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::topic_entry::{Joiner, Who};
use crate::{Gap, GapReason, Payload, Position, Publication, Resume, hub::inbox::MemberRef};

/// Publications that are kept behind a snapshot; more means that it is asked for again.
const KEPT_MAX: usize = 256;
/// Times that the application is asked in a row before those who wait are refused.
const ASKED_MAX: u8 = 3;

#[derive(Default)]
pub(super) struct Snapshots {
    /// How long a snapshot serves later joiners.
    max_age: Duration,
    /// How long it may stand in when the application fails; zero: not at all.
    stale_max: Duration,
    /// The application was asked, and has not answered.
    asking: bool,
    /// Times it was asked for those who wait.
    asked: u8,
    /// What was sequenced since the application was asked, while it has not answered.
    since: VecDeque<Arc<Publication>>,
    /// More was sequenced meanwhile than is kept.
    overflowed: bool,
    /// The last answer, as long as everything since is kept.
    last: Option<Snapshot>,
    waiting: VecDeque<(Joiner, Option<Resume>)>,
}

/// An answer of the application, and what was published since it was asked for.
struct Snapshot {
    /// `None`: the application has none for this topic.
    payload: Option<Payload>,
    /// Until then it serves without a call.
    serves_until: Instant,
    /// Until then it may stand in for an answer that does not come.
    kept_until: Instant,
    since: VecDeque<Arc<Publication>>,
}

/// A joiner that gets a snapshot, or is told that there is none.
pub(super) struct Served {
    pub(super) joiner: Joiner,
    pub(super) resume: Option<Resume>,
    pub(super) payload: Option<Payload>,
    /// What was published since the snapshot was asked for; nothing where there is none.
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
    pub(super) fn new(max_age: Duration, stale_max: Duration) -> Self {
        Self { max_age, stale_max, ..Self::default() }
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
        self.since.clear();
        self.overflowed = false;
        if self.stale_max.is_zero() {
            self.last = None;
        }
    }

    /// The application answered; `None`: it has no snapshot.
    pub(super) fn taken(&mut self, payload: Option<Payload>) -> Taken {
        self.asking = false;
        if !self.overflowed {
            let now = Instant::now();
            let serves_until = now + self.max_age;
            let kept_until = serves_until.max(now + self.stale_max);
            self.last = Some(Snapshot { payload, serves_until, kept_until, since: mem::take(&mut self.since) });
            Taken::Serve
        } else if self.waiting.is_empty() {
            Taken::Serve
        } else if self.asked < ASKED_MAX {
            Taken::AskAgain
        } else {
            Taken::GiveUp
        }
    }

    /// The application failed. True: the last snapshot stands in, and serves for a while as a fresh one does, so that an application that
    /// is down is not asked for every joiner.
    pub(super) fn stands_in(&mut self) -> bool {
        let now = Instant::now();
        self.asking = false;
        self.since.clear();
        // Zero is off, even within the moment of the answer.
        let Some(last) = self.last.as_mut().filter(|last| !self.stale_max.is_zero() && now <= last.kept_until) else { return false };
        last.serves_until = (now + self.max_age).min(last.kept_until);
        true
    }

    /// There is nothing for those who waited.
    pub(super) fn failed(&mut self) -> Vec<Joiner> {
        self.invalidate();
        self.asking = false;
        self.waiting.drain(..).map(|(joiner, _)| joiner).collect()
    }

    /// The next joiner that a snapshot serves, with what follows it; `position`: where the topic's members stand.
    pub(super) fn next_served(&mut self, position: Option<Position>) -> Option<Served> {
        if self.asking {
            return None;
        }
        let Snapshot { payload, since, .. } = self.last.as_ref()?;
        let (joiner, mut resume) = self.waiting.pop_front()?;
        if payload.is_some() {
            let is_of_another_life = |gap: &&mut Gap| gap.to.zip(position).is_some_and(|(to, top)| to.epoch != top.epoch);
            if let Some(gap) = resume.as_mut().and_then(|resume| resume.gap.as_mut()).filter(is_of_another_life) {
                // The history began anew after it was found out what is missing.
                let first = since.front().and_then(|publication| publication.position);
                let to = first.map(|first| Position { offset: first.offset - 1, ..first }).or(position);
                *gap = Gap { from: None, to, reason: GapReason::Epoch };
            }
            return Some(Served { joiner, resume, payload: payload.clone(), since: since.iter().cloned().collect() });
        }
        // Nothing is there that what was published meanwhile could follow: who waited begins where the members stand.
        if let Some(gap) = resume.as_mut().and_then(|resume| resume.gap.as_mut()).filter(|gap| gap.to.is_some() || !since.is_empty()) {
            gap.to = position;
        }
        Some(Served { joiner, resume, payload: None, since: Vec::new() })
    }

    /// Whether what is sequenced must be recorded here.
    pub(super) fn records(&self) -> bool {
        self.asking || self.last.is_some()
    }

    pub(super) fn record(&mut self, publication: &Arc<Publication>) {
        if self.asking && !self.overflowed {
            if self.since.len() < KEPT_MAX {
                self.since.push_back(publication.clone());
            } else {
                self.overflowed = true;
                self.since.clear();
            }
        }
        if let Some(last) = &mut self.last {
            // Where there was none, there may be one now: whoever comes later asks again.
            if last.payload.is_some() && last.since.len() < KEPT_MAX && Instant::now() <= last.kept_until {
                last.since.push_back(publication.clone());
            } else {
                self.last = None;
            }
        }
    }

    /// Something was sequenced that cannot be kept behind a snapshot, or nothing more comes: nothing here is true any more.
    pub(super) fn invalidate(&mut self) {
        self.overflowed = true;
        self.last = None;
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

    /// Whether the snapshot at hand serves one more joiner without a call.
    fn serves(&self) -> bool {
        self.last.as_ref().is_some_and(|last| Instant::now() < last.serves_until)
    }
}
