//! What happens when connections do not keep up: the policies of namespaces, catching up from the history. The bound of the node
//! is in `relief`.

use std::{mem, sync::Arc};

use tokio::time::Instant;

use super::{
    conn::{Conn, Occupant},
    inbox::{Joined, MemberRef, SlotRef},
    relief::BACKLOG_MAX_WHEN_FULL,
    shard::Shard,
    topic_entry::{TopicEntry, Wants},
    writing::write,
};
use crate::{
    GapReason, Namespace, Position, Push, Recovery, Since, SlowConsumer, Topic,
    session::{Generation, Leave},
};

/// A subscription that lets go by what is published, to read it from the history once its connection has taken everything else (S2).
#[derive(Debug)]
pub(crate) struct CatchUp {
    topic: Topic,
    namespace: Arc<Namespace>,
    generation: Generation,
    join_leave: bool,
    /// The last publication that was sent.
    since: Position,
    /// Whether the hub was asked to join.
    joining: bool,
}

/// A subscription that has to catch up from here, found out while its topic has its turn.
pub(super) struct Behind {
    slot: u32,
    entry: Arc<TopicEntry>,
    since: Position,
}

impl Shard {
    /// What may wait for one connection; while the node is over its bound, the list of it included.
    pub(super) fn backlog_max(&self) -> usize {
        let max = self.hub.rules.settings.backlog_max_bytes;
        if self.is_full { max.min(BACKLOG_MAX_WHEN_FULL) } else { max }
    }

    /// The backlog is over its bound: what can be written is, then the namespace's policy acts.
    pub(super) fn overflow(&mut self, slot: u32, entry: &Arc<TopicEntry>) {
        let max = self.backlog_max();
        let Some(Occupant::Connection(mut conn)) = self.slots[slot as usize].occupant.take() else { return };
        if write(&mut conn, &mut self.chunks, &mut self.tally).is_some() {
            // The next write in turn finds it broken too, and closes it; with nothing left to write it would not.
            self.slots[slot as usize].occupant = Some(Occupant::Connection(conn));
            return;
        }
        // Each look for what newer ones replace costs what waits: close to the bound, the next comes when there is a quarter more.
        let may_wait = match entry.namespace.slow_consumer {
            SlowConsumer::Latest if !conn.backlog.wants_conflation() => max + max / 4,
            _ => max,
        };
        if conn.backlog.weight(self.is_full) > may_wait {
            let dropped = match entry.namespace.slow_consumer {
                SlowConsumer::Disconnect => 0,
                SlowConsumer::Latest => {
                    let conflated = conn.backlog.conflate(&entry.topic, &self.hub.held);
                    self.hub.stats.conflated.add(conflated);
                    conflated
                }
                SlowConsumer::CatchUp => {
                    self.fall_behind(slot, &mut conn, entry).unwrap_or_else(|| self.drop_oldest(slot, &mut conn, entry))
                }
                SlowConsumer::DropOldest => self.drop_oldest(slot, &mut conn, entry),
            };
            // What is left is replies, signals and other topics: nothing of this topic can make room.
            if conn.backlog.weight(self.is_full) > max + max / 4 || dropped == 0 {
                self.slow.push((slot, conn.backlog.bytes()));
            }
        }
        self.slots[slot as usize].occupant = Some(Occupant::Connection(conn));
    }

    fn drop_oldest(&mut self, slot: u32, conn: &mut Conn, entry: &Arc<TopicEntry>) -> u64 {
        let dropped = if conn.codec.protocol.gap_ends_subscription() {
            conn.backlog.drop_all(&entry.topic).map_or(0, |dropped| {
                self.push(conn, &Push::Gap { topic: entry.topic.clone(), gap: dropped.gap });
                self.ended.push((slot, entry.topic.clone()));
                dropped.count
            })
        } else {
            let excess = conn.backlog.weight(self.is_full) - self.backlog_max();
            let codec = conn.codec.clone();
            let mut encode = |gap| self.encode_shared(&codec, Push::Gap { topic: entry.topic.clone(), gap });
            conn.backlog.drop_oldest(&entry.topic, excess, &mut encode)
        };
        self.hub.stats.dropped_slow_consumer.add(dropped);
        self.hub.stats.gaps.add(u64::from(dropped > 0));
        dropped
    }

    /// Takes out what waits of the topic, to be read again later. `None`: what waits has no positions, or something is missing in it already, or
    /// nobody may read everything again.
    fn fall_behind(&mut self, slot: u32, conn: &mut Conn, entry: &Arc<TopicEntry>) -> Option<u64> {
        let first = conn.backlog.first_of(&entry.topic).filter(|_| entry.keeps_log && entry.namespace.recovery == Recovery::Stream)?;
        let since = Position { offset: first.offset.checked_sub(1)?, epoch: first.epoch };
        let dropped = conn.backlog.drop_all(&entry.topic)?;
        debug_assert_eq!(dropped.gap.reason, GapReason::SlowConsumer, "nothing but publications was taken out");
        self.hub.stats.catch_ups.add(1);
        self.behind.push(Behind { slot, entry: entry.clone(), since });
        Some(dropped.count)
    }

    /// Takes subscriptions that fell behind out of their topics.
    pub(super) fn settle_behind(&mut self) {
        for Behind { slot, entry, since } in mem::take(&mut self.behind) {
            let at = self.at(slot);
            let Some(conn) = self.conn(at) else { continue };
            let (variant, generation) = (conn.variant, conn.session.generation(&entry.topic));
            let Some(generation) = generation.filter(|generation| conn.session.is_live(&entry.topic, *generation)) else { continue };
            let join_leave = match self.remove_member(variant, slot, &entry.topic) {
                Some((entry, member)) => {
                    entry.leave(&self.hub.ports, self.index);
                    member.join_leave
                }
                // It let go of a page.
                None => match self.stop_paging(slot, &entry.topic) {
                    Some(join_leave) => join_leave,
                    None => continue,
                },
            };
            let catch_up =
                CatchUp { topic: entry.topic.clone(), namespace: entry.namespace.clone(), generation, join_leave, since, joining: false };
            if let Some(conn) = self.conn(at) {
                conn.catching_up.push(catch_up);
                self.catching_up.insert(slot);
            }
            // It may have taken everything meanwhile.
            self.mark_dirty(slot);
        }
    }

    /// The connection has taken everything: what it let go by is read.
    pub(super) fn read_on(&mut self, at: SlotRef) {
        let hub = self.hub.clone();
        let Some(conn) = self.conn(at).filter(|conn| !conn.session.is_closed()) else { return };
        for catch_up in conn.catching_up.iter_mut().filter(|catch_up| !catch_up.joining) {
            catch_up.joining = true;
            let member = MemberRef { at, subscription: catch_up.generation };
            let wants = Wants { join_leave: catch_up.join_leave, snapshot: false, again: false };
            hub.join(&catch_up.topic, &catch_up.namespace, member, Some(Since::Position(catch_up.since)), wants);
        }
        hub.run_errands();
    }

    /// The hub made a member again of one that caught up. Gives back what was another kind of join.
    pub(super) fn caught_up(&mut self, joined: Joined, now: Instant) -> Option<Joined> {
        let at = joined.member.at;
        let Some(conn) = self.conn(at) else { return Some(joined) };
        if conn.take_catch_up(&joined.entry.topic, Some(joined.member.subscription)).is_none() {
            return Some(joined);
        }
        if conn.catching_up.is_empty() {
            self.catching_up.remove(&at.slot);
        }
        let is_live = |conn: &mut Conn| conn.session.is_live(&joined.entry.topic, joined.member.subscription);
        if !self.conn(at).is_some_and(is_live) {
            joined.entry.leave(&self.hub.ports, self.index);
            self.hub.run_errands();
            return None;
        }
        self.go_on_with(joined, now);
        None
    }

    /// Whether a connection fell behind while a topic has its turn.
    pub(super) fn fell_behind(&self, slot: u32) -> bool {
        self.behind.iter().any(|behind| behind.slot == slot)
    }

    /// A subscription cannot catch up: it ends, and its client is told to begin anew. False: it was another kind of join.
    pub(super) fn catch_up_failed(&mut self, member: MemberRef, topic: &Topic, now: Instant) -> bool {
        let found = self.conn(member.at).and_then(|conn| {
            let is_meant = |catch_up: &&mut CatchUp| catch_up.is(topic, Some(member.subscription));
            conn.catching_up.iter_mut().find(is_meant)
        });
        let Some(catch_up) = found else { return false };
        // It is taken out when the session leaves, as whoever ends while it catches up.
        catch_up.joining = false;
        self.converse(member.at, now, |session, _, effects| session.lose_subscription(topic, effects));
        true
    }

    /// A subscription ends while it catches up. False: it does not.
    pub(super) fn left_behind(&mut self, at: SlotRef, conn: &mut Conn, leave: &Leave) -> bool {
        let Some(catch_up) = conn.take_catch_up(&leave.topic, None) else { return false };
        if conn.catching_up.is_empty() {
            self.catching_up.remove(&at.slot);
        }
        if catch_up.joining {
            // J9: not found means that `Joined` is in the inbox; whoever handles it finds nobody who catches up, and leaves.
            self.hub.cancel(&leave.topic, MemberRef { at, subscription: catch_up.generation });
        }
        true
    }
}

impl CatchUp {
    fn is(&self, topic: &Topic, generation: Option<Generation>) -> bool {
        self.topic == *topic && generation.is_none_or(|generation| self.generation == generation)
    }
}

impl Conn {
    /// Topics whose subscriptions catch up.
    pub(super) fn topics_behind(&self) -> impl Iterator<Item = &Topic> {
        self.catching_up.iter().map(|catch_up| &catch_up.topic)
    }

    /// Takes the subscription out of those that catch up; of this number, where one is given.
    fn take_catch_up(&mut self, topic: &Topic, generation: Option<Generation>) -> Option<CatchUp> {
        let at = self.catching_up.iter().position(|catch_up| catch_up.is(topic, generation))?;
        let found = self.catching_up.swap_remove(at);
        if self.catching_up.is_empty() {
            self.catching_up = Vec::new();
        }
        Some(found)
    }

    /// Whether something is to be read once everything is taken.
    pub(super) fn wants_catch_up(&self) -> bool {
        self.catching_up.iter().any(|catch_up| !catch_up.joining)
    }
}
