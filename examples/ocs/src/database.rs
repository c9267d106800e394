//! The database: one SQLite file that all nodes share, its tables, and how it is used without holding up the runtime.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use broker::outbox::SqliteOutbox;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::{demo, passwords::Passwords};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, password TEXT NOT NULL,
    role TEXT NOT NULL, menus TEXT NOT NULL, groups TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS logins (
    id TEXT PRIMARY KEY, token_hash BLOB NOT NULL UNIQUE, user TEXT NOT NULL REFERENCES users (id), ends_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT, patient TEXT NOT NULL, exam TEXT NOT NULL, service TEXT NOT NULL,
    doctor TEXT NOT NULL REFERENCES users (id), status TEXT NOT NULL, ordered_at_ms INTEGER NOT NULL, changed_by TEXT, changed_at_ms INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT, order_id INTEGER NOT NULL, actor TEXT NOT NULL, message TEXT NOT NULL, frame TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS notice_rows (
    outbox_row INTEGER PRIMARY KEY, notice INTEGER NOT NULL, topic TEXT NOT NULL, published_at_ms INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS notice_rows_of ON notice_rows (notice);
CREATE TABLE IF NOT EXISTS recipients (
    notice INTEGER NOT NULL, user TEXT NOT NULL, received_at_ms INTEGER, how TEXT, session TEXT, PRIMARY KEY (notice, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipients_of ON recipients (user, notice);
CREATE TABLE IF NOT EXISTS sockets (
    session TEXT PRIMARY KEY, user TEXT NOT NULL, login TEXT NOT NULL, node TEXT NOT NULL, opened_at_ms INTEGER NOT NULL,
    closed_at_ms INTEGER, why TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sockets_of ON sockets (user, opened_at_ms);
CREATE INDEX IF NOT EXISTS sockets_by_end ON sockets (closed_at_ms);
";

/// Sockets that closed so long ago are forgotten.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The database. Cloning gives another handle of the same connection.
#[derive(Clone)]
pub struct Database {
    path: Arc<PathBuf>,
    connection: Arc<Mutex<Connection>>,
}

impl Database {
    /// Opens the file, and fills it where it is new. Blocks.
    pub(crate) fn open(path: &Path, passwords: &Passwords) -> anyhow::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.execute_batch(TABLES)?;
        SqliteOutbox::create(&connection)?;
        // Two nodes may open it at the same time: one of them fills it.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let is_new = transaction.query_row("SELECT count(*) = 0 FROM users", [], |row| row.get::<_, bool>(0))?;
        if is_new {
            demo::fill(&transaction, passwords)?;
        }
        transaction.commit()?;
        Ok(Self { path: Arc::new(path.to_owned()), connection: Arc::new(Mutex::new(connection)) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does something in one transaction, on a thread that may block: what it answers with `Ok` is committed, with `Err` it is rolled back.
    pub(crate) async fn with<T, E>(&self, act: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.transact(TransactionBehavior::Immediate, act).await
    }

    /// Looks at one moment of the database, which stands in no writer's way.
    pub(crate) async fn read<T, E>(&self, look: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.transact(TransactionBehavior::Deferred, look).await
    }

    async fn transact<T, E>(
        &self,
        behavior: TransactionBehavior,
        act: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let task = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(behavior)?;
            let answer = act(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        });
        match task.await {
            Ok(answer) => answer,
            Err(stopped) => Err(rusqlite::Error::ToSqlConversionFailure(Box::new(stopped)).into()),
        }
    }

    /// A node of this name starts: sockets that it had are gone, whatever ended it.
    pub(crate) async fn forget_sockets_of(&self, node: &str) -> rusqlite::Result<()> {
        let node = node.to_owned();
        self.with(move |transaction| {
            let ended =
                "UPDATE sockets SET closed_at_ms = ?2, why = 'the node ended without a goodbye' WHERE node = ?1 AND closed_at_ms IS NULL";
            transaction.execute(ended, params![node, now_ms()])?;
            forget_the_old(transaction)
        })
        .await
    }
}

/// Forgets sockets that closed long ago, and logins that have ended: whenever a node starts and somebody logs in.
pub(crate) fn forget_the_old(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM sockets WHERE closed_at_ms < ?1", [now_ms() - KEPT.as_millis() as i64])?;
    transaction.execute("DELETE FROM logins WHERE ends_at_ms < ?1", [now_ms()])?;
    Ok(())
}

/// Milliseconds of Unix time.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
