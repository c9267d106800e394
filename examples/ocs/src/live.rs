//! Sockets: who is behind one, which groups follow from that, what its page says, and that it follows what an admin changes.

use std::{future::Future, sync::Arc, time::Duration};

use broker::{
    Action, Broker, ConnectRequest, Disconnected, Identity, MessageRequest, Namespace, Refusal, Revocation, Revoked, Route, SessionId,
    Target, Topic, outbox::OutboxHandle,
};
use kit::Node;
use rusqlite::params;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::{
    Database,
    database::now_ms,
    notices,
    users::{self, OPERATORS, User},
};

/// How long a change waits before it is tried again on nodes that did not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How often. By then a node that is there has answered, and one that is not has no sockets.
const RETRIES_MAX: usize = 30;
/// How long the first try again waits: a socket that was being opened is open by then.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// A socket that was written down so recently may still be on its way to its node's list.
const OPENING: Duration = Duration::from_secs(10);
/// What a page is told whose login has ended: its token holds no more.
const LOGGED_OUT: u16 = 3500;

/// The broker of this application: the socket, and namespaces that keep what is told for an hour.
pub(crate) fn broker(node: &Node, database: &Database) -> anyhow::Result<Broker> {
    let kept = Namespace::default().history(100, Duration::from_secs(3600));
    let (connecting, telling, ending) = (database.clone(), database.clone(), database.clone());
    let name: Arc<str> = node.name.as_str().into();
    let builder = node
        .builder()
        .namespace("group", kept.clone())
        .namespace("user", kept)
        .route(Route::new("/ws/ocs/"))
        .on_connect(move |request| connect(connecting.clone(), Arc::clone(&name), request))
        .on_message(move |message| hear(telling.clone(), message))
        .on_disconnect(move |ended| forget(ending.clone(), ended));
    Ok(builder.build()?)
}

/// Who is it? The login's user, with the groups of this moment; the socket is written down for the operator.
async fn connect(database: Database, node: Arc<str>, request: ConnectRequest) -> Result<Identity, Refusal> {
    let refused = |text: &'static str| Refusal::unauthorized(text).hint("log in and connect with the new token");
    let Some(token) = request.connect.token else { return Err(refused("there is no token")) };
    let session = request.session.to_string();
    let login = database.with(move |transaction| {
        let Some(login) = users::login_of(transaction, &token)? else { return Ok(None) };
        transaction.execute(
            "INSERT OR REPLACE INTO sockets (session, user, login, node, opened_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![session, login.user.id, login.id, &*node, now_ms()],
        )?;
        Ok(Some(login))
    });
    match login.await {
        Ok(Some(login)) => Ok(login.user.identity(&login.id, login.ends_at_ms)),
        Ok(None) => Err(refused("the login has ended, or never was")),
        Err(error) => Err(unavailable(&error)),
    }
}

/// What a page says: which notices it has.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    Received { notices: Vec<i64> },
}

async fn hear(database: Database, message: MessageRequest) -> Result<Vec<Action>, Refusal> {
    let said = serde_json::from_slice(message.data.bytes());
    let Said::Received { notices } = said.map_err(|error| {
        Refusal::bad_request(format!("the frame is not understood: {error}")).hint(r#"send {"type":"received","notices":[12]}"#)
    })?;
    if notices.len() > notices::RECEIVED_MAX {
        return Err(Refusal::bad_request(format!("at most {} notices in one frame", notices::RECEIVED_MAX)));
    }
    let (user, session) = (message.subject.user.as_str().to_owned(), message.subject.session.to_string());
    let received = database.with(move |transaction| notices::received(transaction, &user, &notices, "live", &session));
    let is_news = received.await.map_err(|error: rusqlite::Error| unavailable(&error))?;
    let operators = Topic::group(OPERATORS).ok().filter(|_| is_news);
    Ok(operators.map(|operators| Action::Publish(operators, notices::look_again())).into_iter().collect())
}

async fn forget(database: Database, ended: Disconnected) {
    let (session, why) = (ended.subject.session.to_string(), ended.reason.cause());
    let forgotten = database.with(move |transaction| {
        transaction.execute("UPDATE sockets SET closed_at_ms = ?2, why = ?3 WHERE session = ?1", params![session, now_ms(), why])
    });
    if let Err(error) = forgotten.await {
        tracing::warn!(%error, "the end of a socket was not written down");
    }
}

fn unavailable(error: &rusqlite::Error) -> Refusal {
    tracing::error!(%error, "the database did not answer a socket");
    Refusal::unavailable("the database did not answer")
}

/// Ends the sockets of a login, on all nodes. When it answers, nothing more is written to them; a node that did not answer is asked again.
pub(crate) async fn cut(broker: &Broker, database: &Database, login: String) {
    let (broker, database) = (broker.clone(), database.clone());
    insist("a logout", move || end(broker.clone(), database.clone(), login.clone())).await;
}

async fn end(broker: Broker, database: Database, login: String) -> Result<(), String> {
    let Err(error) = broker.revoke(Revocation::now(Revoked::Token(login.as_str().into()))).await else { return Ok(()) };
    // Without Redis a revocation cannot be remembered; the sockets of this node end all the same.
    let open = database.read(move |transaction| {
        let mut open = transaction.prepare_cached("SELECT session FROM sockets WHERE login = ?1 AND closed_at_ms IS NULL")?;
        open.query_map([&login], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
    });
    let open = open.await.map_err(|error: rusqlite::Error| error.to_string())?;
    let sessions: Vec<Target> = open.iter().filter_map(|session| session.parse().ok().map(Target::Session)).collect();
    if !sessions.is_empty() {
        let _ = broker.sessions(Target::any(sessions)).disconnect(LOGGED_OUT, "logged out").await;
    }
    Err(error.to_string())
}

/// Gives a user's open sockets the groups that an admin chose, on all nodes: each in one step, between two publications.
pub(crate) async fn follow(broker: &Broker, database: &Database, outbox: &OutboxHandle, user: &User) {
    outbox.wake();
    let (broker, database, user) = (broker.clone(), database.clone(), user.id.clone());
    let change = move || {
        let (broker, database, user) = (broker.clone(), database.clone(), user.clone());
        async move { change_identity(&broker, &database, user).await }
    };
    insist("a change of a user", change.clone()).await;
    // Of two changes at the same time the older one may have reached a socket last.
    tokio::spawn(async move {
        tokio::time::sleep(RETRY_INTERVAL).await;
        insist("a change of a user", change).await;
    });
}

/// Read anew at each try: the newest change is the one that holds.
async fn change_identity(broker: &Broker, database: &Database, id: String) -> Result<(), String> {
    let found = database.read(move |transaction| {
        let Some(user) = users::find(transaction, &id)? else { return Ok(Vec::new()) };
        let mut open = transaction.prepare_cached(
            "SELECT session, login, ends_at_ms, opened_at_ms FROM sockets JOIN logins ON logins.id = login
             WHERE sockets.user = ?1 AND closed_at_ms IS NULL",
        )?;
        let sockets = open.query_map([&user.id], |row| {
            let login: String = row.get(1)?;
            let is_young = now_ms() - row.get::<_, i64>(3)? < OPENING.as_millis() as i64;
            Ok((row.get::<_, String>(0)?, user.identity(&login, row.get(2)?), is_young))
        })?;
        sockets.collect::<rusqlite::Result<Vec<_>>>()
    });
    let sockets = found.await.map_err(|error: rusqlite::Error| error.to_string())?;
    let mut changes = JoinSet::new();
    for (session, identity, is_young) in sockets {
        let Ok(session) = session.parse::<SessionId>() else { continue };
        let broker = broker.clone();
        changes.spawn(async move {
            match broker.sessions(Target::Session(session)).change_identity(identity).await {
                // It was written down with the groups of before, and is not there to be changed.
                Ok(0) if is_young => Err("a socket is being opened".to_owned()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        });
    }
    changes.join_all().await.into_iter().collect()
}

/// Does something on all nodes; where one does not answer, goes on trying behind the caller's back.
async fn insist<F>(what: &'static str, act: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = Result<(), String>> + Send,
{
    let Err(mut error) = act().await else { return };
    tracing::warn!(what, error, "not every socket has followed; it is tried again");
    tokio::spawn(async move {
        for pause in std::iter::once(FIRST_RETRY).chain(std::iter::repeat_n(RETRY_INTERVAL, RETRIES_MAX)) {
            tokio::time::sleep(pause).await;
            match act().await {
                Ok(()) => return tracing::info!(what, "all sockets have followed"),
                Err(again) => error = again,
            }
        }
        tracing::error!(what, error, "not every socket has followed, and it is given up");
    });
}
