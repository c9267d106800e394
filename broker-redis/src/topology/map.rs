//! Who has which slot: one map, never changed once it is shared. Who replaces it lives beside it.

use std::sync::Arc;

use crate::topology::{Primary, slots::SLOTS};

/// Who has which slot.
#[derive(Clone)]
pub(crate) struct Map {
    primaries: Vec<Arc<Primary>>,
    /// By slot, the place in `primaries`, or [`NOBODY`]; empty: the only primary has all.
    owners: Vec<u16>,
}

const NOBODY: u16 = u16::MAX;

impl Map {
    /// No server is known.
    pub(crate) fn nobody() -> Self {
        Self { primaries: Vec::new(), owners: Vec::new() }
    }

    /// One has all.
    pub(crate) fn of_one(primary: Arc<Primary>) -> Self {
        Self { primaries: vec![primary], owners: Vec::new() }
    }

    /// Nobody has a slot; some are to be given.
    pub(crate) fn of_slots() -> Self {
        Self { primaries: Vec::new(), owners: vec![NOBODY; SLOTS] }
    }

    pub(crate) fn owner(&self, slot: u16) -> Option<&Arc<Primary>> {
        self.primaries.get(self.place(slot)?)
    }

    /// Which of [`Map::primaries`] has a slot.
    pub(crate) fn place(&self, slot: u16) -> Option<usize> {
        let place = self.owners.get(usize::from(slot)).map_or(0, |&place| usize::from(place));
        (place < self.primaries.len()).then_some(place)
    }

    /// Gives a slot to a primary; says whether that changed something.
    pub(crate) fn give(&mut self, slot: u16, primary: Arc<Primary>) -> bool {
        if self.owners.is_empty() {
            self.owners = vec![NOBODY; SLOTS];
        }
        if self.owner(slot).is_some_and(|owner| owner.address() == primary.address()) {
            return false;
        }
        let place = self.place_for(primary);
        self.owners[usize::from(slot)] = place;
        true
    }

    /// Gives slots from `first` to `last` to a primary.
    pub(crate) fn give_all(&mut self, first: u16, last: u16, primary: Arc<Primary>) {
        let place = self.place_for(primary);
        if let Some(slots) = self.owners.get_mut(usize::from(first)..=usize::from(last)) {
            slots.fill(place);
        }
    }

    fn place_for(&mut self, primary: Arc<Primary>) -> u16 {
        let known = self.primaries.iter().position(|known| known.address() == primary.address());
        known.unwrap_or_else(|| {
            self.primaries.push(primary);
            self.primaries.len() - 1
        }) as u16
    }

    /// All primaries.
    pub(crate) fn primaries(&self) -> &[Arc<Primary>] {
        &self.primaries
    }

    /// How many slots nobody has.
    pub(crate) fn unowned(&self) -> usize {
        self.owners.iter().filter(|&&place| place == NOBODY).count()
    }

    /// Whether the same servers have the same slots.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let slots = if self.owners.is_empty() && other.owners.is_empty() { 1 } else { SLOTS };
        let address = |map, slot| Self::owner(map, slot).map(|owner| owner.address());
        self.primaries.len() == other.primaries.len() && (0..slots as u16).all(|slot| address(self, slot) == address(other, slot))
    }

    /// The addresses, for people.
    pub(crate) fn names(&self) -> String {
        self.primaries.iter().map(|primary| primary.address().to_string()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use broker_resp::Target;

    use super::*;

    fn primary(port: u16) -> Arc<Primary> {
        Arc::new(Primary::new(Target::tcp("a", port)))
    }

    fn owner(map: &Map, slot: u16) -> Option<String> {
        map.owner(slot).map(|owner| owner.address().to_string())
    }

    #[test]
    fn slots_have_the_owner_they_were_given_to_last() {
        let mut map = Map::of_slots();
        assert_eq!((map.unowned(), owner(&map, 0)), (SLOTS, None));
        map.give_all(0, 8191, primary(1));
        map.give_all(8192, 16383, primary(2));
        assert_eq!((map.unowned(), map.primaries().len()), (0, 2));
        assert_eq!((owner(&map, 8191), owner(&map, 8192)), (Some("a:1".to_owned()), Some("a:2".to_owned())));
        let before = map.clone();
        assert!(!map.give(5, primary(1)) && map.is_same(&before));
        assert!(map.give(5, primary(3)) && !map.is_same(&before));
        assert_eq!((owner(&map, 5), owner(&map, 6)), (Some("a:3".to_owned()), Some("a:1".to_owned())));
    }

    #[test]
    fn the_only_primary_has_everything() {
        let map = Map::of_one(primary(1));
        assert_eq!((owner(&map, 0), owner(&map, 16383)), (Some("a:1".to_owned()), Some("a:1".to_owned())));
        assert!(map.is_same(&Map::of_one(primary(1))) && !map.is_same(&Map::of_one(primary(2))) && !map.is_same(&Map::nobody()));
        assert_eq!(owner(&Map::nobody(), 0), None);
    }
}
