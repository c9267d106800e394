//! What an application serves by hooks, in both protocols: calls, frames of its own, renewals, ends.

use serde_json::{Value, json};

use crate::{
    application::{Application, Call, Talk, in_seconds},
    serving::{Running, get},
};

const KEY: &str = "a1B2c3D4e5F6g7H8";

fn config(application: &Application, hooks: &[&str]) -> String {
    let routes = "[[routes]]\npath = \"/ws/app\"\n";
    format!("[api]\nkey = \"{KEY}\"\n{}[namespaces.news]\nallow = [\"sub\"]\n{routes}", application.hooks(hooks))
}

/// Prices for those who ask for a known product.
fn prices(call: &Call) -> Value {
    match (call.path.as_str(), call.body["method"].as_str(), &call.body["data"]["product"]) {
        ("/connect", ..) => json!({"result": {"user": "kim", "groups": ["staff"], "meta": {"ward": 7}}}),
        ("/rpc", Some("price"), product) if product == 1 => json!({"result": {"data": {"price": "9.90"}}}),
        ("/rpc", Some("price"), _) => json!({"error": {"code": 1004, "message": "no such product"}}),
        ("/rpc", Some("leave"), _) => json!({"disconnect": {"code": 4501, "reason": "as you wish"}}),
        _ => json!({"result": {}}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_answers_calls_of_both_protocols() {
    let application = Application::start(prices).await;
    let server = Running::start(&config(&application, &["connect", "rpc"]), &[]);
    let (mut sdk, _) = Talk::centrifuge(server.listen, json!({})).await;
    let mut plain = Talk::plain(server.listen, "/ws/app", &[]).await;

    let answer = sdk.ask(json!({"id": 2, "rpc": {"method": "price", "data": {"product": 1}}})).await;
    assert_eq!(answer, json!({"id": 2, "rpc": {"data": {"price": "9.90"}}}));
    let refused = sdk.ask(json!({"id": 3, "rpc": {"method": "price", "data": {"product": 2}}})).await;
    assert_eq!(refused, json!({"id": 3, "error": {"code": 1004, "message": "no such product"}}));
    let answer = plain.ask(json!({"broker": "call", "id": "a", "method": "price", "data": {"product": 1}})).await;
    assert_eq!(answer, json!({"broker": "ok", "id": "a", "data": {"price": "9.90"}}));
    let refused = plain.ask(json!({"broker": "call", "id": "b", "method": "price", "data": {"product": 2}})).await;
    assert_eq!((&refused["broker"], &refused["code"], &refused["message"]), (&json!("error"), &json!(1004), &json!("no such product")));

    let calls = application.called("/rpc");
    assert_eq!(calls.len(), 4);
    for call in &calls {
        let body = &call.body;
        let who = (&body["user"], &body["groups"], &body["meta"], &body["transport"]);
        assert_eq!(who, (&json!("kim"), &json!(["staff"]), &json!({"ward": 7}), &json!("websocket")));
    }
    sdk.say(json!({"id": 4, "rpc": {"method": "leave"}})).await;
    plain.say(json!({"broker": "call", "id": "c", "method": "leave"})).await;
    for client in [&mut sdk, &mut plain] {
        assert_eq!(client.closed().await, (4501, "as you wish".to_owned()));
    }
}

/// An application with frames of its own: the same frame means the same in every protocol.
fn frames(call: &Call) -> Value {
    let actions = match call.body["data"]["type"].as_str() {
        _ if call.path == "/connect" => return json!({"result": {"user": "kim"}}),
        Some("watch") => json!([
            {"reply": {"data": {"type": "watching"}}},
            {"subscribe": {"channel": format!("news:{}", call.body["data"]["what"].as_str().unwrap())}},
            {"reply": {"data": {"type": "more"}}},
        ]),
        Some("unwatch") => json!([{"unsubscribe": {"channel": "news:sports"}}]),
        Some("tell") => json!([{"publish": {"channel": "news:sports", "data": call.body["data"]["text"]}}]),
        Some("sneak") => json!([{"subscribe": {"channel": "closed"}}]),
        Some("bye") => json!([{"close": {"code": 4502, "reason": "bye"}}]),
        Some("nothing") => json!([]),
        _ => return json!({"error": {"code": 1002, "message": "unknown frame"}}),
    };
    json!({"result": {"actions": actions}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_the_applications_own_do_what_it_answers_in_the_plain_protocol() {
    let application = Application::start(frames).await;
    let server = Running::start(&config(&application, &["connect", "message"]), &[]);
    let mut client = Talk::plain(server.listen, "/ws/app", &[]).await;

    client.say(json!({"type": "watch", "what": "sports"})).await;
    assert_eq!(client.hear_where(|frame| frame["type"].is_string()).await, json!({"type": "watching"}));
    let is_more = |frame: &Value| frame["type"] == "more";
    let is_subscribed = |frame: &Value| frame["broker"] == "subscribed" && frame["topic"] == "news:sports";
    // The subscription is on its way when the next reply is written.
    let two = [client.hear().await, client.hear().await];
    assert!(two.iter().any(is_more) && two.iter().any(is_subscribed), "{two:?}");

    client.say(json!({"type": "tell", "text": "2:1"})).await;
    let told = client.hear().await;
    assert_eq!((&told["broker"], &told["topic"], &told["data"]), (&json!("publication"), &json!("news:sports"), &json!("2:1")));

    // The subscribe is the client's: where nobody may listen, no answer to a frame opens a topic.
    client.say(json!({"type": "sneak"})).await;
    assert_eq!(client.hear().await["error"], "permission_denied");
    let mut other = Talk::plain(server.listen, "/ws/app", &[]).await;
    other.say(json!({"type": "nothing"})).await;
    other.say(json!({"type": "what"})).await;
    let refused = other.hear_where(|frame| frame["broker"] == "error").await;
    assert_eq!((&refused["code"], &refused["message"]), (&json!(1002), &json!("unknown frame")));
    other.say(json!("only text")).await;
    assert_eq!(other.hear_where(|frame| frame["broker"] == "error").await["code"], 1002, "the connection stays");

    client.say(json!({"type": "unwatch"})).await;
    let left = client.hear_where(|frame| frame["broker"] == "unsubscribed").await;
    assert_eq!(left["topic"], "news:sports");
    client.say(json!({"type": "bye"})).await;
    assert_eq!(client.closed().await, (4502, "bye".to_owned()));
    let paths: Vec<_> = application.called("/message").iter().map(|call| call.body["path"].clone()).collect();
    assert_eq!(paths, vec![json!("/ws/app"); 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_sdk_sends_is_the_applications_too() {
    let application = Application::start(frames).await;
    let server = Running::start(&config(&application, &["connect", "message"]), &[]);
    let (mut client, _) = Talk::centrifuge(server.listen, json!({})).await;
    client.say(json!({"send": {"data": {"type": "watch", "what": "sports"}}})).await;
    assert_eq!(client.hear().await, json!({"push": {"message": {"data": {"type": "watching"}}}}));
    let two = [client.hear().await, client.hear().await];
    assert!(two.iter().any(|push| push["push"]["message"]["data"]["type"] == "more"), "{two:?}");
    assert!(two.iter().any(|push| push["push"]["channel"] == "news:sports"), "{two:?}");
    client.say(json!({"send": {"data": {"type": "tell", "text": "2:1"}}})).await;
    assert_eq!(client.hear().await["push"]["pub"]["data"], "2:1");
    client.say(json!({"send": {"data": {"type": "bye"}}})).await;
    assert_eq!(client.closed().await, (4502, "bye".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_renewed_without_the_client_until_the_application_ends_them() {
    // The end is asked about a second after it was set, so two renewals show that sessions outlive it.
    let application = Application::start(|call| match call.path.as_str() {
        "/connect" => json!({"result": {"user": call.body["protocol"], "expire_at": in_seconds(4), "meta": {"left": 2}}}),
        "/refresh" => json!({"result": {"expire_at": in_seconds(4)}}),
        path => panic!("{path} is no hook of this test"),
    })
    .await;
    let server = Running::start(&config(&application, &["connect", "refresh"]), &[]);
    let (mut sdk, connected) = Talk::centrifuge(server.listen, json!({})).await;
    assert!(connected["connect"]["expires"].is_null(), "the client is not to refresh: {connected}");
    let mut plain = Talk::plain(server.listen, "/ws/app", &[]).await;
    let renewals = application.calls("/refresh", 10).await;
    let of = |client: &Value| renewals.iter().filter(|call| call.body["client"] == *client).count();
    assert!(of(&connected["connect"]["client"]) >= 4, "the first end is past and the session goes on");
    assert!(renewals.iter().all(|call| call.body["meta"] == json!({"left": 2})));
    // The first thing that either hears after the connect is the answer to its question.
    sdk.say(json!({"id": 2, "subscribe": {"channel": "news:1"}})).await;
    assert_eq!(sdk.hear().await["id"], 2);
    plain.say(json!({"broker": "subscribe", "id": 2, "topic": "news:1"})).await;
    assert_eq!(plain.hear_where(|frame| frame["broker"] != "subscribed" || !frame["id"].is_null()).await["id"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_the_application_does_not_renew_end_the_session() {
    let application = Application::start(|call| match call.path.as_str() {
        "/connect" => json!({"result": {"user": "kim", "expire_at": in_seconds(4)}}),
        _ => json!({"result": {"expired": true}}),
    })
    .await;
    let server = Running::start(&config(&application, &["connect", "refresh"]), &[]);
    let (mut sdk, _) = Talk::centrifuge(server.listen, json!({})).await;
    let mut plain = Talk::plain(server.listen, "/ws/app", &[]).await;
    for client in [&mut sdk, &mut plain] {
        assert_eq!(client.closed().await.0, 3005);
    }
    assert_eq!(application.called("/refresh").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_is_told_once_with_its_cause() {
    let application = Application::start(prices).await;
    let mut server = Running::start(&config(&application, &["connect", "rpc", "disconnect"]), &[]);
    let (sdk, connected) = Talk::centrifuge(server.listen, json!({})).await;
    let session = &connected["connect"]["client"];
    sdk.close(1000).await;
    let ends = application.calls("/disconnect", 1).await;
    assert_eq!((&ends[0].body["client"], &ends[0].body["cause"], &ends[0].body["user"]), (session, &json!("client_left"), &json!("kim")));

    let mut plain = Talk::plain(server.listen, "/ws/app", &[]).await;
    plain.say(json!({"broker": "call", "id": 1, "method": "leave"})).await;
    plain.closed().await;
    let ends = application.calls("/disconnect", 2).await;
    let end = &ends[1].body;
    assert_eq!((&end["code"], &end["reason"], &end["cause"]), (&json!(4501), &json!("as you wish"), &json!("application")));

    // The API ends another, the drain the last; one that never connected has no end to be told.
    let (_by_api, connected) = Talk::centrifuge(server.listen, json!({})).await;
    let _never_connected = Talk::open(server.listen, "/connection/websocket", &[]).await;
    let session = connected["connect"]["client"].as_str().unwrap();
    server.call(KEY, "disconnect", &json!({"user": "kim", "client": session}).to_string());
    assert_eq!(application.calls("/disconnect", 3).await[2].body["client"], session);
    let _drained = Talk::plain(server.listen, "/ws/app", &[]).await;
    let metrics = get(server.internal, "/metrics");
    assert!(metrics.contains("\nbroker_hook_calls_total{hook=\"disconnect\"} 3\n"), "{metrics}");
    #[cfg(unix)]
    {
        assert_eq!(tokio::task::block_in_place(|| server.terminate()), Some(0));
        let ends = application.calls("/disconnect", 4).await;
        assert_eq!((ends.len(), &ends[3].body["cause"]), (4, &json!("shutdown")));
        let mut sessions: Vec<_> = ends.iter().map(|end| end.body["client"].to_string()).collect();
        sessions.sort();
        sessions.dedup();
        assert_eq!(sessions.len(), 4, "an end was told twice");
    }
}
