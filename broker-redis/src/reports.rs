//! Publishes of this node about which somebody waits for a report, until they come back over the bus.

use std::collections::HashMap;

use broker_core::Publish;
use parking_lot::Mutex;

/// Most publishes that are kept: each is somebody's call in flight.
const MAX: usize = 10_000;
/// So many are kept before it is looked which of them nobody waits for any more: what nobody on this node listens to never comes back.
const SWEEP_MIN: usize = 64;

/// Publishes by the number they carry.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    publishes: HashMap<u64, Publish>,
    /// With so many it is looked again.
    sweep_at: usize,
}

impl Reports {
    /// Keeps a publish that somebody wants to hear of; the number it is to carry.
    pub(crate) fn put(&self, publish: &Publish) -> Option<u64> {
        if !publish.is_reported() {
            return None;
        }
        let Waiting { publishes, sweep_at } = &mut *self.waiting.lock();
        if publishes.len() >= *sweep_at {
            publishes.retain(|_, publish| publish.is_reported());
            *sweep_at = (2 * publishes.len()).max(SWEEP_MIN);
        }
        if publishes.len() >= MAX {
            return None;
        }
        // By chance, since other nodes have numbers too: one of theirs must not be taken for ours.
        let number = fastrand::u64(..);
        publishes.insert(number, publish.clone());
        Some(number)
    }

    /// The publish with this number, if it is one of ours.
    pub(crate) fn take(&self, number: u64) -> Option<Publish> {
        self.waiting.lock().publishes.remove(&number)
    }
}
