//! Who listens, on two nodes: what a lost node said goes, what a node that comes back says is there again.

use std::time::Duration;

use broker_core::testing::{presence_suite, registry_suite};
use broker_resp::{Command, testing::Server};

use tokio::time::timeout;

use crate::{
    nodes::{Fellow, Two, reads},
    world::{LONG, until},
};

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
async fn one_of_several_nodes_tells_of_the_users_of_a_lost_one() {
    let two = Two::new().await;
    let third = Fellow::new(&two.server, "c").await;
    let (mut here, mut there) = (two.a.listener("watcher", "t:1").await, third.listener("watcher", "t:1").await);
    let mut lost = Vec::new();
    for n in 0..150 {
        lost.push(two.b.listener(&format!("user{n}"), "t:1").await);
    }
    let all = async {
        while two.a.users("t:1").await.len() < 152 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, all).await.expect("all are seen");
    two.b.cut();
    for watcher in [&mut here, &mut there] {
        let mut left = std::collections::BTreeSet::new();
        while left.len() < 150 {
            let line = reads(watcher, "leave t:1").await.pop().expect("it was read");
            assert!(left.insert(line.clone()), "{line} twice");
        }
    }
    // What is told of somebody who comes then comes behind all that was told of those.
    let _last = two.a.listener("last", "t:1").await;
    for watcher in [&mut here, &mut there] {
        assert_eq!(reads(watcher, "").await, ["join t:1 last"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_lingers_leaves_with_the_node_that_would_settle_it() {
    use broker_core::Presence as _;
    let two = Two::new().await;
    let mut watcher = two.a.listener("watcher", "t:1").await;
    let topic = "t:1".parse().expect("a legal topic");
    let bob = broker_core::SessionInfo {
        session: broker_core::SessionId::from_random(9),
        user: "bob".into(),
        info: Some("{}".into()),
        topic_info: None,
    };
    let presence = two.b.node.presence();
    assert!(presence.upsert(&topic, bob.clone().into()).await.expect("it is taken").joined);
    let departure = presence.remove(&topic, bob.session, Duration::from_secs(60)).await.expect("it is taken");
    assert_eq!(departure, broker_core::Departure::Lingers);
    two.b.cut();
    reads(&mut watcher, "leave t:1 bob").await;
    assert!(two.a.node.presence().upsert(&topic, bob.into()).await.expect("it is taken").joined, "it had left");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_right_after_any_faults() {
    let two = Two::new().await;
    let mut random = fastrand::Rng::with_seed(11);
    let mut clients = Vec::new();
    for round in 0..60_usize {
        for _ in 0..5 {
            if clients.len() > 10 && random.bool() {
                drop(clients.swap_remove(random.usize(..clients.len())));
                continue;
            }
            let (node, user, topic) = (random.usize(..2), random.usize(..8), random.usize(..3));
            let fellow = [&two.a, &two.b][node];
            // A node that is cut from Redis lets nobody in: who is somebody, the registry says.
            if fellow.node.is_back() {
                let client = timeout(LONG, fellow.listener(&format!("user{user}"), &format!("t:{topic}"))).await;
                clients.push((format!("user{user}"), topic, client.expect("it is let in")));
            }
        }
        match round % 20 {
            5 | 18 => {
                two.b.cut();
                until("B notices", || !two.b.node.is_back()).await;
            }
            9 => two.b.cure().await,
            12 => two.a.proxy.cut(),
            15 => _ = two.server.call(&Command::new("FLUSHALL")).await,
            19 => {
                two.b_is_lost().await;
                two.b.cure().await;
            }
            _ => {}
        }
        until("A is back", || two.a.node.is_back()).await;
    }
    for topic in 0..3 {
        let mut users: Vec<&str> = clients.iter().filter(|(_, of, _)| *of == topic).map(|(user, ..)| user.as_str()).collect();
        users.sort_unstable();
        for fellow in [&two.a, &two.b] {
            fellow.sees(&format!("t:{topic}"), &users).await;
        }
        users.dedup();
        let topic = format!("t:{topic}").parse().expect("a legal topic");
        let stats = two.a.engine.presence_stats(&topic).await.expect("it answers");
        assert_eq!(stats.users, users.len(), "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_a_node_is_cut_is_said_when_it_is_back() {
    let two = Two::new().await;
    let mut watcher = two.a.listener("watcher", "t:1").await;
    let bob = two.b.listener("bob", "t:1").await;
    reads(&mut watcher, "join t:1 bob").await;
    two.b.cut();
    until("B notices", || two.b.node.trouble().is_some()).await;
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
        let line =
            info.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))).unwrap_or_else(|| panic!("no {command} in {info}"));
        let field = line.split(',').find_map(|field| field.strip_prefix("usec_per_call=")).expect("it is counted");
        Duration::from_secs_f64(field.parse::<f64>().expect("a number") / 1e6)
    };
    assert!(per_call("hscan") < Duration::from_millis(2), "{:?}", per_call("hscan"));
    assert!(per_call("hlen") < Duration::from_millis(1), "{:?}", per_call("hlen"));
}
