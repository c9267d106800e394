//! What became of one publication on this node, for a publisher that asks: counted while shards pass it to its members.
//!
//! A publication that nobody asks about costs nothing here. Passing publications does not live here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use super::{CONTROL_TIMEOUT, Hub, check_keys, conn::Occupant, inbox::SlotRef, members::Member, selecting::Choice, shard::Shard};
use crate::{Act, ControlAnswer, ControlQuestion, Namespace, Publication, Publish, PublishError, Published, Target, Topic, sync::Mutex};

/// How long a publisher waits for the shards' counts; then the report says what is known.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// What became of a publication, as far as it is known.
///
/// What is in none of the counts beside `matched` waits: for its shard, or for the time of a member that chose a rate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct PublishReport {
    /// Nodes that are counted here.
    pub nodes: usize,
    /// Members of the topic when it was sequenced; streams inside the process are members too.
    pub matched: u64,
    /// Members for whom it was put into the backlog.
    pub queued: u64,
    /// Of those, members whose connection had taken it when the report was made.
    pub written: u64,
    /// Members that do not get it: by their filter, or because the publisher left them out.
    pub filtered: u64,
    /// Members that did not get it although they should, by cause: `slow_consumer`.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl PublishReport {
    fn of_this_node() -> Self {
        Self { nodes: 1, ..Self::default() }
    }
}

/// Where shards tell what became of one publication.
#[derive(Debug)]
pub(crate) struct Reporting {
    state: Mutex<State>,
    told: Notify,
}

#[derive(Debug)]
struct State {
    report: PublishReport,
    sequenced: bool,
    /// Shards that have it and have not told everything.
    outstanding: usize,
}

impl Reporting {
    fn new() -> Self {
        let state = State { report: PublishReport::of_this_node(), sequenced: false, outstanding: 0 };
        Self { state: Mutex::new(state), told: Notify::new() }
    }

    /// It got its number: so many members, in so many shards to which it goes.
    pub(super) fn sequenced(&self, matched: u64, shards: usize) {
        let mut state = self.state.lock();
        state.report.matched += matched;
        state.outstanding += shards;
        state.sequenced = true;
        self.told.notify_one();
    }

    /// A shard has told everything, or never will.
    pub(super) fn shard_is_done(&self) {
        let mut state = self.state.lock();
        state.outstanding = state.outstanding.saturating_sub(1);
        self.told.notify_one();
    }

    fn tell(&self, add: impl FnOnce(&mut PublishReport)) {
        add(&mut self.state.lock().report);
    }

    fn is_whole(&self) -> bool {
        let state = self.state.lock();
        state.sequenced && state.outstanding == 0
    }

    /// Waits until every shard has told what it knows. Cancel-safe.
    async fn whole(&self) {
        while !self.is_whole() {
            self.told.notified().await;
        }
    }
}

/// Who wants to know what becomes of a publication, if still somebody does.
pub(super) fn of(publication: &Publication) -> Option<Arc<Reporting>> {
    publication.report.as_ref().and_then(Weak::upgrade)
}

impl Hub {
    /// Publishes, and tells what became of it on this node; waits for that a second at most. The caller runs the errands.
    pub(crate) async fn publish_reported(
        self: &Arc<Self>,
        topic: &Topic,
        namespace: &Namespace,
        mut publish: Publish,
    ) -> Result<(Published, PublishReport), PublishError> {
        if topic.namespace() == Some("session") && !self.is_closed() {
            check_keys(&publish).and_then(|()| self.check_removal(topic, namespace, &publish)).map_err(PublishError::Refused)?;
            return Ok(self.send_reported(topic, publish).await);
        }
        let reporting = Arc::new(Reporting::new());
        publish.report = Some(Arc::downgrade(&reporting));
        let published = self.publish(topic, namespace, publish).await?;
        self.run_errands();
        // Nobody listens, or it was published before: nothing will be told.
        let is_heard =
            !published.duplicate && !published.outdated && self.directory.find(topic).is_some_and(|entry| entry.members_len() > 0);
        if is_heard {
            // What is not told by then is not known.
            let _ = tokio::time::timeout(REPORT_TIMEOUT, reporting.whole()).await;
        }
        let report = reporting.state.lock().report.clone();
        Ok((published, report))
    }

    /// What goes to one session goes to no topic's members.
    async fn send_reported(&self, topic: &Topic, publish: Publish) -> (Published, PublishReport) {
        let question = ControlQuestion::Act(Target::Topic(topic.clone()), Act::Send(Arc::new(publish)));
        let answers = self.control.ask(question, CONTROL_TIMEOUT).await.answers;
        self.stats.publishes.add(1);
        let reached = |answer: &ControlAnswer| if let ControlAnswer::Done { sessions } = answer { *sessions as u64 } else { 0 };
        let sessions: u64 = answers.iter().map(reached).sum();
        (Published::at(None), PublishReport { matched: sessions, queued: sessions, ..PublishReport::of_this_node() })
    }
}

/// One shard's count of a publication that is asked about.
pub(super) struct Counting {
    reporting: Arc<Reporting>,
    topic: Topic,
    seq: u64,
    queued: u64,
    filtered: u64,
    slow_consumer: u64,
    /// Whose outlet is still to be looked at: those for whom it was queued, in the order in which they are written to.
    unwritten: VecDeque<SlotRef>,
}

/// What a shard looks at before and after a visit.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    frames_out: u32,
    slow: usize,
    behind: usize,
}

impl Counting {
    pub(super) fn new(reporting: Arc<Reporting>, topic: &Topic, seq: u64) -> Self {
        let topic = topic.clone();
        Self { reporting, topic, seq, queued: 0, filtered: 0, slow_consumer: 0, unwritten: VecDeque::new() }
    }
}

impl Shard {
    pub(super) fn mark(&self, slot: u32) -> Mark {
        let frames_out = match &self.slots[slot as usize].occupant {
            Some(Occupant::Connection(conn)) => conn.life.frames_out,
            _ => 0,
        };
        Mark { frames_out, slow: self.slow.len(), behind: self.behind.len() }
    }

    /// Counts what became of a publication with a member that was just visited.
    pub(super) fn count_visit(&self, counting: &mut Counting, member: Member, choice: Option<&Choice>, before: Mark) {
        let Counting { topic, seq, .. } = counting;
        if member.last >= *seq {
            // It joined later.
            return;
        }
        let Some(Occupant::Connection(conn)) = &self.slots[member.slot as usize].occupant else {
            // A stream inside the process has it at once.
            counting.queued += 1;
            counting.reporting.tell(|report| report.written += 1);
            return;
        };
        let after = self.mark(member.slot);
        if after.frames_out == before.frames_out {
            let is_due_later = choice.is_some_and(|choice| choice.waits(*seq));
            counting.filtered += u64::from(!is_due_later);
        } else if after.slow > before.slow {
            counting.slow_consumer += 1;
        } else if after.behind > before.behind {
            // Read from the history later: neither queued nor dropped.
        } else if conn.backlog.waits(topic, *seq) || !conn.backlog.has_others() {
            counting.queued += 1;
            counting.unwritten.push_back(self.at(member.slot));
        } else {
            counting.slow_consumer += 1;
        }
    }

    /// A shard has passed a publication to its members: tells its counts, and looks later what was written.
    pub(super) fn counted(&mut self, counting: Counting) {
        counting.reporting.tell(|report| {
            report.queued += counting.queued;
            report.filtered += counting.filtered;
            if counting.slow_consumer > 0 {
                *report.dropped.entry("slow_consumer").or_default() += counting.slow_consumer;
            }
        });
        self.counted.push(counting);
    }

    /// Tells of publications that were passed what outlets have taken of them, once each had its turn to be written to.
    pub(super) fn tell_written(&mut self) {
        let mut counted = std::mem::take(&mut self.counted);
        counted.retain_mut(|counting| {
            let mut written = 0;
            while let Some(at) = counting.unwritten.front().copied() {
                let conn = self.conn(at);
                if conn.as_ref().is_some_and(|conn| conn.dirty) {
                    break;
                }
                let is_open = conn.filter(|conn| !conn.session.is_closed());
                written += u64::from(is_open.is_some_and(|conn| conn.backlog.is_free_of(&counting.topic)));
                counting.unwritten.pop_front();
            }
            counting.reporting.tell(|report| report.written += written);
            let is_done = counting.unwritten.is_empty();
            if is_done {
                counting.reporting.shard_is_done();
            }
            !is_done
        });
        self.counted = counted;
    }
}
