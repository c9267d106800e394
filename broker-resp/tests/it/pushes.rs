//! Pushes, subscriptions and their refusals, overflow.

use broker_resp::{CallError, Change, Event, Options, Push, Value, testing::Server};

use crate::{SOON, command, event, linked, text, words};

fn confirmed(change: Change, channel: &'static str, count: u64) -> Event {
    Event::Push(Push::Subscription { change, channel: Some(channel.into()), count })
}

fn message(sharded: bool, channel: &'static str, payload: &'static str) -> Event {
    Event::Push(Push::Message { sharded, channel: channel.into(), payload: payload.into() })
}

#[tokio::test]
async fn subscriptions_are_confirmed_before_their_answer_and_messages_follow() {
    let server = Server::start().await;
    let (link, mut events) = linked(server.target(), Options::default()).await;
    let sent = link.send(&[command("SUBSCRIBE a b"), command("SSUBSCRIBE c"), command("PSUBSCRIBE d*")], SOON).await;
    assert_eq!(sent, vec![Ok(Value::Null); 3]);
    for (channel, payload) in [("a", "1"), ("b", "2"), ("d5", "4")] {
        server.call(&command(&format!("PUBLISH {channel} {payload}"))).await;
    }
    server.call(&command("SPUBLISH c 3")).await;
    let mut batch = Vec::new();
    while batch.len() < 8 {
        assert!(events.next_batch(&mut batch).await);
    }
    let pattern = Push::PatternMessage { pattern: "d*".into(), channel: "d5".into(), payload: "4".into() };
    let expected = [
        confirmed(Change::Subscribed, "a", 1),
        confirmed(Change::Subscribed, "b", 2),
        confirmed(Change::ShardSubscribed, "c", 1),
        confirmed(Change::PatternSubscribed, "d*", 3),
        message(false, "a", "1"),
        message(false, "b", "2"),
        Event::Push(pattern),
        message(true, "c", "3"),
    ];
    assert_eq!(batch, expected);
    assert_eq!(link.send(&[command("UNSUBSCRIBE a"), command("SUNSUBSCRIBE c")], SOON).await, vec![Ok(Value::Null); 2]);
    assert_eq!(event(&mut events).await, confirmed(Change::Unsubscribed, "a", 2));
    assert_eq!(event(&mut events).await, confirmed(Change::ShardUnsubscribed, "c", 0));
}

#[tokio::test]
async fn a_refused_subscription_is_told_and_answers_around_it_keep_their_place() {
    let server = Server::start_with(&words("--user kim on >pass +@all ~* resetchannels &ours")).await;
    let (link, mut events) = linked(server.target().user("kim", "pass"), Options::default()).await;
    for _ in 0..100 {
        let before = link.call(&command("ECHO before"), SOON);
        let sent = link.send(&[command("SUBSCRIBE theirs"), command("SUBSCRIBE ours"), command("SUBSCRIBE theirs ours")], SOON);
        let after = link.call(&command("ECHO after"), SOON);
        assert_eq!(before.await, Ok(text("before")));
        let sent = sent.await;
        assert!(matches!(&sent[0], Err(CallError::Refused(error)) if error.is("NOPERM")), "{sent:?}");
        assert_eq!(sent[1], Ok(Value::Null));
        assert!(matches!(&sent[2], Err(CallError::Refused(error)) if error.is("NOPERM")), "{sent:?}");
        assert_eq!(after.await, Ok(text("after")));
        assert_eq!(event(&mut events).await, confirmed(Change::Subscribed, "ours", 1));
    }
    assert_eq!(link.state().counters.connects, 1);
}

#[tokio::test]
async fn a_forgotten_send_is_sent() {
    let server = Server::start().await;
    let (link, mut events) = linked(server.target(), Options::default()).await;
    drop(link.send(&[command("SUBSCRIBE news")], SOON));
    assert_eq!(event(&mut events).await, confirmed(Change::Subscribed, "news", 1));
}

#[tokio::test]
async fn what_nobody_reads_is_dropped_and_told_and_calls_go_on() {
    let server = Server::start().await;
    let mut options = Options::default();
    options.events_max_bytes = 20_000;
    let (link, mut events) = linked(server.target(), options).await;
    link.send(&[command("SUBSCRIBE news")], SOON).await[0].clone().expect("subscribed");
    let publications: Vec<_> = (0..1000).map(|number| command(&format!("PUBLISH news {number:0>100}"))).collect();
    assert_eq!(link.call_many(&publications, SOON).await, vec![Ok(Value::Integer(1)); 1000]);
    // On one connection Redis 7.0 pushes before it answers, later versions after: this answer is behind both.
    link.call(&command("ECHO end"), SOON).await.expect("the link reads on");
    assert_eq!(event(&mut events).await, confirmed(Change::Subscribed, "news", 1));
    let mut read = 0;
    let dropped = loop {
        match event(&mut events).await {
            Event::Push(Push::Message { .. }) => read += 1,
            Event::Overflowed { dropped } => break dropped,
            other => panic!("{other:?}"),
        }
    };
    let counters = link.state().counters;
    assert!(read > 0 && dropped > 0);
    assert_eq!(read + dropped, 1000);
    assert_eq!((counters.pushes, counters.pushes_dropped, counters.events_bytes), (1001, dropped, 0));
    // What was read makes room.
    assert_eq!(link.call(&command("PUBLISH news last"), SOON).await, Ok(Value::Integer(1)));
    assert_eq!(event(&mut events).await, message(false, "news", "last"));
}

#[tokio::test]
async fn a_push_inside_of_a_transactions_answer_ends_the_connection_or_is_no_push() {
    let server = Server::start().await;
    let (link, mut events) = linked(server.target(), Options::default()).await;
    link.send(&[command("SUBSCRIBE news")], SOON).await[0].clone().expect("subscribed");
    let answers = link.call_many(&[command("MULTI"), command("PUBLISH news hello"), command("EXEC")], SOON).await;
    let mut seen = Vec::new();
    loop {
        match event(&mut events).await {
            // Redis 7.0 corrupts the answer so: nothing behind it can be trusted.
            Event::Disconnected { .. } => break assert!(answers[2].is_err(), "{answers:?}"),
            Event::Push(Push::Message { .. }) => break assert_eq!(answers[2], Ok(Value::Array(vec![Value::Integer(1)]))),
            other => seen.push(other),
        }
    }
    link.call(&command("ECHO on"), crate::patient()).await.expect("the link goes on");
}
