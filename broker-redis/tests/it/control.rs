//! Questions to all nodes: done everywhere before the call answers, or the answer names who did not do it.

use std::time::Duration;

use broker_core::{ControlError, Identity, Payload, Publish, Revocation, Revoked, ServerSubscription, SessionReport, Target, Topic};
use broker_resp::{
    Command, Event, Link, Options, Push,
    testing::{Fate, Server},
};
use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::{
    nodes::{Fellow, Two, reads},
    world::until,
};

fn topic(name: &str) -> Topic {
    name.parse().expect("a legal topic")
}

fn silent(error: ControlError) -> Vec<String> {
    match error {
        ControlError::Silent { nodes, .. } => nodes.iter().map(ToString::to_string).collect(),
        ControlError::Refused(refusal) => panic!("refused: {}", refusal.message),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_with_sessions_is_done_on_every_node_when_it_is_answered() {
    let two = Two::new().await;
    let mut client = two.b.client("ris1").await;
    let ris1 = two.a.engine.sessions(Target::user("ris1"));

    let reports: Vec<SessionReport> = ris1.list(10).await.expect("all answer");
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].user.as_str(), &reports[0].node, &*reports[0].protocol), ("ris1", &two.b.id(), "lines"));
    assert_eq!(two.a.engine.info().await.len(), 2);

    let subscription = ServerSubscription::new(topic("t:1"));
    assert_eq!(ris1.subscribe(subscription, None).await.expect("all answer"), 1);
    assert_eq!(client.try_next().as_deref(), Some("subscribed t:1 at 0"), "when it is answered");
    let topics = two.a.engine.topics().await;
    assert_eq!(topics.iter().find(|count| count.topic == topic("t:1")).map(|count| count.sessions), Some(1));
    assert_eq!(ris1.unsubscribe(&topic("t:1")).await.expect("all answer"), 1);
    reads(&mut client, "unsubscribed t:1").await;

    let own = two.a.engine.sessions(Target::Session(reports[0].session));
    let sent = own.send(Publish::new(Payload::json("7"))).await.expect("all answer");
    assert_eq!(sent.sessions, 1);
    reads(&mut client, "session:").await;

    assert_eq!(ris1.change_identity(Identity::user("lis1").rule("a test")).await.expect("all answer"), 1);
    assert!(reads(&mut client, "identity lis1").await.len() <= 2);
    let lis1 = two.a.engine.sessions(Target::user("lis1"));
    assert_eq!(&*lis1.list(10).await.expect("all answer")[0].rule, "a test");

    assert_eq!(lis1.disconnect(4001, "logged out").await.expect("all answer"), 1);
    reads(&mut client, "finished").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_sessions_of_every_node() {
    let two = Two::new().await;
    let (mut there, mut here, _other) = (two.b.client("ris1").await, two.a.client("ris1").await, two.b.client("lis1").await);
    assert_eq!(two.a.engine.revoke(Revocation::now(Revoked::User("ris1".into()))).await.expect("all answer"), 2);
    reads(&mut there, "finished").await;
    reads(&mut here, "finished").await;
    assert_eq!(two.b.engine.sessions(Target::user("lis1")).count().await.expect("all answer"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_named_also_when_it_is_lost() {
    let two = Two::new().await;
    let _here = two.a.client("ris1").await;
    two.b.cut();
    let error = two.a.engine.sessions(Target::user("ris1")).count().await.expect_err("B does not answer");
    assert_eq!(silent(error), [two.b.id().to_string()]);
    two.b_is_lost().await;
    let error = two.a.engine.sessions(Target::user("ris1")).count().await.expect_err("B is lost");
    assert_eq!(silent(error), [two.b.id().to_string()]);
    // The node that is cut does its own part, and names the others.
    let error = two.b.engine.sessions(Target::user("ris1")).disconnect(4001, "out").await.expect_err("A is not reached");
    assert_eq!(silent(error), [two.a.id().to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_a_node_missed_is_done_before_it_is_back() {
    let two = Two::new().await;
    let (mut ris1, _lis1) = (two.b.client("ris1").await, two.b.client("lis1").await);
    two.b.cut();
    until("B notices", || two.b.node.trouble().is_some()).await;
    let error = two.a.engine.revoke(Revocation::now(Revoked::User("ris1".into()))).await.expect_err("B does not answer");
    assert_eq!(silent(error), [two.b.id().to_string()]);
    two.b_is_lost().await;
    assert_eq!(ris1.try_next(), None, "B knows nothing of it");
    two.b.cure().await;
    reads(&mut ris1, "finished").await;
    assert_eq!(two.a.engine.sessions(Target::user("lis1")).count().await.expect("all answer"), 1);
}

/// Loses the first message of each way, and counts what the client gets.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_or_an_answer_that_the_bus_loses_is_repeated_and_done_once() {
    let two = Two::new().await;
    let mut client = two.b.client("ris1").await;
    let session = two.a.engine.sessions(Target::user("ris1")).list(1).await.expect("all answer")[0].session;
    for node in [&two.b, &two.a] {
        let lost = Mutex::new(false);
        node.proxy.judge_pushes(move |push| match push {
            Push::Message { channel, .. }
                if channel.windows(9).any(|name| name == b"the nodes") && !std::mem::replace(&mut *lost.lock(), true) =>
            {
                Fate::Drop
            }
            _ => Fate::Pass,
        });
        let sent = two.a.engine.sessions(Target::Session(session)).send(Publish::new(Payload::json("7"))).await.expect("all answer");
        assert_eq!(sent.sessions, 1);
        reads(&mut client, "session:").await;
    }
    // Whatever comes twice comes before the answer to this.
    assert_eq!(two.a.engine.sessions(Target::user("ris1")).disconnect(4001, "out").await.expect("all answer"), 1);
    assert_eq!(reads(&mut client, "finished").await, ["closed ordered", "finished"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_is_forgotten_when_redis_has_lost_its_data() {
    let two = Two::new().await;
    let _client = two.b.client("ris1").await;
    two.server.call(&Command::new("FLUSHALL")).await;
    loop {
        assert_eq!(two.a.engine.sessions(Target::user("ris1")).count().await.expect("all answer"), 1);
        let known = two.server.call(&Command::new("ZCARD").arg("broker:{the nodes}:ends")).await;
        if known.integer() == Some(2) {
            break;
        }
    }
    two.server.call(&Command::new("FLUSHALL")).await;
    two.b.cut();
    for _ in 0..2 {
        let error = two.a.engine.sessions(Target::user("ris1")).count().await.expect_err("B does not answer");
        assert_eq!(silent(error), [two.b.id().to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_said_goodbye_is_not_waited_for() {
    let two = Two::new().await;
    two.b.node.leave().await;
    two.b.cut();
    assert_eq!(two.a.engine.sessions(Target::user("ris1")).count().await.expect("nobody else is there"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_come_in_parts() {
    let two = Two::new().await;
    // At once: one after the other, the first ones would be closed on a busy machine, since nobody answers their pings.
    let names: Vec<String> = (0..1_201).map(|n| format!("user{n}")).collect();
    let _clients = join_all(names.iter().map(|name| two.b.listener(name, "t:all"))).await;
    let reports = two.a.engine.sessions(Target::Topic(topic("t:all"))).list(10_000).await.expect("all answer");
    assert_eq!(reports.len(), 1_201);
}

/// Another version of the broker asks: it is counted, and told.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_another_version_is_counted_and_answered() {
    let server = Server::start().await;
    let node = Fellow::new(&server, "a").await;
    let (link, mut events) = Link::open(server.target(), Options::default());
    link.connected(Duration::from_secs(10)).await.expect("it connects");
    link.send(&[Command::new("SUBSCRIBE").arg("broker:{the nodes}:z")], Duration::from_secs(10)).await[0]
        .clone()
        .expect("it is subscribed");
    let before = node.node.control().stats().not_understood;
    let question = b"\x09\x01\x00\x00\x00\x00\x00\x00\x00\x05\x01zwhatever";
    server.call(&Command::new("PUBLISH").arg("broker:{the nodes}").arg(&question[..])).await;
    let answer = loop {
        if let Event::Push(Push::Message { payload, .. }) = events.next().await.expect("the link goes on") {
            break payload;
        }
    };
    assert_eq!(answer[..10], *b"\x01\x03\x00\x00\x00\x00\x00\x00\x00\x05");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("version 9") && text.contains("version 1"), "{text}");
    assert_eq!(node.node.control().stats().not_understood, before + 1);
}
