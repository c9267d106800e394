//! What every backplane must do: run by each implementation with its own capabilities.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::keeping_suite;
use crate::{Announcement, Backplane, Keep, LogQuery, Payload, Position, Publication, Publish, Sink, Topic};

/// A sink that remembers.
#[derive(Default)]
pub(super) struct Recorder {
    publications: Mutex<HashMap<Topic, Vec<Arc<Publication>>>>,
    announcements: Mutex<Vec<Topic>>,
}

impl Sink for Recorder {
    fn publication(&self, publication: Arc<Publication>) {
        self.publications.lock().entry(publication.topic.clone()).or_default().push(publication);
    }

    fn announcement(&self, topic: &Topic, _announcement: Announcement) {
        self.announcements.lock().push(topic.clone());
    }

    fn link_restored(&self) {}

    fn gapped(&self, _topic: &Topic) {}
}

impl Recorder {
    /// The offsets that were delivered, once there are so many publications; what is published may be delivered a moment later.
    pub(super) async fn offsets(&self, topic: &Topic, count: usize) -> Vec<u64> {
        let begun = Instant::now();
        while self.count(topic) < count && begun.elapsed() < DELIVERED_WITHIN {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let all = self.publications.lock();
        all.get(topic).map(|all| all.iter().filter_map(|one| Some(one.position?.offset)).collect()).unwrap_or_default()
    }

    fn count(&self, topic: &Topic) -> usize {
        self.publications.lock().get(topic).map_or(0, Vec::len)
    }
}

/// What was published must be delivered after so long.
const DELIVERED_WITHIN: Duration = Duration::from_secs(5);

/// Keep three, for long.
pub(super) const THREE: Keep = Keep::history(3, Duration::from_secs(600));

pub(super) fn publish(n: u64) -> Publish {
    Publish::new(Payload::json(n.to_string()))
}

/// Runs the suite against a new backplane.
///
/// # Panics
/// Where the backplane breaks its contract.
pub async fn backplane_suite(backplane: Arc<dyn Backplane>) {
    let recorder = Arc::new(Recorder::default());
    let sink: Weak<dyn Sink> = Arc::downgrade(&recorder) as _;
    backplane.start(sink);
    let topic = |name: &str| -> Topic { name.parse().expect("a legal topic") };
    let names = ["suite:order", "suite:trim", "suite:keys", "suite:plain", "suite:parallel", "suite:line"];
    let interest: Vec<(Topic, bool)> = names.iter().chain(&keeping_suite::TOPICS).map(|name| (topic(name), true)).collect();
    // A backplane may be reaching its servers again at this moment.
    let begun = Instant::now();
    while let Err(refused) = backplane.interest(&interest).await {
        assert!(begun.elapsed() < DELIVERED_WITHIN, "interest is not taken: {refused}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    offsets_count_from_one_and_delivery_follows_the_log(&*backplane, &recorder, &topic("suite:order")).await;
    history_is_trimmed_paged_and_reversed(&*backplane, &topic("suite:trim")).await;
    a_retry_with_the_same_key_is_stored_once(&*backplane, &recorder, &topic("suite:keys")).await;
    what_is_not_kept_has_no_position(&*backplane, &recorder, &topic("suite:plain")).await;
    parallel_publishers_share_one_order(backplane.clone(), &recorder, &topic("suite:parallel")).await;
    publishes_are_taken_in_the_order_in_which_they_were_polled(&*backplane, &topic("suite:line")).await;
    keeping_suite::keeping_suite(&*backplane, &recorder).await;
}

async fn offsets_count_from_one_and_delivery_follows_the_log(backplane: &dyn Backplane, recorder: &Recorder, topic: &Topic) {
    let empty = backplane.history(topic, LogQuery::default(), THREE).await.expect("history answers");
    assert_eq!(empty.top.offset, 0, "an empty history stands at 0");
    for n in 1..=2 {
        let position = backplane.publish(topic, publish(n), THREE).await.expect("a publish is taken").position;
        assert_eq!(position, Some(Position { offset: n, epoch: empty.top.epoch }), "offsets count from 1 in the epoch that was handed out");
    }
    assert_eq!(recorder.offsets(topic, 2).await, [1, 2], "delivery follows the log");
}

async fn history_is_trimmed_paged_and_reversed(backplane: &dyn Backplane, topic: &Topic) {
    for n in 1..=5 {
        backplane.publish(topic, publish(n), THREE).await.expect("a publish is taken");
    }
    let read = async |query: LogQuery| -> Vec<u64> {
        let page = backplane.history(topic, query, THREE).await.expect("history answers");
        assert_eq!(page.top.offset, 5, "the top is the newest ever appended");
        page.publications.iter().filter_map(|publication| Some(publication.position?.offset)).collect()
    };
    assert_eq!(read(LogQuery::default()).await, [3, 4, 5]);
    assert_eq!(read(LogQuery { limit: Some(0), ..LogQuery::default() }).await, [0u64; 0]);
    assert_eq!(read(LogQuery { limit: Some(2), ..LogQuery::default() }).await, [3, 4]);
    assert_eq!(read(LogQuery { after: Some(4), ..LogQuery::default() }).await, [5]);
    assert_eq!(read(LogQuery { after: Some(1), ..LogQuery::default() }).await, [3, 4, 5]);
    assert_eq!(read(LogQuery { after: Some(9), ..LogQuery::default() }).await, [0u64; 0]);
    assert_eq!(read(LogQuery { reverse: true, limit: Some(2), ..LogQuery::default() }).await, [5, 4]);
    assert_eq!(read(LogQuery { reverse: true, ..LogQuery::after(5) }).await, [4, 3]);
    let next = async |query: LogQuery| backplane.history(topic, query, THREE).await.expect("history answers").next;
    assert_eq!(
        next(LogQuery { limit: Some(2), ..LogQuery::default() }).await,
        Some(4),
        "a page that is cut says where the next one begins"
    );
    assert_eq!(next(LogQuery { bytes: Some(1), ..LogQuery::default() }).await, Some(3));
    assert_eq!(next(LogQuery { reverse: true, limit: Some(2), ..LogQuery::default() }).await, Some(4));
    for whole in [LogQuery::default(), LogQuery::top(), LogQuery::after(5), LogQuery { limit: Some(3), ..LogQuery::default() }] {
        assert_eq!(next(whole).await, None, "{whole:?} leaves nothing out");
    }
    backplane.remove_history(topic).await.expect("history is removed");
    assert_eq!(read(LogQuery::default()).await, [0u64; 0], "positions go on after a removal");
}

/// The order of those who ask is that of the log, although none waits for the answer to another one.
async fn publishes_are_taken_in_the_order_in_which_they_were_polled(backplane: &dyn Backplane, topic: &Topic) {
    if !backplane.capabilities().in_line {
        return;
    }
    let keep = Keep::history(1000, THREE.ttl);
    let mut calls: Vec<_> = (1..=100).map(|n| backplane.publish(topic, publish(n), keep)).collect();
    let mut answers = Vec::new();
    for call in &mut calls {
        answers.push(match poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        });
    }
    for ((call, early), n) in calls.into_iter().zip(answers).zip(1..) {
        let answer = if let Some(early) = early { early } else { call.await };
        let position = answer.expect("a publish is taken").position;
        assert_eq!(position.map(|position| position.offset), Some(n), "each has the place in which it was polled");
    }
}

async fn a_retry_with_the_same_key_is_stored_once(backplane: &dyn Backplane, recorder: &Recorder, topic: &Topic) {
    let first = backplane.publish(topic, publish(1).idempotency_key("k"), THREE).await.expect("a publish is taken");
    let again = backplane.publish(topic, publish(1).idempotency_key("k"), THREE).await.expect("a retry is answered");
    assert!(!first.duplicate && again.duplicate);
    assert_eq!(first.position, again.position, "a retry names the first one's position");
    let other = backplane.publish(topic, publish(2).idempotency_key("l"), THREE).await.expect("a publish is taken");
    assert!(!other.duplicate);
    assert_eq!(recorder.offsets(topic, 2).await, [1, 2], "the retry was not delivered");
}

async fn what_is_not_kept_has_no_position(backplane: &dyn Backplane, recorder: &Recorder, topic: &Topic) {
    let published = backplane.publish(topic, publish(1), Keep::NOTHING).await.expect("a publish is taken");
    assert_eq!(published.position, None);
    let published = backplane.publish(topic, publish(2).skip_history(), THREE).await.expect("a publish is taken");
    assert_eq!(published.position, None);
    assert!(recorder.offsets(topic, 2).await.is_empty(), "neither has a position");
    assert_eq!(recorder.count(topic), 2, "both were delivered");
    let page = backplane.history(topic, LogQuery::default(), THREE).await.expect("history answers");
    assert_eq!((page.top.offset, page.publications.len()), (0, 0));
}

async fn parallel_publishers_share_one_order(backplane: Arc<dyn Backplane>, recorder: &Recorder, topic: &Topic) {
    let keep = Keep::history(1000, THREE.ttl);
    let publishers = (0..4).map(|_| {
        let (backplane, topic) = (backplane.clone(), topic.clone());
        tokio::spawn(async move {
            for n in 0..100 {
                backplane.publish(&topic, publish(n), keep).await.expect("a publish is taken");
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.expect("no publisher panics");
    }
    assert_eq!(recorder.offsets(topic, 400).await, (1..=400).collect::<Vec<u64>>(), "delivery follows the log");
}
