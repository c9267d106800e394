//! What each hook asks, and what its answers do.

use std::time::{SystemTime, UNIX_EPOCH};

use broker_auth::Hook;
use broker_core::{Payload, Request, Topic, testing::Client};
use serde_json::{Value, json};

use crate::{
    backend::{Backend, Reply},
    support::{connect, engine},
};

fn in_seconds(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

#[tokio::test]
async fn connect_says_who_a_client_is_and_what_it_may_do() {
    let backend = Backend::always(json!({"result": {
        "user": "ris1", "info": {"name": "Kim"}, "meta": {"ward": 7}, "groups": ["ocs_ris"], "channels": ["open:news"],
        "subs": {"asked:1": {"info": 1, "data": {"a": 2}}}, "caps": [{"channels": ["asked:*"], "match": "wildcard", "allow": ["hst"]}],
        "expire_at": in_seconds(600),
    }}))
    .await;
    let (engine, _hooks) = engine(&backend, &[Hook::Connect]);
    let (mut client, answer) = connect(&engine).await;
    assert_eq!(answer, "connected ris1");
    let group: Topic = "group:ocs_ris".parse().unwrap();
    for topic in ["open:news", "asked:1"].map(|name| name.parse::<Topic>().unwrap()).iter().chain([&group]) {
        engine.publish(topic, broker_core::Publish::new(Payload::json("1"))).await.unwrap();
        let line = loop {
            let line = client.next().await;
            if line.starts_with(topic.as_str()) {
                break line;
            }
        };
        assert!(line.ends_with('1'), "{line}");
    }
    let call = &backend.calls()[0];
    assert_eq!(
        (call.path.as_str(), &call.headers["x-hook-key"], &call.headers["content-type"]),
        ("/connect", &"s3cret".parse().unwrap(), &"application/json".parse().unwrap())
    );
    let client_id = call.body["client"].as_str().unwrap().to_owned();
    assert_eq!(client_id.len(), 36);
    let expected =
        json!({"client": client_id, "transport": "test", "protocol": "json", "encoding": "json", "name": "test", "data": {"lang": "de"}});
    assert_eq!(call.body, expected);
}

#[tokio::test]
async fn a_connect_is_refused_with_the_applications_own_error_or_end() {
    let backend = Backend::in_turn(vec![
        Reply::Json(json!({"error": {"code": 1001, "message": "pay first"}})),
        Reply::Json(json!({"error": {"code": 103, "message": "not here"}})),
        Reply::Json(json!({"disconnect": {"code": 4501, "reason": "go away"}})),
    ])
    .await;
    let (engine, _hooks) = engine(&backend, &[Hook::Connect]);
    assert_eq!(connect(&engine).await.1, "refused Application(1001): pay first");
    assert_eq!(connect(&engine).await.1, "refused PermissionDenied: not here");
    assert_eq!(connect(&engine).await.1, "closed application");
}

#[tokio::test]
async fn the_hooks_answer_decides_where_a_namespace_names_it_and_nowhere_else() {
    let backend = Backend::start(|call| match call.body["channel"].as_str() {
        Some("asked:yes") => Reply::Json(json!({"result": {"info": {"role": "x"}}})),
        Some("asked:no") => Reply::Json(json!({"error": {"code": 403, "message": "permission denied"}})),
        Some("asked:end") => Reply::Json(json!({"disconnect": {"code": 4001, "reason": "over"}})),
        _ => Reply::Json(json!({})),
    })
    .await;
    let (engine, _hooks) = engine(&backend, &[Hook::Subscribe]);
    let mut client = Client::connect(&engine).await;
    client.subscribe("open:1");
    assert_eq!(client.next().await, "subscribed open:1 at 0");
    assert!(backend.calls().is_empty());
    client.subscribe("asked:yes");
    assert_eq!(client.next().await, "subscribed asked:yes at 0");
    client.subscribe("asked:no");
    assert_eq!(client.next().await, "refused Application(403): permission denied");
    client.subscribe("asked:empty");
    assert_eq!(client.next().await, "refused Unavailable: the application did not answer (subscribe), try again");
    client.publish("asked:yes", "1");
    assert_eq!(client.next().await, "refused PermissionDenied: publishing to asked:yes is not allowed");
    client.subscribe("asked:end");
    assert_eq!(client.next().await, "closed application");
    let call = &backend.calls()[0];
    let client_id = call.body["client"].as_str().unwrap().to_owned();
    let expected =
        json!({"client": client_id, "transport": "test", "protocol": "json", "encoding": "json", "user": "", "channel": "asked:yes"});
    assert_eq!((call.path.as_str(), &call.body), ("/subscribe", &expected));
}

#[tokio::test]
async fn what_only_members_hear_is_not_opened_by_a_hook() {
    let backend = Backend::always(json!({"result": {}})).await;
    let (engine, _hooks) = engine(&backend, &[Hook::Subscribe, Hook::Publish]);
    let mut client = Client::connect(&engine).await;
    client.subscribe("group:ocs_ris");
    assert_eq!(client.next().await, "refused PermissionDenied: subscribing to group:ocs_ris is not allowed");
    assert!(backend.calls().is_empty());
}

#[tokio::test]
async fn publish_lets_through_changes_or_refuses() {
    let backend = Backend::start(|call| match &call.body["data"] {
        Value::String(word) if word == "plain" => Reply::Json(json!({"result": {}})),
        Value::String(word) if word == "changed" => Reply::Json(json!({"result": {"data": {"by": "app"}, "tags": {"a": "b"}}})),
        Value::String(word) if word == "once" => Reply::Json(json!({"result": {"skip_history": true}})),
        _ => Reply::Json(json!({"error": {"code": 1000, "message": "no"}})),
    })
    .await;
    let (engine, _hooks) = engine(&backend, &[Hook::Subscribe, Hook::Publish]);
    let mut client = Client::connect(&engine).await;
    client.publish("asked:1", "\"plain\"");
    assert_eq!(client.next().await, "published asked:1 at 1");
    client.publish("asked:1", "\"changed\"");
    assert_eq!(client.next().await, "published asked:1 at 2");
    client.publish("asked:1", "\"once\"");
    assert_eq!(client.next().await, "published asked:1");
    client.publish("asked:1", "7");
    assert_eq!(client.next().await, "refused Application(1000): no");
    let topic: Topic = "asked:1".parse().unwrap();
    let page = engine.history(&topic, broker_core::HistoryQuery { limit: 10, ..Default::default() }).await.unwrap();
    let kept: Vec<_> = page.publications.iter().map(|publication| String::from_utf8(publication.data.bytes().to_vec()).unwrap()).collect();
    assert_eq!(kept, ["\"plain\"", "{\"by\":\"app\"}"]);
    assert_eq!(page.publications[1].tags.as_ref().unwrap()["a"], "b");
}

/// An application that decides by the data alone would let a removal through that it cannot see.
#[tokio::test]
async fn publish_is_asked_with_the_key_and_whether_it_goes() {
    let backend = Backend::always(json!({"error": {"code": 1000, "message": "no"}})).await;
    let (engine, _hooks) = engine(&backend, &[Hook::Subscribe, Hook::Publish]);
    let mut client = Client::connect(&engine).await;
    let topic: Topic = "asked:1".parse().unwrap();
    for (data, removed) in [("7", false), ("", true), ("8", true)] {
        let publish =
            Request::Publish { topic: topic.clone(), data: Payload::json(data), key: Some("o7".into()), idempotency_key: None, removed };
        client.send(publish);
        assert_eq!(client.next().await, "refused Application(1000): no");
    }
    let told: Vec<_> = backend.calls().iter().map(|call| json!([call.body["key"], call.body["removed"], call.body.get("data")])).collect();
    assert_eq!(told, [json!(["o7", null, 7]), json!(["o7", true, null]), json!(["o7", true, 8])]);
}

#[tokio::test]
async fn rpc_is_answered_by_the_application() {
    let backend = Backend::always(json!({"result": {"data": {"answer": "2019"}}})).await;
    let (engine, _hooks) = engine(&backend, &[Hook::Rpc]);
    let mut client = Client::connect(&engine).await;
    client.send(Request::Call { method: "getCurrentPrice".to_owned(), data: Payload::json(r#"{"id":12}"#) });
    assert_eq!(client.next().await, r#"result {"answer":"2019"}"#);
    let call = &backend.calls()[0];
    assert_eq!((&call.body["method"], &call.body["data"]), (&json!("getCurrentPrice"), &json!({"id": 12})));
}

#[tokio::test]
async fn an_answer_to_a_message_is_done_in_its_order() {
    let backend = Backend::start(|call| {
        if call.path == "/connect" {
            return Reply::Json(json!({"result": {"user": "ris1", "groups": ["ocs_ris"], "meta": {"ward": 7}}}));
        }
        Reply::Json(json!({"result": {"actions": [
            {"reply": {"data": {"type": "subscribed"}}},
            {"subscribe": {"channel": "open:product.1"}},
            {"publish": {"channel": "asked:log", "data": 1}},
            {"error": {"code": 1002, "message": "half done"}},
            {"close": {"code": 4002, "reason": "enough"}},
        ]}}))
    })
    .await;
    let (engine, _hooks) = engine(&backend, &[Hook::Connect, Hook::Message, Hook::Publish]);
    let (mut client, _) = connect(&engine).await;
    client.send(Request::Message { data: Payload::text("hello") });
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.starts_with("closed")) {
        lines.push(client.next().await);
    }
    lines.retain(|line| !line.contains("group:") && !line.contains("user:"));
    assert_eq!(lines[0], r#"message {"type":"subscribed"}"#);
    assert!(lines.contains(&"refused Application(1002): half done".to_owned()), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "closed application");
    let calls = backend.calls();
    let asked: Vec<_> = calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(asked, ["/connect", "/message"], "the application is not asked about its own publish");
    let body = &calls[1].body;
    let expected = (&json!("hello"), &json!("/test"), &json!(["ocs_ris"]), &json!({"ward": 7}), &json!("ris1"));
    assert_eq!((&body["text"], &body["path"], &body["groups"], &body["meta"], &body["user"]), expected);
    let page = engine.history(&"asked:log".parse().unwrap(), broker_core::HistoryQuery { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!(page.publications.len(), 1);
}

#[tokio::test]
async fn the_server_renews_credentials_by_the_refresh_hook_until_the_application_ends_them() {
    let backend = Backend::start(|call| match call.path.as_str() {
        "/connect" => Reply::Json(json!({"result": {"user": "ris1", "expire_at": in_seconds(20), "meta": {"a": 1}}})),
        _ => Reply::Json(json!({"result": {"expired": true}})),
    })
    .await;
    let (engine, _hooks) = engine(&backend, &[Hook::Connect, Hook::Refresh]);
    let (mut client, _) = connect(&engine).await;
    assert_eq!(client.next().await, "closed credentials_expired");
    let call = &backend.called(2).await[1];
    assert_eq!((call.path.as_str(), &call.body["user"], &call.body["meta"]), ("/refresh", &json!("ris1"), &json!({"a": 1})));
}

#[tokio::test]
async fn the_end_of_a_session_is_told_also_where_the_first_try_fails() {
    let backend = Backend::in_turn(vec![Reply::Raw(503, Vec::new(), String::new()), Reply::Json(json!({}))]).await;
    let (engine, hooks) = engine(&backend, &[Hook::Disconnect]);
    let client = Client::connect(&engine).await;
    drop(client);
    let calls = backend.called(2).await;
    hooks.finish().await;
    assert_eq!(calls[0].body, calls[1].body);
    assert_eq!((&calls[1].body["cause"], calls[1].body["alive_ms"].is_u64()), (&json!("transport_broke"), true));
    assert_eq!(backend.calls().len(), 2);
}
