//! Messages: stored once, with the publication that tells of them in the same transaction.

use broker::{Payload, Publish, Topic, outbox::SqliteOutbox};
use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::Serialize;

use super::{StoreError, accounts::Person, now_ms, sessions::check_member};
use crate::{Refused, frames::Outgoing, live};

/// The longest message, in characters.
const CONTENT_MAX: usize = 4000;
/// The longest id that a client gives a message, in bytes.
const CLIENT_ID_MAX: usize = 64;
/// Most messages that are read at once.
pub const PAGE_MAX: u32 = 200;

/// A message as everybody in its session gets it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Its number in the session, from 1, without holes.
    pub id: i64,
    /// The session.
    pub session_id: String,
    /// Who sent it.
    pub user: Person,
    /// What was said.
    pub content: String,
    /// When it was stored, in milliseconds of Unix time.
    pub sent_at: i64,
    /// What the client that sent it calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// A message that is to be stored.
#[derive(Clone, Debug)]
pub struct Draft {
    content: String,
    client_id: Option<String>,
}

impl Draft {
    /// Reads a message: 1 to 4,000 characters that are not all blank, and what the client calls it: under the same `client_id` the same user's message
    /// is stored only once in a session.
    pub fn parse(content: String, client_id: Option<String>) -> Result<Self, Refused> {
        let count = content.chars().count();
        if content.trim().is_empty() {
            return Err(Refused::Invalid { what: "content", why: "is empty".to_owned() });
        }
        if count > CONTENT_MAX {
            return Err(Refused::Invalid { what: "content", why: format!("has {count} characters, at most {CONTENT_MAX} are possible") });
        }
        let is_good = |id: &String| (1..=CLIENT_ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        if client_id.as_ref().is_some_and(|id| !is_good(id)) {
            return Err(Refused::Invalid { what: "clientId", why: format!("has to be 1 to {CLIENT_ID_MAX} printable ASCII characters") });
        }
        Ok(Self { content, client_id })
    }
}

/// What became of a draft.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The message.
    pub message: Message,
    /// It had been stored before, under the same client id: nobody is told again.
    pub repeated: bool,
}

/// Stores a message, and stages what everybody is told of it: both or neither.
pub fn append(transaction: &Transaction<'_>, session: &str, user: &str, draft: Draft) -> Result<Stored, Refused> {
    let Draft { content, client_id } = draft;
    check_member(transaction, session, user)?;
    if let Some(client_id) = &client_id
        && let Some(message) = by_client_id(transaction, session, user, client_id)?
    {
        return Ok(Stored { message, repeated: true });
    }
    let id = transaction
        .prepare_cached("UPDATE sessions SET top = top + 1 WHERE id = ?1 RETURNING top")?
        .query_row([session], |row| row.get::<_, i64>(0))?;
    let name = transaction.prepare_cached("SELECT name FROM users WHERE id = ?1")?.query_row([user], |row| row.get(0))?;
    let person = Person { id: user.to_owned(), name };
    let message = Message { id, session_id: session.to_owned(), user: person, content, sent_at: now_ms(), client_id };
    transaction
        .prepare_cached("INSERT INTO messages (session, id, user, client_id, content, sent_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute((session, id, user, &message.client_id, &message.content, message.sent_at))?;
    // Who answers has read what was said before.
    transaction.prepare_cached("UPDATE members SET read = ?3 WHERE session = ?1 AND user = ?2")?.execute((session, user, id))?;
    let topic: Topic = live::topic(session)?;
    SqliteOutbox::stage(transaction, &topic, &Publish::new(Payload::json(Outgoing::Message(&message).json())))
        .map_err(|error| StoreError::Sqlite(error.to_string()))?;
    Ok(Stored { message, repeated: false })
}

const MESSAGE: &str =
    "SELECT m.id, m.session, m.user, u.name, m.content, m.sent_ms, m.client_id FROM messages m JOIN users u ON u.id = m.user";

fn message(row: &rusqlite::Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get(0)?,
        session_id: row.get(1)?,
        user: Person { id: row.get(2)?, name: row.get(3)? },
        content: row.get(4)?,
        sent_at: row.get(5)?,
        client_id: row.get(6)?,
    })
}

fn by_client_id(connection: &Connection, session: &str, user: &str, client_id: &str) -> Result<Option<Message>, Refused> {
    let mut select = connection.prepare_cached(&format!("{MESSAGE} WHERE m.session = ?1 AND m.user = ?2 AND m.client_id = ?3"))?;
    Ok(select.query_row((session, user, client_id), message).optional()?)
}

/// One message.
pub fn by_id(connection: &Connection, session: &str, id: i64) -> Result<Option<Message>, Refused> {
    let mut select = connection.prepare_cached(&format!("{MESSAGE} WHERE m.session = ?1 AND m.id = ?2"))?;
    Ok(select.query_row((session, id), message).optional()?)
}

/// Which messages are read.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// The newest.
    Newest,
    /// Those that came before this one, the nearest first taken.
    Before(i64),
    /// Those that came after this one, the nearest first taken.
    After(i64),
}

/// A part of a session's messages, oldest first: at most `limit`, and never more than [`PAGE_MAX`].
pub fn page(connection: &Connection, session: &str, range: Range, limit: u32) -> Result<Vec<Message>, Refused> {
    let limit = limit.min(PAGE_MAX);
    let (condition, id, order) = match range {
        Range::Newest => ("m.id < ?2", i64::MAX, "DESC"),
        Range::Before(id) => ("m.id < ?2", id, "DESC"),
        Range::After(id) => ("m.id > ?2", id, "ASC"),
    };
    let mut messages: Vec<Message> = connection
        .prepare_cached(&format!("{MESSAGE} WHERE m.session = ?1 AND {condition} ORDER BY m.id {order} LIMIT ?3"))?
        .query_map((session, id, limit), message)?
        .collect::<rusqlite::Result<_>>()?;
    if order == "DESC" {
        messages.reverse();
    }
    Ok(messages)
}
