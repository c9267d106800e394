//! What an application that does not answer, or answers nonsense, costs: one temporary refusal, and nothing is allowed.

use std::time::Duration;

use broker_auth::Hook;
use broker_core::testing::Client;
use serde_json::json;

use crate::{
    backend::{Backend, Reply},
    support::{engine, engine_with, failures},
};

/// One subscribe against an application that does this: the client's answer, and the cause that is counted.
async fn check(reply: Reply, answer: &str, cause: &str) {
    let backend = Backend::in_turn(vec![reply]).await;
    let (engine, hooks) = engine_with(
        &backend,
        &[Hook::Subscribe],
        |options| options.answer_max_bytes(1024),
        |hook| hook.timeout(Duration::from_millis(200)),
    );
    let mut client = Client::connect(&engine).await;
    client.subscribe("asked:1");
    assert_eq!(client.next().await, answer);
    assert_eq!((failures(&hooks, Hook::Subscribe, cause), backend.calls().len()), (1, 1), "{cause}");
    client.subscribe("open:1");
    assert_eq!(client.next().await, "subscribed open:1 at 0", "the session goes on");
}

const UNAVAILABLE: &str = "refused Unavailable: the application did not answer (subscribe), try again";

fn status(status: u16) -> Reply {
    Reply::Raw(status, Vec::new(), json!({"result": {}}).to_string())
}

fn body(text: &str) -> Reply {
    Reply::Raw(200, Vec::new(), text.to_owned())
}

#[tokio::test]
async fn a_hang_is_given_up() {
    check(Reply::Hang, UNAVAILABLE, "timeout").await;
}

#[tokio::test]
async fn a_status_is_no_answer_whatever_the_body_says() {
    check(status(500), UNAVAILABLE, "status").await;
    check(status(404), UNAVAILABLE, "status").await;
    check(status(401), "refused Unauthorized: the application does not know these credentials", "status").await;
    check(status(403), "refused PermissionDenied: the application does not allow this", "status").await;
}

#[tokio::test]
async fn nonsense_allows_nothing() {
    for text in ["", "<html>", "[]", "{}", r#"{"result":null}"#, r#"{"result":true}"#, r#"{"result":{"info":1},"error":7}"#, "\u{0}"] {
        check(body(text), UNAVAILABLE, "malformed").await;
    }
    check(body(r#"{"result":{"expire_at":"soon"}}"#), UNAVAILABLE, "malformed").await;
    check(body(r#"{"result":{"b64info":"%"}}"#), UNAVAILABLE, "malformed").await;
}

#[tokio::test]
async fn an_answer_over_the_bound_is_not_read_to_its_end() {
    check(body(&json!({"result": {"data": "x".repeat(2000)}}).to_string()), UNAVAILABLE, "too_large").await;
}

// S16
#[tokio::test]
async fn no_redirect_is_followed() {
    let elsewhere = Backend::always(json!({"result": {}})).await;
    let here = format!("http://{}/subscribe", elsewhere.address);
    for (code, location) in [(302, here.clone()), (307, here.clone()), (308, here), (301, "http://169.254.169.254/latest".to_owned())] {
        check(Reply::Raw(code, vec![("location", location)], String::new()), UNAVAILABLE, "redirect").await;
    }
    assert!(elsewhere.calls().is_empty());
}

#[tokio::test]
async fn nobody_listening_is_a_temporary_refusal() {
    let backend = Backend::always(json!({})).await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (engine, hooks) = engine(&Backend { address: gone, ..backend }, &[Hook::Subscribe]);
    let mut client = Client::connect(&engine).await;
    client.subscribe("asked:1");
    assert_eq!(client.next().await, UNAVAILABLE);
    assert_eq!(failures(&hooks, Hook::Subscribe, "transport"), 1);
}
