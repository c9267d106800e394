//! The outbox in SQLite: it passes the suite, takes part in transactions, and several workers share a file.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use broker::{
    Broker, Payload, Publish, Topic,
    outbox::{
        Claim, Outbox, OutboxCounts, OutboxOptions, OutboxRow, OutboxStore, RefusedRow, RowId, RowState, Settled, SqliteOutbox, StageError,
        StoreFailed,
        rusqlite::Connection,
        testing::{MemoryOutbox, Stageable, outbox_suite},
    },
};

use crate::publishing::{Heard, broker, json};

pub(crate) fn stage(connection: &mut Connection, topic: &Topic, publish: &Publish) -> RowId {
    let transaction = connection.transaction().unwrap();
    let row = SqliteOutbox::stage(&transaction, topic, publish).unwrap();
    transaction.commit().unwrap();
    row
}

pub(crate) fn open(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

/// The store, and a connection of an application's.
struct WithApplication {
    store: SqliteOutbox,
    application: std::sync::Mutex<Connection>,
}

#[async_trait]
impl Stageable for WithApplication {
    async fn stage(&self, topic: &Topic, publish: Publish) -> RowId {
        stage(&mut self.application.lock().unwrap(), topic, &publish)
    }
}

#[async_trait]
impl OutboxStore for WithApplication {
    fn id(&self) -> &str {
        self.store.id()
    }
    async fn claim(&self, claim: Claim<'_>) -> Result<Vec<OutboxRow>, StoreFailed> {
        self.store.claim(claim).await
    }
    async fn settle(&self, worker: &str, settled: &[Settled]) -> Result<(), StoreFailed> {
        self.store.settle(worker, settled).await
    }
    async fn counts(&self) -> Result<OutboxCounts, StoreFailed> {
        self.store.counts().await
    }
    async fn state(&self, row: RowId) -> Result<RowState, StoreFailed> {
        self.store.state(row).await
    }
    async fn refused(&self, limit: usize) -> Result<Vec<RefusedRow>, StoreFailed> {
        self.store.refused(limit).await
    }
    async fn retry(&self, row: Option<RowId>) -> Result<usize, StoreFailed> {
        self.store.retry(row).await
    }
    async fn discard(&self, row: RowId) -> Result<bool, StoreFailed> {
        self.store.discard(row).await
    }
}

#[tokio::test]
async fn the_store_in_sqlite_passes_the_suite() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.sqlite");
    let application = std::sync::Mutex::new(open(&file));
    outbox_suite(&WithApplication { store: SqliteOutbox::open(&file).unwrap(), application }).await;
}

#[tokio::test]
async fn the_store_in_memory_passes_the_suite() {
    outbox_suite(&MemoryOutbox::new()).await;
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.sqlite");
    let broker = broker();
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    let outbox = Outbox::start(&broker, SqliteOutbox::open(&file).unwrap());
    let mut application = open(&file);
    let transaction = application.transaction().unwrap();
    SqliteOutbox::stage(&transaction, &topic, &json("1")).unwrap();
    transaction.rollback().unwrap();
    outbox.wake();
    stage(&mut application, &topic, &json("2"));
    outbox.wake();
    assert_eq!(heard.next().await, "2", "the first one never was");
    outbox.drain(Duration::from_secs(30)).await;
    assert_eq!(heard.waiting(), [""; 0]);
}

#[tokio::test]
async fn what_one_process_left_behind_the_next_one_publishes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.sqlite");
    let topic: Topic = "news:1".parse().unwrap();
    let mut application = open(&file);
    SqliteOutbox::create(&application).unwrap();
    let first = SqliteOutbox::open(&file).unwrap();
    let named = first.id().to_owned();
    stage(&mut application, &topic, &json("1"));
    drop(first);
    let again = SqliteOutbox::open(&file).unwrap();
    assert_eq!(again.id(), named, "keys of the same store are the same keys");
    let broker = broker();
    let mut heard = Heard::of(&broker, &topic).await;
    let outbox = Outbox::start(&broker, again);
    assert_eq!(heard.next().await, "1", "nobody woke it");
    outbox.drain(Duration::from_secs(30)).await;
    assert_eq!(outbox.pending().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_on_one_database_publish_each_row_once_and_in_order() {
    const ROWS: usize = 300;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.sqlite");
    let broker = broker();
    let topics: Vec<Topic> = (0..3).map(|number| format!("news:{number}").parse().unwrap()).collect();
    let mut heard = Vec::new();
    for topic in &topics {
        heard.push(Heard::of(&broker, topic).await);
    }
    let options = || OutboxOptions::default().batch(7, 1 << 20);
    let workers = [0, 1].map(|_| Outbox::start_with(&broker, SqliteOutbox::open(&file).unwrap(), options()));
    let application = open(&file);
    let (waking, staged) = (workers.clone(), topics.clone());
    let staging = tokio::task::spawn_blocking(move || {
        let mut application = application;
        for number in 0..ROWS {
            stage(&mut application, &staged[number % 3], &json(&number.to_string()));
            waking[number % 2].wake();
        }
    });
    for number in 0..ROWS {
        assert_eq!(heard[number % 3].next().await, number.to_string());
    }
    staging.await.unwrap();
    let mut published = 0;
    for worker in &workers {
        worker.drain(Duration::from_secs(30)).await;
        published += worker.status().await.unwrap().published;
    }
    assert_eq!(published, ROWS as u64, "no row was published twice, not even as a duplicate");
    assert_eq!(workers[0].pending().await.unwrap(), 0);
}

#[tokio::test]
async fn what_goes_to_one_session_cannot_be_staged() {
    let mut application = Connection::open_in_memory().unwrap();
    SqliteOutbox::create(&application).unwrap();
    let transaction = application.transaction().unwrap();
    let topic: Topic = "session:x".parse().unwrap();
    let refused = SqliteOutbox::stage(&transaction, &topic, &Publish::new(Payload::json("1")));
    assert!(matches!(refused, Err(StageError::Unstageable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_row_that_another_program_wrote_is_put_aside_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.sqlite");
    let store = SqliteOutbox::open(&file).unwrap();
    let mut application = open(&file);
    let topic: Topic = "news:1".parse().unwrap();
    let row = stage(&mut application, &topic, &json("1"));
    application.execute("UPDATE broker_outbox SET options = '{'", []).unwrap();
    stage(&mut application, &topic, &json("2"));
    let broker: Broker = broker();
    let mut heard = Heard::of(&broker, &topic).await;
    let outbox = Outbox::start(&broker, store);
    assert_eq!(heard.next().await, "2");
    let refused = outbox.refused(10).await.unwrap();
    assert_eq!((refused.len(), refused[0].id), (1, row));
    assert!(refused[0].reason.starts_with("the row cannot be read"), "{}", refused[0].reason);
    let state = outbox.state(row).await.unwrap();
    assert!(matches!(state, RowState::Refused(_)), "{state:?}");
}
