//! Sign up, log in, log out, and tokens for sockets.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    extract::State,
    response::{AppendHeaders, IntoResponse},
};
use broker::{Revocation, Revoked};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, COOKIE, Json, No};
use crate::{
    people::Entered,
    store::accounts::{self, Login},
};

/// How long a browser keeps the cookie, in seconds.
const COOKIE_AGE: u32 = 30 * 24 * 3600;

#[derive(Deserialize)]
pub(super) struct NameAndPassword {
    name: String,
    password: String,
}

pub(super) async fn sign_up(State(api): State<Api>, Json(asked): Json<NameAndPassword>) -> Result<impl IntoResponse, No> {
    let entered = api.people.sign_up(&asked.name, asked.password).await?;
    Ok((StatusCode::CREATED, welcome(&api, &entered)))
}

pub(super) async fn log_in(State(api): State<Api>, Json(asked): Json<NameAndPassword>) -> Result<impl IntoResponse, No> {
    let entered = api.people.log_in(asked.name, asked.password).await?;
    Ok(welcome(&api, &entered))
}

/// The login's cookie for browsers, a token for everybody else.
fn welcome(api: &Api, entered: &Entered) -> impl IntoResponse + use<> {
    (set_cookie(&entered.key, COOKIE_AGE), axum::Json(told(api, &entered.login)))
}

/// A fresh token for whoever is logged in.
pub(super) async fn token(State(api): State<Api>, login: Login) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(told(&api, &login)))
}

fn told(api: &Api, login: &Login) -> Value {
    let (token, ends_at) = api.people.token(login);
    let ends_at = ends_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    json!({ "user": login.person, "token": token, "tokenEndsAt": ends_at })
}

/// Ends the login: its sockets are closed, on all nodes, and its tokens open none.
pub(super) async fn log_out(State(api): State<Api>, login: Login) -> Result<impl IntoResponse, No> {
    let id = login.id.clone();
    api.store.write(move |transaction| accounts::log_out(transaction, &id)).await?;
    // A second ahead: tokens say the second in which they were made, and one may have been made in this one.
    let until = SystemTime::now() + std::time::Duration::from_secs(1);
    let revocation = Revocation::now(Revoked::Token(login.id.into())).before(until);
    api.broker.revoke(revocation).await.map_err(broker::ControlError::into_refusal)?;
    Ok((StatusCode::NO_CONTENT, set_cookie("", 0)))
}

fn set_cookie(key: &str, age: u32) -> AppendHeaders<[(header::HeaderName, String); 1]> {
    AppendHeaders([(header::SET_COOKIE, format!("{COOKIE}={key}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}"))])
}
