//! Sessions that are opened with their topics, and bounds of the node.

use std::{sync::Arc, time::Duration};

use broker_core::{
    Connect, Engine, Grant, Head, Identity, OpenRefused, Opening, Refusal, Start, Subscribe, Target,
    testing::{Client, LineFraming, LineProtocol},
};
use tokio::sync::Semaphore;

use crate::delivering::{json, open_engine, topic};

fn at_once(topics: &[&str]) -> Start {
    let subscriptions = topics
        .iter()
        .map(|name| {
            let mut subscribe = Subscribe::new(topic(name));
            subscribe.join_leave = false;
            subscribe
        })
        .collect();
    Start::AtOnce { connect: Connect::default(), subscriptions }
}

#[tokio::test]
async fn opened_means_that_all_topics_are_live() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::open_with(&engine, LineProtocol::default(), at_once(&["plain:a", "quiet:b"]));
    client.connection().opened().await.unwrap();
    client.attach();
    engine.publish(&topic("plain:a"), json("1")).await.unwrap();
    assert_eq!(client.take(4).await, ["connected ", "subscribed plain:a", "subscribed quiet:b at 0", "plain:a 1"]);
}

#[tokio::test]
async fn one_refused_topic_refuses_the_opening() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::open_with(&engine, LineProtocol::default(), at_once(&["plain:a", "nowhere:b"]));
    let refusal = client.connection().opened().await.unwrap_err();
    assert_eq!(refusal.kind, broker_core::RefusalKind::UnknownTopic);
    client.attach();
    assert_eq!(client.take(2).await, [format!("refused UnknownTopic: {}", refusal.message), "closed refused".to_owned()]);
    assert_eq!(engine.topics().await, []);
}

#[tokio::test]
async fn a_bad_identity_refuses_the_opening() {
    let engine = open_engine().on_connect(|_| async { Err(Refusal::unauthorized("no token")) }).build().unwrap();
    let mut client = Client::open_with(&engine, LineProtocol::default(), at_once(&["plain:a"]));
    assert_eq!(client.connection().opened().await.unwrap_err().message, "no token");
}

/// A session at the door: it has an identity, and the application does not say yet whether it may have its topic.
async fn at_the_door() -> (Engine, Client, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let hook_gate = gate.clone();
    let engine = open_engine().on_connect(|_| async { Ok(Identity::user("ris1")) }).on_subscribe(move |_| {
        let gate = hook_gate.clone();
        async move {
            gate.acquire().await.expect("the gate stays").forget();
            Ok(Grant::plain())
        }
    });
    let engine = engine.build().unwrap();
    let client = Client::open_with(&engine, LineProtocol::default(), at_once(&["plain:a"]));
    while engine.stats().sessions.value() == 0 {
        tokio::task::yield_now().await;
    }
    (engine, client, gate)
}

#[tokio::test]
async fn a_topic_that_the_server_ends_before_it_is_live_refuses_the_opening() {
    let (engine, mut client, _gate) = at_the_door().await;
    assert_eq!(engine.sessions(Target::user("ris1")).unsubscribe(&topic("plain:a")).await.unwrap(), 1);
    let refusal = client.connection().opened().await.unwrap_err();
    assert_eq!(refusal.message, "the server ended the subscription to plain:a");
}

#[tokio::test]
async fn another_identity_waits_until_the_topics_of_the_opening_are_live() {
    let (engine, mut client, gate) = at_the_door().await;
    let sessions = engine.sessions(Target::user("ris1"));
    let change = tokio::spawn(async move { sessions.change_identity(Identity::user("lis1")).await });
    tokio::task::yield_now().await;
    gate.add_permits(2);
    client.connection().opened().await.unwrap();
    assert_eq!(change.await.unwrap().unwrap(), 1);
    client.attach();
    assert_eq!(client.take(3).await, ["connected ris1", "subscribed plain:a", "identity lis1 left [] joined []"]);
}

#[tokio::test]
async fn connections_have_a_bound_and_a_slot_is_used_again() {
    let engine = open_engine().with_settings(|settings| settings.connections_max = 2).build().unwrap();
    let open = || {
        engine.open(Opening {
            protocol: std::sync::Arc::new(LineProtocol::default()),
            framing: std::sync::Arc::new(LineFraming),
            outlet: None,
            head: Head::default(),
            transport: "test",
            start: Start::AwaitConnect,
        })
    };
    let first = open().unwrap();
    let _second = open().unwrap();
    assert_eq!(open().unwrap_err(), OpenRefused::TooMany { max: 2 });
    drop(first);
    while engine.stats().connections.value() == 2 {
        tokio::task::yield_now().await;
    }
    assert!(open().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_everybody_and_ends() {
    let engine = open_engine().build().unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&engine).await);
    }
    let readers = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            assert_eq!(client.next().await, "closed shutdown");
            assert_eq!(client.next().await, "finished");
        })
    });
    let readers: Vec<_> = readers.collect();
    tokio::time::timeout(Duration::from_secs(2), engine.drain(Duration::from_secs(10))).await.expect("it ends when all are gone");
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(engine.stats().connections.value(), 0);
}

#[tokio::test]
async fn the_engine_ends_with_its_last_handle() {
    let engine = open_engine().build().unwrap();
    let mut stream = engine.subscribe(&topic("quiet:a")).unwrap();
    stream.next().await;
    drop(engine);
    assert!(stream.next().await.is_none());
}
