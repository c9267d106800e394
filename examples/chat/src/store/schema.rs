//! The tables, and how a connection to them is opened.

use std::{path::Path, time::Duration};

use broker::outbox::SqliteOutbox;
use rusqlite::Connection;

use super::random_id;

/// How long a write waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages of a session are numbered from 1 without holes, in the order in which they were stored: the number is their id, and `top` and `read`
/// are all that is needed to count what is unread.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, password TEXT NOT NULL, created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logins (
    id TEXT PRIMARY KEY, key_hash BLOB NOT NULL UNIQUE, user TEXT NOT NULL REFERENCES users, ends_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, invite TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL, top INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    session TEXT NOT NULL REFERENCES sessions, user TEXT NOT NULL REFERENCES users, joined_ms INTEGER NOT NULL,
    read INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (session, user)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_by_user ON members (user);
CREATE TABLE IF NOT EXISTS messages (
    session TEXT NOT NULL REFERENCES sessions, id INTEGER NOT NULL, user TEXT NOT NULL REFERENCES users, client_id TEXT,
    content TEXT NOT NULL, sent_ms INTEGER NOT NULL, PRIMARY KEY (session, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS messages_once ON messages (session, user, client_id) WHERE client_id IS NOT NULL;
";

/// A connection to the database: write-ahead log, so that readers and the writer do not wait for each other, and every commit is on the disk.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A connection for the outbox. Its commits need not be on the disk: a publication that it forgets to have sent is sent again under the same key, and
/// told once.
pub(super) fn open_for_outbox(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// Makes the tables, the outbox's too, and the secret that signs tokens: all nodes on one database have the same.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    SqliteOutbox::create(connection)?;
    connection.execute("INSERT OR IGNORE INTO settings VALUES ('token_secret', ?1)", [random_id::<32>()])?;
    Ok(())
}
