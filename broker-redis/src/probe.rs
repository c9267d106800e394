//! A message to itself by way of each primary, each second: a bus that takes subscriptions and delivers nothing looks healthy from everywhere else.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_resp::Address;
use bytes::Bytes;
use futures_util::future::join_all;

use crate::{backplane::Inner, bus::Hearer, keys::Group, servers::Lane};

/// Time between two messages; one that has not come when the next one is due is missed.
const INTERVAL: Duration = Duration::from_secs(1);
/// So many missed in a row, and the bus is deaf.
const MISSES_MAX: u32 = 2;
/// What came of the probes.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// Whether a primary is deaf at the moment.
    is_deaf: AtomicBool,
    /// How often the bus was found deaf.
    pub(crate) deaf: AtomicU64,
}

impl Probe {
    /// Whether nothing comes over the bus although it seems connected.
    pub(crate) fn is_deaf(&self) -> bool {
        self.is_deaf.load(Relaxed)
    }
}

/// The probe of one primary.
struct Path {
    group: Group,
    /// The last message that came.
    heard: Arc<Heard>,
    /// Missed in a row.
    misses: u32,
}

#[derive(Default)]
struct Heard(AtomicU64);

impl Hearer for Heard {
    fn message(&self, payload: &Bytes) {
        if let Some(number) = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok()) {
            self.0.fetch_max(number, Relaxed);
        }
    }

    fn restored(&self) {}
}

/// Sends probes until the backplane is gone.
pub(crate) async fn run(inner: Weak<Inner>) {
    let mut paths: HashMap<Address, Path> = HashMap::new();
    let mut number = 0;
    loop {
        let sent = {
            let Some(inner) = inner.upgrade() else { return };
            update(&inner, &mut paths).await;
            number += 1;
            send(&inner, &paths, number).await
        };
        tokio::time::sleep(INTERVAL).await;
        let Some(inner) = inner.upgrade() else { return };
        judge(&inner, &mut paths, &sent, number);
    }
}

/// One path for each primary, through a channel whose slot it has.
async fn update(inner: &Inner, paths: &mut HashMap<Address, Path>) {
    let map = inner.servers.topology().map();
    let is_at = |server: &Address, group: &Group| map.owner(group.slot()).is_some_and(|owner| owner.address() == server);
    let lapsed: Vec<Address> =
        paths.iter().filter(|(server, path)| !is_at(server, &path.group)).map(|(server, _)| server.clone()).collect();
    for path in lapsed.iter().filter_map(|server| paths.remove(server)) {
        // What comes of it nevertheless is nobody's.
        let _ = inner.bus.leave(path.group.channel()).await;
    }
    let fresh = map.primaries().iter().filter(|primary| !paths.contains_key(primary.address())).filter_map(|primary| {
        let group = inner.names_at(&map, primary.address(), &format!("probe {}", inner.id))?;
        Some((primary.address().clone(), Path { group, heard: Arc::default(), misses: 0 }))
    });
    let fresh: Vec<(Address, Path)> = fresh.collect();
    join_all(fresh.iter().map(|(_, path)| {
        // It stays wanted: where it is not subscribed now it is as soon as that works.
        inner.bus.listen(path.group.channel(), path.heard.clone())
    }))
    .await;
    paths.extend(fresh);
}

/// Sends a number each way; to whom that worked.
async fn send(inner: &Inner, paths: &HashMap<Address, Path>, number: u64) -> Vec<Address> {
    let sent = paths.iter().map(|(server, path)| async move {
        let command = inner.servers.message(&path.group, number);
        let sent = inner.servers.call(Lane::Publish, &path.group, &command, INTERVAL.min(inner.options.publish_timeout)).await;
        sent.is_ok().then(|| server.clone())
    });
    join_all(sent).await.into_iter().flatten().collect()
}

/// Compares what came with what was sent. What was not sent says nothing of the bus; what is not connected is being connected.
fn judge(inner: &Inner, paths: &mut HashMap<Address, Path>, sent: &[Address], number: u64) {
    let connected: Vec<Address> =
        inner.bus.states().into_iter().filter(|(_, state)| state.is_connected()).map(|(server, _)| server).collect();
    for (server, path) in paths.iter_mut().filter(|(server, _)| sent.contains(server) && connected.contains(server)) {
        if path.heard.0.load(Relaxed) >= number {
            path.misses = 0;
            continue;
        }
        path.misses += 1;
        if path.misses == MISSES_MAX || path.misses.is_multiple_of(10) {
            inner.probe.deaf.fetch_add(1, Relaxed);
            tracing::warn!(%server, misses = path.misses, "the bus delivers nothing, not even what this node sends to itself: connecting anew");
            inner.bus.reconnect(server);
        }
    }
    inner.probe.is_deaf.store(paths.values().any(|path| path.misses >= MISSES_MAX), Relaxed);
}
