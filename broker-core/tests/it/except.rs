//! Publications that some do not get: live, after a reconnect, in a history; everybody else gets them once and in order.

use std::sync::Arc;

use broker_core::{Engine, EngineBuilder, Except, HistoryQuery, Identity, Position, Publish, Request, Since, SlowConsumer, StreamItem};

use crate::delivering::{json, open_engine, quiet, topic};
use broker_core::testing::{Client, LineProtocol};

/// An engine where the token is the user.
pub(crate) fn engine_with_users() -> EngineBuilder {
    open_engine().on_connect(|request| async move { Ok(Identity::user(request.connect.token.unwrap_or_default())) })
}

pub(crate) async fn connect(engine: &Engine, user: &str) -> Client {
    Client::connect_as(engine, LineProtocol::default(), Some(user)).await
}

async fn listener(engine: &Engine, user: &str, to: &str) -> Client {
    let mut client = connect(engine, user).await;
    client.subscribe(to);
    assert!(client.next().await.starts_with("subscribed"));
    client
}

fn not_for(user: &str, n: u64) -> Publish {
    json(&n.to_string()).except(Except::nobody().user(user))
}

#[tokio::test]
async fn a_user_that_is_left_out_gets_nothing_with_any_session_and_others_get_it_once() {
    let engine = engine_with_users().build().unwrap();
    let mut ann = [listener(&engine, "ann", "quiet:a").await, listener(&engine, "ann", "quiet:a").await];
    let mut bob = listener(&engine, "bob", "quiet:a").await;
    let mut stream = engine.subscribe(&topic("quiet:a")).unwrap();
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    engine.publish(&topic("quiet:a"), not_for("ann", 1)).await.unwrap();
    engine.publish(&topic("quiet:a"), json("2")).await.unwrap();
    assert_eq!(bob.take(2).await, ["quiet:a 1:1", "quiet:a 2:2"]);
    for session in &mut ann {
        assert_eq!(session.next().await, "quiet:a 2:2");
    }
    for n in 1..=2 {
        let Some(StreamItem::Publication(publication)) = stream.next().await else { panic!("the process gets everything") };
        assert_eq!(publication.position.unwrap().offset, n);
    }
}

#[tokio::test]
async fn one_session_of_a_user_can_be_left_out() {
    let engine = engine_with_users().build().unwrap();
    let mut first = listener(&engine, "ann", "plain:a").await;
    let mut second = listener(&engine, "ann", "plain:a").await;
    let publish = json("1").except(Except::nobody().session(first.connection().session()));
    engine.publish(&topic("plain:a"), publish).await.unwrap();
    engine.publish(&topic("plain:a"), json("2")).await.unwrap();
    assert_eq!(second.take(2).await, ["plain:a 1", "plain:a 2"]);
    assert_eq!(first.next().await, "plain:a 2");
}

#[tokio::test]
async fn in_a_burst_everybody_gets_in_order_what_is_for_them() {
    let engine = engine_with_users().namespace("long", quiet(1000)).build().unwrap();
    let mut clients = Vec::new();
    for user in ["ann", "bob", "cid"] {
        // More than one turn visits.
        for _ in 0..40 {
            clients.push((user, listener(&engine, user, "long:a").await));
        }
    }
    let is_for = |user: &str, n: u64| match n % 5 {
        0 => user != "ann",
        1 => user != "bob",
        _ => true,
    };
    for n in 1..=100 {
        let publish = match n % 5 {
            0 => not_for("ann", n),
            1 => not_for("bob", n),
            _ => json(&n.to_string()),
        };
        engine.publish(&topic("long:a"), publish).await.unwrap();
    }
    for (user, client) in &mut clients {
        let expected: Vec<String> = (1..=100).filter(|n| is_for(user, *n)).map(|n| format!("long:a {n}:{n}")).collect();
        assert_eq!(client.take(expected.len()).await, expected, "{user}");
        assert!(!client.has_lines());
    }
}

#[tokio::test]
async fn a_publisher_that_is_left_out_gets_the_answer_alone() {
    let engine = engine_with_users()
        .on_publish(|request| async move {
            let except = Except::nobody().user(request.subject.user.clone());
            Ok(request.publish.except(except))
        })
        .build()
        .unwrap();
    let mut ann = listener(&engine, "ann", "quiet:a").await;
    let mut bob = listener(&engine, "bob", "quiet:a").await;
    ann.publish("quiet:a", "1");
    ann.publish("quiet:a", "2");
    assert_eq!(ann.take(2).await, ["published quiet:a at 1", "published quiet:a at 2"]);
    assert_eq!(bob.take(2).await, ["quiet:a 1:1", "quiet:a 2:2"]);
}

#[tokio::test]
async fn what_was_missed_and_the_history_leave_out_the_same() {
    let engine = engine_with_users().build().unwrap();
    for n in 1..=4 {
        let publish = if n % 2 == 0 { not_for("ann", n) } else { json(&n.to_string()) };
        engine.publish(&topic("quiet:a"), publish).await.unwrap();
    }
    let page = engine.history(&topic("quiet:a"), HistoryQuery { limit: 10, ..HistoryQuery::default() }).await.unwrap();
    assert_eq!(page.publications.len(), 4, "the server API sees all");
    let since = Since::Position(Position { offset: 1, epoch: page.position.epoch });
    for (user, missed, history) in [
        ("ann", vec!["quiet:a 3:3"], "history quiet:a at 4 1,3"),
        ("bob", vec!["quiet:a 2:2", "quiet:a 3:3", "quiet:a 4:4"], "history quiet:a at 4 1,2,3,4"),
    ] {
        let mut client = connect(&engine, user).await;
        client.resume("quiet:a", since);
        assert_eq!(client.next().await, "subscribed quiet:a at 4 recovered");
        assert_eq!(client.take(missed.len()).await, missed);
        client.send(Request::History { topic: topic("quiet:a"), since: None, limit: Some(10), reverse: false });
        assert_eq!(client.next().await, history);
    }
}

#[tokio::test]
async fn a_slow_client_is_told_one_gap_over_what_it_would_not_have_got_too() {
    let engine = engine_with_users()
        .namespace("slow", quiet(1000).slow_consumer(SlowConsumer::DropOldest))
        .with_settings(|settings| settings.backlog_max_bytes = 500)
        .build()
        .unwrap();
    let mut ann = listener(&engine, "ann", "slow:a").await;
    ann.set_capacity(Some(100));
    for n in 1..=200 {
        let publish = if n % 2 == 0 { not_for("ann", n) } else { json(&n.to_string()) };
        engine.publish(&topic("slow:a"), publish).await.unwrap();
        tokio::task::yield_now().await;
    }
    ann.set_capacity(None);
    let (mut last, mut gaps) = (0, 0);
    while last < 199 {
        let line = ann.next().await;
        last = if let Some(gap) = line.strip_prefix("gap slow:a ") {
            gaps += 1;
            let (from, rest) = gap.split_once('-').unwrap();
            assert!(from.parse::<u64>().unwrap() > last, "{line}");
            rest.split_once(' ').unwrap().0.parse().unwrap()
        } else {
            let offset: u64 = line.strip_prefix("slow:a ").unwrap().split_once(':').unwrap().0.parse().unwrap();
            assert!(offset > last && offset % 2 == 1, "{line}");
            offset
        };
    }
    assert_eq!(gaps, 1);
}

#[tokio::test]
async fn what_a_lagging_shard_is_refilled_with_leaves_out_the_same() {
    use broker_core::{Backplane, Keep, MemoryBackplane};
    let backplane = Arc::new(MemoryBackplane::new());
    let engine = engine_with_users()
        .backplane(backplane.clone())
        .namespace("slow", quiet(1000))
        .with_settings(|settings| {
            settings.inbox_share_max_bytes = 600;
            settings.shards = 1;
        })
        .build()
        .unwrap();
    let mut ann = listener(&engine, "ann", "slow:a").await;
    let mut bob = listener(&engine, "bob", "slow:a").await;
    let keep = Keep::history(1000, std::time::Duration::from_secs(60));
    for n in 1..=50 {
        let publish = if n % 2 == 0 { not_for("ann", n) } else { json(&n.to_string()) };
        backplane.publish(&topic("slow:a"), publish, keep).await.unwrap();
    }
    assert_eq!(ann.take(25).await, (1..=50).step_by(2).map(|n| format!("slow:a {n}:{n}")).collect::<Vec<_>>());
    assert_eq!(bob.take(50).await, (1..=50).map(|n| format!("slow:a {n}:{n}")).collect::<Vec<_>>());
    assert!(engine.stats().lags.value() >= 1);
}
