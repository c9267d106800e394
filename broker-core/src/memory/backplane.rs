//! The memory backplane: a ring of recent publications per topic. A restart is a new epoch.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::{
    Announcement, Backplane, Capabilities, Epoch, Keep, LogPage, LogQuery, Position, Publication, Publish, PublishFailed, Published, Sink,
    Topic, Unavailable, sync::Mutex,
};

/// How long a retry with the same idempotency key is stored once.
const IDEMPOTENCY_TTL: Duration = Duration::from_secs(300);
/// Idempotency keys kept per topic; the oldest go first.
const IDEMPOTENCY_MAX: usize = 10_000;
/// How long an empty log remembers its epoch and top, so that positions go on.
const POSITION_TTL: Duration = Duration::from_secs(3600);
/// The same for a log that nothing was ever appended to: whoever names topics freely makes few of them last.
const EMPTY_TTL: Duration = Duration::from_secs(60);
/// Time between two looks for logs that have expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A backplane for one node: publications reach this process only, and are kept in memory.
///
/// *Acknowledged* means that this process has it. A restart is a new epoch, and every resume is told.
#[derive(Default)]
pub struct MemoryBackplane {
    logs: Arc<Logs>,
    heard: Arc<Heard>,
    sink: OnceLock<Weak<dyn Sink>>,
}

type Logs = RwLock<HashMap<Topic, Arc<Mutex<Log>>>>;

/// Topics with an interest: their positions are not forgotten.
type Heard = RwLock<HashSet<Topic>>;

/// What is kept of one topic.
struct Log {
    epoch: Epoch,
    top: u64,
    publications: VecDeque<Arc<Publication>>,
    /// When the publications go.
    expires_at: Option<Instant>,
    /// When the positions go, unless something is published.
    forgotten_at: Instant,
    /// What was published with a key, and when.
    seen: HashMap<Box<str>, (Published, Instant)>,
    seen_in_order: VecDeque<(Instant, Box<str>)>,
    /// Out of the map: whoever finds this looks the topic up again.
    dead: bool,
}

impl MemoryBackplane {
    /// An empty backplane.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` on the topic's log, which is made if there is none.
    fn with_log<T>(&self, topic: &Topic, mut work: impl FnMut(&mut Log) -> T) -> T {
        loop {
            let found = self.logs.read().get(topic).cloned();
            let log =
                found.unwrap_or_else(|| self.logs.write().entry(topic.clone()).or_insert_with(|| Arc::new(Mutex::new(Log::new()))).clone());
            let mut log = log.lock();
            if !log.dead {
                log.expire(Instant::now());
                return work(&mut log);
            }
        }
    }

    fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.sink.get().and_then(Weak::upgrade)
    }
}

#[async_trait]
impl Backplane for MemoryBackplane {
    fn start(&self, sink: Weak<dyn Sink>) {
        // A second start would be a second engine on the same memory: the first one keeps it.
        let _ = self.sink.set(sink);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(sweep(Arc::downgrade(&self.logs), self.heard.clone()));
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().history().reliable()
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        let sink = self.sink();
        let kept = keep.size > 0 && !publish.skip_history;
        let key = publish.idempotency_key.clone();
        let mut publication = Some(Publication::new(topic.clone(), publish));
        if !kept && key.is_none() {
            if let (Some(sink), Some(publication)) = (sink, publication.take()) {
                sink.publication(Arc::new(publication));
            }
            return Ok(Published::at(None));
        }
        let published = self.with_log(topic, |log| {
            let now = Instant::now();
            if let Some(first) = key.as_deref().and_then(|key| log.seen_before(key)) {
                return Published::duplicate_of(first.position);
            }
            let Some(mut publication) = publication.take() else { return Published::at(None) };
            if kept {
                publication.position = Some(log.next_position());
            }
            let published = Published::at(publication.position);
            let publication = Arc::new(publication);
            if kept {
                log.append(publication.clone(), keep, now);
            }
            if let Some(key) = &key {
                log.remember(key, published, now);
            }
            // Under the log's lock: the order of the log is the order of delivery.
            if let Some(sink) = &sink {
                sink.publication(publication);
            }
            published
        });
        Ok(published)
    }

    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable> {
        if let Some(sink) = self.sink() {
            sink.announcement(topic, announcement);
        }
        Ok(())
    }

    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        let mut heard = self.heard.write();
        for (topic, wanted) in changes {
            if *wanted {
                heard.insert(topic.clone());
            } else {
                heard.remove(topic);
            }
        }
        Ok(())
    }

    async fn history(&self, topic: &Topic, query: LogQuery, _keep: Keep) -> Result<LogPage, Unavailable> {
        Ok(self.with_log(topic, |log| log.read(query)))
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        self.with_log(topic, |log| log.publications = VecDeque::new());
        Ok(())
    }
}

impl Log {
    fn new() -> Self {
        Self {
            epoch: Epoch::from_random(fastrand::u64(..)),
            top: 0,
            publications: VecDeque::new(),
            expires_at: None,
            forgotten_at: Instant::now() + EMPTY_TTL,
            seen: HashMap::new(),
            seen_in_order: VecDeque::new(),
            dead: false,
        }
    }

    fn next_position(&self) -> Position {
        Position { offset: self.top + 1, epoch: self.epoch }
    }

    fn append(&mut self, publication: Arc<Publication>, keep: Keep, now: Instant) {
        self.top += 1;
        self.publications.push_back(publication);
        while self.publications.len() > keep.size {
            self.publications.pop_front();
        }
        self.expires_at = Some(now + keep.ttl);
        self.forgotten_at = now + keep.ttl + POSITION_TTL;
    }

    fn seen_before(&self, key: &str) -> Option<Published> {
        self.seen.get(key).map(|(first, _)| *first)
    }

    fn remember(&mut self, key: &str, published: Published, now: Instant) {
        self.seen.insert(key.into(), (published, now));
        self.seen_in_order.push_back((now, key.into()));
        if self.seen_in_order.len() > IDEMPOTENCY_MAX {
            self.forget_oldest_key();
        }
        self.forgotten_at = self.forgotten_at.max(now + IDEMPOTENCY_TTL);
    }

    fn forget_oldest_key(&mut self) {
        if let Some((_, key)) = self.seen_in_order.pop_front() {
            self.seen.remove(&key);
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.expires_at.is_some_and(|at| at <= now) {
            self.expires_at = None;
            self.publications = VecDeque::new();
        }
        while self.seen_in_order.front().is_some_and(|(at, _)| *at + IDEMPOTENCY_TTL <= now) {
            self.forget_oldest_key();
        }
    }

    fn read(&self, query: LogQuery) -> LogPage {
        let top = Position { offset: self.top, epoch: self.epoch };
        let limit = query.limit.unwrap_or(usize::MAX);
        let offset = |publication: &&Arc<Publication>| publication.position.map_or(0, |position| position.offset);
        let publications = if query.reverse {
            let before = query.after.unwrap_or(u64::MAX);
            self.publications.iter().rev().filter(|publication| offset(publication) < before).take(limit).cloned().collect()
        } else {
            let first = self.top + 1 - self.publications.len() as u64;
            let skip = query.after.map_or(0, |after| after.saturating_add(1).saturating_sub(first)) as usize;
            self.publications.iter().skip(skip).take(limit).cloned().collect()
        };
        LogPage { top, publications }
    }
}

/// Frees what has expired, until the backplane is gone.
async fn sweep(logs: Weak<Logs>, heard: Arc<Heard>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(logs) = logs.upgrade() else { return };
        let now = Instant::now();
        let all: Vec<(Topic, Arc<Mutex<Log>>)> = logs.read().iter().map(|(topic, log)| (topic.clone(), log.clone())).collect();
        let mut any_dead = false;
        for (topic, log) in all {
            let heard = heard.read().contains(&topic);
            let mut log = log.lock();
            log.expire(now);
            if heard {
                // Those who listen stand at this position, and resume from it when they come back.
                log.forgotten_at = log.forgotten_at.max(now + POSITION_TTL);
            }
            log.dead = log.publications.is_empty() && log.forgotten_at <= now;
            any_dead |= log.dead;
        }
        if any_dead {
            logs.write().retain(|_, log| !log.lock().dead);
        }
    }
}
