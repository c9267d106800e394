//! The application through its HTTP API and its broker, on one node and without a network.

use std::{future::Future, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use broker::{Broker, StreamItem, TopicStream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use spc::{
    api,
    notice::{alerts_topic, line_topic, product_topic},
    refused::Refused,
    spc::{Options, Spc},
};
use tower::ServiceExt;

const KEY: &str = "the-key-of-the-tests";

struct World {
    spc: Spc,
    router: Router,
    _data: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = Options { pace: Duration::ZERO, quick_passwords: true };
        let spc = Spc::start(Broker::builder(), "n1", data.path(), options).await.unwrap();
        Self { router: api::router(spc.clone(), KEY), spc, _data: data }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn login(&self, user: &str) -> String {
        let body = json!({ "user": user, "password": user, "bearer": true });
        let (status, answer) = self.send(post("login", None, &body)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// A stream of a topic that is live.
    async fn listen(&self, topic: &broker::Topic) -> TopicStream {
        let mut stream = self.spc.broker.subscribe(topic).unwrap();
        assert!(matches!(soon(stream.next()).await, Some(StreamItem::Live { .. })));
        stream
    }

    async fn history(&self, token: &str) -> Vec<Value> {
        let request = Request::get("/api/spc/alerts/?limit=200").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let (status, answer) = self.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["alerts"].as_array().unwrap().clone()
    }
}

fn post(path: &str, token: Option<&str>, body: &Value) -> Request<Body> {
    let request = Request::post(format!("/api/spc/{path}"));
    let request = match token {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    };
    request.body(Body::from(body.to_string())).unwrap()
}

fn alert(title: &str) -> Value {
    json!({ "product": 1, "alert_type": "TOOL_WEAR", "priority": "high", "title": title, "message": "공구 마모" })
}

async fn next(stream: &mut TopicStream) -> Value {
    loop {
        match soon(stream.next()).await.expect("the broker lives") {
            StreamItem::Publication(publication) => return serde_json::from_slice(publication.data.bytes()).unwrap(),
            other => assert!(matches!(other, StreamItem::Live { .. }), "{other:?}"),
        }
    }
}

/// What a test waits for comes in a moment; this bound only ends tests that fail.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

#[tokio::test]
async fn an_alert_is_published_to_both_topics_with_tags_and_stored() {
    let world = World::start().await;
    let kim = world.login("kim").await;
    let mut alerts = world.listen(&alerts_topic(1)).await;
    let mut product = world.listen(&product_topic(1)).await;
    let (status, answer) = world.send(post("alerts/", Some(&kim), &alert("Tool worn"))).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let heard = next(&mut alerts).await;
    assert_eq!((&heard["type"], &heard["id"], &heard["by"]), (&json!("alert"), &answer["id"], &json!("kim")));
    assert_eq!(next(&mut product).await, heard);
    assert_eq!(world.history(&kim).await[0]["id"], answer["id"]);
}

#[tokio::test]
async fn what_is_rolled_back_is_neither_heard_nor_stored() {
    let world = World::start().await;
    let kim = world.login("kim").await;
    let mut alerts = world.listen(&alerts_topic(1)).await;
    let (status, answer) = world.send(post("alerts/?rollback=true", Some(&kim), &alert("Never"))).await;
    assert_eq!((status, &answer["error"]["error"]), (StatusCode::CONFLICT, &json!("rolled_back")));
    // A failure of the transaction itself is no different.
    let failed = world.spc.store.run(|transaction| {
        let product = transaction.product(1)?;
        spc::line::tell(transaction, &spc::line::analyse(transaction, &product, "kim")?)?;
        Err::<(), _>(Refused::RolledBack)
    });
    assert!(matches!(failed.await, Err(Refused::RolledBack)));
    let (_, marker) = world.send(post("alerts/", Some(&kim), &alert("The next"))).await;
    assert_eq!(next(&mut alerts).await["id"], marker["id"]);
    let told: Vec<Value> = world.history(&kim).await.iter().map(|told| told["id"].clone()).collect();
    assert_eq!(told, [marker["id"].clone()]);
}

#[tokio::test]
async fn a_point_is_streamed_and_only_what_is_wrong_with_it_is_an_alert() {
    let world = World::start().await;
    let kim = world.login("kim").await;
    let mut line = world.listen(&line_topic(3)).await;
    let mut alerts = world.listen(&alerts_topic(3)).await;
    for values in [[118.0], [80.0]] {
        let (status, answer) = world.send(post("products/3/measurements", Some(&kim), &json!({ "values": values }))).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let sample = next(&mut line).await;
        assert_eq!((&sample["type"], &sample["point"]["readings"]), (&json!("sample"), &json!(values)));
    }
    let measured = next(&mut alerts).await;
    assert_eq!((&measured["type"], &measured["data"]["value"]), (&json!("measurement"), &json!(80.0)));
    assert_eq!(next(&mut alerts).await["data"]["rule"], "N1");
}

#[tokio::test]
async fn an_analysis_ends_after_fifty_points_and_is_told() {
    let world = World::start().await;
    let kim = world.login("kim").await;
    let mut alerts = world.listen(&alerts_topic(3)).await;
    for at in 0..50 {
        let values = [118.0 + f64::from(at * 7 % 11) - 5.0];
        world.send(post("products/3/measurements", Some(&kim), &json!({ "values": values }))).await;
    }
    loop {
        let heard = next(&mut alerts).await;
        if heard["type"] == "capability" {
            assert_eq!(heard["data"]["readings"], 50, "{heard}");
            assert!(heard["data"]["cpk"].as_f64().unwrap() > 0.0 && heard["data"]["cp"].is_null());
            return;
        }
    }
}

#[tokio::test]
async fn an_engineer_changes_rules_and_limits_and_whoever_looks_at_the_chart_gets_it_anew() {
    let world = World::start().await;
    let kim = world.login("kim").await;
    let mut line = world.listen(&line_topic(3)).await;
    let set_up = |body: Value| {
        let request = Request::put("/api/spc/products/3/setup").header(header::AUTHORIZATION, format!("Bearer {kim}"));
        request.body(Body::from(body.to_string())).unwrap()
    };
    let (status, answer) = world.send(set_up(json!({ "rules": "western_electric" }))).await;
    assert_eq!((status, &answer["rules"]), (StatusCode::OK, &json!("western_electric")));
    let chart = next(&mut line).await;
    assert_eq!((&chart["type"], &chart["product"]["rules"]), (&json!("chart"), &json!("western_electric")));
    assert_eq!(chart["points"].as_array().unwrap().len(), 40);
    // A process that was set to another level: its points break no rule once they have limits of their own.
    world
        .spc
        .store
        .run(|transaction| {
            (0..80).try_for_each(|at| {
                let reading = 150.0 + f64::from(at % 5);
                transaction.add_point(&transaction.product(3)?, 1, &[reading], &[]).map(drop)
            })
        })
        .await
        .unwrap();
    let (status, answer) = world.send(set_up(json!({ "new_limits": true }))).await;
    assert_eq!((status, &answer["centre"]), (StatusCode::OK, &json!(152.0)));
    assert_eq!(next(&mut line).await["product"]["centre"], 152.0);
    let (status, answer) = world.send(set_up(json!({ "rules": "mine" }))).await;
    assert!(status == StatusCode::BAD_REQUEST && answer["error"]["message"].as_str().unwrap().contains("nelson"), "{answer}");
}

#[tokio::test]
async fn what_another_process_publishes_is_in_the_history_once() {
    let world = World::start().await;
    let kim = world.login("kim").await;
    let data = json!({
        "type": "alert", "id": "from-elsewhere", "product_id": 1, "product": "Shaft", "alert_type": "EXTERNAL", "priority": "high",
        "title": "From elsewhere", "message": "", "at_ms": 1_763_712_000_000_u64, "by": "script",
    });
    let body = json!({ "channels": ["alerts:product.1", "spc:product.1"], "data": data });
    let publish = |key: &str| Request::post("/api/broadcast").header("x-api-key", key).body(Body::from(body.to_string())).unwrap();
    assert_eq!(world.send(publish("another")).await.0, StatusCode::UNAUTHORIZED);
    for _ in 0..2 {
        assert_eq!(world.send(publish(KEY)).await.0, StatusCode::OK);
    }
    let found = async {
        loop {
            let told = world.history(&kim).await;
            if !told.is_empty() {
                return told;
            }
            tokio::task::yield_now().await;
        }
    };
    let told = soon(found).await;
    assert_eq!((told.len(), &told[0]["id"]), (1, &json!("from-elsewhere")));
}

#[tokio::test]
async fn roles_and_products_decide_and_refusals_say_what_would_help() {
    let world = World::start().await;
    let (lee, choi) = (world.login("lee").await, world.login("choi").await);
    let mut other = alert("Not mine");
    other["product"] = json!(2);
    let (status, answer) = world.send(post("alerts/", Some(&lee), &other)).await;
    assert_eq!((status, &answer["error"]["hint"]), (StatusCode::FORBIDDEN, &json!("yours are: 1")));
    let (status, answer) = world.send(post("alerts/", Some(&choi), &other)).await;
    assert!(
        status == StatusCode::FORBIDDEN && answer["error"]["message"].as_str().unwrap().contains("needs the role operator"),
        "{answer}"
    );
    let (status, _) = world.send(post("products/1/analysis", Some(&lee), &Value::Null)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = world.send(post("login", None, &json!({ "user": "kim", "password": "lee" }))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) = world.send(post("alerts/", Some("guessed"), &alert("x"))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_cookie_of_a_foreign_page_changes_nothing() {
    let world = World::start().await;
    let body = Body::from(json!({ "user": "kim", "password": "kim" }).to_string());
    let answer = world.router.clone().oneshot(Request::post("/api/spc/login").body(body).unwrap()).await.unwrap();
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let request = |site: &str| {
        let request = Request::post("/api/spc/alerts/").header(header::COOKIE, &cookie).header("sec-fetch-site", site);
        request.body(Body::from(alert("By cookie").to_string())).unwrap()
    };
    assert_eq!(world.send(request("same-site")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.send(request("same-origin")).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn one_node_at_a_time_holds_a_lease() {
    let world = World::start().await;
    let held = |holder: &'static str, now_ms| {
        world.spc.store.run(move |transaction| transaction.lease("lines", holder, now_ms, Duration::from_secs(5)))
    };
    assert!(held("n1", 1_000).await.unwrap());
    assert!(!held("n2", 2_000).await.unwrap());
    assert!(held("n1", 3_000).await.unwrap());
    assert!(!held("n2", 8_000).await.unwrap());
    assert!(held("n2", 8_001).await.unwrap());
    assert!(!held("n1", 9_000).await.unwrap());
}

#[tokio::test]
async fn an_alert_is_acknowledged_once_and_everybody_is_told_by_whom() {
    let world = World::start().await;
    let (kim, lee) = (world.login("kim").await, world.login("lee").await);
    let mut alerts = world.listen(&alerts_topic(1)).await;
    let (_, raised) = world.send(post("alerts/", Some(&kim), &alert("Tool worn"))).await;
    let id = raised["id"].as_str().unwrap();
    for (user, by) in [(&lee, "lee"), (&kim, "lee")] {
        let (status, answer) = world.send(post(&format!("alerts/{id}/acknowledge"), Some(user), &Value::Null)).await;
        assert_eq!((status, &answer["acknowledged_by"]), (StatusCode::OK, &json!(by)));
    }
    next(&mut alerts).await;
    let told = next(&mut alerts).await;
    assert_eq!((&told["type"], &told["id"], &told["by"]), (&json!("acknowledged"), &json!(id), &json!("lee")));
}
