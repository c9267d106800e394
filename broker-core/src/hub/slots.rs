//! Which slots of a shard are free.

use super::inbox::SlotRef;
use crate::sync::Mutex;

/// Which slots of a shard are free. A slot that is used again has another generation.
#[derive(Debug, Default)]
pub(crate) struct SlotPool(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    free: Vec<u32>,
    generations: Vec<u32>,
}

impl SlotPool {
    pub(crate) fn take(&self, shard: u16) -> SlotRef {
        let mut pool = self.0.lock();
        let slot = pool.free.pop().unwrap_or_else(|| {
            pool.generations.push(0);
            pool.generations.len() as u32 - 1
        });
        SlotRef { shard, slot, generation: pool.generations[slot as usize] }
    }

    pub(crate) fn free(&self, at: SlotRef) {
        let mut pool = self.0.lock();
        let generation = &mut pool.generations[at.slot as usize];
        if *generation == at.generation {
            *generation = generation.wrapping_add(1);
            pool.free.push(at.slot);
        }
    }
}

#[cfg(all(test, not(broker_model)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_with_another_generation_and_is_freed_once() {
        let pool = SlotPool::default();
        let first = pool.take(3);
        pool.free(first);
        pool.free(first);
        let second = pool.take(3);
        assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
        assert_ne!(pool.take(3).slot, second.slot);
    }
}
