//! Who listens, on two nodes: what a lost node said goes, what a node that comes back says is there again.

use std::time::Duration;

use broker_core::testing::{presence_suite, registry_suite};
use broker_resp::{Command, testing::Server};

use crate::nodes::{Fellow, Two, reads};

#[tokio::test(flavor = "multi_thread")]
async fn presence_keeps_its_contract() {
    let server = Server::start().await;
    presence_suite(&*Fellow::new(&server, "a").await.node.presence()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_keeps_its_contract() {
    let server = Server::start().await;
    registry_suite(&*Fellow::new(&server, "a").await.node.registry()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_lost_node_leave_unless_they_are_elsewhere_too() {
    let two = Two::new().await;
    let mut watcher = two.a.listener("watcher", "t:1").await;
    let (_ann, _ann_there, _bob) =
        (two.a.listener("ann", "t:1").await, two.b.listener("ann", "t:1").await, two.b.listener("bob", "t:1").await);
    reads(&mut watcher, "join t:1 bob").await;
    two.a.sees("t:1", &["ann", "ann", "bob", "watcher"]).await;
    two.b.cut();
    let lines = reads(&mut watcher, "leave t:1 bob").await;
    assert!(!lines.contains(&"leave t:1 ann".to_owned()), "{lines:?}");
    two.a.sees("t:1", &["ann", "watcher"]).await;
    let stats = two.a.engine.presence_stats(&"t:1".parse().expect("legal")).await.expect("it answers");
    assert_eq!((stats.sessions, stats.users), (2, 2));

    // It was only cut: its users are there again.
    two.b.cure().await;
    reads(&mut watcher, "join t:1 bob").await;
    two.a.sees("t:1", &["ann", "ann", "bob", "watcher"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_a_node_is_cut_is_said_when_it_is_back() {
    let two = Two::new().await;
    let mut watcher = two.a.listener("watcher", "t:1").await;
    let bob = two.b.listener("bob", "t:1").await;
    reads(&mut watcher, "join t:1 bob").await;
    two.b.cut();
    crate::world::until("B notices", || two.b.node.trouble().is_some()).await;
    drop(bob);
    two.b.cure().await;
    reads(&mut watcher, "leave t:1 bob").await;
    two.a.sees("t:1", &["watcher"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_whole_again_after_all_data_was_lost() {
    let two = Two::new().await;
    let mut watcher = two.a.listener("watcher", "t:1").await;
    let (_ann, _bob) = (two.a.listener("ann", "t:1").await, two.b.listener("bob", "t:1").await);
    reads(&mut watcher, "join t:1 bob").await;
    two.server.call(&Command::new("FLUSHALL")).await;
    two.a.sees("t:1", &["ann", "bob", "watcher"]).await;
    two.b.sees("t:1", &["ann", "bob", "watcher"]).await;
    // Nobody has left, and nobody has come: the next that is told is somebody who really comes.
    let _carl = two.b.listener("carl", "t:1").await;
    assert_eq!(reads(&mut watcher, "join t:1").await.last().map(String::as_str), Some("join t:1 carl"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_ten_thousand_does_not_hold_redis_up() {
    let server = Server::start().await;
    let node = Fellow::new(&server, "a").await;
    let (presence, topic) = (node.node.presence(), "t:many".parse().expect("a legal topic"));
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..10_000_u128 {
        let (presence, topic): (_, broker_core::Topic) = (presence.clone(), "t:many".parse().expect("a legal topic"));
        calls.spawn(async move {
            use broker_core::Presence as _;
            let session = broker_core::SessionId::from_random(n << 64 | n);
            let info = broker_core::SessionInfo { session, user: format!("user{}", n / 2).into(), info: None, topic_info: None };
            presence.upsert(&topic, info.into()).await.expect("it is taken");
        });
    }
    while let Some(done) = calls.join_next().await {
        done.expect("no call panics");
    }
    server.call(&Command::new("CONFIG").arg("RESETSTAT")).await;
    let listed = node.engine.presence(&topic).await.expect("it answers");
    let stats = node.engine.presence_stats(&topic).await.expect("it answers");
    assert_eq!((listed.len(), stats.sessions, stats.users), (10_000, 10_000, 5_000));
    // On average, as Redis counts it: one page is far below a millisecond.
    let info = server.call(&Command::new("INFO").arg("commandstats")).await;
    let info = info.text().expect("text").to_owned();
    let per_call = |command: &str| -> Duration {
        let line = info.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))).unwrap_or_else(|| panic!("no {command} in {info}"));
        let field = line.split(',').find_map(|field| field.strip_prefix("usec_per_call=")).expect("it is counted");
        Duration::from_secs_f64(field.parse::<f64>().expect("a number") / 1e6)
    };
    assert!(per_call("hscan") < Duration::from_millis(2), "{:?}", per_call("hscan"));
    assert!(per_call("hlen") < Duration::from_millis(1), "{:?}", per_call("hlen"));
}
