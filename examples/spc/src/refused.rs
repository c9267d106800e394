//! Why a request or a frame was not done, for whoever sent it: the same words over HTTP and on the socket.

use std::borrow::Cow;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use broker::{Refusal, RefusalKind};
use serde_json::json;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The sender's mistake, or a rule; see [`Refusal`].
    #[error(transparent)]
    Rule(#[from] Refusal),
    /// The database did not do it.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A demonstration: the transaction is rolled back on purpose.
    #[error("the transaction was rolled back, as asked")]
    RolledBack,
}

impl Refused {
    /// A value is missing or wrong; `path` says which (`$.title`), `what` what it has to be.
    pub fn value(path: &str, what: impl Into<Cow<'static, str>>) -> Self {
        Refusal::bad_request(format!("`{path}` {}", what.into())).into()
    }

    /// There is no such thing, or not for this user.
    pub fn unknown(what: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(RefusalKind::UnknownTopic, what).into()
    }

    /// As a client is told over a socket. The database's own words stay in the log.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Rule(refusal) => refusal,
            Self::RolledBack => Refusal::new(RefusalKind::NotAvailable, self.to_string()),
            Self::Database(error) => {
                tracing::error!(%error, "the database failed");
                Refusal::unavailable("the database did not answer").hint("try again")
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let rolled_back = matches!(self, Self::RolledBack);
        let refusal = self.into_refusal();
        let (status, word) = match refusal.kind {
            _ if rolled_back => (StatusCode::CONFLICT, "rolled_back"),
            RefusalKind::BadRequest => (StatusCode::BAD_REQUEST, "bad_request"),
            RefusalKind::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            RefusalKind::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
            RefusalKind::UnknownTopic => (StatusCode::NOT_FOUND, "not_found"),
            RefusalKind::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        let body = Json(json!({ "error": { "error": word, "message": refusal.message, "hint": refusal.hint } }));
        match refusal.retry_after {
            Some(after) => (status, [(header::RETRY_AFTER, after.as_secs().max(1).to_string())], body).into_response(),
            None => (status, body).into_response(),
        }
    }
}
