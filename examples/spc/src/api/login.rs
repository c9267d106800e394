//! Coming in and going out. Going out is the server's act: it ends every connection of that login, on all nodes.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use broker::{ControlError, Refusal, Revocation, Revoked};
use serde::Deserialize;
use serde_json::json;

use super::Caller;
use crate::{
    access::{COOKIE, LOGIN_TIME, is_password, new_token, token_hash},
    notice::now_ms,
    refused::Refused,
    spc::Spc,
};

/// Who wants to come in.
#[derive(Deserialize)]
pub(super) struct Login {
    user: String,
    password: String,
    /// A program, which keeps the token itself: it is in the answer then. A page has it in a cookie that its scripts cannot read.
    #[serde(default)]
    bearer: bool,
}

/// Answers with a cookie, or with a token where one is asked for.
pub(super) async fn login(State(spc): State<Spc>, headers: HeaderMap, body: Bytes) -> Result<Response, Refused> {
    let Login { user, password, bearer } = serde_json::from_slice(&body).map_err(|error| Refused::value("$", error.to_string()))?;
    let name: String = user.chars().take(64).collect();
    spc.count(&format!("login {name}"))?;
    let found = {
        let name = name.clone();
        spc.store.run(move |transaction| transaction.user(&name)).await?
    };
    let hasher = spc.hasher.clone();
    let checked = tokio::task::spawn_blocking(move || is_password(&hasher, found.as_ref(), &password)).await;
    if !checked.unwrap_or(false) {
        return Err(Refusal::unauthorized("user or password is wrong").into());
    }
    let token = new_token().map_err(|error| Refusal::unavailable(error.to_string()))?;
    let (hash, now) = (token_hash(&token), now_ms());
    let who = name.clone();
    spc.store.run(move |transaction| transaction.add_login(&hash, &who, now, now + LOGIN_TIME.as_millis() as u64)).await?;
    tracing::info!(user = name, "logged in");
    if bearer {
        return Ok(Json(json!({ "user": name, "token": token, "expires_in_s": LOGIN_TIME.as_secs() })).into_response());
    }
    // Behind a proxy that ends TLS the browser must send the cookie over TLS only.
    let secure = if headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https") { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", LOGIN_TIME.as_secs());
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({ "user": name }))).into_response())
}

/// Ends the login, and every connection that was opened with it.
pub(super) async fn logout(State(spc): State<Spc>, Caller { user, token_hash }: Caller) -> Result<Response, Refused> {
    let hash = token_hash.clone();
    spc.store.run(move |transaction| transaction.remove_login(&hash)).await?;
    let closed = match spc.broker.revoke(Revocation::now(Revoked::Token(token_hash.into()))).await {
        Ok(closed) => closed,
        // A node that has just died has no connections any more; one that comes back learns of the revocation.
        Err(ControlError::Silent { nodes, sessions }) => {
            tracing::warn!(?nodes, "nodes did not confirm a logout");
            sessions
        }
        Err(refused) => return Err(refused.into_refusal().into()),
    };
    tracing::info!(user = user.id, closed, "logged out");
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    Ok(([(header::SET_COOKIE, gone)], Json(json!({ "closed": closed }))).into_response())
}
