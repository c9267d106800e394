//! Notices: what is told about an order, to whom, and what became of it. A notice is staged with the change that it tells; who should have got it is
//! written down at that moment, for the operator. Why somebody did not get one lives in `delivery`.

mod delivery;

use broker::{
    Broker, Except, Payload, Publish, Topic,
    outbox::{OutboxOptions, RowId, SqliteOutbox, StageError},
};
use rusqlite::{Result, Transaction, params};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Database,
    database::now_ms,
    orders::Order,
    users::{self, OPERATORS, User},
};

pub(crate) use self::delivery::{Live, list as deliveries};

/// Most notices behind the bell.
const BELL_MAX: i64 = 30;
/// Most notices of which a page says at once that it has them.
pub(crate) const RECEIVED_MAX: usize = 100;

/// A notice that was staged.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub(crate) notice: i64,
    pub(crate) rows: Vec<RowId>,
}

/// Stages a notice about an order for its groups, and writes down who should get it: everybody who is in one of them, except whoever caused it.
pub(crate) fn stage(
    transaction: &Transaction<'_>,
    kind: &str,
    order: &Order,
    actor: &User,
    message: &str,
) -> std::result::Result<Staged, StageError> {
    let at_ms = now_ms();
    transaction.execute(
        "INSERT INTO notices (order_id, actor, message, frame, at_ms) VALUES (?1, ?2, ?3, '', ?4)",
        params![order.id, actor.id, message, at_ms],
    )?;
    let notice = transaction.last_insert_rowid();
    let by = json!({"id": actor.id, "name": actor.name});
    let frame = json!({"type": kind, "notice": notice, "message": message, "order": order, "by": by, "at_ms": at_ms}).to_string();
    transaction.execute("UPDATE notices SET frame = ?2 WHERE id = ?1", params![notice, frame])?;
    let mut rows = Vec::new();
    for group in order.groups() {
        // A group whose name is no topic has no members either: names are checked when users are given them.
        let Ok(topic) = Topic::group(&group) else { continue };
        let publish = Publish::new(Payload::json(frame.clone())).except(Except::nobody().user(actor.id.as_str()));
        let row = SqliteOutbox::stage(transaction, &topic, &publish)?;
        transaction
            .execute("INSERT INTO notice_rows (outbox_row, notice, topic) VALUES (?1, ?2, ?3)", params![row.0, notice, topic.as_str()])?;
        rows.push(row);
    }
    let groups = order.groups();
    for user in users::all(transaction)?.iter().filter(|user| user.id != actor.id && groups.iter().any(|group| user.is_in(group))) {
        transaction.execute("INSERT INTO recipients (notice, user) VALUES (?1, ?2)", params![notice, user.id])?;
    }
    Ok(Staged { notice, rows })
}

/// Tells an user's open pages that the user was changed; no notice, nobody is asked whether it came.
pub(crate) fn stage_change(transaction: &Transaction<'_>, user: &User) -> std::result::Result<(), StageError> {
    let Some(Ok(topic)) = Topic::of_user(&user.id.as_str().into()) else { return Ok(()) };
    let frame = json!({"type": "user_changed", "user": user}).to_string();
    SqliteOutbox::stage(transaction, &topic, &Publish::new(Payload::json(frame)))?;
    Ok(())
}

/// How the outbox works here: when a row is out, the moment is written down, and those who watch deliveries are told to look.
pub(crate) fn outbox_options(database: &Database, broker: &Broker) -> OutboxOptions {
    let (database, broker) = (database.clone(), broker.clone());
    OutboxOptions::default().on_published(move |row, _| {
        let (row, database, broker) = (row.id, database.clone(), broker.clone());
        tokio::spawn(async move {
            let noted = database.with(move |transaction| {
                let note = "UPDATE notice_rows SET published_at_ms = coalesce(published_at_ms, ?2) WHERE outbox_row = ?1";
                transaction.execute(note, params![row.0, now_ms()])
            });
            match noted.await {
                Ok(0) => {}
                Ok(_) => tell_operators(&broker).await,
                Err(error) => tracing::warn!(%error, "the moment of a publish was not written down"),
            }
        });
    })
}

/// Those who watch deliveries look again. What is lost here costs a glance: pages look every few seconds anyway.
pub(crate) async fn tell_operators(broker: &Broker) {
    if let Ok(operators) = Topic::group(OPERATORS) {
        let _ = broker.publish(&operators, look_again()).await;
    }
}

pub(crate) fn look_again() -> Publish {
    Publish::new(Payload::json(r#"{"type":"delivery_changed"}"#)).skip_history()
}

/// A page of this user has a notice: `live` from the socket, or `later` from the list. Answers whether that is news.
pub(crate) fn received(transaction: &Transaction<'_>, user: &str, notices: &[i64], how: &'static str, session: &str) -> Result<bool> {
    let mut note = transaction.prepare_cached(
        "UPDATE recipients SET received_at_ms = ?3, how = ?4, session = ?5 WHERE notice = ?1 AND user = ?2 AND received_at_ms IS NULL",
    )?;
    let mut is_news = false;
    for notice in notices {
        is_news |= note.execute(params![notice, user, now_ms(), how, session])? > 0;
    }
    Ok(is_news)
}

/// The notices of a user, newest first, of groups that the user is still in. Also what is staged and not out: a socket that opens just as a notice
/// is published finds it in one place or the other, and the page knows it by its id.
pub(crate) fn bell(transaction: &Transaction<'_>, user: &User) -> Result<Vec<Value>> {
    let topics: Vec<String> = user.groups.iter().filter_map(|group| Some(Topic::group(group).ok()?.as_str().to_owned())).collect();
    let mut select = transaction.prepare_cached(
        "SELECT frame FROM recipients JOIN notices ON notices.id = notice WHERE user = ?1
         AND EXISTS (SELECT 1 FROM notice_rows r WHERE r.notice = notices.id AND topic IN (SELECT value FROM json_each(?2)))
         ORDER BY notice DESC LIMIT ?3",
    )?;
    let frames = select.query_map(params![user.id, json!(topics).to_string(), BELL_MAX], |row| row.get::<_, String>(0))?;
    frames.map(|frame| Ok(serde_json::from_str(&frame?).unwrap_or(Value::Null))).collect()
}

/// The rows of the outbox in which a notice was staged.
pub(crate) fn rows(transaction: &Transaction<'_>, notice: i64) -> Result<Vec<RowId>> {
    let mut select = transaction.prepare_cached("SELECT outbox_row FROM notice_rows WHERE notice = ?1")?;
    select.query_map([notice], |row| Ok(RowId(row.get(0)?)))?.collect()
}

/// Where a notice stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sending {
    /// It waits in the outbox.
    Pending,
    /// Redis, or the node where there is none, has it.
    Sent,
    /// The broker refused it for good.
    Refused,
}
