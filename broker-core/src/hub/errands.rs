//! Runs what topics queued while they were locked: calls of the backplane and the application, outside every lock.
//!
//! What answers at once is handled at once, on the caller's thread; the rest goes on as a task.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Hub,
    ports::Errand,
    reading,
    topic_entry::{KNOWN_FOR, TopicEntry},
};
use crate::{Refusal, SnapshotFailed, hooks::BoxFuture, panics};

/// Pause after the first failed call of a backplane, doubled by each further one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Time between two lines of the log about failures of the backplane.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps what fails all the time from filling the log.
#[derive(Default)]
pub(super) struct LogPause(parking_lot::Mutex<Option<Instant>>);

impl LogPause {
    /// Whether enough time has passed since this was last true.
    fn is_over(&self) -> bool {
        let (mut last, now) = (self.0.lock(), Instant::now());
        let is_over = last.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL);
        if is_over {
            *last = Some(now);
        }
        is_over
    }
}

impl Hub {
    /// Runs errands until none is left that can be done at once.
    pub(crate) fn run_errands(self: &Arc<Self>) {
        while let Some(errand) = self.ports.next_errand() {
            self.run_errand(errand);
        }
    }

    /// Lets the errands' task run what was queued under a lock of the backplane.
    pub(super) fn wake_errands(&self) {
        if self.ports.has_errands() {
            self.errands_wait.notify_one();
        }
    }

    /// Runs errands that nobody else runs, until the hub is closed.
    pub(crate) async fn serve_errands(hub: Weak<Self>) {
        loop {
            let Some(strong) = hub.upgrade() else { return };
            if strong.is_closed() {
                return;
            }
            strong.run_errands();
            strong.errands_wait.notified().await;
        }
    }

    fn run_errand(self: &Arc<Self>, errand: Errand) {
        match errand {
            Errand::Linger { entry, joins } if self.rules.settings.linger.is_zero() => entry.linger_over(&self.ports, joins),
            Errand::Linger { entry, joins } => {
                let hub = self.clone();
                let linger = self.rules.settings.linger;
                self.go_on(Box::pin(async move {
                    tokio::time::sleep(linger).await;
                    entry.linger_over(&hub.ports, joins);
                }));
            }
            Errand::Interest { entry, wanted } => self.change_interest(entry, wanted),
            Errand::Read { entry, query, state } => {
                let hub = self.clone();
                self.go_on(Box::pin(async move {
                    let answer = reading::read(&hub, &entry, query, state).await;
                    entry.read_done(&hub.ports, answer);
                }));
            }
            // The model has no time: its reads fail at most a few times.
            Errand::ReadLater { entry, .. } if cfg!(broker_model) => entry.retry_read(&self.ports),
            Errand::ReadLater { entry, failures } => {
                let hub = self.clone();
                self.go_on(Box::pin(async move {
                    tokio::time::sleep(pause(failures)).await;
                    entry.retry_read(&hub.ports);
                }));
            }
            // The model has no time.
            Errand::Forget { .. } if cfg!(broker_model) => {}
            Errand::Forget { entry } => self.go_on(Box::pin(async move {
                tokio::time::sleep(KNOWN_FOR).await;
                entry.forget_known();
            })),
            Errand::Snapshot { entry } => self.take_snapshot(entry),
        }
    }

    fn change_interest(self: &Arc<Self>, entry: Arc<TopicEntry>, wanted: bool) {
        let hub = self.clone();
        self.go_on(Box::pin(async move {
            let mut failures = 0;
            while let Err(error) = hub.in_time(hub.backplane.interest(&[(entry.topic.clone(), wanted)])).await {
                failures += 1;
                entry.interest_failed(&hub.ports, failures, &error);
                // A backplane that is gone fails for every topic, again and again.
                if hub.log_pause.is_over() {
                    tracing::warn!(topic = %entry.topic, %error, "the backplane does not change its interest, trying again; other topics may wait as well");
                }
                tokio::time::sleep(pause(failures)).await;
            }
            if wanted {
                entry.confirmed(&hub.ports, true);
            } else {
                hub.directory.remove_if(&entry, || entry.confirmed(&hub.ports, false));
            }
        }));
    }

    fn take_snapshot(self: &Arc<Self>, entry: Arc<TopicEntry>) {
        let Some(hook) = self.hooks.snapshot_of(&entry.topic).cloned() else { return };
        let hub = self.clone();
        self.go_on(Box::pin(async move {
            hub.stats.snapshot_calls.add(1);
            let topic = entry.topic.clone();
            let answer = match panics::guard(&hub.stats, async { hook(topic).await }, hub.rules.settings.hook_timeout).await {
                Ok(answer) => answer,
                Err(failed) => Err(SnapshotFailed::new(failed.to_string())),
            };
            entry.snapshot_outcome(answer.as_ref().err().map(|failed| &*failed.reason));
            let refusal = |failed: SnapshotFailed| {
                let refusal = Refusal::unavailable("the current state is not available, try again").retry_after(failed.retry_after);
                let setting = "snapshot_stale_max (hooks.snapshot.stale) lets an older snapshot stand in";
                refusal.rule(format!("the snapshot hook fails: {failed}; {setting}"))
            };
            entry.snapshot_done(&hub.ports, answer.map_err(refusal));
        }));
    }

    /// Runs a future as far as it goes; what is left goes on as a task, which then runs the errands it caused.
    pub(crate) fn go_on(self: &Arc<Self>, mut future: BoxFuture<()>) {
        // Whoever calls may stand outside every runtime; pauses and deadlines need one.
        let entered = self.runtime.as_ref().map(tokio::runtime::Handle::enter);
        let polled = poll_once(&mut future);
        drop(entered);
        if polled.is_ready() {
            return;
        }
        let Some(runtime) = &self.runtime else { return };
        let hub = self.clone();
        runtime.spawn(async move {
            future.await;
            hub.run_errands();
        });
    }
}

/// Polls a future without waiting for it. It must be polled again by whoever waits.
pub(crate) fn poll_once<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn pause(failures: u32) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
    longest.mul_f32(0.5 + fastrand::f32() / 2.0)
}
