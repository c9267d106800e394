//! The outbox in SQLite: its tables, how a row is staged in the application's transaction, and the store that a worker uses. The statements
//! live in `rows`, how a publication is written down in `written`.

mod rows;
mod written;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{Publish, Topic};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::{Claim, OutboxCounts, OutboxRow, OutboxStore, RefusedRow, RowId, RowState, Settled, StoreFailed, Unstageable};

/// How long the store waits for other writers of the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The tables. Names begin with `broker_outbox`, so that they stand beside the application's own.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS broker_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    kind INTEGER NOT NULL,
    data BLOB NOT NULL,
    options TEXT,
    staged_at_ms INTEGER NOT NULL,
    tried_at_ms INTEGER,
    before_ms INTEGER,
    refused TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS broker_outbox_pending ON broker_outbox (topic, id) WHERE refused IS NULL;
CREATE INDEX IF NOT EXISTS broker_outbox_refused ON broker_outbox (id) WHERE refused IS NOT NULL;
CREATE TABLE IF NOT EXISTS broker_outbox_topics (
    topic TEXT PRIMARY KEY,
    worker TEXT,
    free_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS broker_outbox_free ON broker_outbox_topics (free_at_ms);
CREATE TABLE IF NOT EXISTS broker_outbox_store (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;
";

/// The outbox in an SQLite database: the application's own, so that a publication is staged in the transaction that makes it true.
///
/// The application keeps its own connections. The store has one for itself, on which it works outside of the runtime's threads. Several processes
/// may share the file; write-ahead logging (`PRAGMA journal_mode = wal`) keeps them out of each other's way.
pub struct SqliteOutbox {
    connection: Arc<Mutex<Connection>>,
    id: String,
}

/// Why a publication was not staged. The transaction goes on, without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// It cannot be staged at all.
    #[error(transparent)]
    Unstageable(#[from] Unstageable),
    /// SQLite did not take it.
    #[error("the database did not take the publication: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl SqliteOutbox {
    /// Creates the tables where they are missing, and the store's random name. Blocks.
    pub fn create(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(TABLES)?;
        connection.execute("INSERT OR IGNORE INTO broker_outbox_store (one, id) VALUES (1, lower(hex(randomblob(12))))", [])?;
        Ok(())
    }

    /// Opens the store in the database of this file, with a connection of its own, and creates the tables where they are missing. Blocks.
    pub fn open(path: impl AsRef<Path>) -> rusqlite::Result<Self> {
        Self::on(Connection::open(path)?)
    }

    /// The store on a connection that nobody else uses. Blocks.
    pub fn on(connection: Connection) -> rusqlite::Result<Self> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // With a claim, everything that was committed before it reaches the disk: what is told then cannot be undone by a loss of power.
        connection.pragma_update(None, "synchronous", "full")?;
        Self::create(&connection)?;
        let id = connection.query_row("SELECT id FROM broker_outbox_store", [], |row| row.get(0))?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), id })
    }

    /// Stages a publication in the application's transaction: it is published after the commit, and never where there is none. Blocks.
    ///
    /// An idempotency key of the caller's is replaced by the row's. A [`ttl`](Publish::ttl) counts from the moment of publishing.
    pub fn stage(transaction: &Transaction<'_>, topic: &Topic, publish: &Publish) -> Result<RowId, StageError> {
        Unstageable::check(topic)?;
        Ok(rows::stage(transaction, topic, publish)?)
    }

    /// Does something with the connection, on a thread that may block, in one transaction.
    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreFailed> {
        let connection = Arc::clone(&self.connection);
        let task = tokio::task::spawn_blocking(move || {
            // A panic in the middle of a transaction rolled it back.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = act(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        });
        match task.await {
            Ok(answer) => answer.map_err(|error: rusqlite::Error| StoreFailed(error.to_string())),
            Err(stopped) => Err(StoreFailed(stopped.to_string())),
        }
    }

    /// Reads, without standing in the way of writers.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreFailed> {
        let connection = Arc::clone(&self.connection);
        let task = tokio::task::spawn_blocking(move || read(&connection.lock().unwrap_or_else(PoisonError::into_inner)));
        match task.await {
            Ok(answer) => answer.map_err(|error| StoreFailed(error.to_string())),
            Err(stopped) => Err(StoreFailed(stopped.to_string())),
        }
    }
}

#[async_trait]
impl OutboxStore for SqliteOutbox {
    fn id(&self) -> &str {
        &self.id
    }

    async fn claim(&self, claim: Claim<'_>) -> Result<Vec<OutboxRow>, StoreFailed> {
        // Most looks find nothing: they take no lock of the database.
        let except: Vec<String> = claim.except.iter().map(|topic| topic.as_str().to_owned()).collect();
        let ask = rows::Ask { worker: claim.worker.to_owned(), except, rows: claim.rows, bytes: claim.bytes, lease: claim.lease };
        let looking = ask.clone();
        if !self.read(move |connection| rows::is_any_free(connection, &looking)).await? {
            return Ok(Vec::new());
        }
        self.with(move |transaction| rows::claim(transaction, &ask)).await
    }

    async fn settle(&self, worker: &str, settled: &[Settled]) -> Result<(), StoreFailed> {
        let (worker, settled) = (worker.to_owned(), settled.to_vec());
        self.with(move |transaction| rows::settle(transaction, &worker, &settled)).await
    }

    async fn counts(&self) -> Result<OutboxCounts, StoreFailed> {
        self.read(rows::counts).await
    }

    async fn state(&self, row: RowId) -> Result<RowState, StoreFailed> {
        self.read(move |connection| {
            let refused = connection.query_row("SELECT refused FROM broker_outbox WHERE id = ?1", [row.0], |row| row.get(0)).optional()?;
            Ok(refused.map_or(RowState::Gone, |refused: Option<String>| refused.map_or(RowState::Pending, RowState::Refused)))
        })
        .await
    }

    async fn refused(&self, limit: usize) -> Result<Vec<RefusedRow>, StoreFailed> {
        self.read(move |connection| rows::refused(connection, limit)).await
    }

    async fn retry(&self, row: Option<RowId>) -> Result<usize, StoreFailed> {
        self.with(move |transaction| rows::retry(transaction, row)).await
    }

    async fn discard(&self, row: RowId) -> Result<bool, StoreFailed> {
        self.with(move |transaction| {
            Ok(transaction.execute("DELETE FROM broker_outbox WHERE id = ?1 AND refused IS NOT NULL", [row.0])? > 0)
        })
        .await
    }
}

impl fmt::Debug for SqliteOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOutbox").field("id", &self.id).finish_non_exhaustive()
    }
}
