//! The task of an outbox: claims rows, has them published, settles them, waits. How a batch is published lives in `batch`.

use std::sync::Arc;

use broker_core::Topic;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{Claim, OutboxOptions, OutboxStore, backoff::Backoff, batch};
use crate::Broker;

/// Topics that wait one by one; with more of them everything waits.
const DELAYED_MAX: usize = 64;

/// How long an outbox goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Run,
    /// Until nothing is left.
    Drain,
    /// Not even to the end of the batch.
    Stop,
}

/// What others see of the work.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) trouble: Option<String>,
    pub(super) published: u64,
    pub(super) perhaps_doubled: u64,
}

pub(super) struct Worker {
    name: String,
    broker: Broker,
    store: Arc<dyn OutboxStore>,
    options: Arc<OutboxOptions>,
    wake: Arc<Notify>,
    phases: watch::Receiver<Phase>,
    progress: watch::Sender<Progress>,
    backoff: Backoff,
    /// Store or backplane fail, and that has been logged.
    is_down: bool,
    /// Topics whose next row was refused for the moment, until when.
    delayed: Vec<(Topic, Backoff, Instant)>,
}

/// What a look at the store came to.
enum Round {
    /// There may be more.
    Worked,
    /// Nothing that this worker could take.
    Idle,
    /// Store or backplane failed.
    Failed(String),
    /// The broker is gone.
    Closed,
}

impl Worker {
    pub(super) fn new(
        broker: Broker,
        store: Arc<dyn OutboxStore>,
        options: OutboxOptions,
        wake: Arc<Notify>,
        phases: watch::Receiver<Phase>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let name = format!("{:032x}", fastrand::u128(..));
        Self { name, broker, store, options: Arc::new(options), wake, phases, progress, backoff, is_down: false, delayed: Vec::new() }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.round().await {
                Round::Closed => return,
                Round::Worked => self.recovered(),
                Round::Failed(why) => {
                    let pause = self.backoff.failed();
                    self.tell_trouble(why);
                    if !self.pause(Instant::now() + pause, false).await {
                        return;
                    }
                }
                Round::Idle if self.phase() == Phase::Drain && self.delayed.is_empty() => return,
                Round::Idle => {
                    self.rested().await;
                    let next = self.delayed.iter().map(|(.., until)| *until).min();
                    let poll_at = Instant::now() + self.options.poll_interval;
                    if !self.pause(next.map_or(poll_at, |next| next.min(poll_at)), true).await {
                        return;
                    }
                }
            }
            if self.is_over() {
                return;
            }
        }
    }

    /// Claims, publishes, settles. In the middle of it the phase `Stop` gives the rows back.
    async fn round(&mut self) -> Round {
        let now = Instant::now();
        let except: Vec<Topic> = self.delayed.iter().filter(|(.., until)| *until > now).map(|(topic, ..)| topic.clone()).collect();
        let claim = Claim {
            worker: &self.name,
            except: &except,
            rows: self.options.batch_max,
            bytes: self.options.batch_max_bytes,
            lease: self.options.lease,
        };
        let until = now + self.options.lease;
        let rows = match self.store.claim(claim).await {
            Ok(rows) => rows,
            Err(failed) => return Round::Failed(failed.to_string()),
        };
        if rows.is_empty() {
            self.delayed.retain(|(topic, ..)| except.contains(topic));
            return Round::Idle;
        }
        let topics: Vec<Topic> = rows.iter().map(|row| row.topic.clone()).collect();
        let mut phases = self.phases.clone();
        let done = tokio::select! {
            done = batch::publish(&self.broker, self.store.id(), &self.options, rows, until) => done,
            // Unsettled rows stay marked as tried: some of them may have been sent.
            () = stopped(&mut phases) => batch::Done::default(),
        };
        let settled = self.store.settle(&self.name, &done.settled).await;
        self.progress.send_modify(|progress| {
            progress.published += done.published;
            progress.perhaps_doubled += done.perhaps_doubled;
        });
        let delayed_len = done.delayed.len();
        self.delay(&topics, done.delayed);
        if done.closed {
            Round::Closed
        } else if let Err(failed) = settled {
            // The claim is still this worker's: the same rows come again, and their keys say that they were published.
            Round::Failed(failed.to_string())
        } else if let Some(down) = done.down {
            Round::Failed(down)
        } else if delayed_len > 0 && self.delayed.len() > DELAYED_MAX {
            self.delayed.truncate(DELAYED_MAX);
            Round::Failed(format!("rows of more than {DELAYED_MAX} topics have to wait"))
        } else {
            Round::Worked
        }
    }

    /// Remembers which of the topics that were tried have to wait, and forgets the others.
    fn delay(&mut self, tried: &[Topic], failed: Vec<(Topic, String)>) {
        for (topic, why) in &failed {
            let (min, max) = (self.options.backoff_min, self.options.backoff_max);
            let at = self.delayed.iter().position(|(of, ..)| of == topic);
            let is_first = self.delayed.is_empty();
            let mut backoff = at.map_or_else(|| Backoff::new(min, max), |at| self.delayed.swap_remove(at).1);
            if is_first {
                tracing::warn!(topic = %topic.local(), why, "rows of a topic wait in the outbox and are tried again; other topics go on");
            } else {
                tracing::debug!(topic = %topic.local(), why, "rows of the outbox have to wait");
            }
            let until = Instant::now() + backoff.failed();
            self.delayed.push((topic.clone(), backoff, until));
        }
        self.delayed.retain(|(topic, ..)| !tried.contains(topic) || failed.iter().any(|(of, _)| of == topic));
    }

    /// Waits until then, or until something is committed where that matters; `false`: it is time to stop.
    async fn pause(&mut self, until: Instant, wakes: bool) -> bool {
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.wake.notified(), if wakes => {}
            // A drain begins, or its time is over, or the last handle was dropped.
            _ = self.phases.changed() => {}
        }
        !self.is_over()
    }

    /// Whether the time of a drain is over, or the last handle was dropped.
    fn is_over(&self) -> bool {
        self.phase() == Phase::Stop || self.phases.has_changed().is_err()
    }

    fn phase(&self) -> Phase {
        *self.phases.borrow()
    }

    /// Told, and logged, once per outage.
    fn tell_trouble(&mut self, why: String) {
        if !std::mem::replace(&mut self.is_down, true) {
            tracing::warn!(why, "the outbox cannot publish; rows wait in the store and are tried again");
        }
        self.progress.send_modify(|progress| progress.trouble = Some(why));
    }

    /// There was nothing to take. That is no cure while rows wait: another worker has them, and fails as well.
    async fn rested(&mut self) {
        if !self.is_down || self.store.counts().await.is_ok_and(|counts| counts.pending == 0) {
            self.recovered();
        }
    }

    fn recovered(&mut self) {
        self.backoff.succeeded();
        let trouble = (!self.delayed.is_empty()).then(|| format!("rows of {} topics have to wait", self.delayed.len()));
        if std::mem::take(&mut self.is_down) {
            tracing::info!("the outbox publishes again");
        }
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.trouble, trouble.clone()) != trouble);
    }
}

/// Ready when the outbox is to stop, or its last handle is gone.
async fn stopped(phases: &mut watch::Receiver<Phase>) {
    let _ = phases.wait_for(|phase| *phase == Phase::Stop).await;
}
