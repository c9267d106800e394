//! Who of one shard listens to one topic, grouped by how their publications are encoded, and the pass over them.
//!
//! Rule S1: a pass keeps its cursor over ticks; a removal keeps the visited and the unvisited apart, so nobody is visited twice or left out.

use std::{collections::HashMap, sync::Arc};

use crate::{Framing, Protocol};

/// Above so many members of a group, their places are kept in a map.
const PLACES_FROM: usize = 64;

/// Connections that share every encoded publication have the same variant.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Variant(u16);

impl Variant {
    pub(crate) fn of(protocol: &dyn Protocol, framing: &dyn Framing) -> Self {
        Self(u16::from(protocol.encoding()) << 8 | u16::from(framing.encoding()))
    }

    /// Streams inside the process, which take publications as they are.
    pub(crate) const STREAM: Self = Self(u16::MAX);
}

/// One subscription of a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Member {
    pub(crate) slot: u32,
    pub(crate) join_leave: bool,
    /// Does not want everything at once.
    pub(crate) chooses: bool,
    /// Gets what has a greater number.
    pub(crate) last: u64,
}

/// Members with the same variant.
pub(crate) struct Group {
    pub(crate) variant: Variant,
    /// How publications are encoded for them; `None`: they are streams.
    pub(crate) codec: Option<Codec>,
    members: Vec<Member>,
    /// Where each slot stands in `members`, once there are many.
    places: Option<HashMap<u32, u32>>,
}

/// A protocol and a framing: together they make bytes of a publication.
#[derive(Clone, Debug)]
pub(crate) struct Codec {
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) framing: Arc<dyn Framing>,
}

impl Group {
    fn place_of(&self, slot: u32) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&slot).map(|place| *place as usize),
            None => self.members.iter().position(|member| member.slot == slot),
        }
    }

    fn add(&mut self, member: Member) {
        if let Some(places) = &mut self.places {
            places.insert(member.slot, self.members.len() as u32);
        }
        self.members.push(member);
        if self.places.is_none() && self.members.len() >= PLACES_FROM {
            self.places = Some(self.members.iter().zip(0..).map(|(member, place)| (member.slot, place)).collect());
        }
    }

    /// Moves the last member to `place`.
    fn swap_remove(&mut self, place: usize) -> Member {
        let removed = self.members.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(&removed.slot);
            if let Some(moved) = self.members.get(place) {
                places.insert(moved.slot, place as u32);
            }
        }
        removed
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            self.members.swap(a, b);
            if let Some(places) = &mut self.places {
                places.insert(self.members[a].slot, a as u32);
                places.insert(self.members[b].slot, b as u32);
            }
        }
    }
}

/// Where a pass stands: the next member to visit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cursor {
    group: usize,
    place: usize,
}

/// The members of one topic in one shard.
#[derive(Default)]
pub(crate) struct Members {
    groups: Vec<Group>,
    len: usize,
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Slots of connections and streams that are members.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.groups.iter().flat_map(|group| &group.members).map(|member| member.slot)
    }

    pub(crate) fn add(&mut self, variant: Variant, codec: Option<Codec>, member: Member) {
        self.len += 1;
        if let Some(group) = self.groups.iter_mut().find(|group| group.variant == variant) {
            return group.add(member);
        }
        self.groups.push(Group { variant, codec, members: vec![member], places: None });
    }

    /// Takes a member out; `cursor` is the running pass's, and stays right. Groups stay, so that cursors keep their meaning.
    pub(crate) fn remove(&mut self, variant: Variant, slot: u32, cursor: Option<&mut Cursor>) -> Option<Member> {
        let at = self.groups.iter().position(|group| group.variant == variant)?;
        let group = &mut self.groups[at];
        let mut place = group.place_of(slot)?;
        if let Some(cursor) = cursor.filter(|cursor| cursor.group == at && place < cursor.place) {
            cursor.place -= 1;
            group.swap(place, cursor.place);
            place = cursor.place;
        }
        self.len -= 1;
        Some(group.swap_remove(place))
    }

    /// The next member of a pass, with the number of its group; moves the cursor.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Option<(usize, Member)> {
        loop {
            let group = self.groups.get(cursor.group)?;
            if let Some(member) = group.members.get(cursor.place) {
                cursor.place += 1;
                return Some((cursor.group, *member));
            }
            *cursor = Cursor { group: cursor.group + 1, place: 0 };
        }
    }

    /// The slots that a pass visits next in the present group, at most `max`.
    pub(crate) fn upcoming(&self, cursor: Cursor, max: usize) -> impl Iterator<Item = u32> + '_ {
        let group = self.groups.get(cursor.group).into_iter();
        group.flat_map(move |group| group.members.iter().skip(cursor.place).take(max)).map(|member| member.slot)
    }

    pub(crate) fn group(&self, at: usize) -> &Group {
        &self.groups[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(slots: u32) -> Members {
        let mut members = Members::default();
        for slot in 0..slots {
            members.add(Variant::STREAM, None, Member { slot, join_leave: false, chooses: false, last: 0 });
        }
        members
    }

    /// Visits everybody once, whoever is removed at whatever moment.
    #[track_caller]
    fn check(slots: u32, visited_before: usize, removed: &[u32]) {
        let mut members = members(slots);
        let mut cursor = Cursor::default();
        let mut visited: Vec<u32> = (0..visited_before).filter_map(|_| members.next(&mut cursor)).map(|(_, member)| member.slot).collect();
        for slot in removed {
            assert!(members.remove(Variant::STREAM, *slot, Some(&mut cursor)).is_some());
        }
        while let Some((_, member)) = members.next(&mut cursor) {
            assert!(!removed.contains(&member.slot), "a removed member was visited");
            visited.push(member.slot);
        }
        visited.retain(|slot| !removed.contains(slot));
        visited.sort_unstable();
        let expected: Vec<u32> = (0..slots).filter(|slot| !removed.contains(slot)).collect();
        assert_eq!(visited, expected);
        assert_eq!(members.len(), expected.len());
    }

    #[test]
    fn a_removal_during_a_pass_leaves_nobody_out_and_visits_nobody_twice() {
        for slots in [1, 2, 5, 200] {
            for visited in 0..=slots {
                check(slots, visited as usize, &[0]);
                check(slots, visited as usize, &[slots - 1]);
                check(slots, visited as usize, &[visited.saturating_sub(1)]);
                check(slots, visited as usize, &[slots / 2]);
                if slots > 4 {
                    check(slots, visited as usize, &[0, 3, slots - 1, 1]);
                }
            }
        }
    }

    #[test]
    fn removing_a_stranger_changes_nothing() {
        let mut members = members(3);
        assert_eq!(members.remove(Variant::STREAM, 9, None), None);
        assert_eq!(members.remove(Variant(1), 1, None), None);
        assert_eq!(members.len(), 3);
    }
}
