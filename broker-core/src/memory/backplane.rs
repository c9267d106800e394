//! The memory backplane: recent publications and the state of each topic, in this process. A restart is a new epoch.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::time::Instant;

use super::{
    ledger::Ledger,
    log::{Log, Memo},
};
use crate::{
    Announcement, Backplane, Capabilities, Keep, Kept, LogPage, LogQuery, Publication, Publish, PublishFailed, Published, Sink, StatePage,
    StateQuery, Topic, Unavailable, sync::Mutex,
};

/// Time between two looks for what has expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A backplane for one node: publications reach this process only, and are kept in memory.
///
/// *Acknowledged* means that this process has it. A restart is a new epoch, and every resume is told. Everything kept is counted in bytes,
/// by namespace ([`Keep::memory_max`]) and altogether; what would be too much is refused before anything of it is done.
pub struct MemoryBackplane {
    logs: Arc<Logs>,
    ledger: Arc<Ledger>,
    heard: Arc<Heard>,
    sink: OnceLock<Weak<dyn Sink>>,
}

type Logs = RwLock<HashMap<Topic, Arc<Mutex<Log>>>>;

/// Topics with an interest: their positions are not forgotten.
type Heard = RwLock<HashSet<Topic>>;

impl Default for MemoryBackplane {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBackplane {
    /// Bytes that are kept at most where nothing is said: 1 GiB.
    pub const MEMORY_MAX: usize = 1 << 30;

    /// An empty backplane that keeps at most [`MemoryBackplane::MEMORY_MAX`] bytes.
    pub fn new() -> Self {
        Self::with_memory_max(Self::MEMORY_MAX)
    }

    /// An empty backplane that keeps at most so many bytes.
    pub fn with_memory_max(bytes: usize) -> Self {
        Self { logs: Arc::default(), ledger: Arc::new(Ledger::new(bytes)), heard: Arc::default(), sink: OnceLock::new() }
    }

    /// Runs `work` on the topic's log, which is made if there is none.
    fn with_log<T>(&self, topic: &Topic, work: impl FnOnce(&mut Log) -> T) -> T {
        loop {
            let found = self.logs.read().get(topic).cloned();
            let log = found.unwrap_or_else(|| {
                let fresh = || Arc::new(Mutex::new(Log::new(topic, self.ledger.share(topic))));
                self.logs.write().entry(topic.clone()).or_insert_with(fresh).clone()
            });
            let mut log = log.lock();
            if !log.is_dead() {
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
            runtime.spawn(sweep(Arc::downgrade(&self.logs), self.heard.clone(), self.ledger.clone()));
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().history().state().reliable()
    }

    async fn publish(&self, topic: &Topic, mut publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        let sink = self.sink();
        let kept = !keep.is_nothing() && !publish.skip_history;
        let memo = Memo { idempotency_key: publish.idempotency_key.take(), version: publish.version.take(), kept };
        let publication = Publication::new(topic.clone(), publish);
        if memo.is_nothing() {
            if let Some(sink) = sink {
                sink.publication(Arc::new(publication));
            }
            return Ok(Published::at(None));
        }
        let published = self.with_log(topic, |log| {
            log.publish(publication, memo, keep, Instant::now(), |publication| {
                // Under the log's lock: the order of the log is the order of delivery.
                if let Some(sink) = &sink {
                    sink.publication(publication);
                }
            })
        });
        Ok(published?)
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
        self.with_log(topic, Log::remove_history);
        Ok(())
    }

    async fn state(&self, topic: &Topic, query: StateQuery, _keep: Keep) -> Result<StatePage, Unavailable> {
        Ok(self.with_log(topic, |log| log.read_state(query)))
    }

    fn kept(&self) -> Kept {
        self.ledger.kept()
    }
}

/// Frees what has expired, until the backplane is gone.
async fn sweep(logs: Weak<Logs>, heard: Arc<Heard>, ledger: Arc<Ledger>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(logs) = logs.upgrade() else { return };
        let now = Instant::now();
        let all: Vec<(Topic, Arc<Mutex<Log>>)> = logs.read().iter().map(|(topic, log)| (topic.clone(), log.clone())).collect();
        let mut any_dead = false;
        for (topic, log) in all {
            let heard = heard.read().contains(&topic);
            any_dead |= log.lock().sweep(now, heard);
        }
        if any_dead {
            logs.write().retain(|_, log| !log.lock().is_dead());
            ledger.sweep();
        }
    }
}
