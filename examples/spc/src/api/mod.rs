//! Everything over HTTP but the page: paths to handlers, and who calls. Logins live in `login`, what operators look at in `operator`.

mod login;
mod operator;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Path, Query, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    routing::{get, post, put},
};
use broker::{Head, Refusal};
use broker_http::{Api, ApiKeys, ApiOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    access::{COOKIE, Role, needs, needs_product, token_hash, user_topic},
    line::{self, Disturbance, Setup},
    notice::{Draft, ProductId, alerts_topic, frame, now_ms, product_topic},
    refused::Refused,
    spc::Spc,
    store::{HistoryQuery, Preferences, User},
};

/// The answer of every handler.
type Answer = Result<Json<Value>, Refused>;

/// Everything under `/api/spc/`, `/metrics`, and the broker's own server API under `/api/` for who has the key.
pub fn router(spc: Spc, api_key: &str) -> Router {
    let server_api = Api::new(spc.broker.engine().clone(), ApiOptions::default().keys(ApiKeys::one(api_key)));
    Router::new()
        .route("/api/spc/login", post(login::login))
        .route("/api/spc/logout", post(login::logout))
        .route("/api/spc/me", get(me))
        .route("/api/spc/preferences", put(set_preferences))
        .route("/api/spc/alerts/", get(history).post(raise))
        .route("/api/spc/alerts", get(history).post(raise))
        .route("/api/spc/alerts/{id}/acknowledge", post(acknowledge))
        .route("/api/spc/products/{id}/measurements", post(measure))
        .route("/api/spc/products/{id}/analysis", post(analyse))
        .route("/api/spc/products/{id}/disturbance", post(disturb))
        .route("/api/spc/products/{id}/setup", put(set_up))
        .route("/api/spc/statistics", get(operator::statistics))
        .route("/api/spc/deliveries", get(operator::deliveries))
        .route("/api/spc/connections", get(operator::connections))
        .route("/api/spc/users", get(operator::users))
        .route("/api/spc/users/{id}/rights", put(operator::set_rights))
        .route("/metrics", get(operator::metrics))
        .with_state(spc)
        .route_service("/api/{method}", server_api)
}

/// Who calls.
pub struct Caller {
    user: User,
    /// What is stored of their token.
    token_hash: String,
}

impl FromRequestParts<Spc> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, spc: &Spc) -> Result<Self, Refused> {
        let hint = "log in with POST /api/spc/login, then send its cookie, or Authorization: Bearer <token>";
        let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = match bearer {
            Some(token) => Some(token.to_owned()),
            None => cookie(&parts.headers, parts.method.is_safe())?,
        };
        let hash = token_hash(&token.ok_or_else(|| Refusal::unauthorized("nobody is logged in").hint(hint))?);
        let known = hash.clone();
        let login = spc.store.run(move |transaction| transaction.login(&known, now_ms())).await?;
        let login = login.ok_or_else(|| Refusal::unauthorized("the login has ended or never was").hint(hint))?;
        Ok(Self { user: login.user, token_hash: hash })
    }
}

/// The token in the cookie. A cookie comes along whoever wrote the page, so what changes something must come from a page of ours.
fn cookie(headers: &HeaderMap, is_safe: bool) -> Result<Option<String>, Refused> {
    let site = headers.get("sec-fetch-site").map(header::HeaderValue::as_bytes);
    if !is_safe && site.is_some_and(|site| site != b"same-origin") {
        return Err(Refusal::permission_denied("this comes from a page of another origin").into());
    }
    let mut head = Head::default();
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    head.headers = cookies.map(|value| ("cookie".to_owned(), value.to_owned())).collect();
    Ok(head.cookie(COOKIE).map(str::to_owned))
}

async fn me(State(spc): State<Spc>, Caller { user, .. }: Caller) -> Answer {
    let (own, node) = (user.products.clone(), spc.node.clone());
    let products = spc.store.run(|transaction| transaction.products()).await?;
    let products: Vec<_> = products.into_iter().filter(|product| own.contains(&product.id)).collect();
    Ok(Json(json!({ "user": user, "products": products, "node": node, "now_ms": now_ms() })))
}

/// Preferences hold in all tabs of the user at once.
async fn set_preferences(State(spc): State<Spc>, Caller { user, .. }: Caller, body: Bytes) -> Answer {
    let preferences: Preferences = serde_json::from_slice(&body).map_err(|error| Refused::value("$", error.to_string()))?;
    if !(1..=4).contains(&preferences.min_level) {
        return Err(Refused::value("$.min_level", "must be 1 to 4"));
    }
    if let Some(product) = preferences.muted.iter().find(|product| !user.products.contains(product)) {
        return Err(Refused::value("$.muted", format!("names {product}, which is not one of yours")));
    }
    let told = json!({ "type": "preferences", "preferences": preferences });
    spc.store
        .run(move |transaction| {
            transaction.set_preferences(&user.id, &preferences)?;
            if let Some(topic) = user_topic(&user.id) {
                transaction.stage(&topic, &frame(&json!({ "type": "preferences", "preferences": preferences })))?;
            }
            Ok(())
        })
        .await?;
    Ok(Json(told))
}

async fn history(State(spc): State<Spc>, Caller { user, .. }: Caller, Query(query): Query<HistoryQuery>) -> Answer {
    let alerts = spc.store.run(move |transaction| transaction.history(&user, &query)).await?;
    Ok(Json(json!({ "alerts": alerts })))
}

/// How an alert is raised.
#[derive(Deserialize)]
struct Raising {
    /// Ends the transaction with a failure, to show that nothing of it is heard.
    #[serde(default)]
    rollback: bool,
}

async fn raise(
    State(spc): State<Spc>,
    Caller { user, .. }: Caller,
    Query(raising): Query<Raising>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refused> {
    needs(&user, Role::Operator)?;
    let draft = Draft::read(&body)?;
    needs_product(&user, draft.product)?;
    spc.count(&user.id)?;
    let stored = spc.store.run(move |transaction| {
        let product = transaction.product(draft.product)?;
        let notice = draft.into_notice(&product.name, &user.id);
        let is_new = line::tell(transaction, &notice)?;
        if raising.rollback {
            return Err(Refused::RolledBack);
        }
        Ok((is_new, notice.id))
    });
    let (is_new, id) = stored.await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!({ "id": id, "stored": is_new }))))
}

async fn acknowledge(State(spc): State<Spc>, Caller { user, .. }: Caller, Path(id): Path<String>) -> Answer {
    needs(&user, Role::Operator)?;
    let shown = spc.store.run(move |transaction| {
        let shown = transaction.notice(&id, &user)?;
        if transaction.acknowledge(&id, &user.id, now_ms())? {
            let told = frame(
                &json!({ "type": "acknowledged", "id": id, "product_id": shown.notice.product_id, "by": user.id, "at_ms": now_ms() }),
            );
            // Whoever filters by level has to hear of it as well as of the alert.
            let tags = [("type".to_owned(), "acknowledged".to_owned()), ("level".to_owned(), shown.notice.priority.level().to_string())];
            let told = told.tags(tags.into_iter().collect());
            for topic in [alerts_topic(shown.notice.product_id), product_topic(shown.notice.product_id)] {
                transaction.stage(&topic, &told)?;
            }
        }
        transaction.notice(&id, &user)
    });
    Ok(Json(json!(shown.await?)))
}

/// Readings of one point.
#[derive(Deserialize)]
struct Readings {
    values: Vec<f64>,
}

async fn measure(State(spc): State<Spc>, Caller { user, .. }: Caller, Path(id): Path<ProductId>, body: Bytes) -> Answer {
    needs(&user, Role::Engineer)?;
    needs_product(&user, id)?;
    let Readings { values } = serde_json::from_slice(&body).map_err(|error| Refused::value("$.values", error.to_string()))?;
    let taken = spc.store.run(move |transaction| line::take(transaction, id, &values, &user.id)).await?;
    Ok(Json(json!(taken)))
}

async fn analyse(State(spc): State<Spc>, Caller { user, .. }: Caller, Path(id): Path<ProductId>) -> Answer {
    needs(&user, Role::Engineer)?;
    needs_product(&user, id)?;
    let notice = spc.store.run(move |transaction| {
        let notice = line::analyse(transaction, &transaction.product(id)?, &user.id)?;
        line::tell(transaction, &notice)?;
        Ok(notice)
    });
    Ok(Json(json!(notice.await?)))
}

async fn set_up(State(spc): State<Spc>, Caller { user, .. }: Caller, Path(id): Path<ProductId>, body: Bytes) -> Answer {
    needs(&user, Role::Engineer)?;
    needs_product(&user, id)?;
    let setup: Setup = serde_json::from_slice(&body).map_err(|error| Refused::value("$", error.to_string()))?;
    let product = spc.store.run(move |transaction| {
        line::set_up(transaction, id, setup)?;
        transaction.product(id)
    });
    Ok(Json(json!(product.await?)))
}

/// What is to befall a simulated line.
#[derive(Deserialize)]
struct Disturbing {
    kind: Disturbance,
}

async fn disturb(State(spc): State<Spc>, Caller { user, .. }: Caller, Path(id): Path<ProductId>, body: Bytes) -> Answer {
    needs(&user, Role::Engineer)?;
    needs_product(&user, id)?;
    let Disturbing { kind } = serde_json::from_slice(&body).map_err(|error| Refused::value("$.kind", error.to_string()))?;
    spc.store.run(move |transaction| transaction.disturb(id, kind)).await?;
    Ok(Json(json!({ "disturbed": id })))
}
