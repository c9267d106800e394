//! The board that everybody looks at: reads the statistics once for all viewers, keeps the last minutes, and says what to publish when. Knows
//! nothing of sockets and of `SQLite`; what it says is one JSON object per frame.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use crate::dispatch::{Database, DatabaseError, Point, Statistics, now_ms};

/// Statistics are told at least this often, also when nothing changed: a page that hears nothing for longer knows that something is wrong.
pub const PACE: Duration = Duration::from_secs(5);
/// Statistics are read, and told when they changed, at most this often.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Slack for timers that fire a little early.
const SLACK: Duration = Duration::from_millis(50);
/// Statistics that are younger are told again rather than read again.
const FRESH: Duration = Duration::from_millis(900);
/// Moments that the chart shows: five minutes.
const POINTS_MAX: usize = 300;

/// Where statistics come from. Reading may block.
pub trait Source: Send + Sync + 'static {
    /// The orders as they are.
    fn read(&self) -> Result<Statistics, DatabaseError>;
}

impl Source for Database {
    fn read(&self) -> Result<Statistics, DatabaseError> {
        self.statistics()
    }
}

/// See the module's text. Cloning gives another handle to the same board.
#[derive(Clone)]
pub struct Board(Arc<Shared>);

struct Shared {
    source: Arc<dyn Source>,
    /// Whether anybody looks.
    watched: watch::Sender<bool>,
    /// Held while statistics are read, so that they are read once for all who ask at the same time.
    state: Mutex<State>,
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

impl Told {
    /// That all there is was told at this moment.
    fn of(state: &State) -> Self {
        Self { statistics: state.statistics.clone().unwrap_or_default(), stale: state.stale.is_some(), at: Instant::now() }
    }
}

/// Since when the numbers are old, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Stale {
    since_ms: i64,
    error: String,
}

/// One frame, as pages get it.
#[derive(Serialize)]
struct Frame<'a> {
    /// The figures; left out when nothing was ever read.
    #[serde(flatten)]
    statistics: Option<&'a Statistics>,
    /// How often a page hears at least, in milliseconds.
    pace_ms: u64,
    /// `null`: the figures are fresh.
    stale: Option<&'a Stale>,
    /// Moments that viewers may not know: all of them in a snapshot.
    points: Vec<Point>,
}

impl Board {
    /// A board that nobody looks at yet.
    pub fn new(source: impl Source) -> Self {
        let (source, watched) = (Arc::new(source), watch::Sender::new(false));
        Self(Arc::new(Shared { source, watched, state: Mutex::default(), readings: AtomicU64::new(0) }))
    }

    /// Somebody looks, or nobody does any more: then nothing is read.
    pub fn watch(&self, watched: bool) {
        self.0.watched.send_if_modified(|was| std::mem::replace(was, watched) != watched);
    }

    /// Whether somebody looks, as it changes.
    pub fn watched(&self) -> watch::Receiver<bool> {
        self.0.watched.subscribe()
    }

    /// Everything a new viewer needs, as one JSON object: read at once unless it was just read. However many ask at the same time, it is read once.
    ///
    /// Cancel-safe.
    pub async fn snapshot(&self) -> String {
        let mut state = self.0.state.lock().await;
        self.0.refresh(&mut state).await;
        // Where nobody else looks, whoever asks is told here: the next frame need not say the same again.
        if !*self.0.watched.borrow() {
            state.told = Some(Told::of(&state));
        }
        frame(&state, state.points.iter().copied().collect())
    }

    /// The frames to publish, as they become due while somebody looks.
    pub fn frames(&self) -> Frames {
        Frames { board: self.clone(), ticks: None }
    }

    /// Reading fails for so long, so that one can see what happens then.
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
    /// The next frame that is due. Cancel-safe.
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
            shared.refresh(&mut state).await;
            if let Some(frame) = due(&mut state) {
                return frame;
            }
        }
    }
}

impl Shared {
    /// Reads the statistics where they are not fresh, off the runtime's threads: reading blocks.
    async fn refresh(&self, state: &mut State) {
        if state.read_at.is_some_and(|read_at| read_at.elapsed() < FRESH) {
            return;
        }
        self.readings.fetch_add(1, Ordering::Relaxed);
        state.read_at = Some(Instant::now());
        let read = if state.broken_until.is_some_and(|until| Instant::now() < until) {
            Err(DatabaseError::Simulated)
        } else {
            let source = self.source.clone();
            tokio::task::spawn_blocking(move || source.read()).await.unwrap_or(Err(DatabaseError::Broken))
        };
        match read {
            Ok(statistics) => state.learn(statistics),
            Err(error) => state.fail(error),
        }
    }
}

/// The frame to publish, if one is due.
fn due(state: &mut State) -> Option<String> {
    let now = Instant::now();
    let statistics = state.statistics.clone().unwrap_or_default();
    if let Some(told) = &state.told {
        let since_told = now - told.at + SLACK;
        let same = told.stale == state.stale.is_some() && (state.stale.is_some() || is_same(&told.statistics, &statistics));
        if same && since_told < PACE {
            return None;
        }
    }
    let known_at_ms = state.told.as_ref().map_or(0, |told| told.statistics.at_ms);
    let frame = frame(state, state.points.iter().filter(|point| point.0 > known_at_ms).copied().collect());
    state.told = Some(Told::of(state));
    Some(frame)
}

/// Whether somebody who looks would see no difference.
fn is_same(told: &Statistics, now: &Statistics) -> bool {
    let figures =
        |statistics: &Statistics| (statistics.total_orders, statistics.pending_orders, statistics.delivered_orders, statistics.late_orders);
    figures(told) == figures(now)
}

fn frame(state: &State, points: Vec<Point>) -> String {
    let frame = Frame { statistics: state.statistics.as_ref(), pace_ms: PACE.as_millis() as u64, stale: state.stale.as_ref(), points };
    serde_json::to_string(&frame).expect("numbers and texts are JSON")
}

impl State {
    fn learn(&mut self, statistics: Statistics) {
        if let Some(stale) = self.stale.take() {
            let stale_s = (now_ms() - stale.since_ms) / 1000;
            tracing::info!(stale_s, "the statistics can be read again");
        }
        self.points.push_back(Point::from(&statistics));
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
        self.statistics = Some(statistics);
    }

    /// One line for each outage, however long it lasts and however many look.
    fn fail(&mut self, error: DatabaseError) {
        if self.stale.is_none() {
            tracing::error!(%error, "the statistics cannot be read; viewers keep the last ones and are told since when they are old");
            let since_ms = self.statistics.as_ref().map_or_else(now_ms, |statistics| statistics.at_ms);
            self.stale = Some(Stale { since_ms, error: error.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use serde_json::Value;

    use super::*;

    /// Counts its readings in `total_orders` where it is told to, and can be told to fail.
    #[derive(Clone, Default)]
    struct Counter {
        readings: Arc<AtomicU64>,
        changes: Arc<AtomicBool>,
        fails: Arc<AtomicBool>,
    }

    impl Source for Counter {
        fn read(&self) -> Result<Statistics, DatabaseError> {
            if self.fails.load(Ordering::Relaxed) {
                return Err(DatabaseError::Broken);
            }
            let at_ms = i64::try_from(self.readings.fetch_add(1, Ordering::Relaxed)).unwrap() + 1;
            let total_orders = if self.changes.load(Ordering::Relaxed) { 1_000 + at_ms } else { 7 };
            Ok(Statistics { at_ms, total_orders, ..Statistics::default() })
        }
    }

    fn board() -> (Board, Counter) {
        let source = Counter::default();
        (Board::new(source.clone()), source)
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_change_is_told_at_the_pace_and_what_does_within_a_second() {
        let (board, source) = board();
        let mut frames = board.frames();
        board.watch(true);
        frames.next().await;
        let started = Instant::now();
        assert_eq!(json(&frames.next().await)["points"].as_array().unwrap().len(), 5);
        assert_eq!(started.elapsed().as_secs(), 5);
        source.changes.store(true, Ordering::Relaxed);
        frames.next().await;
        assert_eq!(started.elapsed().as_secs(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_while_nobody_looks() {
        let (board, source) = board();
        let mut frames = board.frames();
        assert!(tokio::time::timeout(Duration::from_secs(60), frames.next()).await.is_err());
        assert_eq!(board.readings(), 0);
        board.watch(true);
        frames.next().await;
        board.watch(false);
        let readings = source.readings.load(Ordering::Relaxed);
        assert!(tokio::time::timeout(Duration::from_secs(60), frames.next()).await.is_err());
        assert_eq!(source.readings.load(Ordering::Relaxed), readings);
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_cost_one_reading() {
        let (board, _) = board();
        let snapshots = futures_util::future::join_all((0..1000).map(|_| board.snapshot())).await;
        assert!(snapshots.iter().all(|snapshot| json(snapshot)["total_orders"] == 7));
        assert_eq!(board.readings(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_at_once_with_the_old_numbers_and_its_end_too() {
        let (board, source) = board();
        let mut frames = board.frames();
        board.watch(true);
        let fresh = json(&frames.next().await);
        assert_eq!(fresh["stale"], Value::Null);
        source.fails.store(true, Ordering::Relaxed);
        let failed = json(&frames.next().await);
        assert_eq!(failed["stale"]["error"], "a call of the dispatch database broke");
        assert_eq!((&failed["stale"]["since_ms"], &failed["total_orders"]), (&fresh["at_ms"], &fresh["total_orders"]));
        assert_eq!(json(&frames.next().await)["stale"], failed["stale"]);
        source.fails.store(false, Ordering::Relaxed);
        assert_eq!(json(&frames.next().await)["stale"], Value::Null);
    }
}
