//! A backplane with faults around the memory backplane: it loses, doubles, delays and reorders what it delivers, loses its link, fails reads and
//! publishes, and comes back older with a new epoch.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{
    Announcement, Backplane, Capabilities, Keep, LogPage, LogQuery, MemoryBackplane, Publication, Publish, PublishFailed, Published, Sink,
    StatePage, StateQuery, Topic, Unavailable,
};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use crate::truth::Truth;

/// What was published with history, so that a rollback can begin from it.
type Kept = BTreeMap<Topic, (Keep, VecDeque<Publish>)>;

/// What carries publications; several nodes may follow each other on it.
pub(crate) struct Bus {
    /// The memory backplane as it is: delivers under its lock, no faults.
    is_reliable: bool,
    inner: Mutex<Arc<MemoryBackplane>>,
    tap: Arc<Tap>,
    rng: Mutex<Rng>,
    kept: Mutex<Kept>,
    lines: AtomicUsize,
    rows_per_page: usize,
}

/// One node's line to the bus: what a node that has ended still says counts no more.
pub(crate) struct Line {
    bus: Arc<Bus>,
    number: usize,
}

/// Where the memory backplane delivers, under the lock of its log.
struct Tap {
    is_reliable: bool,
    /// Whether something may be lost. Otherwise nobody is told to read again: what is doubled and out of order must be enough.
    loses: bool,
    truth: Arc<Truth>,
    sink: Mutex<Option<Weak<dyn Sink>>>,
    flying: Mutex<BTreeMap<Topic, VecDeque<Arc<Publication>>>>,
    wanted: Mutex<BTreeSet<Topic>>,
    /// Topics whose newest publication never arrived: nobody can know of it.
    unheard: Mutex<BTreeSet<Topic>>,
    /// What is appended is not delivered: a rollback writes what is kept into a new life.
    is_muted: AtomicBool,
    is_cut: AtomicBool,
    /// Faults are over.
    is_calm: AtomicBool,
    something: Notify,
}

impl Tap {
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.sink.lock().as_ref().and_then(Weak::upgrade)
    }

    fn lose(&self, publication: &Publication) {
        if publication.position.is_none() {
            self.truth.lost(publication);
        } else {
            self.unheard.lock().insert(publication.topic.clone());
        }
    }

    /// Everything is read again.
    fn restore_link(&self) {
        self.unheard.lock().clear();
        self.link_restored();
    }
}

impl Sink for Tap {
    fn publication(&self, publication: Arc<Publication>) {
        self.truth.appended(&publication);
        if self.is_muted.load(Relaxed) {
            return;
        }
        if self.is_reliable {
            if let Some(sink) = self.sink() {
                sink.publication(publication);
            }
            return;
        }
        self.flying.lock().entry(publication.topic.clone()).or_default().push_back(publication);
        self.something.notify_one();
    }

    fn announcement(&self, topic: &Topic, announcement: Announcement) {
        if let Some(sink) = self.sink() {
            sink.announcement(topic, announcement);
        }
    }

    fn link_restored(&self) {
        if let Some(sink) = self.sink() {
            sink.link_restored();
        }
    }

    fn gapped(&self, topic: &Topic) {
        if let Some(sink) = self.sink() {
            sink.gapped(topic);
        }
    }
}

impl Bus {
    /// A backplane; call it inside the runtime.
    pub(crate) fn new(truth: Arc<Truth>, is_reliable: bool, mut rng: Rng) -> Arc<Self> {
        let tap = Arc::new(Tap {
            is_reliable,
            loses: rng.u8(0..3) > 0,
            truth,
            sink: Mutex::default(),
            flying: Mutex::default(),
            wanted: Mutex::default(),
            unheard: Mutex::default(),
            is_muted: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            is_calm: AtomicBool::new(false),
            something: Notify::new(),
        });
        let courier = rng.fork();
        let rows_per_page = rng.usize(1..6);
        let bus = Arc::new(Self {
            is_reliable,
            inner: Mutex::new(memory(&tap)),
            tap: tap.clone(),
            rng: Mutex::new(rng),
            kept: Mutex::default(),
            lines: AtomicUsize::new(0),
            rows_per_page,
        });
        if !is_reliable {
            tokio::spawn(deliver(Arc::downgrade(&tap), courier));
        }
        bus
    }

    /// A line for the next node.
    pub(crate) fn line(self: &Arc<Self>) -> Arc<Line> {
        let number = self.lines.fetch_add(1, Relaxed) + 1;
        Arc::new(Line { bus: self.clone(), number })
    }

    /// Whether it is the memory backplane as it is: its log ends with the node.
    pub(crate) fn is_reliable(&self) -> bool {
        self.is_reliable
    }

    /// Whether something may be lost on the way.
    pub(crate) fn loses(&self) -> bool {
        !self.is_reliable && self.tap.loses
    }

    /// The position of the newest publication.
    pub(crate) async fn top(&self, topic: &Topic) -> Option<broker_core::Position> {
        let query = LogQuery::top();
        let inner = self.inner.lock().clone();
        inner.history(topic, query, Keep::NOTHING).await.ok().map(|page| page.top)
    }

    /// The offsets of the rows of a topic's state.
    pub(crate) async fn rows(&self, topic: &Topic) -> Vec<u64> {
        let inner = self.inner.lock().clone();
        let page = inner.state(topic, StateQuery::default(), Keep::NOTHING).await;
        let rows = page.map_or_else(|_| Vec::new(), |page| page.rows);
        rows.iter().filter_map(|row| row.position).map(|position| position.offset).collect()
    }

    /// Loses the link for a while: nothing arrives, nothing is answered.
    pub(crate) async fn lose_link(&self, time: Duration) {
        if !self.loses() {
            return;
        }
        self.tap.is_cut.store(true, Relaxed);
        sleep(time).await;
        self.tap.is_cut.store(false, Relaxed);
        self.tap.restore_link();
    }

    /// Comes back with the log as it was a few publications ago, and a new epoch; notices it a little later.
    pub(crate) async fn roll_back(&self) {
        if !self.loses() {
            return;
        }
        let lost = self.rng.lock().usize(0..4);
        let kept: Vec<(Topic, Keep, Vec<Publish>)> = {
            let mut kept = self.kept.lock();
            let olden = kept.iter_mut().map(|(topic, (keep, publishes))| {
                publishes.truncate(publishes.len().saturating_sub(lost));
                (topic.clone(), *keep, publishes.iter().cloned().collect())
            });
            olden.collect()
        };
        self.tap.is_muted.store(true, Relaxed);
        let inner = memory(&self.tap);
        for (topic, keep, publishes) in kept {
            for publish in publishes {
                // The memory backplane takes whatever it is given.
                let _ = inner.publish(&topic, publish, keep).await;
            }
        }
        let wanted: Vec<(Topic, bool)> = self.tap.wanted.lock().iter().map(|topic| (topic.clone(), true)).collect();
        let _ = inner.interest(&wanted).await;
        *self.inner.lock() = inner;
        self.tap.is_muted.store(false, Relaxed);
        let pause = self.rng.lock().u64(0..60);
        sleep(Duration::from_millis(pause)).await;
        self.tap.restore_link();
    }

    /// Whether the node can know where a topic stands: its newest publication has arrived, or everything was read again since.
    pub(crate) fn is_heard(&self, topic: &Topic) -> bool {
        !self.tap.unheard.lock().contains(topic)
    }

    /// No more faults from here on. What was lost is noticed where `tells` says so; otherwise only where something arrives that is newer.
    pub(crate) fn heal(&self, tells: bool) {
        self.tap.is_calm.store(true, Relaxed);
        self.tap.is_cut.store(false, Relaxed);
        self.tap.something.notify_one();
        if self.loses() && tells {
            self.tap.restore_link();
        }
    }

    /// Whether a fault of this likeliness happens.
    fn happens(&self, chance: f32) -> bool {
        !self.is_reliable && !self.tap.is_calm.load(Relaxed) && (self.tap.is_cut.load(Relaxed) || self.rng.lock().f32() < chance)
    }

    async fn travel(&self) {
        if !self.is_reliable {
            let time = {
                let mut rng = self.rng.lock();
                if rng.f32() < 0.5 { 0 } else { rng.u64(1..15) }
            };
            if time > 0 {
                sleep(Duration::from_millis(time)).await;
            }
        }
    }

    fn remember(&self, topic: &Topic, publish: &Publish, keep: Keep) {
        if keep.size > 0 && !publish.skip_history && !self.is_reliable {
            let mut kept = self.kept.lock();
            let (_, publishes) = kept.entry(topic.clone()).or_insert_with(|| (keep, VecDeque::new()));
            publishes.push_back(publish.clone());
            if publishes.len() > keep.size {
                publishes.pop_front();
            }
        }
    }
}

fn memory(tap: &Arc<Tap>) -> Arc<MemoryBackplane> {
    let inner = Arc::new(MemoryBackplane::new());
    let tap: Arc<dyn Sink> = tap.clone();
    inner.start(Arc::downgrade(&tap));
    inner
}

#[async_trait]
impl Backplane for Line {
    fn start(&self, sink: Weak<dyn Sink>) {
        // A node that follows another one on this bus takes over.
        *self.bus.tap.sink.lock() = Some(sink);
        self.bus.tap.wanted.lock().clear();
        self.bus.tap.flying.lock().clear();
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::none().history().state();
        if self.bus.is_reliable { capabilities.reliable() } else { capabilities }
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        self.bus.travel().await;
        if self.bus.happens(0.03) {
            return Err(PublishFailed::NotSent("planted".to_owned()));
        }
        let inner = self.bus.inner.lock().clone();
        let published = inner.publish(topic, publish.clone(), keep).await?;
        if !published.duplicate {
            self.bus.remember(topic, &publish, keep);
        }
        self.bus.travel().await;
        if self.bus.happens(0.05) {
            return Err(PublishFailed::Unconfirmed("planted".to_owned()));
        }
        Ok(published)
    }

    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable> {
        self.bus.tap.announcement(topic, announcement);
        Ok(())
    }

    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        self.bus.travel().await;
        if self.bus.happens(0.1) {
            return Err(Unavailable("planted".to_owned()));
        }
        if self.bus.lines.load(Relaxed) != self.number {
            return Ok(());
        }
        for (topic, wanted) in changes {
            if *wanted {
                self.bus.tap.wanted.lock().insert(topic.clone());
            } else {
                self.bus.tap.wanted.lock().remove(topic);
            }
        }
        let inner = self.bus.inner.lock().clone();
        let answer = inner.interest(changes).await;
        self.bus.travel().await;
        answer
    }

    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable> {
        self.bus.travel().await;
        if self.bus.happens(0.1) {
            return Err(Unavailable("planted".to_owned()));
        }
        let inner = self.bus.inner.lock().clone();
        // What the engine reads for listeners comes few at a time.
        let limit = query.limit.unwrap_or(usize::MAX).min(self.bus.rows_per_page);
        let limit = if query.delivers { Some(limit) } else { query.limit };
        let page = inner.history(topic, LogQuery { limit, ..query }, keep).await;
        // The answer travels: others go on meanwhile.
        self.bus.travel().await;
        page
    }

    async fn state(&self, topic: &Topic, query: StateQuery, keep: Keep) -> Result<StatePage, Unavailable> {
        self.bus.travel().await;
        if self.bus.happens(0.1) {
            return Err(Unavailable("planted".to_owned()));
        }
        let inner = self.bus.inner.lock().clone();
        // Few at a time, and others go on between the pages.
        let limit = Some(query.limit.unwrap_or(usize::MAX).min(self.bus.rows_per_page));
        let page = inner.state(topic, StateQuery { limit, ..query }, keep).await;
        self.bus.travel().await;
        page
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        let inner = self.bus.inner.lock().clone();
        inner.remove_history(topic).await
    }
}

/// Carries what is on its way to the node that listens, or loses it, doubles it, or takes another one first.
async fn deliver(tap: Weak<Tap>, mut rng: Rng) {
    loop {
        let Some(tap) = tap.upgrade() else { return };
        let is_calm = tap.is_calm.load(Relaxed);
        let next = {
            let mut flying = tap.flying.lock();
            flying.retain(|_, waiting| !waiting.is_empty());
            let topics = flying.len();
            let chosen = if topics == 0 { None } else { flying.values_mut().nth(rng.usize(0..topics)) };
            chosen.and_then(|waiting| {
                let out_of_order = !is_calm && rng.f32() < if tap.loses { 0.05 } else { 0.3 };
                let at = if out_of_order { rng.usize(0..waiting.len()) } else { 0 };
                // Without positions nothing can put it right, so there the order holds.
                let at = if waiting.iter().take(at + 1).any(|publication| publication.position.is_none()) { 0 } else { at };
                waiting.remove(at)
            })
        };
        let Some(publication) = next else {
            let something = tap.something.notified();
            tokio::select! {
                biased;
                () = something => {}
                // Looks now and then whether the simulation is over.
                () = sleep(Duration::from_secs(5)) => {}
            }
            continue;
        };
        let is_heard = tap.wanted.lock().contains(&publication.topic);
        let chance = if is_calm { 1.0 } else { rng.f32() };
        let times = match chance {
            _ if tap.is_cut.load(Relaxed) || !is_heard => 0,
            low if low < 0.08 && tap.loses && publication.position.is_some() => 0,
            low if low < 0.16 && publication.position.is_some() => 2,
            _ => 1,
        };
        if times == 0 {
            tap.lose(&publication);
        } else if publication.position.is_some() {
            tap.unheard.lock().remove(&publication.topic);
        }
        if let Some(sink) = tap.sink() {
            for _ in 0..times {
                sink.publication(publication.clone());
            }
        }
        let pause = if is_calm || rng.f32() < 0.6 { 0 } else { rng.u64(1..8) };
        drop(tap);
        if pause == 0 { tokio::task::yield_now().await } else { sleep(Duration::from_millis(pause)).await }
    }
}
