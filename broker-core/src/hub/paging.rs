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
        let Some(queue) = self.paging.get_mut(&slot) else { return };
        let Some(at) = queue.iter().position(|paging| !paging.missed.is_empty()) else { return };
        let Some(mut conn) = self.take_conn(slot) else { return };
        let max = page_bytes(&conn, self.hub.rules.settings.backlog_max_bytes);
        if let Some(paging) = self.paging.get_mut(&slot).and_then(|queue| queue.get_mut(at)) {
            let who = conn.session.info_in(&paging.entry.topic);
            let page = paging.missed.take_page(max, |publication| publication.is_for(&who));
            if paging.missed.is_empty() {
                paging.entry.join_again(&self.hub.ports, paging.member, paging.join_leave, paging.until);
            }
            let topic = paging.entry.topic.clone();
            self.push_page(slot, &mut conn, &topic, page);
        }
        self.slots[slot as usize].occupant = Some(Occupant::Connection(conn));
        self.mark_dirty(slot);
        self.settle(Vec::new(), now);
        self.hub.run_errands();
    }

    /// A subscriber whose pages have ended joined once more.
    pub(super) fn joined_again(&mut self, joined: Joined, now: Instant) {
        let Joined { entry, member, join_leave, last, position, resume, mut missed, .. } = joined;
        let slot = member.at.slot;
        let Some(mut conn) = self.take_paging(slot, |paging| paging.member == member).and_then(|_| self.take_conn(slot)) else {
            // J9: it has gone meanwhile, and is released here.
            entry.leave(&self.hub.ports, self.index);
            return self.hub.run_errands();
        };
        let lost = resume.filter(|resume| !resume.recovered);
        let is_over = lost.is_some() && conn.codec.protocol.gap_ends_subscription();
        if let Some(Resume { gap: Some(mut gap), .. }) = lost {
            if !missed.is_empty() {
                // The rows that follow are older than the top: whoever is cut between them has not got that far.
                gap.to = None;
            }
            self.hub.stats.gaps.add(1);
            self.push(&mut conn, &Push::Gap { topic: entry.topic.clone(), gap });
        }
        let who = conn.session.info_in(&entry.topic);
        let max = page_bytes(&conn, self.hub.rules.settings.backlog_max_bytes);
        if !is_over {
            let page = missed.take_page(max, |publication| publication.is_for(&who));
            self.push_page(slot, &mut conn, &entry.topic, page);
        }
        let (variant, codec) = (conn.variant, conn.codec.clone());
        self.slots[slot as usize].occupant = Some(Occupant::Connection(conn));
        self.mark_dirty(slot);
        match position {
            Some(until) if !missed.is_empty() && !is_over => self.begin_paging(&entry, member, join_leave, missed, until),
            _ => self.add_member(&entry, variant, Some(codec), Member { slot, join_leave, last }),
        }
        self.settle(Vec::new(), now);
        if is_over {
            self.converse(member.at, now, |session, _, effects| session.forget_subscription(&entry.topic, effects));
        }
    }

    /// A subscription ends before its last page: it is released, here or by whoever finds its join void (J9). False: it has no pages.
    pub(super) fn stop_paging(&mut self, slot: u32, topic: &Topic) -> bool {
        let Some(paging) = self.take_paging(slot, |paging| paging.entry.topic == *topic) else { return false };
        if !paging.missed.is_empty() || paging.entry.cancel(&self.hub.ports, paging.member) {
            paging.entry.leave(&self.hub.ports, self.index);
        }
        true
    }

    /// In the backlog like live ones, so that they can be taken out with their topic.
    fn push_page(&mut self, slot: u32, conn: &mut Conn, topic: &Topic, page: Vec<Arc<Publication>>) {
        if page.is_empty() {
            return;
        }
        let count = page.len() as u32;
        let page: Vec<(u64, Arc<Publication>)> = page.into_iter().map(|publication| (0, publication)).collect();
        let batch = self.encode_batch(&conn.codec.clone(), topic, &page);
        conn.backlog.push_batch(&batch, 0);
        conn.life.frames_out = conn.life.frames_out.saturating_add(count);
        self.tally.deliveries += u64::from(count);
        if batch.ends {
            self.ended.push((slot, topic.clone()));
        }
    }

    /// Takes the connection out of its slot; the caller puts it back.
    fn take_conn(&mut self, slot: u32) -> Option<Box<Conn>> {
        match self.slots[slot as usize].occupant.take() {
            Some(Occupant::Connection(conn)) => Some(conn),
            other => {
                self.slots[slot as usize].occupant = other;
                None
            }
        }
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

/// From where a client resumes that is cut before it got everything that an answer announces.
pub(super) fn safe_position(top: Position, resume: Option<Resume>) -> Position {
    match resume {
        Some(Resume { since: Since::Position(since), recovered: true, .. }) => since,
        _ => Position { offset: 0, ..top },
    }
}

/// Subscribers of a shard that have not got everything yet, by slot.
pub(super) type Pages = std::collections::HashMap<u32, VecDeque<Paging>>;
