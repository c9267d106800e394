//! How a call is refused: a status, a stable word, what is wrong, and how to put it right.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use broker::outbox::{StageError, StoreFailed};
use serde_json::json;

use crate::orders::OrderError;

/// A call that was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    word: &'static str,
    message: String,
    hint: &'static str,
}

impl Refused {
    pub(crate) fn unauthorized(message: &str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, word: "unauthorized", message: message.to_owned(), hint: "log in" }
    }

    pub(crate) fn no_menu(menu: &str) -> Self {
        let message = format!("the menu {menu:?} is not yours");
        Self { status: StatusCode::FORBIDDEN, word: "permission_denied", message, hint: "an admin can give it to you" }
    }

    pub(crate) fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, word: "not_found", message, hint: "" }
    }

    pub(crate) fn malformed(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, word: "bad_request", message, hint: "" }
    }

    fn broken(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a call failed");
        let message = "the database did not answer".to_owned();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, word: "unavailable", message, hint: "try again" }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let hint = (!self.hint.is_empty()).then_some(self.hint);
        let error = json!({"error": {"error": self.word, "message": self.message, "hint": hint}});
        (self.status, Json(error)).into_response()
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::broken(&error)
    }
}

impl From<StageError> for Refused {
    fn from(error: StageError) -> Self {
        Self::broken(&error)
    }
}

impl From<StoreFailed> for Refused {
    fn from(error: StoreFailed) -> Self {
        Self::broken(&error)
    }
}

impl From<OrderError> for Refused {
    fn from(error: OrderError) -> Self {
        let message = error.to_string();
        match error {
            OrderError::NotFound(_) => Self::not_found(message),
            OrderError::NotYours { .. } => {
                Self { status: StatusCode::FORBIDDEN, word: "permission_denied", message, hint: "an admin can put you into the group" }
            }
            OrderError::Changed { .. } => Self { status: StatusCode::CONFLICT, word: "changed", message, hint: "" },
            OrderError::Malformed(_) => Self::malformed(message),
            OrderError::Stage(error) => error.into(),
            OrderError::Sqlite(error) => error.into(),
        }
    }
}
