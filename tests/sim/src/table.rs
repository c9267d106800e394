//! The rows that a client keeps of a keyed topic, compared with the newest of each key that was appended. Knows no protocol.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::{Position, Topic};

use crate::{
    truth::{Entry, Truth, Who},
    wants::Wants,
};

/// The rows of one subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// The offset of the newest publication of each key.
    rows: BTreeMap<Box<str>, u64>,
    /// The rows of the topic come first: they were read when it stood here, or before.
    rows_until: u64,
    /// Offsets of what came since the rows began, by key.
    since_rows: BTreeMap<Box<str>, u64>,
    /// Offsets of what was not for this client when it was published, whoever it is by now.
    hidden: BTreeSet<u64>,
    /// A gap was told while it was live: which rows are wrong nobody can say, and the client must begin anew.
    pub(crate) is_stale: bool,
}

impl Table {
    /// Nothing is known any more, and the rows follow, as they were at this offset or before.
    pub(crate) fn begin(&mut self, rows_until: u64) {
        *self = Self { rows_until, ..Self::default() };
    }

    /// What is there holds, and only changes follow.
    pub(crate) fn go_on(&mut self) {
        self.rows_until = 0;
        self.since_rows.clear();
        self.is_stale = false;
    }

    /// Nothing came between a position and an offset: some of that was for others.
    pub(crate) fn pass_over(&mut self, truth: &Truth, topic: &Topic, who: &Who, at: Position, end: u64) {
        let is_hidden = |offset: &u64| truth.at(topic, Position { offset: *offset, ..at }).is_some_and(|entry| entry.may_skip(who));
        self.hidden.extend((at.offset + 1..end).filter(is_hidden));
    }

    /// Takes a publication in.
    pub(crate) fn apply(&mut self, offset: u64, entry: &Entry) {
        let Some(key) = &entry.key else { return };
        self.since_rows.insert(key.clone(), offset);
        if entry.removed {
            self.rows.remove(key);
        } else {
            self.rows.insert(key.clone(), offset);
        }
    }

    /// Whether the rows may have begun behind what stands here: it is a row of none, or another one came after it. What follows a row that was
    /// sent is a change of it, and must come.
    pub(crate) fn may_skip(&self, truth: &Truth, topic: &Topic, at: Position, entry: &Entry) -> bool {
        if at.offset > self.rows_until {
            return false;
        }
        let Some(key) = &entry.key else { return true };
        if self.since_rows.get(key).is_some_and(|sent| *sent < at.offset) {
            return false;
        }
        entry.removed || truth.newest_of(topic, at, key).is_some_and(|newest| newest > at.offset)
    }

    /// When all is quiet: every row that the client must have is there, and none that it must not.
    pub(crate) fn check(&self, truth: &Truth, topic: &Topic, top: Position, who: &Who, wants: &Wants) -> Result<(), String> {
        for (key, offsets) in truth.keys_of(topic, top) {
            let has = self.rows.get(&key).copied();
            let (mut may_be_absent, mut fits, mut ends) = (false, false, false);
            for offset in offsets.iter().rev() {
                let Some(entry) = truth.at(topic, Position { offset: *offset, ..top }) else { continue };
                let hidden = self.hidden.contains(offset) || entry.must_skip(who) || !wants.passes(entry.class.as_deref());
                // Whoever has become another user may still have it.
                fits |= has == Some(*offset) && !entry.removed;
                if hidden {
                    // The state has a row that is not for this client, or none; what it had before that stays.
                    may_be_absent = true;
                    continue;
                }
                may_be_absent |= entry.removed || entry.is_expired() || entry.may_skip(who);
                if !entry.may_skip(who) {
                    ends = true;
                    break;
                }
            }
            may_be_absent |= !ends;
            if !(fits || has.is_none() && may_be_absent) {
                return Err(format!("the row of {key} is {has:?} for the client; it was published at {offsets:?}"));
            }
        }
        Ok(())
    }
}
