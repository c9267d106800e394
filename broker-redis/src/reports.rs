//! Publishes of this node about which somebody waits for a report, until they come back over the bus.

use std::{collections::HashMap, time::Duration};

use broker_core::Publish;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A report is waited for no longer.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Most publishes that are kept: each is somebody's call in flight.
const MAX: usize = 10_000;

/// Publishes by the number they carry.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<HashMap<u64, (Instant, Publish)>>,
}

impl Reports {
    /// Keeps a publish that somebody wants to hear of; the number it is to carry.
    pub(crate) fn put(&self, publish: &Publish) -> Option<u64> {
        if !publish.is_reported() {
            return None;
        }
        let mut waiting = self.waiting.lock();
        let now = Instant::now();
        if waiting.len() >= MAX {
            waiting.retain(|_, (until, _)| *until > now);
        }
        if waiting.len() >= MAX {
            return None;
        }
        // By chance, since other nodes have numbers too: one of theirs must not be taken for ours.
        let number = fastrand::u64(..);
        waiting.insert(number, (now + WAIT_MAX, publish.clone()));
        Some(number)
    }

    /// The publish with this number, if it is one of ours.
    pub(crate) fn take(&self, number: u64) -> Option<Publish> {
        self.waiting.lock().remove(&number).map(|(_, publish)| publish)
    }
}
