//! What a publisher is told of one publication: how many it was for, who has it, who does not and why.

use std::collections::BTreeMap;

use broker_core::{
    Engine, Except, Filter, FilterNode, Identity, PublishReport, Request, Selection, SlowConsumer, StreamItem, Subscribe,
    testing::{Client, LineProtocol},
};
use tokio::time::{Duration, Instant};

use crate::delivering::{json, open_engine, quiet, topic};

/// Matched, queued, written, filtered, dropped because they do not keep up.
type Counts = (u64, u64, u64, u64, u64);

#[track_caller]
fn counts(report: &PublishReport) -> Counts {
    let PublishReport { nodes, matched, queued, written, filtered, dropped, .. } = report;
    assert_eq!(*nodes, 1);
    assert!(dropped.keys().all(|cause| *cause == "slow_consumer"), "{dropped:?}");
    (*matched, *queued, *written, *filtered, dropped.get("slow_consumer").copied().unwrap_or_default())
}

async fn reported(engine: &Engine, to: &str, publish: broker_core::Publish) -> Counts {
    counts(&engine.publish_reported(&topic(to), publish).await.unwrap().1)
}

/// An engine where the token is the user, with so many shards.
fn engine(shards: usize) -> Engine {
    open_engine()
        .namespace("news", quiet(100).filter())
        .with_settings(|settings| settings.shards = shards)
        .on_connect(|request| async move { Ok(Identity::user(request.connect.token.unwrap_or_default())) })
        .build()
        .unwrap()
}

async fn listener(engine: &Engine, user: &str, selection: Selection) -> Client {
    let mut client = Client::connect_as(engine, LineProtocol::default(), Some(user)).await;
    client.send(Request::Subscribe(Subscribe::new(topic("news:a")).selection(selection)));
    assert!(client.next().await.starts_with("subscribed"));
    client
}

fn only(priority: &str) -> Selection {
    Selection::ALL.filter(Filter::new(FilterNode::test("priority", "eq", [priority])).unwrap())
}

#[tokio::test]
async fn in_any_number_of_shards_each_member_is_counted_where_it_belongs() {
    for shards in [1, 4] {
        let engine = engine(shards);
        let mut all = Vec::new();
        let mut ann = Vec::new();
        let mut high = Vec::new();
        // More than one turn visits.
        for _ in 0..70 {
            all.push(listener(&engine, "bob", Selection::ALL).await);
        }
        for _ in 0..7 {
            ann.push(listener(&engine, "ann", Selection::ALL).await);
            high.push(listener(&engine, "bob", only("high")).await);
        }
        let not_for_ann = || json("1").except(Except::nobody().user("ann"));
        let with_tag = |priority: &str| not_for_ann().tags([("priority".to_owned(), priority.to_owned())].into());
        assert_eq!(reported(&engine, "news:a", with_tag("low")).await, (84, 70, 70, 14, 0));
        assert_eq!(reported(&engine, "news:a", with_tag("high")).await, (84, 77, 77, 7, 0));
        assert_eq!(reported(&engine, "news:a", json("3")).await, (84, 77, 77, 7, 0), "who is told apart by a tag wants it");
        for client in &mut all {
            assert_eq!(client.take(3).await, ["news:a 1:1", "news:a 2:1", "news:a 3:3"]);
        }
        assert_eq!(ann[6].next().await, "news:a 3:3");
        assert_eq!(high[6].next().await, "news:a 2:1");
    }
}

#[tokio::test]
async fn in_a_burst_a_report_counts_its_own_publication_alone() {
    let engine = engine(2);
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(listener(&engine, "bob", Selection::ALL).await);
    }
    let (news, others) = (topic("news:a"), engine.clone());
    let burst = tokio::spawn(async move {
        for n in 0..100 {
            others.publish(&topic("news:a"), json(&n.to_string())).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut positions = Vec::new();
    for _ in 0..20 {
        let (published, report) = engine.publish_reported(&news, json("\"asked\"")).await.unwrap();
        positions.push(published.position.unwrap().offset);
        assert_eq!((report.matched, report.queued, report.filtered), (50, 50, 0));
    }
    burst.await.unwrap();
    for client in &mut clients {
        for n in 1..=120 {
            let line = client.next().await;
            assert!(line.starts_with(&format!("news:a {n}:")), "{line}");
            assert_eq!(line.ends_with("asked\""), positions.contains(&n), "{line}");
        }
    }
}

#[tokio::test]
async fn who_does_not_read_is_told_apart_from_who_has_it() {
    for policy in [SlowConsumer::Disconnect, SlowConsumer::DropOldest] {
        let engine = open_engine()
            .namespace("slow", quiet(1000).slow_consumer(policy))
            .with_settings(|settings| settings.backlog_max_bytes = 300)
            .build()
            .unwrap();
        let mut slow = Client::connect(&engine).await;
        let mut healthy = Client::connect(&engine).await;
        for client in [&mut slow, &mut healthy] {
            client.subscribe("slow:a");
            client.next().await;
        }
        slow.set_capacity(Some(20));
        let text = json(&format!("\"{}\"", "x".repeat(100)));
        assert_eq!(reported(&engine, "slow:a", text.clone()).await, (2, 2, 1, 0, 0), "a part of it is not all of it");
        assert_eq!(reported(&engine, "slow:a", text.clone()).await, (2, 2, 1, 0, 0));
        let expected = match policy {
            // Its connection ends for it.
            SlowConsumer::Disconnect => (2, 1, 1, 0, 1),
            // An older one goes.
            _ => (2, 2, 1, 0, 0),
        };
        assert_eq!(reported(&engine, "slow:a", text.clone()).await, expected, "{policy:?}");
        // One that is larger than the bound itself goes at once.
        if policy == SlowConsumer::DropOldest {
            let large = json(&format!("\"{}\"", "y".repeat(1000)));
            assert_eq!(reported(&engine, "slow:a", large).await, (2, 1, 1, 0, 1));
        }
        let members = healthy.take(3).await.len();
        assert_eq!(members, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_listens_nothing_is_waited_for() {
    let engine = engine(2);
    let started = Instant::now();
    assert_eq!(reported(&engine, "news:a", json("1")).await, (0, 0, 0, 0, 0));
    let mut client = listener(&engine, "bob", Selection::ALL).await;
    let once = json("2").idempotency_key("k");
    assert_eq!(reported(&engine, "news:a", once.clone()).await, (1, 1, 1, 0, 0));
    let (published, report) = engine.publish_reported(&topic("news:a"), once).await.unwrap();
    assert!(published.duplicate);
    assert_eq!(counts(&report), (0, 0, 0, 0, 0), "it reached nobody a second time");
    assert_eq!(client.next().await, "news:a 2:2");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_members_time_is_neither_queued_nor_filtered() {
    let engine = engine(1);
    let pace = Selection::ALL.pace(Duration::from_millis(250));
    let mut paced = listener(&engine, "bob", pace).await;
    assert_eq!(reported(&engine, "news:a", json("1")).await, (1, 1, 1, 0, 0));
    assert_eq!(reported(&engine, "news:a", json("2")).await, (1, 0, 0, 0, 0));
    assert_eq!(paced.take(2).await, ["news:a 1:1", "news:a 2:2"]);
}

#[tokio::test]
async fn a_stream_inside_the_process_has_it_at_once_and_a_session_of_its_own_topic_too() {
    let engine = engine(1);
    let mut stream = engine.subscribe(&topic("news:a")).unwrap();
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    assert_eq!(reported(&engine, "news:a", json("1")).await, (1, 1, 1, 0, 0));
    let mut client = Client::connect_as(&engine, LineProtocol::default(), Some("ann")).await;
    let own = format!("session:{}", client.connection().session());
    assert_eq!(reported(&engine, &own, json("1")).await, (1, 1, 0, 0, 0), "whether it was written is not known");
    let report = engine.publish_reported(&topic("news:a"), json("2")).await.unwrap().1;
    assert_eq!(report.dropped, BTreeMap::new());
}
