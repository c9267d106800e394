//! The task of a link: connects, runs the connection, waits, connects again, until the link ends. A living connection is in `connection`.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::time::{Instant as Moment, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::{
    Options, Target,
    connect::connect,
    connection::{Connection, End},
    outbox::{Ending, Shared},
};

/// A connection that lived so long proves that the server serves: the next wait is the shortest again.
const PROVEN: Duration = Duration::from_secs(1);

/// Keeps a link until it ends.
pub(crate) async fn run(shared: Arc<Shared>, target: Target, options: Options) {
    let guard = AtEnd(&shared);
    let mut backoff = Backoff { min: options.backoff_min, max: options.backoff_max, failures: 0 };
    let mut generation = 0;
    while let Some(outcome) = unless_ended(&shared, connect(&target, &options)).await {
        match outcome {
            Ok((ready, server)) => {
                generation += 1;
                info!(address = %target.address, generation, "connected");
                let since = Instant::now();
                let connection = Connection::new(&shared, &options, ready);
                shared.up(generation, server);
                match connection.run().await {
                    End::Closed => break,
                    End::Lost(reason) => {
                        warn!(address = %target.address, generation, %reason, "connection lost");
                        shared.down(generation, reason);
                    }
                }
                if since.elapsed() >= PROVEN {
                    backoff.failures = 0;
                }
            }
            Err(error) => {
                let words = error.to_string();
                if shared.failed(error) {
                    debug!(address = %target.address, error = words, "still not connected");
                } else {
                    warn!(address = %target.address, error = words, "not connected; trying again for ever");
                }
            }
        }
        if unless_ended(&shared, sleep(backoff.next(fastrand::f64()))).await.is_none() {
            break;
        }
    }
    drop(guard);
}

/// Tells callers of the end also where the runtime drops the task.
struct AtEnd<'a>(&'a Shared);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Runs `work` while the link lives, and keeps the deadlines of the calls that wait; `None`: the link is at its end.
async fn unless_ended<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut alarm = pin!(sleep_until(Moment::now()));
    poll_fn(|context| {
        loop {
            let orders = shared.look(context, 0);
            let now = Moment::now();
            let over = match orders.ending {
                None => false,
                Some(Ending::Now) => true,
                Some(Ending::By(deadline)) => !orders.waiting || now >= deadline,
            };
            if over {
                return Poll::Ready(None);
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            let close_at = if let Some(Ending::By(deadline)) = orders.ending { Some(deadline) } else { None };
            let Some(at) = [shared.sweep(now), close_at].into_iter().flatten().min() else { return Poll::Pending };
            alarm.as_mut().reset(at);
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Waits that double with each failure, half of each chance: what one failure cut off does not return in step, and nobody hammers.
#[derive(Debug)]
struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The next wait. `chance` is in `0.0..1.0`.
    fn next(&mut self, chance: f64) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.min.saturating_mul(factor).min(self.max.max(self.min)).mul_f64(0.5 + chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_below_half() {
        let waits = |chance: f64| {
            let mut backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_secs(2), failures: 0 };
            (0..40).map(|_| backoff.next(chance).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1.0)[..9], [20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        assert_eq!(waits(0.0)[..3], [10, 20, 40]);
        assert_eq!((waits(1.0)[39], waits(0.0)[39]), (2000, 1000));
    }
}
