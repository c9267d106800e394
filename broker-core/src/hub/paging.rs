//! What a new subscriber missed, in pages: the next one follows when the connection has taken the last, so nobody's backlog holds more.
//!
//! While pages go out the subscriber is counted in its topic, but gets nothing live. After the last page it joins once more, from where its
//! pages end; what it is told then it has missed meanwhile, which may be pages again. The list is shared by all who were served together.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{
    conn::{Conn, Occupant},
    inbox::{Joined, MemberRef},
    members::Member,
    missed::Missed,
    shard::Shard,
    topic_entry::TopicEntry,
};
use crate::{Position, Publication, Push, Resume, Since, Topic};

/// One subscriber that has not got everything yet.
pub(super) struct Paging {
    entry: Arc<TopicEntry>,
    member: MemberRef,
    join_leave: bool,
    /// What is still to be sent; empty: it waits to join once more.
    missed: Missed,
    /// Where the pages end.
    until: Position,
}

impl Shard {
    /// A subscriber has more to get than one page: the rest follows.
    pub(super) fn begin_paging(&mut self, entry: &Arc<TopicEntry>, member: MemberRef, join_leave: bool, missed: Missed, until: Position) {
        self.hub.stats.resumes_paged.add(1);
        let paging = Paging { entry: entry.clone(), member, join_leave, missed, until };
        self.paging.entry(member.at.slot).or_default().push_back(paging);
        self.mark_dirty(member.at.slot);
    }

    /// The connection in this slot has taken everything: it gets its next page.
    pub(super) fn turn_page(&mut self, slot: u32, now: Instant) {
        let max = self.backlog_max();
        let Some(queue) = self.paging.get_mut(&slot) else { return };
        let Some(paging) = queue.iter_mut().find(|paging| !paging.missed.is_empty()) else { return };
        let Some(Occupant::Connection(conn)) = &self.slots[slot as usize].occupant else { return };
        let entry = paging.entry.clone();
        let page = page(&mut paging.missed, conn, &entry.topic, max);
        if paging.missed.is_empty() {
            entry.join_again(&self.hub.ports, paging.member, paging.join_leave, paging.until);
        }
        self.push_page(slot, &entry, page);
        // A page of which nothing was chosen is followed by the next one at once.
        self.mark_dirty(slot);
        self.settle(Vec::new(), now);
        self.hub.run_errands();
    }

    /// A subscriber whose pages have ended joined once more.
    pub(super) fn joined_again(&mut self, joined: Joined, now: Instant) {
        if self.take_paging(joined.member.at.slot, |paging| paging.member == joined.member).is_none() {
            // J9: it has gone meanwhile, and is released here.
            joined.entry.leave(&self.hub.ports, self.index);
            return self.hub.run_errands();
        }
        self.go_on_with(joined, now);
    }

    /// A live subscription joined once more: it is told what it lost, and gets what it missed, in pages where that is much.
    pub(super) fn go_on_with(&mut self, joined: Joined, now: Instant) {
        let Joined { entry, member, join_leave, rows, last, position, resume, mut missed, .. } = joined;
        let slot = member.at.slot;
        let max = self.backlog_max();
        let Some(conn) = self.conn(member.at) else { return };
        let (variant, codec, selection) = (conn.variant, conn.codec.clone(), conn.session.selection(&entry.topic).cloned());
        let lost = resume.filter(|resume| !resume.recovered).and_then(|resume| resume.gap);
        let is_over = lost.is_some() && codec.protocol.gap_ends_subscription();
        if is_over {
            missed = Missed::default();
        }
        if let Some(mut gap) = lost {
            if rows && !missed.is_empty() {
                // The rows that follow are older than the top: whoever is cut between them has not got that far.
                gap.to = None;
            }
            let frames = self.encode_shared(&codec, Push::Gap { topic: entry.topic.clone(), gap });
            self.hub.stats.gaps.add(1);
            self.push_gap(slot, &entry, gap, frames);
        }
        let page = self.conn(member.at).map_or_else(Vec::new, |conn| page(&mut missed, conn, &entry.topic, max));
        if let Some(until) = position.filter(|_| !missed.is_empty()) {
            self.begin_paging(&entry, member, join_leave, missed, until);
        } else {
            let member = Member { slot, join_leave, chooses: selection.is_some(), last };
            self.add_member(&entry, variant, Some(codec), member, selection);
        }
        self.push_page(slot, &entry, page);
        if is_over {
            self.ended.push((slot, entry.topic.clone()));
        }
        self.mark_dirty(slot);
        self.settle(Vec::new(), now);
        self.hub.run_errands();
    }

    /// A subscription gets no further page: it is released, here or by whoever finds its join void (J9). Says whether it wants to know who
    /// joins and leaves; `None`: it has no pages.
    pub(super) fn stop_paging(&mut self, slot: u32, topic: &Topic) -> Option<bool> {
        let paging = self.take_paging(slot, |paging| paging.entry.topic == *topic)?;
        if !paging.missed.is_empty() || paging.entry.cancel(&self.hub.ports, paging.member) {
            paging.entry.leave(&self.hub.ports, self.index);
        }
        Some(paging.join_leave)
    }

    /// Subscriptions that are members of no topic of this shard for now: those that catch up, and those that have not got everything yet.
    pub(super) fn not_yet_members(&self) -> impl Iterator<Item = (&Topic, u32)> {
        let late = self.catching_up.iter().filter_map(|slot| match &self.slots[*slot as usize].occupant {
            Some(Occupant::Connection(conn)) => Some((conn, *slot)),
            _ => None,
        });
        let late = late.flat_map(|(conn, slot)| conn.topics_behind().map(move |topic| (topic, slot)));
        late.chain(self.paging.iter().flat_map(|(slot, queue)| queue.iter().map(|paging| (&paging.entry.topic, *slot))))
    }

    /// In the backlog like live ones, so that they can be taken out with their topic; encoded once for all who get the same page in a tick.
    fn push_page(&mut self, slot: u32, entry: &Arc<TopicEntry>, page: Vec<Arc<Publication>>) {
        if page.is_empty() {
            return;
        }
        let Some(Occupant::Connection(conn)) = &self.slots[slot as usize].occupant else { return };
        let (variant, codec) = (conn.variant, conn.codec.clone());
        // Offsets tell pages of a topic apart, and are smaller than every number of the hub's own (J8); 0 where there is none.
        let offset = |publication: &Publication| publication.position.map_or(0, |position| position.offset);
        let page: Vec<_> = page.into_iter().map(|publication| (offset(&publication), publication)).collect();
        self.push_selected(slot, variant, &codec, entry, &page);
    }

    fn take_paging(&mut self, slot: u32, is_meant: impl Fn(&Paging) -> bool) -> Option<Paging> {
        let queue = self.paging.get_mut(&slot)?;
        let paging = queue.iter().position(is_meant).and_then(|at| queue.remove(at));
        if queue.is_empty() {
            self.paging.remove(&slot);
        }
        paging
    }
}

/// Bytes of what was missed that a connection gets at once.
pub(super) fn page_bytes(conn: &Conn, backlog_max_bytes: usize) -> usize {
    let max = backlog_max_bytes / 2;
    // Who connects may wait for many topics, and gets them all with one answer.
    if conn.holding { max / 8 } else { max.saturating_sub(conn.backlog.bytes()) }
}

/// The next page of what this connection is to get of a topic.
fn page(missed: &mut Missed, conn: &Conn, topic: &Topic, backlog_max_bytes: usize) -> Vec<Arc<Publication>> {
    let who = conn.session.info_in(topic);
    let mut page = missed.take_page(page_bytes(conn, backlog_max_bytes), |publication| publication.is_for(&who));
    if let Some(selection) = conn.session.selection(topic) {
        selection.apply(&mut page);
    }
    page
}

/// From where a client resumes that is cut before it got everything that an answer announces.
pub(super) fn safe_position(top: Position, resume: Option<Resume>) -> Position {
    match resume {
        Some(Resume { since: Since::Position(since), recovered: true, .. }) => since,
        _ => Position { offset: 0, ..top },
    }
}

/// Subscribers of a shard that have not got everything yet, by slot.
pub(super) type Pages = std::collections::HashMap<u32, VecDeque<Paging>>;
