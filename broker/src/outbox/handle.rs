//! What a program holds of its outbox: starts it, wakes it, asks it, ends it. The work itself lives in `worker`.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Notify, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    OutboxCounts, OutboxOptions, OutboxStore, RefusedRow, RowId, RowState, StoreFailed,
    worker::{Phase, Progress, Worker},
};
use crate::Broker;

/// How long the last batch may take to be given back when the time of a drain is over.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Publishes what is staged in a store. See the [module](crate::outbox)'s text.
#[derive(Debug)]
pub struct Outbox;

impl Outbox {
    /// Starts to publish what is staged, with the default options.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(broker: &Broker, store: impl OutboxStore) -> OutboxHandle {
        Self::start_with(broker, store, OutboxOptions::default())
    }

    /// Starts to publish what is staged, in a task that lives until [`OutboxHandle::drain`], or until the last handle is dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_with(broker: &Broker, store: impl OutboxStore, options: OutboxOptions) -> OutboxHandle {
        let store: Arc<dyn OutboxStore> = Arc::new(store);
        let wake = Arc::new(Notify::new());
        let (phase, phases) = watch::channel(Phase::Run);
        let (progress, seen) = watch::channel(Progress::default());
        let worker = Worker::new(broker.clone(), Arc::clone(&store), options, Arc::clone(&wake), phases, progress);
        let task = Mutex::new(Some(tokio::spawn(worker.run())));
        OutboxHandle { shared: Arc::new(Shared { store, wake, phase, progress: seen, task }) }
    }
}

/// A handle of a running outbox. Cloning copies a pointer; when the last one is dropped, publishing stops at once.
#[derive(Clone)]
pub struct OutboxHandle {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn OutboxStore>,
    wake: Arc<Notify>,
    phase: watch::Sender<Phase>,
    progress: watch::Receiver<Progress>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// How an outbox is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct OutboxStatus {
    /// What the store holds, of all nodes that share it.
    pub counts: OutboxCounts,
    /// Why nothing, or not everything, is published at the moment, in words for whoever operates the node; `None`: nothing is wrong.
    pub trouble: Option<String>,
    /// Rows that this node has published since it started.
    pub published: u64,
    /// Of those, rows that subscribers may have had before: their first attempt was older than the idempotency window.
    pub perhaps_doubled: u64,
}

impl OutboxHandle {
    /// Something was committed: it is published at once, rather than when the store is next looked at. Never blocks; too many calls cost nothing.
    ///
    /// While the backplane is down the pause between attempts goes on.
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// How the outbox is. Cancel-safe.
    pub async fn status(&self) -> Result<OutboxStatus, StoreFailed> {
        let counts = self.shared.store.counts().await?;
        let Progress { trouble, published, perhaps_doubled } = self.shared.progress.borrow().clone();
        Ok(OutboxStatus { counts, trouble, published, perhaps_doubled })
    }

    /// What is known of one row. Cancel-safe.
    pub async fn state(&self, row: RowId) -> Result<RowState, StoreFailed> {
        self.shared.store.state(row).await
    }

    /// Rows that wait. Cancel-safe.
    pub async fn pending(&self) -> Result<u64, StoreFailed> {
        Ok(self.shared.store.counts().await?.pending)
    }

    /// Rows that the broker refused for good, oldest first, at most so many. Cancel-safe.
    pub async fn refused(&self, limit: usize) -> Result<Vec<RefusedRow>, StoreFailed> {
        self.shared.store.refused(limit).await
    }

    /// Tries rows again that were put aside: this one, or all. Answers how many.
    pub async fn retry(&self, row: Option<RowId>) -> Result<usize, StoreFailed> {
        let rows = self.shared.store.retry(row).await?;
        self.wake();
        Ok(rows)
    }

    /// Forgets a row that was put aside. Answers whether there was one.
    pub async fn discard(&self, row: RowId) -> Result<bool, StoreFailed> {
        self.shared.store.discard(row).await
    }

    /// Publishes what is staged, and stops: when nothing is left that this node could publish, or when the time is over. Call it before
    /// [`Broker::drain`], when no handler stages any more. What is left stays in the store, for another node or the next start.
    ///
    /// Cancelled, it goes on; a second call waits for the same end.
    pub async fn drain(&self, time: Duration) {
        self.shared.phase.send_replace(Phase::Drain);
        let mut task = self.shared.task.lock().await;
        let Some(running) = task.as_mut() else { return };
        if timeout(time, &mut *running).await.is_err() {
            self.shared.phase.send_replace(Phase::Stop);
            if timeout(STOP_TIMEOUT, &mut *running).await.is_err() {
                // The store hangs. The claim ends with its lease.
                running.abort();
            }
        }
        *task = None;
    }
}

impl fmt::Debug for OutboxHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxHandle").field("progress", &*self.shared.progress.borrow()).finish_non_exhaustive()
    }
}
