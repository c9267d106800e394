//! What every backplane that keeps something must do with it: bounds in bytes, own ttl, versions, state. A part of the backplane suite.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::backplane_suite::{Recorder, THREE, publish};
use crate::{
    Backplane, Bound, Keep, KeepState, LogPage, LogQuery, Payload, Publication, Publish, PublishFailed, StatePage, StateQuery, Topic,
    Version,
};

/// What has a ttl must be gone after so long.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Keep much, and the newest of each key.
const KEYED: Keep = Keep::history(100, Duration::from_secs(600)).state(KeepState { size: 3, bytes: 4_000, ttl: Duration::from_secs(600) });

/// The topics of these cases.
pub(super) const TOPICS: [&str; 6] = ["suite:bytes", "suite:ttl", "suite:versions", "suite:state", "suite:statettl", "suite:room"];

pub(super) async fn keeping_suite(backplane: &dyn Backplane, recorder: &Recorder) {
    let topic = |name: &str| -> Topic { name.parse().expect("a legal topic") };
    a_history_and_its_pages_are_bounded_in_bytes(backplane, &topic("suite:bytes")).await;
    what_expires_by_its_own_ttl_is_no_hole(backplane, &topic("suite:ttl")).await;
    what_is_not_newer_is_not_taken(backplane, recorder, &topic("suite:versions")).await;
    if backplane.capabilities().state {
        the_state_is_the_newest_of_each_key(backplane, recorder, &topic("suite:state")).await;
        the_state_is_bounded(backplane, &topic("suite:state")).await;
        a_row_goes_with_its_ttl(backplane, &topic("suite:statettl")).await;
    }
    if backplane.kept().bytes > 0 {
        without_room_nothing_is_done(backplane, recorder, &topic("suite:room")).await;
    }
}

async fn read(backplane: &dyn Backplane, topic: &Topic, query: LogQuery, keep: Keep) -> LogPage {
    backplane.history(topic, query, keep).await.expect("history answers")
}

async fn state(backplane: &dyn Backplane, topic: &Topic, query: StateQuery) -> StatePage {
    backplane.state(topic, query, KEYED).await.expect("state answers")
}

fn offsets(publications: &[Arc<Publication>]) -> Vec<u64> {
    publications.iter().filter_map(|publication| Some(publication.position?.offset)).collect()
}

fn keys(page: &StatePage) -> Vec<&str> {
    page.rows.iter().filter_map(|row| row.key.as_deref()).collect()
}

async fn a_history_and_its_pages_are_bounded_in_bytes(backplane: &dyn Backplane, topic: &Topic) {
    let large = || Publish::new(Payload::text("x".repeat(1_000)));
    let weight = large().weight_bytes(topic);
    let keep = Keep::history(100, THREE.ttl).bytes(4 * weight);
    for _ in 1..=6 {
        backplane.publish(topic, large(), keep).await.expect("a publish is taken");
    }
    let page = read(backplane, topic, LogQuery::default(), keep).await;
    assert_eq!((offsets(&page.publications), page.kept_from), (vec![3, 4, 5, 6], 2), "the oldest go, and it is said how far");
    let two = LogQuery { bytes: Some(2 * weight), ..LogQuery::default() };
    assert_eq!(offsets(&read(backplane, topic, two, keep).await.publications), [3, 4]);
    let next = LogQuery { after: Some(4), ..two };
    assert_eq!(offsets(&read(backplane, topic, next, keep).await.publications), [5, 6]);
    let back = LogQuery { reverse: true, ..two };
    assert_eq!(offsets(&read(backplane, topic, back, keep).await.publications), [6, 5]);
    let little = LogQuery { bytes: Some(1), ..LogQuery::default() };
    assert_eq!(offsets(&read(backplane, topic, little, keep).await.publications), [3], "one at least, or nobody gets on");
}

async fn what_expires_by_its_own_ttl_is_no_hole(backplane: &dyn Backplane, topic: &Topic) {
    for n in 1..=3 {
        let publish = if n == 2 { publish(n).ttl(Duration::from_millis(300)) } else { publish(n) };
        backplane.publish(topic, publish, THREE).await.expect("a publish is taken");
    }
    let begun = Instant::now();
    let page = loop {
        let page = read(backplane, topic, LogQuery::default(), THREE).await;
        if page.publications.len() < 3 || begun.elapsed() > GONE_WITHIN {
            break page;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((offsets(&page.publications), page.kept_from, page.top.offset), (vec![1, 3], 0, 3), "it is gone, and nothing is lost");
    assert_eq!(offsets(&read(backplane, topic, LogQuery::after(1), THREE).await.publications), [3]);
}

async fn what_is_not_newer_is_not_taken(backplane: &dyn Backplane, recorder: &Recorder, topic: &Topic) {
    let send = async |key: Option<&str>, version: Version| {
        let publish = publish(1).version(version);
        let publish = key.map_or(publish.clone(), |key| publish.key(key));
        let published = backplane.publish(topic, publish, THREE).await.expect("a publish is answered");
        (published.position.map(|position| position.offset), published.outdated)
    };
    assert_eq!(send(None, Version::new(2)).await, (Some(1), false));
    assert_eq!(send(None, Version::new(2)).await, (Some(1), true), "the same again is not newer");
    assert_eq!(send(Some("k"), Version::new(1)).await, (Some(2), false), "each key has a count of its own");
    assert_eq!(send(None, Version::new(1)).await, (Some(2), true), "the answer is the top");
    assert_eq!(send(None, Version::new(1).epoch("b")).await, (Some(3), false), "another epoch begins anew");
    assert_eq!(recorder.offsets(topic, 3).await, [1, 2, 3], "what was not taken is not delivered");
}

async fn the_state_is_the_newest_of_each_key(backplane: &dyn Backplane, recorder: &Recorder, topic: &Topic) {
    for publish in [publish(1).key("a"), publish(2).key("b"), publish(3), publish(4).key("a"), publish(5).key("c"), Publish::remove("b")] {
        backplane.publish(topic, publish, KEYED).await.expect("a publish is taken");
    }
    let page = state(backplane, topic, StateQuery::default()).await;
    assert_eq!((keys(&page), offsets(&page.rows), page.next, page.top.offset), (vec!["a", "c"], vec![4, 5], None, 6));
    let first = state(backplane, topic, StateQuery { limit: Some(1), ..StateQuery::default() }).await;
    assert_eq!((keys(&first), first.next.is_some()), (vec!["a"], true));
    backplane.publish(topic, publish(7).key("a"), KEYED).await.expect("a publish is taken");
    let rest = state(backplane, topic, StateQuery { after: first.next, ..StateQuery::default() }).await;
    assert_eq!((keys(&rest), offsets(&rest.rows)), (vec!["c", "a"], vec![5, 7]), "a row that changed between two pages comes later");
    let little = state(backplane, topic, StateQuery { bytes: Some(1), ..StateQuery::default() }).await;
    assert_eq!(keys(&little), ["c"], "one at least");
    let log = read(backplane, topic, LogQuery::after(5), KEYED).await;
    let removed: Vec<bool> = log.publications.iter().map(|publication| publication.removed).collect();
    assert_eq!(removed, [true, false], "the removal stands in the history");
    assert_eq!(recorder.offsets(topic, 7).await, [1, 2, 3, 4, 5, 6, 7], "and was delivered");
    backplane.remove_history(topic).await.expect("history is removed");
    assert_eq!(keys(&state(backplane, topic, StateQuery::default()).await), ["c", "a"], "the state is no history");
}

/// Goes on after [`the_state_is_the_newest_of_each_key`].
async fn the_state_is_bounded(backplane: &dyn Backplane, topic: &Topic) {
    backplane.publish(topic, publish(8).key("d"), KEYED).await.expect("a publish is taken");
    let refused = async |publish: Publish, bound: Bound| {
        let failed = backplane.publish(topic, publish, KEYED).await;
        assert!(matches!(&failed, Err(PublishFailed::Full(full)) if full.bound == bound), "{failed:?}");
    };
    refused(publish(9).key("e"), Bound::StateSize).await;
    refused(Publish::new(Payload::text("x".repeat(5_000))).key("d"), Bound::StateBytes).await;
    let page = state(backplane, topic, StateQuery::default()).await;
    assert_eq!((keys(&page), page.top.offset), (vec!["c", "a", "d"], 8), "nothing of what was refused is there");
    backplane.publish(topic, Publish::remove("c"), KEYED).await.expect("a removal needs no room");
    backplane.publish(topic, publish(10).key("e"), KEYED).await.expect("a publish is taken");
}

async fn a_row_goes_with_its_ttl(backplane: &dyn Backplane, topic: &Topic) {
    let short = publish(1).key("short").ttl(Duration::from_millis(300));
    for publish in [short, publish(2).key("long")] {
        backplane.publish(topic, publish, KEYED).await.expect("a publish is taken");
    }
    let begun = Instant::now();
    while state(backplane, topic, StateQuery::default()).await.rows.len() > 1 && begun.elapsed() < GONE_WITHIN {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(keys(&state(backplane, topic, StateQuery::default()).await), ["long"]);
    let log = read(backplane, topic, LogQuery::after(0), KEYED).await;
    assert_eq!((log.kept_from, offsets(&log.publications)), (1, vec![2]), "what may have changed a row is not passed over");
}

async fn without_room_nothing_is_done(backplane: &dyn Backplane, recorder: &Recorder, topic: &Topic) {
    let before = backplane.kept().bytes;
    let full = Keep::history(100, THREE.ttl).memory_max(1);
    let large = || Publish::new(Payload::text("x".repeat(1_000))).idempotency_key("k").version(Version::new(1));
    let failed = backplane.publish(topic, large(), full).await;
    assert!(matches!(&failed, Err(PublishFailed::Full(full)) if full.bound == Bound::Namespace), "{failed:?}");
    assert_eq!(recorder.offsets(topic, 0).await, [0_u64; 0], "nothing was delivered");
    backplane.publish(topic, publish(1).skip_history(), full).await.expect("what keeps nothing needs no room");
    let page = read(backplane, topic, LogQuery::default(), full).await;
    assert_eq!((page.top.offset, page.publications.len()), (0, 0), "nothing was appended");
    assert!(backplane.kept().bytes < before + 1_000, "and nothing is counted but the topic itself");
    let published = backplane.publish(topic, large(), THREE).await.expect("there is room");
    assert!(published.is_new(), "nothing was remembered");
}
