//! The newest publication of each key: what new subscribers get, removals, resumes, bounds, pages.

use std::time::Duration;

use broker_core::{
    Engine, EngineBuilder, HistoryQuery, Payload, Position, Publish, Recovery, RefusalKind, Request, Since, StateRequest, StreamItem,
    Subscribe, testing::Client,
};

use crate::delivering::{json, open_engine, quiet, topic};

fn keyed_engine(history: usize) -> EngineBuilder {
    open_engine().namespace("rows", quiet(history).keyed())
}

async fn set(engine: &Engine, key: &str, value: &str) -> Position {
    engine.publish(&topic("rows:a"), json(value).key(key)).await.unwrap().position.unwrap()
}

async fn remove(engine: &Engine, key: &str) -> Position {
    engine.publish(&topic("rows:a"), Publish::remove(key)).await.unwrap().position.unwrap()
}

async fn rows(engine: &Engine) -> Vec<(String, u64)> {
    let state = engine.state(&topic("rows:a"), StateRequest { cursor: None, limit: 300 }).await.unwrap();
    assert_eq!(state.next, None);
    state.rows.iter().map(|row| (row.key.as_deref().unwrap().to_owned(), row.position.unwrap().offset)).collect()
}

#[tokio::test]
async fn a_new_subscriber_gets_the_rows_in_order_and_then_only_changes() {
    let engine = keyed_engine(2).build().unwrap();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")] {
        set(&engine, key, value).await;
    }
    remove(&engine, "b").await;
    let mut client = Client::connect(&engine).await;
    client.subscribe("rows:a");
    assert_eq!(client.take(3).await, ["subscribed rows:a at 0", "rows:a 3:3", "rows:a 4:4"]);
    set(&engine, "d", "6").await;
    remove(&engine, "c").await;
    assert_eq!(client.take(2).await, ["rows:a 6:6", "rows:a 7:removed c"]);
    assert_eq!(rows(&engine).await, [("a".to_owned(), 4), ("d".to_owned(), 6)]);
}

#[tokio::test]
async fn who_asks_for_rows_where_none_are_kept_is_refused() {
    let engine = keyed_engine(10).build().unwrap();
    let mut client = Client::connect(&engine).await;
    for name in ["quiet:a", "rows:a"] {
        let mut subscribe = Subscribe::new(topic(name));
        subscribe.keyed = true;
        client.send(Request::Subscribe(subscribe));
    }
    assert_eq!(client.take(2).await, ["refused NotAvailable: state by key is off for quiet:a", "subscribed rows:a at 0"]);
}

#[tokio::test]
async fn a_client_removes_a_key_where_state_is_kept_and_names_it() {
    let engine = keyed_engine(10).build().unwrap();
    set(&engine, "o7", "1").await;
    let mut client = Client::connect(&engine).await;
    client.subscribe("rows:a");
    assert_eq!(client.take(2).await, ["subscribed rows:a at 0", "rows:a 1:1"]);
    let remove = |name: &str, key: Option<&str>| Request::Publish {
        topic: topic(name),
        data: Payload::json(""),
        key: key.map(Into::into),
        idempotency_key: None,
        removed: true,
    };
    client.send(remove("quiet:a", Some("o7")));
    assert_eq!(client.next().await, "refused NotAvailable: state by key is off for quiet:a");
    client.send(remove("rows:a", None));
    assert_eq!(client.next().await, "refused BadRequest: a removal names no key");
    client.send(remove("rows:a", Some("o7")));
    let mut told = client.take(2).await;
    told.sort();
    assert_eq!(told, ["published rows:a at 2", "rows:a 2:removed o7"]);
    assert!(rows(&engine).await.is_empty());
}

#[tokio::test]
async fn without_rows_the_position_is_the_top() {
    let engine = keyed_engine(10).build().unwrap();
    set(&engine, "a", "1").await;
    remove(&engine, "a").await;
    let mut client = Client::connect(&engine).await;
    client.subscribe("rows:a");
    assert_eq!(client.next().await, "subscribed rows:a at 2");
    assert!(rows(&engine).await.is_empty());
}

#[tokio::test]
async fn a_resume_from_the_history_gets_only_changes_and_otherwise_the_rows_after_a_gap() {
    let engine = keyed_engine(3).build().unwrap();
    let first = set(&engine, "a", "1").await;
    for (key, value) in [("b", "2"), ("c", "3")] {
        set(&engine, key, value).await;
    }
    remove(&engine, "b").await;
    let mut client = Client::connect(&engine).await;
    client.resume("rows:a", Since::Position(first));
    assert_eq!(client.take(4).await, ["subscribed rows:a at 4 recovered", "rows:a 2:2", "rows:a 3:3", "rows:a 4:removed b"]);
    client.unsubscribe("rows:a");
    client.next().await;
    set(&engine, "d", "5").await;
    client.resume("rows:a", Since::Position(first));
    let answer = client.take(4).await;
    assert_eq!(
        answer,
        ["subscribed rows:a at 0 not recovered", "rows:a 1:1", "rows:a 3:3", "rows:a 5:5"],
        "the end of b cannot be told any more"
    );
    client.unsubscribe("rows:a");
    client.next().await;
    client.resume("rows:a", Since::Position(Position { epoch: "other".parse().unwrap(), ..first }));
    assert_eq!(client.take(4).await, answer, "as in another epoch");
}

#[tokio::test]
async fn whoever_is_cut_between_rows_goes_on_where_it_was() {
    let engine = keyed_engine(100).build().unwrap();
    for n in 0..5 {
        set(&engine, &format!("k{n}"), &n.to_string()).await;
    }
    set(&engine, "k0", "5").await;
    let mut client = Client::connect(&engine).await;
    client.subscribe("rows:a");
    assert_eq!(client.take(3).await, ["subscribed rows:a at 0", "rows:a 2:1", "rows:a 3:2"]);
    let mut later = Client::connect(&engine).await;
    let epoch = engine.history(&topic("rows:a"), HistoryQuery::default()).await.unwrap().position.epoch;
    later.resume("rows:a", Since::Position(Position { offset: 3, epoch }));
    assert_eq!(later.take(4).await, ["subscribed rows:a at 6 recovered", "rows:a 4:3", "rows:a 5:4", "rows:a 6:5"]);
}

#[tokio::test]
async fn rows_come_in_pages_and_what_changes_meanwhile_comes_after_them() {
    let engine = keyed_engine(1_000).with_settings(|settings| settings.backlog_max_bytes = 4_000).build().unwrap();
    for n in 0..200 {
        set(&engine, &format!("k{n:03}"), &n.to_string()).await;
    }
    let mut client = Client::connect(&engine).await;
    client.set_capacity(Some(200));
    client.subscribe("rows:a");
    assert_eq!(client.next().await, "subscribed rows:a at 0");
    assert_eq!(client.next().await, "rows:a 1:0");
    set(&engine, "k000", "\"new\"").await;
    remove(&engine, "k199").await;
    for n in 2..=200 {
        assert_eq!(client.next().await, format!("rows:a {n}:{}", n - 1));
    }
    assert_eq!(client.take(2).await, ["rows:a 201:\"new\"", "rows:a 202:removed k199"]);
    set(&engine, "live", "1").await;
    assert_eq!(client.next().await, "rows:a 203:1");
}

#[tokio::test]
async fn pages_end_where_nothing_is_recovered_too() {
    let namespace = quiet(100).keyed().recovery(Recovery::Off);
    let engine = open_engine().namespace("rows", namespace).with_settings(|settings| settings.backlog_max_bytes = 4_000).build().unwrap();
    for n in 1..=50 {
        set(&engine, &format!("k{n}"), "1").await;
    }
    let mut client = Client::connect(&engine).await;
    client.set_capacity(Some(200));
    client.subscribe("rows:a");
    assert_eq!(client.next().await, "subscribed rows:a at 0");
    for n in 1..=50 {
        assert_eq!(client.next().await, format!("rows:a {n}:1"));
    }
    set(&engine, "live", "2").await;
    assert_eq!(client.next().await, "rows:a 51:2");
}

#[tokio::test]
async fn what_the_history_lost_while_pages_went_out_is_a_gap_and_the_rows_again() {
    let engine = keyed_engine(5).with_settings(|settings| settings.backlog_max_bytes = 4_000).build().unwrap();
    for n in 0..30 {
        set(&engine, &format!("k{n:02}"), "1").await;
    }
    let mut client = Client::connect(&engine).await;
    client.set_capacity(Some(100));
    client.subscribe("rows:a");
    assert_eq!(client.take(2).await, ["subscribed rows:a at 0", "rows:a 1:1"]);
    for n in 0..30 {
        set(&engine, &format!("k{n:02}"), "2").await;
    }
    let mut last = 1;
    let mut line = client.next().await;
    while line == format!("rows:a {}:1", last + 1) {
        last += 1;
        line = client.next().await;
    }
    assert_eq!((last, line.as_str()), (30, "gap rows:a 31-? Trimmed"));
    for n in 31..=60 {
        assert_eq!(client.next().await, format!("rows:a {n}:2"));
    }
    set(&engine, "live", "3").await;
    assert_eq!(client.next().await, "rows:a 61:3");
}

#[tokio::test]
async fn a_hundred_streams_that_come_together_each_get_the_rows() {
    let engine = keyed_engine(10).build().unwrap();
    set(&engine, "a", "1").await;
    let mut streams: Vec<_> = (0..100).map(|_| engine.subscribe(&topic("rows:a")).unwrap()).collect();
    for stream in &mut streams {
        assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
        let Some(StreamItem::Publication(row)) = stream.next().await else { panic!("a row") };
        assert_eq!(row.key.as_deref(), Some("a"));
    }
}

#[tokio::test]
async fn a_new_key_beyond_the_bounds_is_refused_and_known_keys_go_on() {
    let bounded = quiet(10).keyed().state_max(2, 2_000);
    let engine = open_engine().namespace("rows", bounded).build().unwrap();
    set(&engine, "a", "1").await;
    set(&engine, "b", "1").await;
    let refused = async |publish: Publish, rule: &str| {
        let refusal = engine.publish(&topic("rows:a"), publish).await.unwrap_err().into_refusal();
        assert_eq!((refusal.kind, refusal.rule.as_deref()), (RefusalKind::Unavailable, Some(rule)));
    };
    refused(json("1").key("c"), "raise namespaces.rows.state_size").await;
    refused(json(&format!("\"{}\"", "x".repeat(2_000))).key("a"), "raise namespaces.rows.state_bytes").await;
    assert_eq!(rows(&engine).await, [("a".to_owned(), 1), ("b".to_owned(), 2)], "nothing of the refused ones is there");
    set(&engine, "a", "2").await;
    remove(&engine, "b").await;
    set(&engine, "c", "1").await;
    assert_eq!(rows(&engine).await, [("a".to_owned(), 3), ("c".to_owned(), 5)]);
}

#[tokio::test]
async fn a_removal_needs_a_key_a_state_and_its_place_in_the_history() {
    let engine = keyed_engine(10).build().unwrap();
    for (name, publish, kind) in [
        ("rows:a", json("1").removed(), RefusalKind::BadRequest),
        ("rows:a", Publish::remove("a").skip_history(), RefusalKind::BadRequest),
        ("quiet:a", Publish::remove("a"), RefusalKind::NotAvailable),
    ] {
        assert_eq!(engine.publish(&topic(name), publish).await.unwrap_err().into_refusal().kind, kind);
    }
    assert_eq!(engine.state(&topic("quiet:a"), StateRequest::default()).await.unwrap_err().into_refusal().kind, RefusalKind::NotAvailable);
}

#[tokio::test]
async fn the_state_is_read_in_pages_and_a_row_that_changes_between_them_comes_later() {
    let engine = keyed_engine(100).build().unwrap();
    for n in 0..6 {
        set(&engine, &format!("k{n}"), "1").await;
    }
    let read = async |cursor| engine.state(&topic("rows:a"), StateRequest { cursor, limit: 4 }).await.unwrap();
    let first = read(None).await;
    set(&engine, "k0", "2").await;
    set(&engine, "k5", "2").await;
    let second = read(first.next).await;
    let keys = |page: &broker_core::StateRows| page.rows.iter().map(|row| row.key.as_deref().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(keys(&first), ["k0", "k1", "k2", "k3"]);
    assert_eq!((keys(&second), second.next), (vec!["k4".to_owned(), "k0".to_owned(), "k5".to_owned()], None));
    let foreign = StateRequest { cursor: Some(Position { epoch: "other".parse().unwrap(), offset: 1 }), limit: 4 };
    let refusal = engine.state(&topic("rows:a"), foreign).await.unwrap_err().into_refusal();
    assert_eq!(refusal.kind, RefusalKind::UnrecoverablePosition);
}

#[tokio::test(start_paused = true)]
async fn a_row_goes_with_its_ttl_and_the_state_when_nobody_listens_any_more() {
    let namespace = quiet(10).keyed().state_ttl(Duration::from_secs(60));
    let engine = open_engine().namespace("rows", namespace).build().unwrap();
    let mut stream = engine.subscribe(&topic("rows:a")).unwrap();
    stream.next().await;
    engine.publish(&topic("rows:a"), json("1").key("short").ttl(Duration::from_secs(10))).await.unwrap();
    let at = set(&engine, "a", "2").await;
    assert_eq!(rows(&engine).await.len(), 2);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rows(&engine).await, [("a".to_owned(), 2)]);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(rows(&engine).await, [("a".to_owned(), 2)], "somebody listens, and has this row");
    drop(stream);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(rows(&engine).await.is_empty());
    let mut back = Client::connect(&engine).await;
    back.resume("rows:a", Since::Position(at));
    assert_eq!(back.next().await, "subscribed rows:a at 0 not recovered", "whoever has the row is told that it is void");
}

/// The application's answer to everybody who subscribes to `rows`.
fn with_snapshot(answer: Option<&'static str>) -> EngineBuilder {
    let payload = move || answer.map(|json| broker_core::Payload::json(json.to_owned()));
    keyed_engine(3).snapshot("rows", move |_| async move { Ok(payload()) })
}

#[tokio::test]
async fn where_the_application_has_no_snapshot_the_rows_are_the_state() {
    let engine = with_snapshot(None).build().unwrap();
    let first = set(&engine, "a", "1").await;
    for (key, value) in [("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")] {
        set(&engine, key, value).await;
    }
    remove(&engine, "b").await;
    let rows = ["rows:a 1:1", "rows:a 3:3", "rows:a 4:4", "rows:a 5:5"];
    // The second one is served by what the application said a moment ago.
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(&engine).await;
        client.subscribe("rows:a");
        assert_eq!(client.next().await, "subscribed rows:a at 0");
        assert_eq!(client.take(4).await, rows);
        others.push(client);
    }
    let mut back = Client::connect(&engine).await;
    back.resume("rows:a", Since::Position(first));
    assert_eq!(back.next().await, "subscribed rows:a at 0 not recovered");
    assert_eq!(back.take(4).await, rows);
    let mut recovered = Client::connect(&engine).await;
    recovered.resume("rows:a", Since::Position(Position { offset: 5, ..first }));
    assert_eq!(recovered.take(2).await, ["subscribed rows:a at 6 recovered", "rows:a 6:removed b"]);
    assert_eq!(engine.stats().snapshot_calls.value(), 1);
    set(&engine, "f", "7").await;
    assert_eq!((back.next().await, recovered.next().await), ("rows:a 7:7".to_owned(), "rows:a 7:7".to_owned()));
}

#[tokio::test]
async fn a_snapshot_of_the_application_goes_in_place_of_the_rows() {
    let engine = with_snapshot(Some("[]")).build().unwrap();
    set(&engine, "a", "1").await;
    let mut client = Client::connect(&engine).await;
    client.subscribe("rows:a");
    assert_eq!(client.take(2).await, ["subscribed rows:a at 1", "snapshot rows:a []"]);
    set(&engine, "b", "2").await;
    assert_eq!(client.next().await, "rows:a 2:2");
}

#[tokio::test]
async fn whoever_leaves_between_the_application_s_answer_and_the_rows_is_released() {
    let engine = with_snapshot(None).build().unwrap();
    set(&engine, "a", "1").await;
    for _ in 0..20 {
        let mut client = Client::connect(&engine).await;
        client.subscribe("rows:a");
        client.unsubscribe("rows:a");
        while client.next().await != "unsubscribed rows:a" {}
    }
    // Whose join was served already is released by its shard, in its next turn.
    let released = async {
        while !engine.topics().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), released).await.expect("everybody is released");
    assert_eq!(engine.stats().subscriptions.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_row_that_has_expired_unheard_is_told() {
    let engine = keyed_engine(10).build().unwrap();
    let first = set(&engine, "a", "1").await;
    engine.publish(&topic("rows:a"), Publish::remove("a").ttl(Duration::from_secs(10))).await.unwrap();
    let third = set(&engine, "b", "3").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut client = Client::connect(&engine).await;
    client.resume("rows:a", Since::Position(first));
    assert_eq!(client.take(2).await, ["subscribed rows:a at 0 not recovered", "rows:a 3:3"], "whoever has the row must not keep it");
    client.unsubscribe("rows:a");
    client.next().await;
    client.resume("rows:a", Since::Position(third));
    assert_eq!(client.next().await, "subscribed rows:a at 3 recovered", "nothing has gone behind that");
}
