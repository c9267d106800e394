//! The board that everybody looks at: reads the statistics once for all viewers, keeps the last minutes, and says what to
//! publish when. Knows nothing of sockets; what it says is one JSON object per frame.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use crate::{
    change::{INTERVAL_MIN, PACE, is_due},
    machine::{CollectError, Source},
    statistics::{Host, Point, Statistics},
};

/// Moments that the chart shows: five minutes.
const POINTS_MAX: usize = 300;
/// Statistics that are younger are told again rather than read again.
const FRESH: Duration = Duration::from_millis(900);

/// See the module's text. Cloning gives another handle to the same board.
#[derive(Clone)]
pub struct Board(Arc<Shared>);

struct Shared {
    host: Host,
    version: &'static str,
    source: Arc<Mutex<Box<dyn Source>>>,
    /// Whether anybody looks.
    watched: watch::Sender<bool>,
    /// Held while statistics are read, so that they are read once for all who ask at the same time.
    state: AsyncMutex<State>,
    readings: AtomicU64,
}

#[derive(Default)]
struct State {
    statistics: Option<Statistics>,
    read_at: Option<Instant>,
    points: VecDeque<Point>,
    stale: Option<Stale>,
    broken_until: Option<Instant>,
    told: Option<Told>,
}

/// What viewers know.
struct Told {
    statistics: Statistics,
    stale: bool,
    at: Instant,
}

/// Since when the numbers are old, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Stale {
    since_ms: u64,
    error: String,
}

/// One frame, as pages get it.
#[derive(Serialize)]
struct Frame<'a> {
    /// The page's version, so that an old page can say so.
    version: &'a str,
    host: &'a Host,
    /// How often a page hears at least, in milliseconds.
    pace_ms: u64,
    /// `None` when nothing was ever read.
    statistics: Option<&'a Statistics>,
    /// Moments that viewers may not know: all of them in a snapshot.
    points: Vec<Point>,
    stale: Option<&'a Stale>,
}

impl Board {
    /// A board that nobody looks at yet. `version` names the page that understands its frames.
    pub fn new(source: impl Source, host: Host, version: &'static str) -> Self {
        Self(Arc::new(Shared {
            host,
            version,
            source: Arc::new(Mutex::new(Box::new(source))),
            watched: watch::Sender::new(false),
            state: AsyncMutex::default(),
            readings: AtomicU64::new(0),
        }))
    }

    /// Somebody looks, or nobody does any more: then nothing is read.
    pub fn watch(&self, watched: bool) {
        self.0.watched.send_if_modified(|was| std::mem::replace(was, watched) != watched);
    }

    /// Whether somebody looks, as it changes.
    pub fn watched(&self) -> watch::Receiver<bool> {
        self.0.watched.subscribe()
    }

    /// Everything a new viewer needs, as one JSON object: read now unless it was just read. However many ask at the same
    /// time, it is read once.
    ///
    /// Cancel-safe.
    pub async fn snapshot(&self) -> String {
        let mut state = self.0.state.lock().await;
        if state.read_at.is_none_or(|read_at| read_at.elapsed() >= FRESH) {
            self.0.read(&mut state).await;
        }
        self.0.frame(&state, state.points.iter().copied().collect())
    }

    /// The frames to publish, as they become due while somebody looks.
    pub fn frames(&self) -> Frames {
        Frames { board: self.clone(), ticks: None }
    }

    /// Collecting fails for so long, so that one can see what happens then.
    pub async fn fail_for(&self, time: Duration) {
        self.0.state.lock().await.broken_until = Some(Instant::now() + time);
    }

    /// How often the statistics were read.
    pub fn readings(&self) -> u64 {
        self.0.readings.load(Ordering::Relaxed)
    }
}

/// See [`Board::frames`].
pub struct Frames {
    board: Board,
    /// `None` while nobody looks.
    ticks: Option<Interval>,
}

impl Frames {
    /// The next frame that is due.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> String {
        let shared = &self.board.0;
        let mut watched = shared.watched.subscribe();
        loop {
            if !*watched.borrow_and_update() {
                self.ticks = None;
                // The sender lives in `shared`, so this waits for a change and never fails.
                let _ = watched.changed().await;
                continue;
            }
            let ticks = self.ticks.get_or_insert_with(|| {
                let mut ticks = interval(INTERVAL_MIN);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            });
            tokio::select! {
                _ = ticks.tick() => {}
                _ = watched.changed() => continue,
            }
            let mut state = shared.state.lock().await;
            if state.read_at.is_none_or(|read_at| read_at.elapsed() >= FRESH) {
                shared.read(&mut state).await;
            }
            if let Some(frame) = shared.due(&mut state) {
                return frame;
            }
        }
    }
}

impl Shared {
    /// Reads the statistics, off the runtime's threads: reading blocks.
    async fn read(&self, state: &mut State) {
        self.readings.fetch_add(1, Ordering::Relaxed);
        state.read_at = Some(Instant::now());
        let read = if state.broken_until.is_some_and(|until| Instant::now() < until) {
            Err(CollectError::Simulated)
        } else {
            let source = self.source.clone();
            let reading = tokio::task::spawn_blocking(move || source.lock().unwrap_or_else(PoisonError::into_inner).read());
            reading.await.unwrap_or(Err(CollectError::Broken))
        };
        match read {
            Ok(statistics) => state.learn(statistics),
            Err(error) => state.fail(error),
        }
    }

    /// The frame to publish, if one is due.
    fn due(&self, state: &mut State) -> Option<String> {
        let now = Instant::now();
        let statistics = state.statistics.clone().unwrap_or_default();
        let known_at_ms = match &state.told {
            Some(told) => {
                let same = told.stale == state.stale.is_some();
                if same && !is_due(&told.statistics, &statistics, now - told.at) {
                    return None;
                }
                told.statistics.at_ms
            }
            None => 0,
        };
        let points = state.points.iter().filter(|point| point.0 > known_at_ms).copied().collect();
        let frame = self.frame(state, points);
        state.told = Some(Told { statistics, stale: state.stale.is_some(), at: now });
        Some(frame)
    }

    fn frame(&self, state: &State, points: Vec<Point>) -> String {
        let frame = Frame {
            version: self.version,
            host: &self.host,
            pace_ms: PACE.as_millis() as u64,
            statistics: state.statistics.as_ref(),
            points,
            stale: state.stale.as_ref(),
        };
        serde_json::to_string(&frame).expect("a frame is maps with text keys and finite numbers")
    }
}

impl State {
    fn learn(&mut self, statistics: Statistics) {
        if let Some(stale) = self.stale.take() {
            tracing::info!(since_ms = stale.since_ms, "statistics are collected again");
        }
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Point::from(&statistics));
        self.statistics = Some(statistics);
    }

    /// The numbers stay and are called stale. One line in the log for each outage, not for each attempt.
    fn fail(&mut self, error: CollectError) {
        if self.stale.is_none() {
            tracing::error!(%error, "statistics cannot be collected; viewers are told that theirs are stale");
            let since_ms = self.statistics.as_ref().map_or(0, |statistics| statistics.at_ms);
            self.stale = Some(Stale { since_ms, error: error.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// A machine that counts, and fails when it is told to.
    struct Counter {
        readings: u64,
        fails: Arc<AtomicU64>,
    }

    impl Source for Counter {
        fn read(&mut self) -> Result<Statistics, CollectError> {
            self.readings += 1;
            if self.fails.load(Ordering::Relaxed) > 0 {
                return Err(CollectError::NoMemory);
            }
            Ok(Statistics { at_ms: self.readings * 1000, ..Statistics::default() })
        }
    }

    fn board() -> (Board, Arc<AtomicU64>) {
        let fails = Arc::new(AtomicU64::new(0));
        (Board::new(Counter { readings: 0, fails: fails.clone() }, Host::default(), "v1"), fails)
    }

    fn json(frame: &str) -> Value {
        serde_json::from_str(frame).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_snapshots_at_once_cost_one_reading() {
        let (board, _) = board();
        let asking: Vec<_> = (0..1000)
            .map(|_| {
                tokio::spawn({
                    let board = board.clone();
                    async move { board.snapshot().await }
                })
            })
            .collect();
        for asked in asking {
            assert_eq!(json(&asked.await.unwrap())["statistics"]["at_ms"], 1000);
        }
        assert_eq!(board.readings(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_come_at_the_pace_also_when_nothing_changes_and_stop_when_nobody_looks() {
        let (board, _) = board();
        let mut frames = board.frames();
        assert!(tokio::time::timeout(Duration::from_secs(60), frames.next()).await.is_err());
        assert_eq!(board.readings(), 0);
        board.watch(true);
        frames.next().await;
        let started = Instant::now();
        let frame = json(&frames.next().await);
        assert_eq!(started.elapsed().as_secs(), 5);
        assert_eq!(frame["points"].as_array().unwrap().len(), 5);
        board.watch(false);
        let readings = board.readings();
        assert!(tokio::time::timeout(Duration::from_secs(60), frames.next()).await.is_err());
        assert_eq!(board.readings(), readings);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_at_once_with_the_old_numbers_and_its_end_too() {
        let (board, fails) = board();
        let mut frames = board.frames();
        board.watch(true);
        assert_eq!(json(&frames.next().await)["stale"], Value::Null);
        fails.store(1, Ordering::Relaxed);
        let failed = json(&frames.next().await);
        assert_eq!(failed["stale"]["error"], "the system reports no memory");
        assert_eq!(failed["stale"]["since_ms"], failed["statistics"]["at_ms"]);
        assert_eq!(json(&frames.next().await)["stale"], failed["stale"]);
        fails.store(0, Ordering::Relaxed);
        assert_eq!(json(&frames.next().await)["stale"], Value::Null);
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_carries_the_chart_so_far() {
        let (board, _) = board();
        let mut frames = board.frames();
        board.watch(true);
        for _ in 0..3 {
            frames.next().await;
        }
        assert_eq!(json(&board.snapshot().await)["points"].as_array().unwrap().len(), 11);
    }
}
