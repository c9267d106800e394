//! What pages and the bridge ask over HTTP: the page's files, tokens, the broker's server API, and failures on request.

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{Redirect, Response},
    routing::{get, post},
};
use broker::Broker;
use broker_http::{Api, ApiKeys, ApiOptions};
use kit::{File, Pages};

use crate::{
    failures::{self, Failure},
    tokens::Tokens,
};

const FILES: &[File] = &[
    File::html("/realtime", include_str!("../page/realtime.html")),
    File::html("/stocks", include_str!("../page/stocks.html")),
    File::css("/dashboard.css", include_str!("../page/dashboard.css")),
    File::js("/realtime.js", include_str!("../page/realtime.js")),
    File::js("/stocks.js", include_str!("../page/stocks.js")),
    File::js("/chart.js", include_str!("../page/chart.js")),
];

/// What requests need.
#[derive(Clone)]
struct Parts {
    broker: Broker,
    tokens: Tokens,
}

/// All routes but the sockets. Whoever has the key may publish at `/api/publish`.
pub fn router(broker: &Broker, tokens: Tokens, api_key: &str) -> Router {
    let parts = Parts { broker: broker.clone(), tokens };
    let server_api = Api::new(broker.engine().clone(), ApiOptions::default().keys(ApiKeys::one(api_key)));
    Router::new()
        .route("/", get(async || Redirect::temporary("/realtime")))
        .route("/api/v1/stocks/token", post(token))
        .route("/demo/{what}", post(fail))
        .route_service("/api/publish", server_api.clone())
        .route_service("/api/batch", server_api)
        .with_state(parts)
        .merge(Pages::new(FILES).router())
}

/// A fresh token for the stock socket. A real application would ask who wants it.
async fn token(State(parts): State<Parts>) -> Response {
    axum::response::IntoResponse::into_response(parts.tokens.issue("viewer").answer())
}

/// Lets a part fail for a while.
async fn fail(State(parts): State<Parts>, Path(failure): Path<Failure>) -> StatusCode {
    match failures::ask(&parts.broker, failure).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
