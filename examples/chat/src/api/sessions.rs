//! Sessions, share links, messages, read marks and tickets over REST.

use axum::{
    extract::{Path, Query, State},
    response::IntoResponse,
};
use broker::{ControlError, Target};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{Api, Json, No};
use crate::{
    Refused,
    frames::Outgoing,
    live,
    store::{
        accounts::Login,
        messages::{self, Draft, PAGE_MAX, Range},
        sessions::{self, Details, Title},
    },
};

pub(super) async fn list(State(api): State<Api>, login: Login) -> Result<impl IntoResponse, No> {
    let lines = api.store.read(move |connection| sessions::of_user(connection, &login.person.id)).await?;
    Ok(axum::Json(json!({ "sessions": lines })))
}

#[derive(Deserialize)]
pub(super) struct Create {
    title: Option<String>,
}

pub(super) async fn create(State(api): State<Api>, login: Login, Json(asked): Json<Create>) -> Result<impl IntoResponse, No> {
    let title = Title::parse(&asked.title.unwrap_or_else(|| format!("{}'s session", login.person.name)))?;
    let owner = login.person.id.clone();
    let id = api.store.write(move |transaction| sessions::create(transaction, &title, &owner)).await?;
    list_changed(&api, &login).await;
    Ok((StatusCode::CREATED, axum::Json(read_details(&api, &login, id).await?)))
}

pub(super) async fn details(State(api): State<Api>, login: Login, Path(id): Path<String>) -> Result<impl IntoResponse, No> {
    Ok(axum::Json(read_details(&api, &login, id).await?))
}

async fn read_details(api: &Api, login: &Login, id: String) -> Result<Details, Refused> {
    let user = login.person.id.clone();
    api.store.read(move |connection| sessions::details(connection, &id, &user)).await
}

/// Which messages; without `before` and `after` the newest.
#[derive(Deserialize)]
pub(super) struct Part {
    before: Option<i64>,
    after: Option<i64>,
    limit: Option<u32>,
}

pub(super) async fn messages(
    State(api): State<Api>,
    login: Login,
    Path(id): Path<String>,
    Query(part): Query<Part>,
) -> Result<impl IntoResponse, No> {
    let range = part.after.map(Range::After).or(part.before.map(Range::Before)).unwrap_or(Range::Newest);
    let reading = api.store.read(move |connection| {
        sessions::check_member(connection, &id, &login.person.id)?;
        messages::page(connection, &id, range, part.limit.unwrap_or(PAGE_MAX))
    });
    let messages = reading.await.map_err(|refused: Refused| refused)?;
    Ok(axum::Json(json!({ "messages": messages })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Send {
    content: String,
    client_id: Option<String>,
}

/// Stores a message and answers with it: 201, or 200 where it had been stored before under the same `clientId`.
pub(super) async fn send(
    State(api): State<Api>,
    login: Login,
    Path(id): Path<String>,
    Json(asked): Json<Send>,
) -> Result<impl IntoResponse, No> {
    let draft = Draft::parse(asked.content, asked.client_id)?;
    let stored = api.store.write(move |transaction| messages::append(transaction, &id, &login.person.id, draft)).await?;
    let status = if stored.repeated { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, axum::Json(json!({ "message": stored.message, "repeated": stored.repeated }))))
}

#[derive(Deserialize)]
pub(super) struct Read {
    id: i64,
}

pub(super) async fn read(
    State(api): State<Api>,
    login: Login,
    Path(id): Path<String>,
    Json(asked): Json<Read>,
) -> Result<impl IntoResponse, No> {
    let (session_id, user) = (id.clone(), login.person.id.clone());
    let read = api.store.write(move |transaction| sessions::mark_read(transaction, &id, &user, asked.id)).await?;
    tell(&api, &session_id, &Outgoing::Read { session_id: &session_id, user_id: &login.person.id, id: read }).await;
    Ok(axum::Json(json!({ "read": read })))
}

/// What a share link leads to. Who has the link may know it, with an account or without.
pub(super) async fn invitation(State(api): State<Api>, Path(code): Path<String>) -> Result<impl IntoResponse, No> {
    Ok(axum::Json(api.store.read(move |connection| sessions::invitation(connection, &code)).await?))
}

pub(super) async fn join(State(api): State<Api>, login: Login, Path(code): Path<String>) -> Result<impl IntoResponse, No> {
    let user = login.person.id.clone();
    let (id, is_new) = api.store.write(move |transaction| sessions::join(transaction, &code, &user)).await?;
    if is_new {
        tell(&api, &id, &Outgoing::Member { session_id: &id, user: &login.person, left: false }).await;
        list_changed(&api, &login).await;
    }
    Ok(axum::Json(read_details(&api, &login, id).await?))
}

/// Takes whoever asks out of a session; their sockets hear no more of it.
pub(super) async fn leave(State(api): State<Api>, login: Login, Path(id): Path<String>) -> Result<impl IntoResponse, No> {
    let (session_id, user) = (id.clone(), login.person.id.clone());
    api.store.write(move |transaction| sessions::leave(transaction, &id, &user)).await?;
    let sockets = api.broker.sessions(Target::user(login.person.id.as_str()));
    sockets.unsubscribe(&live::topic(&session_id)?).await.map_err(ControlError::into_refusal)?;
    tell(&api, &session_id, &Outgoing::Member { session_id: &session_id, user: &login.person, left: true }).await;
    list_changed(&api, &login).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A path that opens one socket to the session within half a minute, for a client that has no login.
pub(super) async fn ticket(State(api): State<Api>, login: Login, Path(id): Path<String>) -> Result<impl IntoResponse, No> {
    let (session, user) = (id.clone(), login.person.id.clone());
    api.store.read(move |connection| sessions::check_member(connection, &session, &user)).await.map_err(|refused: Refused| refused)?;
    let (ticket, holds) = api.people.ticket(&login).await?;
    Ok(axum::Json(json!({ "path": format!("{}?sessionId={id}&ticket={ticket}", live::PATH), "holdsMs": holds.as_millis() as u64 })))
}

/// Tells those who listen to a session. What is told so is a courtesy: who misses it reads it with the session's details.
async fn tell(api: &Api, session: &str, frame: &Outgoing<'_>) {
    let Ok(topic) = live::topic(session) else { return };
    if let Err(error) = api.broker.publish(&topic, live::for_now(frame)).await {
        tracing::warn!(%error, "those who listen to a session were not told");
    }
}

/// Tells the user's other pages that the list has changed.
async fn list_changed(api: &Api, login: &Login) {
    if let Err(error) = api.broker.sessions(Target::user(login.person.id.as_str())).send(live::for_now(&Outgoing::Sessions)).await {
        tracing::warn!(%error, "a user's other pages were not told");
    }
}
