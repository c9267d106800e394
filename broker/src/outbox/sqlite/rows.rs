//! The statements of the outbox in SQLite. Everything here blocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_core::{Publish, Topic, unix_ms};
use rusqlite::{Connection, Result, Row, Transaction, params, types::Type};

use super::written;
use crate::outbox::{OutboxCounts, OutboxRow, Outcome, RefusedRow, RowId, Settled};

/// Which topics a worker may claim: nobody has them, it has them itself, or the claim is over; also one that ends later than any claim that can be
/// made: then the clock was put back.
const IS_FREE: &str = "(worker IS NULL OR worker = ?1 OR free_at_ms <= ?2 OR free_at_ms > ?2 + ?3)";

/// A claim that can be sent to another thread.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) worker: String,
    pub(super) except: Vec<String>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) lease: Duration,
}

pub(super) fn stage(transaction: &Transaction<'_>, topic: &Topic, publish: &Publish) -> Result<RowId> {
    let (kind, options) = written::write(publish);
    let now = now_ms();
    transaction
        .prepare_cached("INSERT INTO broker_outbox (topic, kind, data, options, staged_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![topic.as_str(), kind, &publish.data.bytes()[..], options, now])?;
    let id = RowId(transaction.last_insert_rowid());
    want(transaction, topic.as_str(), now)?;
    Ok(id)
}

/// The topic has rows; whoever has claimed it keeps it.
fn want(transaction: &Transaction<'_>, topic: &str, now: i64) -> Result<()> {
    let mut want =
        transaction.prepare_cached("INSERT OR IGNORE INTO broker_outbox_topics (topic, worker, free_at_ms) VALUES (?1, NULL, ?2)")?;
    want.execute(params![topic, now])?;
    Ok(())
}

/// Whether a claim would give something.
pub(super) fn is_any_free(connection: &Connection, ask: &Ask) -> Result<bool> {
    Ok(!free_topics(connection, ask, now_ms(), 1)?.is_empty())
}

/// Topics that this worker may have, longest waiting first.
fn free_topics(connection: &Connection, ask: &Ask, now: i64, limit: usize) -> Result<Vec<String>> {
    let sql = format!("SELECT topic FROM broker_outbox_topics WHERE {IS_FREE} ORDER BY free_at_ms LIMIT ?4");
    let mut statement = connection.prepare_cached(&sql)?;
    let asked = whole(limit + ask.except.len());
    let topics = statement.query_map(params![ask.worker, now, ms(ask.lease), asked], |row| row.get::<_, String>(0))?;
    let mut free = Vec::new();
    for topic in topics {
        let topic = topic?;
        if free.len() < limit && !ask.except.contains(&topic) {
            free.push(topic);
        }
    }
    Ok(free)
}

pub(super) fn claim(transaction: &Transaction<'_>, ask: &Ask) -> Result<Vec<OutboxRow>> {
    let now = now_ms();
    let topics = free_topics(transaction, ask, now, ask.rows)?;
    let share = (ask.rows / topics.len().max(1)).max(1);
    let mut select = transaction.prepare_cached(
        "SELECT id, topic, kind, data, options, staged_at_ms, tried_at_ms FROM broker_outbox
         WHERE topic = ?1 AND refused IS NULL ORDER BY id LIMIT ?2",
    )?;
    // What was known before this claim is kept beside it, for a row that turns out not to have been sent.
    let mut mark = transaction
        .prepare_cached("UPDATE broker_outbox SET before_ms = tried_at_ms, tried_at_ms = coalesce(tried_at_ms, ?2) WHERE id = ?1")?;
    let mut hold = transaction.prepare_cached("UPDATE broker_outbox_topics SET worker = ?2, free_at_ms = ?3 WHERE topic = ?1")?;
    let mut refuse = transaction.prepare_cached("UPDATE broker_outbox SET refused = ?2 WHERE id = ?1")?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    for topic in topics {
        hold.execute(params![topic, ask.worker, now + ms(ask.lease)])?;
        let mut of_topic = select.query(params![topic, whole(share)])?;
        while let Some(row) = of_topic.next()? {
            let id: i64 = row.get(0)?;
            let row = match read(row) {
                Ok(row) => row,
                Err(rusqlite::Error::FromSqlConversionFailure(_, _, why)) => {
                    refuse.execute(params![id, format!("the row cannot be read: {why}")])?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            bytes += row.publish.data.len();
            if bytes > ask.bytes && !rows.is_empty() {
                // Its topic is held without rows of it, or with a part of them: settling frees it.
                return Ok(rows);
            }
            mark.execute(params![id, now])?;
            rows.push(row);
        }
    }
    if rows.is_empty() {
        // Topics without rows that can be published.
        free(transaction, &ask.worker, now)?;
    }
    Ok(rows)
}

pub(super) fn settle(transaction: &Transaction<'_>, worker: &str, settled: &[Settled]) -> Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM broker_outbox WHERE id = ?1")?;
    let mut refuse = transaction.prepare_cached("UPDATE broker_outbox SET refused = ?2 WHERE id = ?1")?;
    let mut restore = transaction.prepare_cached("UPDATE broker_outbox SET tried_at_ms = before_ms WHERE id = ?1")?;
    for Settled { row, outcome } in settled {
        match outcome {
            Outcome::Published => delete.execute([row.0])?,
            Outcome::Refused { reason } => refuse.execute(params![row.0, reason])?,
            Outcome::NotSent => restore.execute([row.0])?,
            Outcome::Unconfirmed => 0,
        };
    }
    free(transaction, worker, now_ms())
}

/// Ends a worker's claims: topics with rows go to the end of the queue, the others go.
fn free(transaction: &Transaction<'_>, worker: &str, now: i64) -> Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM broker_outbox_topics AS t WHERE worker = ?1
             AND NOT EXISTS (SELECT 1 FROM broker_outbox WHERE topic = t.topic AND refused IS NULL)",
        )?
        .execute([worker])?;
    let mut end = transaction.prepare_cached("UPDATE broker_outbox_topics SET worker = NULL, free_at_ms = ?2 WHERE worker = ?1")?;
    end.execute(params![worker, now])?;
    Ok(())
}

pub(super) fn counts(connection: &Connection) -> Result<OutboxCounts> {
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM broker_outbox WHERE refused IS NULL),
                    (SELECT staged_at_ms FROM broker_outbox WHERE refused IS NULL ORDER BY id LIMIT 1),
                    (SELECT count(*) FROM broker_outbox WHERE refused IS NOT NULL)",
        )?
        .query_row([], |row| {
            let (pending, refused): (i64, i64) = (row.get(0)?, row.get(2)?);
            let oldest: Option<i64> = row.get(1)?;
            Ok(OutboxCounts { pending: pending as u64, oldest_staged_at: oldest.map(time), refused: refused as u64 })
        })
}

pub(super) fn refused(connection: &Connection, limit: usize) -> Result<Vec<RefusedRow>> {
    let mut select = connection
        .prepare_cached("SELECT id, topic, staged_at_ms, refused FROM broker_outbox WHERE refused IS NOT NULL ORDER BY id LIMIT ?1")?;
    let rows = select.query_map([whole(limit)], |row| {
        Ok(RefusedRow { id: RowId(row.get(0)?), topic: row.get(1)?, staged_at: time(row.get(2)?), reason: row.get(3)? })
    })?;
    rows.collect()
}

pub(super) fn retry(transaction: &Transaction<'_>, id: Option<RowId>) -> Result<usize> {
    let mut select =
        transaction.prepare_cached("SELECT DISTINCT topic FROM broker_outbox WHERE refused IS NOT NULL AND (?1 IS NULL OR id = ?1)")?;
    let topics: Result<Vec<String>> = select.query_map([id.map(|id| id.0)], |row| row.get(0))?.collect();
    for topic in topics? {
        want(transaction, &topic, now_ms())?;
    }
    let mut update = transaction.prepare_cached(
        "UPDATE broker_outbox SET refused = NULL, tried_at_ms = NULL, before_ms = NULL WHERE refused IS NOT NULL AND (?1 IS NULL OR id = ?1)",
    )?;
    update.execute([id.map(|id| id.0)])
}

/// A row as it was before the claim that reads it.
fn read(row: &Row<'_>) -> Result<OutboxRow> {
    let unreadable = |at, why: String| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, why.into());
    let topic: String = row.get(1)?;
    let options: Option<String> = row.get(4)?;
    let tried_at: Option<i64> = row.get(6)?;
    Ok(OutboxRow {
        id: RowId(row.get(0)?),
        topic: topic.parse().map_err(|error: broker_core::InvalidTopic| unreadable(1, error.to_string()))?,
        publish: written::read(row.get(2)?, row.get(3)?, options.as_deref()).map_err(|why| unreadable(4, why))?,
        staged_at: time(row.get(5)?),
        tried_at: tried_at.map(time),
    })
}

fn now_ms() -> i64 {
    unix_ms(SystemTime::now()).cast_signed()
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

fn time(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs())
}
