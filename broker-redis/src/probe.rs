//! A message to itself, each second: a bus that takes subscriptions and delivers nothing looks healthy from everywhere else.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_resp::Command;
use bytes::Bytes;

use crate::{backplane::Inner, bus::Hearer, servers::Lane};

/// Time between two messages; one that has not come when the next one is due is missed.
const INTERVAL: Duration = Duration::from_secs(1);
/// So many missed in a row, and the bus is deaf.
const MISSES_MAX: u32 = 2;

/// What came of the probes.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// The last one that came.
    heard: AtomicU64,
    /// Missed in a row.
    misses: AtomicU64,
    /// How often the bus was found deaf.
    pub(crate) deaf: AtomicU64,
}

impl Probe {
    /// Whether nothing comes over the bus although it seems connected.
    pub(crate) fn is_deaf(&self) -> bool {
        self.misses.load(Relaxed) >= u64::from(MISSES_MAX)
    }
}

impl Hearer for Probe {
    fn message(&self, payload: &Bytes) {
        if let Some(number) = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok()) {
            self.heard.fetch_max(number, Relaxed);
        }
    }

    fn restored(&self) {}
}

/// Sends probes until the backplane is gone.
pub(crate) async fn run(inner: Weak<Inner>) {
    let Some(channel) = inner.upgrade().map(|inner| inner.calls.keys.group(&format!("probe {}", inner.id))) else { return };
    if let Some(inner) = inner.upgrade() {
        let probe: Arc<dyn Hearer> = inner.probe.clone();
        // It stays wanted: where it is not subscribed now it is with the next connection.
        let _ = inner.bus.listen(channel.channel(), probe).await;
    }
    let mut number = 0_u64;
    loop {
        let Some(strong) = inner.upgrade() else { return };
        number += 1;
        let command = Command::new("PUBLISH").arg(channel.channel()).arg(number);
        let sent = strong.servers.call(Lane::Publish, &channel, &command, strong.options.publish_timeout).await;
        drop(strong);
        tokio::time::sleep(INTERVAL).await;
        let Some(strong) = inner.upgrade() else { return };
        let probe = &strong.probe;
        // What was not sent says nothing of the bus; what is not connected is being connected.
        if sent.is_err() || !strong.bus.state().is_connected() {
            continue;
        }
        if probe.heard.load(Relaxed) >= number {
            probe.misses.store(0, Relaxed);
            continue;
        }
        let misses = probe.misses.fetch_add(1, Relaxed) + 1;
        if misses == u64::from(MISSES_MAX) || misses.is_multiple_of(10) {
            probe.deaf.fetch_add(1, Relaxed);
            tracing::warn!(misses, "the bus delivers nothing, not even what this node sends to itself: connecting anew");
            strong.bus.reconnect();
        }
    }
}
