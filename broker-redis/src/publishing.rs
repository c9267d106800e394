//! The way of a publish to Redis: what waits for one topic goes in one call of the script, and one call of a topic is in flight at a time.
//! So order survives every retry, and a busy topic costs Redis little.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{Bound, Full, Keep, Publication, Publish, PublishFailed, Published, Topic};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    answers::{self, Taken},
    calls::{Calls, IDEMPOTENCY_TTL},
    entry,
    failure::Failure,
    frame,
    listener::Listener,
    reports::Reports,
    servers::{Lane, Servers},
};

/// Most publications in one call: Redis does nothing else meanwhile.
const BATCH_MAX: usize = 64;
/// Most bytes of publications in one call, except where one alone has more.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// What a publish costs while it waits, its data apart.
const WAITING_BYTES: usize = 256;

/// Publishes on their way.
pub(crate) struct Publishing {
    servers: Servers,
    calls: Arc<Calls>,
    reports: Arc<Reports>,
    timeout: Duration,
    queue_max: usize,
    local_when_down: bool,
    /// Topics with a call in flight, and what waits for the next one.
    topics: Mutex<HashMap<Topic, VecDeque<Waiting>>>,
    queued_bytes: AtomicUsize,
    listener: Arc<Listener>,
}

/// A publish that waits for its call.
pub(crate) struct Waiting {
    pub(crate) publish: Publish,
    pub(crate) entry: Bytes,
    pub(crate) weight: usize,
    pub(crate) keep: Keep,
    since: Instant,
    done: oneshot::Sender<Result<Published, PublishFailed>>,
}

impl Waiting {
    /// Whether Redis has to remember nothing of it: it is only sent.
    fn is_only_sent(&self) -> bool {
        // What skips a history goes through the script too, in order with what stands in it.
        self.keep.is_nothing() && self.publish.idempotency_key.is_none() && self.publish.version.is_none()
    }

    fn bytes(&self) -> usize {
        self.entry.len() + WAITING_BYTES
    }
}

impl Publishing {
    pub(crate) fn new(
        servers: Servers,
        calls: Arc<Calls>,
        reports: Arc<Reports>,
        listener: Arc<Listener>,
        options: &crate::Options,
    ) -> Self {
        Self {
            servers,
            calls,
            reports,
            timeout: options.publish_timeout.min(TIMEOUT_MAX),
            queue_max: options.publish_queue_max,
            local_when_down: options.local_when_down,
            topics: Mutex::default(),
            queued_bytes: AtomicUsize::new(0),
            listener,
        }
    }

    /// Publishes in the order of the calls. Cancelled, it goes on.
    pub(crate) async fn publish(self: &Arc<Self>, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        let (done, answer) = oneshot::channel();
        let entry = entry::encode(&publish, self.reports.put(&publish));
        let weight = publish.weight_bytes(topic);
        let waiting = Waiting { publish, entry, weight, keep, since: Instant::now(), done };
        let bytes = waiting.bytes();
        if self.queued_bytes.fetch_add(bytes, Relaxed) + bytes > self.queue_max {
            self.queued_bytes.fetch_sub(bytes, Relaxed);
            return Err(PublishFailed::NotSent("more publishes wait for Redis than may".to_owned()));
        }
        match self.topics.lock().entry(topic.clone()) {
            hash_map::Entry::Occupied(mut queue) => queue.get_mut().push_back(waiting),
            hash_map::Entry::Vacant(place) => {
                place.insert(VecDeque::from([waiting]));
                tokio::spawn(self.clone().drive(topic.clone()));
            }
        }
        answer.await.unwrap_or_else(|_| Err(PublishFailed::Unconfirmed("the backplane has ended".to_owned())))
    }

    /// Publishes what waits for a topic until nothing does.
    async fn drive(self: Arc<Self>, topic: Topic) {
        while let Some(batch) = self.next_batch(&topic) {
            let bytes: usize = batch.iter().map(Waiting::bytes).sum();
            let (late, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|waiting| waiting.since.elapsed() > self.timeout);
            for waiting in late {
                // Behind calls that failed as slowly; it has not been sent, and whoever published may be gone.
                let _ = waiting.done.send(Err(PublishFailed::NotSent("Redis does not answer in time".to_owned())));
            }
            if !batch.is_empty() {
                self.publish_batch(&topic, batch).await;
            }
            self.queued_bytes.fetch_sub(bytes, Relaxed);
        }
    }

    /// What goes together; nothing: the topic is at rest from here on.
    fn next_batch(&self, topic: &Topic) -> Option<Vec<Waiting>> {
        let mut topics = self.topics.lock();
        let queue = topics.get_mut(topic)?;
        let Some(first) = queue.pop_front() else {
            topics.remove(topic);
            return None;
        };
        let mut bytes = first.entry.len();
        let mut batch = vec![first];
        while let Some(next) = queue.front() {
            bytes += next.entry.len();
            let goes_along = next.keep == batch[0].keep && next.is_only_sent() == batch[0].is_only_sent();
            if batch.len() >= BATCH_MAX || bytes > BATCH_BYTES_MAX || !goes_along {
                break;
            }
            batch.extend(queue.pop_front());
        }
        Some(batch)
    }

    async fn publish_batch(&self, topic: &Topic, batch: Vec<Waiting>) {
        let answer = if batch[0].is_only_sent() { self.send(topic, &batch).await } else { self.append(topic, &batch).await };
        match answer {
            Ok(taken) => {
                for (waiting, taken) in batch.into_iter().zip(taken) {
                    let answer = published(topic, &waiting, taken, self.calls.versions_max);
                    // Whoever published may be gone.
                    let _ = waiting.done.send(answer);
                }
            }
            Err(failure) => {
                let is_local = self.local_when_down && batch[0].is_only_sent() && matches!(failure, Failure::NotDone(_));
                let sink = self.listener.sink().filter(|_| is_local);
                for waiting in batch {
                    let answer = match &sink {
                        Some(sink) => {
                            sink.publication(Arc::new(Publication::new(topic.clone(), waiting.publish)));
                            Ok(Published::at(None))
                        }
                        None => Err(failure.clone().into()),
                    };
                    let _ = waiting.done.send(answer);
                }
            }
        }
    }

    /// Sends what nothing is kept of.
    async fn send(&self, topic: &Topic, batch: &[Waiting]) -> Result<Vec<Taken>, Failure> {
        let group = self.calls.keys.topic(topic);
        let entries: Vec<Bytes> = batch.iter().map(|waiting| waiting.entry.clone()).collect();
        let command = self.servers.message(&group, frame::encode_unkept(&entries));
        self.servers.call(Lane::Publish, &group, &command, self.timeout).await?;
        Ok(batch.iter().map(|_| Taken::Unkept).collect())
    }

    /// Appends and sends, with the script.
    async fn append(&self, topic: &Topic, batch: &[Waiting]) -> Result<Vec<Taken>, Failure> {
        let group = self.calls.keys.topic(topic);
        let number = fastrand::u64(..);
        let call = |again| self.calls.publish(&group, batch, number, again);
        let answer = self.servers.eval_until(Lane::Publish, &group, &crate::script::PUBLISH, call, self.timeout).await?;
        answers::published(answer, batch.len())
    }
}

/// The answer to one publish of a batch.
fn published(topic: &Topic, waiting: &Waiting, taken: Taken, versions_max: usize) -> Result<Published, PublishFailed> {
    let full = |bound, max| Full { bound, max, namespace: topic.namespace().map(Into::into) };
    let state = waiting.keep.state;
    match taken {
        Taken::At(position) => Ok(Published::at(Some(position))),
        Taken::Unkept => Ok(Published::at(None)),
        Taken::Duplicate(position) => Ok(Published::duplicate_of(position)),
        Taken::Outdated(top) => Ok(Published::outdated(top)),
        Taken::TooManyRows => Err(full(Bound::StateSize, state.map_or(0, |state| state.size)).into()),
        Taken::RowsTooLarge => Err(full(Bound::StateBytes, state.map_or(0, |state| state.bytes)).into()),
        Taken::TooManyVersions => Err(full(Bound::Versions, versions_max).into()),
    }
}

/// How long a batch is remembered: it is tried again within the publish's timeout.
pub(crate) const BATCH_TTL: Duration = Duration::from_secs(30);
/// Longest time for all tries of a batch together.
const TIMEOUT_MAX: Duration = Duration::from_secs(25);

const _: () = assert!(TIMEOUT_MAX.as_secs() < BATCH_TTL.as_secs() && BATCH_TTL.as_secs() < IDEMPOTENCY_TTL.as_secs());
