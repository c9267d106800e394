//! What pages and the bridge ask over HTTP: the page's files, tokens, the broker's server API, and failures on request.

use std::time::Duration;

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

use crate::{board::Board, bridge::Switch, exchange::Exchange, tokens::Tokens};

const FILES: &[File] = &[
    File::html("/realtime", include_str!("../page/realtime.html")),
    File::html("/stocks", include_str!("../page/stocks.html")),
    File::css("/dashboard.css", include_str!("../page/dashboard.css")),
    File::js("/realtime.js", include_str!("../page/realtime.js")),
    File::js("/stocks.js", include_str!("../page/stocks.js")),
    File::js("/chart.js", include_str!("../page/chart.js")),
];

/// How long a failure on request lasts.
const OUTAGE: Duration = Duration::from_secs(10);

/// What requests need.
#[derive(Clone)]
pub struct Parts {
    /// Fails on request.
    pub board: Board,
    /// Signs tokens of viewers.
    pub tokens: Tokens,
    /// Closes on request; `None` where the exchange is somebody else's.
    pub exchange: Option<Exchange>,
    /// Stops the bridge on request.
    pub bridge: Switch,
}

/// All routes but the sockets. Whoever has the key may publish at `/api/publish`.
pub fn router(parts: Parts, broker: &Broker, api_key: &str) -> Router {
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

/// Lets a part fail for a while, to see what happens then: the buttons in the page.
async fn fail(State(parts): State<Parts>, Path(what): Path<String>) -> StatusCode {
    match (what.as_str(), &parts.exchange) {
        ("database", _) => parts.board.fail_for(OUTAGE).await,
        ("bridge", _) => parts.bridge.stop(),
        ("exchange", Some(exchange)) => exchange.close_for(OUTAGE),
        ("exchange-token", Some(exchange)) => exchange.end_tokens().await,
        _ => return StatusCode::NOT_FOUND,
    }
    StatusCode::ACCEPTED
}
