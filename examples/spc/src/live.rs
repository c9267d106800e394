//! The broker of the application: paths, namespaces, who comes in, and the frames that clients send. Everything that is published comes out of the
//! store's transactions.

use std::{sync::Arc, time::Duration};

use broker::{
    Action, Broker, BuildError, Builder, ConnectRequest, Identity, MessageRequest, Namespace, PayloadKind, Priority, Rate, Rates, Refusal,
    Route, SnapshotFailed, Topic,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    access::{COOKIE, Way, identity, product_of_path, token_hash},
    notice::{ProductId, json, now_ms, product_of, product_topic},
    refused::Refused,
    spc::Following,
    store::{HistoryQuery, Store},
};

/// What is kept for those who come back: more than an hour of a busy product.
const HISTORY: (usize, Duration) = (300, Duration::from_secs(3600));
/// Notices that one frame may ask for or acknowledge.
const IDS_MAX: usize = 100;

/// A broker with this application's paths, namespaces and hooks.
pub fn broker(builder: Builder, store: &Store, node: &str, following: &Arc<Following>) -> Result<Broker, BuildError> {
    let (charts, logins, frames) = (store.clone(), (store.clone(), following.clone()), (store.clone(), following.clone()));
    let node: Arc<str> = node.into();
    let ended = following.clone();
    builder
        // Alerts overtake points that wait for the same browser, and may be filtered by their tags.
        .namespace("alerts", Namespace::default().history(HISTORY.0, HISTORY.1).filter().priority(Priority::High))
        .namespace("spc", Namespace::default().history(HISTORY.0, HISTORY.1).filter().priority(Priority::High))
        .namespace("line", Namespace::default().history(HISTORY.0, HISTORY.1))
        .route(Route::new("/ws/spc/notifications"))
        .route(Route::new("/ws/spc/product/{id}").topic("spc:product.{id}"))
        .route(Route::new("/ws/spc/live"))
        .settings(|settings| {
            let mut rates = Rates::default();
            rates.session.commands = Some(Rate::per_second(20).burst(100));
            settings.rates = rates;
        })
        // Told when the subscription is live: what is published after it arrives.
        .snapshot("spc", |topic| async move {
            let id = product_of(&topic).ok_or_else(|| SnapshotFailed::new("no product"))?;
            Ok(json(&subscription("subscribed", id)))
        })
        .snapshot("line", move |topic| {
            let store = charts.clone();
            async move { chart(&store, &topic).await }
        })
        .on_connect(move |request| {
            let (store, following) = logins.clone();
            async move { who(&store, &following, request).await }
        })
        .on_message(move |request| {
            let ((store, following), node) = (frames.clone(), node.clone());
            async move { answer(&store, &following, &node, request).await.map_err(Refused::into_refusal) }
        })
        .on_disconnect(move |disconnected| {
            ended.forget(disconnected.subject.session);
            std::future::ready(())
        })
        .build()
}

async fn chart(store: &Store, topic: &Topic) -> Result<broker::Payload, SnapshotFailed> {
    let id = product_of(topic).ok_or_else(|| SnapshotFailed::new("no product"))?;
    let chart = store.run(move |transaction| transaction.chart(id)).await.map_err(|error| SnapshotFailed::new(error.to_string()))?;
    Ok(json(&chart))
}

/// Who a session is: by the cookie of the page, or the bearer token of a program.
async fn who(store: &Store, following: &Following, request: ConnectRequest) -> Result<Identity, Refusal> {
    let token = request.connect.token.as_deref().or(request.head.token.as_deref()).or(request.head.cookie(COOKIE));
    let hint = "log in with POST /api/spc/login, then connect with its cookie, or with Authorization: Bearer <token>";
    let hash = token_hash(token.ok_or_else(|| Refusal::unauthorized("nobody is logged in").hint(hint))?);
    let known = hash.clone();
    let login = store.run(move |transaction| transaction.login(&known, now_ms())).await.map_err(Refused::into_refusal)?;
    let login = login.ok_or_else(|| Refusal::unauthorized("the login has ended or never was").hint(hint))?;
    if let Some(product) = product_of_path(&request.head.path).filter(|product| login.user.products.contains(product)) {
        following.add(request.session, product);
    }
    Ok(identity(&login, &hash, Way::of_path(&request.head.path)))
}

/// A frame of the application's own.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Frame {
    SubscribeProduct { product_id: ProductId },
    UnsubscribeProduct { product_id: ProductId },
    GetRecentAlerts(HistoryQuery),
    Received { ids: Vec<String> },
    Ping,
}

const FRAMES: &str = "frames are {\"type\":\"subscribe_product\",\"product_id\":1}, unsubscribe_product, get_recent_alerts, received, ping";

impl Frame {
    /// Reads a frame; a mistake is named by its path.
    fn read(text: &[u8]) -> Result<Self, Refused> {
        let malformed = |what: String| Refusal::bad_request(what).hint(FRAMES);
        let value: Value = serde_json::from_slice(text).map_err(|error| malformed(format!("the frame is no JSON: {error}")))?;
        if !value.is_object() {
            return Err(malformed("the frame must be an object".to_owned()).into());
        }
        let kind = match value.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(_) => return Err(malformed("`$.type` must be a text".to_owned()).into()),
            None => return Err(malformed("`$.type` is missing".to_owned()).into()),
        };
        let known = ["subscribe_product", "unsubscribe_product", "get_recent_alerts", "received", "ping"];
        if !known.contains(&kind.as_str()) {
            let shown: String = kind.chars().take(40).collect();
            return Err(malformed(format!("`$.type` is `{shown}`, which is no frame here")).into());
        }
        let is_product = |id: &Value| id.as_u64().is_some_and(|id| id <= u64::from(ProductId::MAX));
        if kind.ends_with("subscribe_product") && !value.get("product_id").is_some_and(is_product) {
            let what = if value.get("product_id").is_none() { "is missing" } else { "must be a whole number" };
            return Err(malformed(format!("`$.product_id` {what}")).into());
        }
        let frame: Self = serde_json::from_value(value).map_err(|error| malformed(format!("in `{kind}`: {error}")))?;
        match &frame {
            Self::Received { ids } if ids.len() > IDS_MAX => {
                Err(malformed(format!("`$.ids` holds {}, at most {IDS_MAX} are allowed", ids.len())).into())
            }
            _ => Ok(frame),
        }
    }
}

async fn answer(store: &Store, following: &Following, node: &str, request: MessageRequest) -> Result<Vec<Action>, Refused> {
    if request.data.kind() == PayloadKind::Binary {
        return Err(Refusal::bad_request("the frame is binary; frames are JSON text").hint(FRAMES).into());
    }
    let session = request.subject.session;
    let reply = |value: &Value| Action::Reply(json(value));
    Ok(match Frame::read(request.data.bytes())? {
        Frame::SubscribeProduct { product_id } => {
            let topic = product_topic(product_id);
            // The authorizer decides; asked before, so that the refusal speaks of products.
            if !request.subject.capabilities().iter().any(|capability| capability.allows(broker::Verb::Subscribe, &topic)) {
                let refusal = Refusal::permission_denied(format!("product {product_id} is not one of yours"));
                return Err(refusal.hint("the first frame, `connection`, lists yours").into());
            }
            // The answer is the topic's snapshot; who follows already gets none, and is answered here.
            let known = !following.add(session, product_id);
            let again = known.then(|| reply(&subscription("subscribed", product_id)));
            again.into_iter().chain([Action::Subscribe(topic)]).collect()
        }
        Frame::UnsubscribeProduct { product_id } => {
            following.remove(session, product_id);
            vec![Action::Unsubscribe(product_topic(product_id)), reply(&subscription("unsubscribed", product_id))]
        }
        Frame::GetRecentAlerts(query) => {
            let user = request.subject.user.as_str().to_owned();
            let alerts = store.run(move |transaction| {
                let user = transaction.user(&user)?.ok_or_else(|| Refused::unknown("there is no such user any more"))?;
                transaction.history(&user, &query)
            });
            vec![reply(&json!({ "type": "recent_alerts", "alerts": alerts.await? }))]
        }
        Frame::Received { ids } => {
            let (user, node) = (request.subject.user.as_str().to_owned(), node.to_owned());
            store.run(move |transaction| transaction.add_receipts(&ids, &user, now_ms(), &node)).await?;
            Vec::new()
        }
        Frame::Ping => vec![reply(&json!({ "type": "pong", "at_ms": now_ms() }))],
    })
}

fn subscription(status: &str, product: ProductId) -> Value {
    json!({ "type": "subscription", "status": status, "product_id": product, "message": format!("{status} to product {product}").replace("unsubscribed to", "unsubscribed from") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(frame: &str, expected: &str) {
        let said = match Frame::read(frame.as_bytes()) {
            Ok(frame) => format!("{frame:?}"),
            Err(refused) => refused.to_string(),
        };
        assert!(said.starts_with(expected), "{frame}: {said}");
    }

    #[test]
    fn frames_are_read_and_what_is_wrong_with_one_is_named() {
        check(r#"{"type":"subscribe_product","product_id":1}"#, "SubscribeProduct { product_id: 1 }");
        check(r#"{"type":"unsubscribe_product","product_id":1,"more":0}"#, "UnsubscribeProduct { product_id: 1 }");
        check(r#"{"type":"get_recent_alerts","limit":5}"#, "GetRecentAlerts(");
        check(r#"{"type":"ping"}"#, "Ping");
        check("{", "the frame is no JSON");
        check("[1]", "the frame must be an object");
        check("{}", "`$.type` is missing");
        check(r#"{"type":1}"#, "`$.type` must be a text");
        check(r#"{"type":"subscribe"}"#, "`$.type` is `subscribe`, which is no frame here");
        check(r#"{"type":"subscribe_product"}"#, "`$.product_id` is missing");
        check(r#"{"type":"subscribe_product","product_id":"1"}"#, "`$.product_id` must be a whole number");
        check(r#"{"type":"subscribe_product","product_id":-1}"#, "`$.product_id` must be a whole number");
        check(r#"{"type":"get_recent_alerts","limit":"x"}"#, "in `get_recent_alerts`:");
        check(r#"{"type":"received"}"#, "in `received`: missing field `ids`");
    }
}
