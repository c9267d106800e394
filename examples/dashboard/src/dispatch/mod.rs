//! The dispatch database: orders of a delivery service in `SQLite`. What happens to them lives in `traffic`, what is told of them in `board`.

mod statistics;
mod traffic;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension, params};

pub use self::{
    statistics::{Point, Region, Statistics},
    traffic::{Alert, Step},
};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS orders (
        id INTEGER PRIMARY KEY, region TEXT NOT NULL, state TEXT NOT NULL,
        placed_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, late INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX IF NOT EXISTS orders_by_state ON orders (state, changed_at);
    CREATE INDEX IF NOT EXISTS orders_by_time ON orders (placed_at);
    CREATE TABLE IF NOT EXISTS alerts (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, severity TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, node TEXT NOT NULL, until INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT;
";

/// How long a call waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the database did not answer. It never names data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// `SQLite` says no.
    #[error("the dispatch database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The call broke.
    #[error("a call of the dispatch database broke")]
    Broken,
    /// Someone wanted to see what happens.
    #[error("the dispatch database is gone for a while, as was asked for")]
    Simulated,
}

/// One file that all nodes share. Cloning gives another handle to the same connection.
#[derive(Clone)]
pub struct Database(Arc<Mutex<Connection>>);

impl Database {
    /// Opens the file in this folder, and makes it where there is none.
    pub fn open(folder: &Path) -> Result<Self, DatabaseError> {
        let connection = Connection::open(folder.join("dispatch.db"))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Counts the orders. Blocks.
    pub fn statistics(&self) -> Result<Statistics, DatabaseError> {
        self.with(|connection| statistics::read(connection, now_ms()))
    }

    /// Lets a moment pass: orders come, are assigned, collected and delivered. In one transaction.
    pub async fn step(&self) -> Result<Step, DatabaseError> {
        self.call(|connection| traffic::step(connection, now_ms())).await
    }

    /// The newest alerts, newest first.
    pub async fn alerts(&self, limit: u32) -> Result<Vec<Alert>, DatabaseError> {
        self.call(move |connection| traffic::alerts(connection, limit)).await
    }

    /// Whether this node may do what only one may at a time: it had the lease, or nobody has. To be asked again before `ttl` is over.
    pub async fn lease(&self, name: &'static str, node: &str, ttl: Duration) -> Result<bool, DatabaseError> {
        let (node, now) = (node.to_owned(), now_ms());
        let until = now + ttl.as_millis() as i64;
        self.call(move |connection| {
            let changed = connection.execute(
                "INSERT INTO leases (name, node, until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET node = ?2, until = ?3 WHERE node = ?2 OR until < ?4",
                params![name, node, until, now],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    /// The secret of this name; all nodes have the same. It is `fresh` where there was none.
    pub fn secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, DatabaseError> {
        self.with(|connection| {
            connection.execute("INSERT OR IGNORE INTO secrets (name, secret) VALUES (?1, ?2)", params![name, fresh])?;
            connection
                .query_row("SELECT secret FROM secrets WHERE name = ?1", [name], |row| row.get(0))
                .optional()
                .map(Option::unwrap_or_default)
        })
    }

    fn with<T>(&self, call: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, DatabaseError> {
        Ok(call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))?)
    }

    /// Off the runtime's threads. Cancelled, the call goes on.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let database = self.clone();
        tokio::task::spawn_blocking(move || database.with(call)).await.map_err(|_| DatabaseError::Broken)?
    }
}

/// The time of the wall, in milliseconds since 1970: what stands in the database and in frames.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
