//! The dashboard of the examples under load: many subscribers of its statistics, each of which gets the state at once and then every frame that the
//! others get, once and in order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{process::Server, sockets::Sockets};

/// Where the dashboard tells its statistics.
const PATH: &str = "/api/v1/dispatches/ws/dashboard";
/// How long they are watched after the last subscriber has its first frame.
const WATCHED: Duration = Duration::from_secs(20);
/// The topic's pace is 5 s; who hears nothing for longer has lost something.
const SILENCE: Duration = Duration::from_secs(6);
/// The longest that first frames may take, all together.
const FIRST_MAX: Duration = Duration::from_secs(20);

/// What matters in a frame: when the figures were counted, which names it.
#[derive(Deserialize)]
struct Told {
    at_ms: u64,
}

/// One subscriber's frames.
#[derive(Default)]
struct Watcher {
    frames: Vec<u64>,
    heard_at: Option<Instant>,
    silence: Duration,
}

/// Connects the subscribers, watches for a while, and prints what came out. Fails where anybody misses a frame, has one twice, or out of order.
pub(crate) fn run(start: impl FnOnce() -> Result<Server>, subscribers: usize) -> Result<()> {
    let server = start()?;
    let mut sockets = Sockets::new()?;
    let mut watchers: Vec<Watcher> = (0..subscribers).map(|_| Watcher::default()).collect();
    let cpu_before = server.cpu_ns()?;
    let started = Instant::now();
    let mut hear = |place: usize, frame: &[u8]| watchers[place].take(frame).with_context(|| format!("subscriber {place}"));
    for _ in 0..subscribers {
        sockets.open(server.address, PATH)?;
        sockets.hear(Duration::ZERO, &mut hear)?;
    }
    sockets.hear_rests(&mut hear)?;
    while watchers.iter().any(|watcher| watcher.frames.is_empty()) {
        sockets.hear(Duration::from_millis(50), &mut |place, frame| watchers[place].take(frame))?;
        ensure!(started.elapsed() < FIRST_MAX, "some subscribers have no first frame after {FIRST_MAX:?}");
    }
    let connected = started.elapsed();
    let until = Instant::now() + WATCHED;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        sockets.hear(left, &mut |place, frame| watchers[place].take(frame))?;
    }
    // What the last frame of one is, all get: a moment later nothing is on its way.
    sockets.hear(Duration::from_millis(200), &mut |place, frame| watchers[place].take(frame))?;
    let cpu = Duration::from_nanos(server.cpu_ns()? - cpu_before);
    let (compared, silence) = compare(&watchers)?;
    let heard: usize = watchers.iter().map(|watcher| watcher.frames.len()).sum();
    println!("\n# Dashboard: {subscribers} subscribers for {} s\n", WATCHED.as_secs());
    println!(
        "| frames | of them after the last had connected, each | lost | doubled | out of order | all connected with their first frame | longest silence | CPU of the server |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {heard} | {compared} | 0 | 0 | 0 | {:.2} s | {:.1} s | {:.1} s |",
        connected.as_secs_f64(),
        silence.as_secs_f64(),
        cpu.as_secs_f64()
    );
    Ok(())
}

impl Watcher {
    fn take(&mut self, frame: &[u8]) -> Result<()> {
        let Told { at_ms } = serde_json::from_slice(frame).with_context(|| format!("it was told {}", String::from_utf8_lossy(frame)))?;
        match self.frames.as_slice() {
            // The first publication behind a snapshot may say the same.
            [only] if *only == at_ms => {}
            [.., last] => {
                ensure!(at_ms > *last, "the figures of {at_ms} came behind those of {last}");
                self.frames.push(at_ms);
            }
            [] => self.frames.push(at_ms),
        }
        if let Some(before) = self.heard_at.replace(Instant::now()) {
            self.silence = self.silence.max(before.elapsed());
        }
        Ok(())
    }
}

/// From the moment when all were connected, all have the same frames. How many, and the longest silence of any.
fn compare(watchers: &[Watcher]) -> Result<(usize, Duration)> {
    let all_since = watchers.iter().filter_map(|watcher| watcher.frames.first()).max().context("nobody watches")?;
    let behind = |watcher: &Watcher| watcher.frames.iter().copied().filter(|at| at > all_since).collect::<Vec<_>>();
    let expected = behind(&watchers[0]);
    ensure!(!expected.is_empty(), "nothing was told after all had connected");
    for (place, watcher) in watchers.iter().enumerate() {
        let found = behind(watcher);
        ensure!(
            found == expected,
            "subscriber {place} has {} frames, the first one {}: {found:?} instead of {expected:?}",
            found.len(),
            expected.len()
        );
    }
    let silence = watchers.iter().map(|watcher| watcher.silence).max().unwrap_or_default();
    ensure!(silence < SILENCE, "a subscriber heard nothing for {silence:?}");
    Ok((expected.len(), silence))
}
