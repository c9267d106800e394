//! The numbers of an outbox, and what it tells while it works.

use std::{fmt, sync::Arc, time::Duration};

use broker_core::Published;

use super::OutboxRow;

/// Is told of each row that the backplane has taken.
pub(super) type OnPublished = Arc<dyn Fn(&OutboxRow, &Published) + Send + Sync>;

/// Bounds and times of an outbox. Every default is meant to be right for most.
#[derive(Clone)]
#[non_exhaustive]
pub struct OutboxOptions {
    /// Most rows in one batch. Default: 64.
    pub batch_max: usize,
    /// Most bytes of data in one batch; one row is taken whatever it weighs. Default: 1 MiB.
    pub batch_max_bytes: usize,
    /// How often the store is looked at where nobody calls [`wake`](super::OutboxHandle::wake): rows of processes that died, and of transactions after
    /// which nobody said so. Default: 500 ms.
    pub poll_interval: Duration,
    /// How long the rows that a worker was given stay its own when nothing is heard of it; it publishes none of them behind that. Longer than a
    /// publish may take, and the same on all nodes. Default: 15 s.
    pub lease: Duration,
    /// Longest pause after the first failed attempt; doubles with each. The pause is chosen at random up to it. Default: 100 ms.
    pub backoff_min: Duration,
    /// Longest pause ever. Default: 2 s.
    pub backoff_max: Duration,
    /// What is done with a row whose attempt without an answer is older than the idempotency window. Default: publish again.
    pub past_window: PastWindow,
    pub(super) on_published: Option<OnPublished>,
}

/// What is done with a row whose first attempt without an answer is more than five minutes ago: publishing it again may double it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum PastWindow {
    /// It is published again, counted, and logged: at least once.
    #[default]
    Publish,
    /// It is put aside, so that somebody decides.
    PutAside,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            batch_max: 64,
            batch_max_bytes: 1 << 20,
            poll_interval: Duration::from_millis(500),
            lease: Duration::from_secs(15),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            past_window: PastWindow::Publish,
            on_published: None,
        }
    }
}

impl OutboxOptions {
    /// Sets the most rows and bytes of one batch; at least one row.
    pub fn batch(mut self, rows: usize, bytes: usize) -> Self {
        self.batch_max = rows.max(1);
        self.batch_max_bytes = bytes;
        self
    }

    /// Sets how often the store is looked at where nobody wakes the outbox.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Sets how long a claim holds.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the longest pause after the first failure, and the longest ever.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff_min = min;
        self.backoff_max = max;
        self
    }

    /// Sets what is done with rows whose attempt is older than the idempotency window.
    pub fn past_window(mut self, past_window: PastWindow) -> Self {
        self.past_window = past_window;
        self
    }

    /// Is told of each row that the backplane has taken, before the row leaves the store: after a crash in between it is told again. Must not block; a panic
    /// is logged and changes nothing.
    pub fn on_published(mut self, tell: impl Fn(&OutboxRow, &Published) + Send + Sync + 'static) -> Self {
        self.on_published = Some(Arc::new(tell));
        self
    }
}

impl fmt::Debug for OutboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch_max, batch_max_bytes, poll_interval, lease, past_window, .. } = self;
        let mut debug = f.debug_struct("OutboxOptions");
        debug.field("batch_max", batch_max).field("batch_max_bytes", batch_max_bytes).field("poll_interval", poll_interval);
        debug.field("lease", lease).field("past_window", past_window).finish_non_exhaustive()
    }
}
