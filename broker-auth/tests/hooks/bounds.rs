//! What calls may cost together: how many go out, how many wait, and that none goes out to an application that is ill.

use std::time::Duration;

use broker_auth::Hook;
use broker_core::{Payload, Publish, testing::Client};
use serde_json::json;
use tokio::{sync::watch, time};

use crate::{
    backend::{Backend, Reply},
    support::{engine_with, failures},
};

const UNAVAILABLE: &str = "refused Unavailable: the application did not answer (subscribe), try again";

#[tokio::test]
async fn so_many_calls_go_out_so_many_wait_and_one_more_is_refused() {
    let open = watch::Sender::new(false);
    let backend = Backend::in_turn(vec![Reply::When(open.subscribe())]).await;
    let bounds = |hook: broker_auth::HookOptions| hook.concurrency(2).queue_max_len(1).timeout(Duration::from_secs(60));
    let (engine, hooks) = engine_with(&backend, &[Hook::Subscribe], |options| options, bounds);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = Client::connect(&engine).await;
        client.subscribe("asked:1");
        clients.push(client);
    }
    backend.called(2).await;
    let (mut third, mut fourth) = (Client::connect(&engine).await, Client::connect(&engine).await);
    third.subscribe("asked:1");
    // Commands of all sessions are handled in their order where one shard has them all; elsewhere either of the two is refused.
    fourth.subscribe("asked:1");
    let refused = tokio::select! { line = third.next() => line, line = fourth.next() => line };
    assert_eq!(refused, UNAVAILABLE);
    assert_eq!((failures(&hooks, Hook::Subscribe, "overloaded"), backend.calls().len()), (1, 2));
    open.send_replace(true);
    for client in &mut clients {
        assert_eq!(client.next().await, "subscribed asked:1 at 0");
    }
    assert_eq!(backend.called(3).await.len(), 3);
}

#[tokio::test]
async fn an_application_that_is_ill_is_left_alone_and_probed_after_a_pause() {
    let ill = || Reply::Raw(500, Vec::new(), String::new());
    let backend = Backend::in_turn(vec![ill(), ill(), ill(), ill(), Reply::Json(json!({"result": {}}))]).await;
    let (engine, hooks) = engine_with(&backend, &[Hook::Subscribe], |options| options.failures_max(3), |hook| hook);
    let mut client = Client::connect(&engine).await;
    let mut subscribe = async |topic: &str| {
        client.subscribe(topic);
        client.next().await
    };
    for _ in 0..5 {
        assert_eq!(subscribe("asked:1").await, UNAVAILABLE);
    }
    assert_eq!((backend.calls().len(), failures(&hooks, Hook::Subscribe, "circuit_open")), (3, 2));
    assert!(hooks.counts()[0].is_circuit_open);

    // The first pause is at most 1.25 s, the second at most 2.5 s.
    skip(Duration::from_millis(1300)).await;
    assert_eq!(subscribe("asked:1").await, UNAVAILABLE);
    assert_eq!(subscribe("asked:1").await, UNAVAILABLE);
    assert_eq!(backend.calls().len(), 4, "one probe, and no call beside it");
    skip(Duration::from_millis(2600)).await;
    assert_eq!(subscribe("asked:1").await, "subscribed asked:1 at 0");
    assert_eq!(subscribe("asked:2").await, "subscribed asked:2 at 0");
    let counts = &hooks.counts()[0];
    assert_eq!((counts.calls, counts.circuit_opened, counts.is_circuit_open, backend.calls().len()), (9, 1, false, 6));
}

/// Turns the clock forward.
async fn skip(time: Duration) {
    time::pause();
    time::advance(time).await;
    time::resume();
}

// F23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_hangs_and_a_hundred_failures_do_not_hold_up_other_topics() {
    let backend = Backend::start(|call| match call.body["channel"].as_str() {
        Some("asked:hang") => Reply::Hang,
        _ => Reply::Raw(200, Vec::new(), "garbage".to_owned()),
    })
    .await;
    let bounds = |hook: broker_auth::HookOptions| hook.concurrency(200).timeout(Duration::from_secs(2));
    let (engine, hooks) = engine_with(&backend, &[Hook::Subscribe], |options| options.failures_max(1000), bounds);
    let mut canary = Client::connect(&engine).await;
    canary.subscribe("open:canary");
    assert_eq!(canary.next().await, "subscribed open:canary at 0");
    let mut clients = Vec::new();
    for index in 0..200 {
        let client = Client::connect(&engine).await;
        client.subscribe(if index % 2 == 0 { "asked:hang" } else { "asked:fail" });
        clients.push(client);
    }
    let topic = "open:canary".parse().unwrap();
    for offset in 1..=200 {
        engine.publish(&topic, Publish::new(Payload::json("1"))).await.unwrap();
        let line = time::timeout(Duration::from_millis(250), canary.next()).await.expect("the canary is heard in time");
        assert_eq!(line, format!("open:canary {offset}:1"));
    }
    for client in &mut clients {
        assert_eq!(client.next().await, UNAVAILABLE);
    }
    let failed = (failures(&hooks, Hook::Subscribe, "timeout"), failures(&hooks, Hook::Subscribe, "malformed"));
    assert_eq!(failed, (100, 100));
}
