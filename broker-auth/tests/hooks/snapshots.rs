//! The hook `snapshot`: what is asked, what its answers mean, and that whatever goes wrong is temporary and nobody's secret.

use broker_auth::Hook;
use serde_json::{Value, json};

use crate::{
    backend::{Backend, Reply},
    support::{connect, engine, failures},
};

/// An application that lets everybody in, as somebody of a tenant, and answers so for a snapshot.
async fn backend(snapshot: Value) -> Backend {
    Backend::start(move |call| {
        Reply::Json(match call.path.as_str() {
            "/connect" => json!({"result": {"user": "kim", "tenant": "acme"}}),
            "/snapshot" => snapshot.clone(),
            _ => json!({"result": {}}),
        })
    })
    .await
}

/// What a subscriber is told; the number of lines is that of an answer with or without a snapshot.
async fn check(snapshot: Value, lines: &[&str], malformed: u64) {
    let backend = backend(snapshot).await;
    let (engine, hooks) = engine(&backend, &[Hook::Connect, Hook::Subscribe, Hook::Snapshot]);
    let (mut client, _) = connect(&engine).await;
    client.subscribe("asked:1");
    assert_eq!(client.take(lines.len()).await, lines);
    let asked: Vec<_> = backend.calls().into_iter().filter(|call| call.path == "/snapshot").map(|call| call.body).collect();
    assert_eq!(asked, [json!({"channel": "asked:1", "tenant": "acme"})]);
    assert_eq!(failures(&hooks, Hook::Snapshot, "malformed"), malformed);
    client.subscribe("open:1");
    assert_eq!(client.next().await, "subscribed open:1 at 0", "the session goes on");
}

const REFUSED: &str = "refused Unavailable: the current state is not available, try again";

#[tokio::test]
async fn data_is_the_snapshot_and_none_is_none() {
    check(json!({"result": {"data": {"n": 1}}}), &["subscribed asked:1 at 0", "snapshot asked:1 {\"n\":1}"], 0).await;
    check(json!({"result": {"b64data": "eyJuIjoxfQ=="}}), &["subscribed asked:1 at 0", "snapshot asked:1 {\"n\":1}"], 0).await;
    check(json!({"result": {"text": "one"}}), &["subscribed asked:1 at 0", "snapshot asked:1 one"], 0).await;
    check(json!({"result": {}}), &["subscribed asked:1 at 0"], 0).await;
}

#[tokio::test]
async fn what_is_no_snapshot_is_a_temporary_refusal_that_tells_the_client_nothing_of_the_application() {
    check(json!({"error": {"code": 403, "message": "table orders is locked"}}), &[REFUSED], 0).await;
    check(json!({"disconnect": {"code": 4501, "reason": "go away"}}), &[REFUSED], 1).await;
    check(json!({}), &[REFUSED], 1).await;
    check(json!({"result": {"b64data": "%"}}), &[REFUSED], 1).await;
}
