//! Publishes one batch of rows: topics beside each other, the rows of a topic one after the other. Which rows, and when, lives in `worker`.

use std::{
    collections::HashMap,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker_core::{PublishError, PublishFailed, Published, Topic, unix_ms};
use tokio::{task::JoinSet, time::Instant};

use super::{OutboxOptions, OutboxRow, Outcome, PastWindow, RowId, Settled};
use crate::Broker;

/// How long a backplane remembers idempotency keys.
const WINDOW: Duration = Duration::from_secs(300);

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What the store is told.
    pub(super) settled: Vec<Settled>,
    /// Topics whose rows have to wait, and why.
    pub(super) delayed: Vec<(Topic, String)>,
    /// Why the backplane takes nothing at the moment.
    pub(super) down: Option<String>,
    /// Rows that were published, or found to be.
    pub(super) published: u64,
    /// Rows that were published although they may have been before the idempotency window.
    pub(super) perhaps_doubled: u64,
    /// The broker is gone.
    pub(super) closed: bool,
}

impl Done {
    fn settle(&mut self, row: RowId, outcome: Outcome) {
        self.settled.push(Settled { row, outcome });
    }

    fn add(&mut self, other: Self) {
        self.settled.extend(other.settled);
        self.delayed.extend(other.delayed);
        self.down = self.down.take().or(other.down);
        self.published += other.published;
        self.perhaps_doubled += other.perhaps_doubled;
        self.closed |= other.closed;
    }
}

/// Publishes rows as they were claimed, and begins with none when the claim is over. Cancelled, nobody knows of any row whether it was published: they
/// stay marked as tried.
pub(super) async fn publish(broker: &Broker, store_id: &str, options: &Arc<OutboxOptions>, rows: Vec<OutboxRow>, until: Instant) -> Done {
    let mut topics = HashMap::<Topic, Vec<OutboxRow>>::new();
    for row in rows {
        topics.entry(row.topic.clone()).or_default().push(row);
    }
    let mut tasks = JoinSet::new();
    for rows in topics.into_values() {
        let (broker, options, store_id) = (broker.clone(), Arc::clone(options), store_id.to_owned());
        tasks.spawn(async move { publish_topic(&broker, &store_id, &options, rows, until).await });
    }
    let mut done = Done::default();
    while let Some(of_topic) = tasks.join_next().await {
        match of_topic {
            Ok(of_topic) => done.add(of_topic),
            // What is not settled stays, marked as tried.
            Err(interrupted) => done.down = Some(format!("publishing was interrupted: {interrupted}")),
        }
    }
    done
}

/// The rows of one topic, in order: behind one that has to wait, all others wait.
async fn publish_topic(broker: &Broker, store_id: &str, options: &OutboxOptions, rows: Vec<OutboxRow>, until: Instant) -> Done {
    let mut done = Done::default();
    let mut rows = rows.into_iter();
    for row in rows.by_ref() {
        if Instant::now() >= until {
            // Another worker may have had the topic since, and so long ago that nobody remembers its keys.
            done.settle(row.id, Outcome::NotSent);
            break;
        }
        let past = row.tried_at.filter(|tried_at| SystemTime::now().duration_since(*tried_at).is_ok_and(|age| age > WINDOW));
        if let Some(tried_at) = past
            && options.past_window == PastWindow::PutAside
        {
            let reason = format!("an attempt {} had no answer; publishing it again may double it", ago(tried_at));
            done.settle(row.id, Outcome::Refused { reason });
            continue;
        }
        let publish = row.publish.clone().idempotency_key(key(store_id, &row));
        match verdict(broker.publish(&row.topic, publish).await) {
            Verdict::Published(published) => {
                done.published += 1;
                if let Some(tried_at) = past
                    && published.is_new()
                {
                    done.perhaps_doubled += 1;
                    tracing::warn!(
                        row = %row.id, topic = %row.topic.local(), first_attempt = ago(tried_at),
                        "a row of the outbox was published after the idempotency window; subscribers may have had it before"
                    );
                }
                if let Some(tell) = &options.on_published
                    && panic::catch_unwind(AssertUnwindSafe(|| tell(&row, &published))).is_err()
                {
                    // The row is out: it must not come again because of whom that was told.
                    tracing::error!(row = %row.id, topic = %row.topic.local(), "on_published panicked");
                }
                done.settle(row.id, Outcome::Published);
            }
            Verdict::Never(reason) => {
                tracing::warn!(row = %row.id, topic = %row.topic.local(), reason, "a row of the outbox was refused and put aside");
                done.settle(row.id, Outcome::Refused { reason });
            }
            Verdict::Later { outcome, why, whole } => {
                done.settle(row.id, outcome);
                match whole {
                    Whole::Topic => done.delayed.push((row.topic, why)),
                    Whole::Backplane => done.down = Some(why),
                    Whole::Broker => done.closed = true,
                }
                break;
            }
        }
    }
    for row in rows {
        done.settle(row.id, Outcome::NotSent);
    }
    done
}

/// The same for each attempt, and for no other row: also where a copy of the store from yesterday gives ids a second time.
fn key(store_id: &str, row: &OutboxRow) -> String {
    format!("outbox:{store_id}:{}:{}", row.id, unix_ms(row.staged_at))
}

/// What an answer means for the row.
enum Verdict {
    Published(Published),
    Never(String),
    Later { outcome: Outcome, why: String, whole: Whole },
}

/// What else has to wait.
enum Whole {
    Topic,
    Backplane,
    Broker,
}

fn verdict(answer: Result<Published, PublishError>) -> Verdict {
    let later = |outcome, why, whole| Verdict::Later { outcome, why, whole };
    match answer {
        Ok(published) => Verdict::Published(published),
        Err(PublishError::Refused(refusal)) if !refusal.is_temporary() => {
            let hint = refusal.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            Verdict::Never(format!("{refusal}{hint}"))
        }
        Err(PublishError::Closed) => later(Outcome::NotSent, "the broker is closed".to_owned(), Whole::Broker),
        Err(PublishError::Backplane(PublishFailed::NotSent(why))) => later(Outcome::NotSent, why, Whole::Backplane),
        Err(PublishError::Backplane(PublishFailed::Unconfirmed(why))) => later(Outcome::Unconfirmed, why, Whole::Backplane),
        Err(error @ (PublishError::Overloaded | PublishError::Refused(_) | PublishError::Backplane(PublishFailed::Full(_)))) => {
            later(Outcome::NotSent, error.to_string(), Whole::Topic)
        }
        // A failure that this build does not know: it may have been sent.
        Err(other) => later(Outcome::Unconfirmed, other.to_string(), Whole::Topic),
    }
}

fn ago(at: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(at).map_or(0, |age| age.as_secs());
    format!("{seconds} s ago")
}
