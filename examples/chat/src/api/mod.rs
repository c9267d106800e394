//! REST: the routes, and how a request says who it is from. What they do lives in `accounts` and `sessions`.

mod accounts;
mod sessions;

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, rejection::JsonRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use broker::{Broker, Refusal, refusal_response};
use http::{HeaderMap, header, request::Parts};

use crate::{
    Refused,
    people::People,
    store::{Store, accounts::Login},
};

/// The cookie of a login. Scripts cannot read it, and no other site's page can have it sent.
const COOKIE: &str = "chat_login";

/// What handlers need. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct Api {
    /// The database.
    pub store: Store,
    /// Who is who.
    pub people: People,
    /// To tell those who listen.
    pub broker: Broker,
}

/// The routes below `/api`.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/api/signup", post(accounts::sign_up))
        .route("/api/login", post(accounts::log_in))
        .route("/api/logout", post(accounts::log_out))
        .route("/api/token", get(accounts::token))
        .route("/api/sessions", get(sessions::list).post(sessions::create))
        .route("/api/sessions/{session}", get(sessions::details))
        .route("/api/sessions/{session}/messages", get(sessions::messages).post(sessions::send))
        .route("/api/sessions/{session}/read", post(sessions::read))
        .route("/api/sessions/{session}/leave", post(sessions::leave))
        .route("/api/sessions/{session}/ticket", post(sessions::ticket))
        .route("/api/invites/{code}", get(sessions::invitation).post(sessions::join))
        .with_state(api)
}

/// An answer that says no, as the broker says it on its sockets.
#[derive(Debug)]
pub struct No(Refusal);

impl<R: Into<Refusal>> From<R> for No {
    fn from(refused: R) -> Self {
        Self(refused.into())
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        if let Some(rule) = &self.0.rule {
            tracing::debug!(why = %self.0.message, rule = %rule, "a request was refused");
        }
        refusal_response(&self.0).map(Body::from)
    }
}

/// A body that is what the handler asks for, or says why not.
pub struct Json<T>(pub T);

impl<T: serde::de::DeserializeOwned> axum::extract::FromRequest<Api> for Json<T> {
    type Rejection = No;

    async fn from_request(request: axum::extract::Request, api: &Api) -> Result<Self, No> {
        let body: Result<axum::Json<T>, JsonRejection> = axum::Json::from_request(request, api).await;
        Ok(Self(body.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?.0))
    }
}

/// Who a request is from: whoever the token of its `Authorization` header names, or the browser's cookie.
impl FromRequestParts<Api> for Login {
    type Rejection = No;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, No> {
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) {
            return Ok(api.people.by_token(token.trim()).await?);
        }
        match cookie(&parts.headers) {
            Some(key) => Ok(api.people.by_key(key).await?),
            None => Err(Refused::NoCredentials.into()),
        }
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}
