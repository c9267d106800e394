//! Reads that many topics need at once, after a connection was lost or the data began another life: a few at a time, so that neither Redis nor
//! the clients, who are told of another epoch by it, get everything in one moment. Which topics those are is found by `tops`.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{backplane::Inner, follow::Follow};

/// Topics that are read at a time.
const STEP: usize = 128;
/// Least time between two steps: 10,000 topics take two seconds.
const STEP_TIME: Duration = Duration::from_millis(25);
/// How long a step waits for its reads. Those that take longer go on by themselves.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked whether they are done.
const LOOK: Duration = Duration::from_millis(5);

/// What is to be read, and what is to be looked at.
#[derive(Default)]
pub(crate) struct Refill {
    waiting: Mutex<VecDeque<Arc<Follow>>>,
    more: Notify,
    look_now: Notify,
}

impl Refill {
    /// Topics may have missed something: their tops are looked at, without a wait.
    pub(crate) fn look(&self) {
        self.look_now.notify_one();
    }

    /// Waits for [`Refill::look`]. Cancel-safe.
    pub(crate) async fn to_be_looked_at(&self) {
        self.look_now.notified().await;
    }

    /// Has a topic read, once.
    pub(crate) fn read(&self, follow: &Arc<Follow>) {
        if follow.wants_read() {
            self.waiting.lock().push_back(follow.clone());
            self.more.notify_one();
        }
    }

    fn next_step(&self) -> Vec<Arc<Follow>> {
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(STEP);
        waiting.drain(..count).collect()
    }
}

/// Has topics read until the backplane is gone.
pub(crate) async fn run(inner: Weak<Inner>, refill: Arc<Refill>) {
    loop {
        let step = refill.next_step();
        if step.is_empty() {
            tokio::select! {
                () = refill.more.notified() => {}
                // A backplane that is gone is noticed with the next look.
                () = sleep(Duration::from_secs(1)) => {}
            }
            if inner.strong_count() == 0 {
                return;
            }
            continue;
        }
        let begun = Instant::now();
        for follow in &step {
            follow.gapped();
        }
        while begun.elapsed() < PATIENCE && step.iter().any(|follow| follow.awaits_read()) {
            sleep(LOOK).await;
        }
        for follow in &step {
            follow.gives_up();
        }
        tokio::time::sleep_until(begun + STEP_TIME).await;
    }
}
