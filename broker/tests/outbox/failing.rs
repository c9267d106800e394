//! The worker when something fails: the backplane, the store, the process between publishing and settling.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use broker::{
    Backplane, Broker, Namespace, Published, Topic,
    outbox::{
        Claim, Outbox, OutboxCounts, OutboxOptions, OutboxRow, OutboxStore, PastWindow, RefusedRow, RowId, RowState, Settled, StoreFailed,
        testing::MemoryOutbox,
    },
};
use broker_core::{Announcement, Capabilities, Keep, LogPage, LogQuery, MemoryBackplane, Publish, PublishFailed, Sink, Unavailable};
use tokio::{sync::Notify, time::Instant};

use crate::publishing::{Heard, broker, json};

/// How the backplane fails.
#[derive(Clone, Copy)]
enum Fails {
    /// Nothing is sent.
    Down = 1,
    /// It is sent and stored, and the answer is lost.
    Deaf = 2,
    /// It takes its time.
    Slow = 3,
}

/// A backplane that can be taken away. Counts what is asked of it.
struct Flaky {
    memory: MemoryBackplane,
    fails: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
}

#[async_trait]
impl Backplane for Flaky {
    fn start(&self, sink: Weak<dyn Sink>) {
        self.memory.start(sink);
    }
    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }
    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        self.asked.fetch_add(1, Relaxed);
        let fails = self.fails.load(Relaxed);
        if fails == Fails::Down as u32 {
            return Err(PublishFailed::NotSent("no connection".to_owned()));
        }
        if fails == Fails::Slow as u32 {
            tokio::time::sleep(Duration::from_millis(1_600)).await;
        }
        let published = self.memory.publish(topic, publish, keep).await?;
        if fails == Fails::Deaf as u32 { Err(PublishFailed::Unconfirmed("the answer is lost".to_owned())) } else { Ok(published) }
    }
    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable> {
        self.memory.announce(topic, announcement).await
    }
    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        self.memory.interest(changes).await
    }
    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable> {
        self.memory.history(topic, query, keep).await
    }
    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        self.memory.remove_history(topic).await
    }
}

/// A broker whose backplane fails when told to, how it fails, and how often it was asked.
fn flaky() -> (Broker, Arc<AtomicU32>, Arc<AtomicU32>) {
    let (fails, asked) = (Arc::default(), Arc::default());
    let backplane = Flaky { memory: MemoryBackplane::new(), fails: Arc::clone(&fails), asked: Arc::clone(&asked) };
    let news = Namespace::default().history(1000, Duration::from_secs(3600));
    let broker = Broker::builder().backplane(Arc::new(backplane)).namespace("news", news).build().unwrap();
    (broker, fails, asked)
}

/// A store whose worker "dies" between publishing and settling: what it settles is lost, and it hears nothing more.
#[derive(Clone)]
struct Dying {
    memory: MemoryOutbox,
    died: Arc<Notify>,
    tried_at: Option<SystemTime>,
}

#[async_trait]
impl OutboxStore for Dying {
    fn id(&self) -> &str {
        self.memory.id()
    }
    async fn claim(&self, claim: Claim<'_>) -> Result<Vec<OutboxRow>, StoreFailed> {
        let mut rows = self.memory.claim(claim).await?;
        for row in &mut rows {
            row.tried_at = self.tried_at.or(row.tried_at);
        }
        Ok(rows)
    }
    async fn settle(&self, worker: &str, settled: &[Settled]) -> Result<(), StoreFailed> {
        if self.tried_at.is_some() {
            return self.memory.settle(worker, settled).await;
        }
        self.died.notify_one();
        std::future::pending().await
    }
    async fn counts(&self) -> Result<OutboxCounts, StoreFailed> {
        self.memory.counts().await
    }
    async fn state(&self, row: RowId) -> Result<RowState, StoreFailed> {
        self.memory.state(row).await
    }
    async fn refused(&self, limit: usize) -> Result<Vec<RefusedRow>, StoreFailed> {
        self.memory.refused(limit).await
    }
    async fn retry(&self, row: Option<RowId>) -> Result<usize, StoreFailed> {
        self.memory.retry(row).await
    }
    async fn discard(&self, row: RowId) -> Result<bool, StoreFailed> {
        self.memory.discard(row).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_publishing_and_settling_is_heard_once() {
    let (broker, memory) = (broker(), MemoryOutbox::new());
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    memory.stage(&topic, json("1")).unwrap();
    let store = Dying { memory: memory.clone(), died: Arc::default(), tried_at: None };
    let dying = Outbox::start(&broker, store.clone());
    store.died.notified().await;
    drop(dying);
    assert_eq!(heard.next().await, "1");
    assert_eq!(memory.counts().await.unwrap().pending, 1, "nobody knows that it was published");

    let began = Instant::now();
    let next = Outbox::start(&broker, memory.clone());
    memory.stage(&topic, json("2")).unwrap();
    assert_eq!(heard.next().await, "2", "the first one came once");
    assert!(began.elapsed() >= Duration::from_secs(14), "the dead one's claim holds for its lease");
    next.drain(Duration::from_secs(30)).await;
    let status = next.status().await.unwrap();
    assert_eq!((status.counts.pending, status.published, status.perhaps_doubled), (0, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn while_the_backplane_is_down_rows_wait_with_few_attempts_and_come_once_after_the_cure() {
    let (broker, fails, asked) = flaky();
    let store = MemoryOutbox::new();
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    fails.store(Fails::Down as u32, Relaxed);
    let outbox = Outbox::start(&broker, store.clone());
    for number in 0..10 {
        store.stage(&topic, json(&number.to_string())).unwrap();
        outbox.wake();
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let status = outbox.status().await.unwrap();
    assert_eq!((status.counts.pending, status.trouble.as_deref()), (10, Some("no connection")));
    let attempts = asked.load(Relaxed);
    assert!((300..1500).contains(&attempts), "{attempts} attempts in ten minutes with pauses of 0 to 2 s");
    fails.store(0, Relaxed);
    let cured = Instant::now();
    for number in 0..10 {
        assert_eq!(heard.next().await, number.to_string());
    }
    assert!(cured.elapsed() <= Duration::from_secs(2));
    outbox.drain(Duration::from_secs(5)).await;
    let status = outbox.status().await.unwrap();
    assert_eq!((status.counts.pending, status.trouble, status.perhaps_doubled), (0, None, 0));
    assert_eq!(heard.waiting(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_over_when_rows_go_out_and_not_when_another_worker_holds_them() {
    let (broker, fails, _) = flaky();
    let store = MemoryOutbox::new();
    let topic: Topic = "news:1".parse().unwrap();
    fails.store(Fails::Down as u32, Relaxed);
    store.stage(&topic, json("1")).unwrap();
    let outbox = Outbox::start(&broker, store.clone());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let other = Claim { worker: "other", except: &[], rows: 1, bytes: 1, lease: Duration::from_secs(60) };
    assert_eq!(store.claim(other).await.unwrap().len(), 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(outbox.status().await.unwrap().trouble.as_deref(), Some("no connection"));
    fails.store(0, Relaxed);
    store.settle("other", &[]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let status = outbox.status().await.unwrap();
    assert_eq!((status.counts.pending, status.trouble), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_worker_publishes_nothing_of_a_claim_that_is_over() {
    let (broker, fails, _) = flaky();
    let store = MemoryOutbox::new();
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    fails.store(Fails::Slow as u32, Relaxed);
    for number in 0..20 {
        store.stage(&topic, json(&number.to_string())).unwrap();
    }
    let outbox = Outbox::start(&broker, store.clone());
    tokio::time::sleep(Duration::from_millis(15_500)).await;
    let other = Claim { worker: "other", except: &[], rows: 64, bytes: 1 << 20, lease: Duration::from_secs(60) };
    assert_eq!(store.claim(other).await.unwrap().len(), 20, "the lease of the slow one is over");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let numbers: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(heard.waiting(), numbers, "the tenth was begun in time");
    fails.store(0, Relaxed);
    store.settle("other", &[]).await.unwrap();
    outbox.drain(Duration::from_secs(30)).await;
    assert_eq!(heard.waiting().len(), 10);
    assert_eq!(outbox.status().await.unwrap().perhaps_doubled, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_asked_for_again_and_heard_once() {
    let (broker, fails, _) = flaky();
    let store = MemoryOutbox::new();
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    fails.store(Fails::Deaf as u32, Relaxed);
    store.stage(&topic, json("1")).unwrap();
    store.stage(&topic, json("2")).unwrap();
    let outbox = Outbox::start(&broker, store);
    assert_eq!(heard.next().await, "1");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(heard.waiting(), [""; 0], "the second one waits for the first one's answer");
    fails.store(0, Relaxed);
    assert_eq!(heard.next().await, "2");
    outbox.drain(Duration::from_secs(5)).await;
    assert_eq!(outbox.status().await.unwrap().counts, OutboxCounts::default());
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_holds_up_nothing_and_its_rows_come_once() {
    let (broker, store) = (broker(), MemoryOutbox::new());
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    let told = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&told);
    let options = OutboxOptions::default().on_published(move |_, _| {
        counted.fetch_add(1, Relaxed);
        panic!("the callback's own fault");
    });
    let outbox = Outbox::start_with(&broker, store.clone(), options);
    for number in ["1", "2"] {
        store.stage(&topic, json(number)).unwrap();
    }
    outbox.drain(Duration::from_secs(5)).await;
    assert_eq!((heard.next().await, heard.next().await, heard.waiting().len()), ("1".to_owned(), "2".to_owned(), 0));
    let status = outbox.status().await.unwrap();
    assert_eq!((status.counts.pending, status.published, told.load(Relaxed)), (0, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_drain_while_the_backplane_is_down_ends_in_time_and_leaves_the_rows() {
    let (broker, fails, _) = flaky();
    let store = MemoryOutbox::new();
    fails.store(Fails::Down as u32, Relaxed);
    store.stage(&"news:1".parse().unwrap(), json("1")).unwrap();
    let outbox = Outbox::start(&broker, store.clone());
    let began = Instant::now();
    outbox.drain(Duration::from_secs(5)).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(store.counts().await.unwrap().pending, 1);
}

#[tokio::test(start_paused = true)]
async fn past_the_idempotency_window_a_row_is_published_again_and_counted_or_put_aside() {
    let topic: Topic = "news:1".parse().unwrap();
    let long_ago = SystemTime::now().checked_sub(Duration::from_secs(301));
    for (past_window, published, refused) in [(PastWindow::Publish, 1, 0), (PastWindow::PutAside, 0, 1)] {
        let (broker, memory) = (broker(), MemoryOutbox::new());
        memory.stage(&topic, json("1")).unwrap();
        let store = Dying { memory, died: Arc::default(), tried_at: long_ago };
        let outbox = Outbox::start_with(&broker, store, OutboxOptions::default().past_window(past_window));
        outbox.drain(Duration::from_secs(5)).await;
        let status = outbox.status().await.unwrap();
        assert_eq!((status.perhaps_doubled, status.counts.refused, status.counts.pending), (published, refused, 0));
        if let Some(row) = outbox.refused(1).await.unwrap().first() {
            assert_eq!(row.reason, "an attempt 301 s ago had no answer; publishing it again may double it");
        }
    }
}
