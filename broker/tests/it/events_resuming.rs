//! Streams of events that are cut and asked for again: nothing missing, or told.

use std::time::Duration;

use broker::{Broker, Identity, Namespace, Target, UserId, Verb};
use serde_json::{Value, json};

use crate::{
    client::Server,
    events::{publish, with_history},
    events_client::Events,
};

#[tokio::test]
async fn what_was_missed_comes_first_and_the_id_beats_the_url() {
    let server = Server::start(with_history()).await;
    let mut events = Events::open(server.addr, "/sse/news?since=0", &[]).await;
    publish(&server, "news", json!(1)).await;
    assert_eq!(events.data().await, "1");
    let id = events.last_event_id.clone();
    drop(events);
    for n in 2..5 {
        publish(&server, "news", json!(n)).await;
    }
    let mut events = Events::open(server.addr, "/sse/news?since=0", &[("Last-Event-ID", &id)]).await;
    for n in 2..5 {
        assert_eq!(events.data().await, n.to_string());
    }
    publish(&server, "news", json!(5)).await;
    assert_eq!(events.data().await, "5");
    let mut events = Events::open(server.addr, &format!("/sse/news?since={id}"), &[]).await;
    assert_eq!(events.data().await, "2");
    let mut events = Events::open(server.addr, "/sse/news?since=0", &[]).await;
    assert_eq!(events.data().await, "1", "all that is kept");
}

#[tokio::test]
async fn several_topics_each_have_their_place() {
    let server = Server::start(with_history()).await;
    let mut events = Events::open(server.addr, "/sse?topic=a&topic=b&topic=c", &[]).await;
    let first = events.first_id().await;
    assert!(first.starts_with("1."), "{first}");
    for (topic, n) in [("a", 1), ("b", 2), ("a", 3)] {
        publish(&server, topic, json!(n)).await;
        assert_eq!(events.data().await, n.to_string());
    }
    let id = events.last_event_id.clone();
    drop(events);
    for (topic, n) in [("a", 4), ("b", 5), ("c", 6)] {
        publish(&server, topic, json!(n)).await;
    }
    let path = "/sse?topic=c&topic=a&topic=b&format=envelope";
    let mut events = Events::open(server.addr, path, &[("Last-Event-ID", &id)]).await;
    let mut recovered = 0;
    let mut missed = Vec::new();
    while missed.len() < 3 {
        let event = events.next().await.unwrap();
        let value = event.json();
        match value["broker"].as_str().unwrap() {
            "subscribed" => recovered += u32::from(value["recovered"] == true),
            "publication" => missed.push((value["topic"].as_str().unwrap().to_owned(), value["data"].as_u64().unwrap())),
            "connected" | "join" => {}
            other => panic!("{other}"),
        }
    }
    missed.sort();
    assert_eq!((recovered, missed), (3, vec![("a".to_owned(), 4), ("b".to_owned(), 5), ("c".to_owned(), 6)]));
    // The first id of the fresh stream stood before everything, for all topics.
    let mut events = Events::open(server.addr, &format!("/sse?topic=a&topic=b&topic=c&since={first}"), &[]).await;
    let mut all: Vec<String> = Vec::new();
    for _ in 0..6 {
        all.push(events.data().await);
    }
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn every_id_of_a_stream_resumes_it_without_a_loss_or_a_double() {
    let server = Server::start(with_history()).await;
    let mut events = Events::open(server.addr, "/sse?topic=a&topic=b", &[]).await;
    let mut ids = vec![(events.first_id().await, 0)];
    for n in 0..6 {
        publish(&server, if n % 3 == 0 { "a" } else { "b" }, json!(n)).await;
        events.data().await;
        ids.push((events.last_event_id.clone(), n + 1));
    }
    let mut streams = Vec::new();
    for (id, seen) in ids {
        let mut events = Events::open(server.addr, "/sse?topic=a&topic=b", &[("Last-Event-ID", &id)]).await;
        let mut rest = Vec::new();
        for _ in seen..6 {
            rest.push(events.data().await.parse::<i32>().unwrap());
        }
        rest.sort_unstable();
        assert_eq!(rest, (seen..6).collect::<Vec<_>>(), "after {seen}");
        streams.push(events);
    }
    publish(&server, "b", json!("new")).await;
    for mut events in streams {
        assert_eq!(events.data().await, r#""new""#, "nothing comes twice");
    }
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_told_with_the_topic() {
    let server =
        Server::start(Broker::builder().anonymous().default_namespace(Namespace::open().history(2, Duration::from_secs(600)))).await;
    let mut events = Events::open(server.addr, "/sse?topic=a&topic=b", &[]).await;
    let id = events.first_id().await;
    drop(events);
    for n in 1..=4 {
        publish(&server, "a", json!(n)).await;
    }
    publish(&server, "b", json!("b")).await;
    let mut events = Events::open(server.addr, "/sse?topic=a&topic=b", &[("Last-Event-ID", &id)]).await;
    let gap = events.notice().await;
    assert_eq!((&gap["broker"], &gap["topic"], &gap["reason"]), (&json!("gap"), &json!("a"), &json!("trimmed")), "{gap}");
    assert!(gap["from"].as_str().unwrap().starts_with("1@") && gap["to"].as_str().unwrap().starts_with("4@"), "{gap}");
    let after_the_gap = events.last_event_id.clone();
    assert_eq!(events.data().await, r#""b""#, "the other topic lost nothing");
    // The gap moved the position: who has heard of it is not told again.
    let mut events = Events::open(server.addr, "/sse?topic=a&topic=b", &[("Last-Event-ID", &after_the_gap)]).await;
    assert_eq!(events.data().await, r#""b""#);
}

#[tokio::test]
async fn a_restart_is_told_and_so_is_an_id_of_another_server() {
    let server = Server::start(with_history()).await;
    let mut events = Events::open(server.addr, "/sse/news", &[]).await;
    publish(&server, "news", json!(1)).await;
    events.data().await;
    let id = events.last_event_id.clone();
    let restarted = Server::start(with_history()).await;
    for (id, reason) in [(id.as_str(), "epoch"), ("1763712000000-0", "unreadable"), ("1.AAAA", "unreadable"), ("\u{fc}", "unreadable")] {
        let mut events = Events::open(restarted.addr, "/sse/news?format=envelope", &[("Last-Event-ID", id)]).await;
        assert_eq!(events.notice().await["broker"], "connected");
        assert_eq!(events.notice().await["recovered"], false);
        let gap = events.notice().await;
        assert_eq!((&gap["broker"], &gap["reason"]), (&json!("gap"), &json!(reason)), "{id}");
        let new = events.first_id().await;
        assert!(new.starts_with("0@"), "{new}");
    }
}

#[tokio::test]
async fn a_topic_without_history_says_so_to_those_who_come_back() {
    let server =
        Server::start(Broker::builder().anonymous().default_namespace(Namespace::default().allow(Verb::Subscribe).allow_anonymous())).await;
    let mut events = Events::open(server.addr, "/sse/news", &[]).await;
    let id = events.first_id().await;
    publish(&server, "news", json!(1)).await;
    assert_eq!(events.data().await, "1");
    let mut events = Events::open(server.addr, "/sse/news", &[("Last-Event-ID", &id)]).await;
    assert_eq!(events.notice().await["reason"], "trimmed");
}

#[tokio::test]
async fn topics_that_the_server_chooses_are_resumed_too() {
    let server = Server::start(
        Broker::builder()
            .on_connect(|_| async { Ok(Identity::user("kim").group("nurses")) })
            .default_namespace(Namespace::default().allow(Verb::Subscribe).history(100, Duration::from_secs(600)))
            .namespace("group", Namespace::default().history(100, Duration::from_secs(600))),
    )
    .await;
    let mut events = Events::open(server.addr, "/sse/news", &[]).await;
    let id = events.first_id().await;
    publish(&server, "news", json!("own")).await;
    assert_eq!(events.data().await, r#""own""#);
    drop(events);
    publish(&server, "group:nurses", json!("group")).await;
    let mut events = Events::open(server.addr, "/sse/news", &[("Last-Event-ID", &id)]).await;
    let mut missed = [events.data().await, events.data().await];
    missed.sort();
    assert_eq!(missed, [r#""group""#, r#""own""#]);
    // Joined while the stream lives: in the next id, though nothing was published there.
    let before = events.last_event_id.clone();
    let kim = Target::User { user: UserId::from("kim"), tenant: None };
    server.broker.join_group("doctors", &kim).await.unwrap();
    let block = loop {
        let block = events.block().await.unwrap();
        if block.starts_with("id: ") {
            break block;
        }
    };
    assert!(!block.contains(&before), "{block}");
}

#[tokio::test]
async fn notices_are_left_out_where_the_client_wants_none() {
    let server = Server::dev().await;
    let mut events = Events::open(server.addr, "/sse/news?notices=off", &[("Last-Event-ID", "foreign")]).await;
    publish(&server, "news", json!(1)).await;
    assert_eq!(events.next().await.map(|event| event.json()), Some(Value::from(1)));
}
