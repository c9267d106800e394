//! The database: one file that all nodes share, one connection a node, and transactions whose publications go out when they are committed.
//! What the tables hold lives in the files beside this one.

mod notices;
mod people;
mod products;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use broker::{
    Publish, Refusal, Topic,
    outbox::{OutboxHandle, SqliteOutbox},
};
use rusqlite::{Connection, TransactionBehavior};

pub use self::{
    notices::{Delivery, HistoryQuery, Recipient, Shown, Statistics, TypeCount},
    people::{Login, Preferences, User},
    products::{Analysis, Chart, Point, Product},
};
use crate::refused::Refused;

/// How long a statement waits for another node's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module's text. Cloning copies a pointer.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    connection: Mutex<Connection>,
    file: PathBuf,
    wakes: OnceLock<OutboxHandle>,
}

/// An open transaction: reads, writes, and stages what is published when it is committed.
pub struct Transaction<'a> {
    sql: rusqlite::Transaction<'a>,
}

impl Store {
    /// Opens the file, and makes what is missing in it.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.execute_batch(include_str!("schema.sql"))?;
        SqliteOutbox::create(&connection)?;
        Ok(Self(Arc::new(Shared { connection: Mutex::new(connection), file: file.to_owned(), wakes: OnceLock::new() })))
    }

    /// The outbox in the file, to be started.
    pub fn outbox(&self) -> rusqlite::Result<SqliteOutbox> {
        SqliteOutbox::open(&self.0.file)
    }

    /// From here on, what is staged is published as soon as it is committed.
    pub fn publish_by(&self, outbox: OutboxHandle) {
        let _ = self.0.wakes.set(outbox);
    }

    /// The running outbox, once there is one.
    pub fn running_outbox(&self) -> Option<&OutboxHandle> {
        self.0.wakes.get()
    }

    /// Runs one transaction on a thread that may block. An error rolls it back, with everything that was staged.
    ///
    /// Cancelled, the transaction goes on.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || store.run_blocking(work)).await;
        done.expect("a transaction does not panic")
    }

    /// The same, on a thread that may block already.
    pub fn run_blocking<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Refused>) -> Result<T, Refused> {
        let mut connection = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // Immediate: a transaction that begins by reading and then writes would fail where another node wrote in between.
        let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let transaction = Transaction { sql };
        let done = work(&transaction)?;
        transaction.sql.commit()?;
        if let Some(outbox) = self.0.wakes.get() {
            outbox.wake();
        }
        Ok(done)
    }
}

impl Transaction<'_> {
    /// Has this published when the transaction is committed, and never if it is rolled back.
    pub fn stage(&self, topic: &Topic, publish: &Publish) -> Result<(), Refused> {
        SqliteOutbox::stage(&self.sql, topic, publish).map_err(|error| Refusal::unavailable(error.to_string()))?;
        Ok(())
    }

    /// Whether this node holds the named lease, or takes it over, for so long.
    pub fn lease(&self, name: &str, holder: &str, now_ms: u64, time: Duration) -> Result<bool, Refused> {
        let until_ms = now_ms + time.as_millis() as u64;
        let held = self.sql.execute(
            "INSERT INTO leases VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET holder = ?2, until_ms = ?3 WHERE holder = ?2 OR until_ms < ?4",
            (name, holder, until_ms, now_ms),
        )?;
        Ok(held == 1)
    }
}

/// A list that stands in one column.
fn listed<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The same, to be stored.
fn as_list(values: &impl serde::Serialize) -> String {
    serde_json::to_string(values).expect("lists of numbers and words")
}
