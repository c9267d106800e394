//! What every store of an outbox must do.

use std::time::Duration;

use broker_core::{Except, Payload, Publish, Topic};

use super::Stageable;
use crate::outbox::{Claim, OutboxRow, Outcome, RowId, RowState, Settled};

const LEASE: Duration = Duration::from_secs(60);

/// Runs the suite against an empty store.
///
/// # Panics
/// Where the store breaks its contract.
pub async fn outbox_suite(store: &dyn Stageable) {
    assert!(!store.id().is_empty() && store.id().len() <= 64);
    what_is_staged_is_given_in_order_with_everything_that_was_said(store).await;
    a_topic_belongs_to_one_worker_until_it_settles(store).await;
    a_claim_ends_with_its_lease(store).await;
    a_batch_is_bounded_and_each_topic_has_its_share(store).await;
    only_attempts_without_an_end_count_as_tried(store).await;
    what_is_refused_is_put_aside_until_somebody_decides(store).await;
}

async fn what_is_staged_is_given_in_order_with_everything_that_was_said(store: &dyn Stageable) {
    let topic = topic("suite:order");
    let said = json(1).key("k").except(Except::nobody().user("ris1"));
    let ids = [store.stage(&topic, said.clone()).await, store.stage(&topic, json(2)).await, store.stage(&topic, json(3)).await];
    assert!(ids.is_sorted() && ids[0] < ids[2]);
    assert_eq!(store.counts().await.expect("it answers").pending, 3);
    assert!(store.counts().await.expect("it answers").oldest_staged_at.is_some());
    assert_eq!(store.state(ids[0]).await.expect("it answers"), RowState::Pending);
    let rows = claim(store, "ann", &[], 64, LEASE).await;
    assert_eq!(numbers(&rows), ["1", "2", "3"]);
    assert_eq!(ids.to_vec(), rows.iter().map(|row| row.id).collect::<Vec<_>>());
    assert_eq!(format!("{:?}", rows[0].publish), format!("{said:?}"));
    publish_all(store, "ann", &rows).await;
    assert_eq!(store.state(ids[0]).await.expect("it answers"), RowState::Gone);
    assert_eq!(store.counts().await.expect("it answers"), crate::outbox::OutboxCounts::default());
    let next = store.stage(&topic, json(4)).await;
    assert!(next > ids[2], "an id is never used again");
    drain(store).await;
}

async fn a_topic_belongs_to_one_worker_until_it_settles(store: &dyn Stageable) {
    let (mine, yours) = (topic("suite:mine"), topic("suite:yours"));
    store.stage(&mine, json(1)).await;
    let first = claim(store, "ann", &[], 64, LEASE).await;
    store.stage(&mine, json(2)).await;
    store.stage(&yours, json(3)).await;
    assert_eq!(numbers(&claim(store, "bob", &[], 64, LEASE).await), ["3"], "the row behind a claimed one waits for it");
    assert_eq!(numbers(&claim(store, "ann", std::slice::from_ref(&mine), 64, LEASE).await), [""; 0], "what is not asked for is not given");
    assert_eq!(numbers(&claim(store, "ann", &[], 64, LEASE).await), ["1", "2"], "a worker's own rows come again");
    publish_all(store, "ann", &first).await;
    assert_eq!(numbers(&claim(store, "cid", &[], 64, LEASE).await), ["2"], "bob has the other topic");
    store.settle("bob", &[]).await.expect("it settles");
    store.settle("cid", &[]).await.expect("it settles");
    drain(store).await;
}

async fn a_claim_ends_with_its_lease(store: &dyn Stageable) {
    store.stage(&topic("suite:lease"), json(1)).await;
    let lost = claim(store, "ann", &[], 64, Duration::ZERO).await;
    let found = claim(store, "bob", &[], 64, LEASE).await;
    assert_eq!(numbers(&found), numbers(&lost));
    assert!(found[0].tried_at.is_some(), "somebody may have sent it");
    publish_all(store, "bob", &found).await;
    publish_all(store, "ann", &lost).await;
}

async fn a_batch_is_bounded_and_each_topic_has_its_share(store: &dyn Stageable) {
    let long = topic("suite:long");
    for number in 0..6 {
        store.stage(&long, json(number)).await;
    }
    assert_eq!(numbers(&claim(store, "ann", &[], 4, LEASE).await), ["0", "1", "2", "3"]);
    store.settle("ann", &[]).await.expect("it settles");
    let short = topic("suite:short");
    store.stage(&short, json(9)).await;
    let mut shared = claim(store, "ann", &[], 4, LEASE).await;
    shared.sort_by_key(|row| row.id);
    assert_eq!(numbers(&shared), ["0", "1", "9"], "a long queue does not hold up another topic");
    let of_short: Vec<OutboxRow> = shared.into_iter().filter(|row| row.topic == short).collect();
    publish_all(store, "ann", &of_short).await;
    let limited = Claim { worker: "ann", except: &[], rows: 64, bytes: 2, lease: LEASE };
    assert_eq!(numbers(&store.claim(limited).await.expect("it gives")), ["0", "1"], "so many bytes");
    let heavy = Claim { bytes: 0, ..limited };
    assert_eq!(numbers(&store.claim(heavy).await.expect("it gives")), ["0"], "one row, whatever it weighs");
    store.settle("ann", &[]).await.expect("it settles");
    drain(store).await;
}

async fn only_attempts_without_an_end_count_as_tried(store: &dyn Stageable) {
    store.stage(&topic("suite:tried"), json(1)).await;
    for outcome in [Outcome::NotSent, Outcome::Unconfirmed, Outcome::NotSent] {
        let rows = claim(store, "ann", &[], 64, LEASE).await;
        settle(store, "ann", &rows, outcome).await;
    }
    let rows = claim(store, "ann", &[], 64, LEASE).await;
    assert!(rows[0].tried_at.is_some(), "one attempt in the middle had no answer");
    publish_all(store, "ann", &rows).await;

    store.stage(&topic("suite:tried"), json(2)).await;
    for _ in 0..2 {
        let rows = claim(store, "ann", &[], 64, LEASE).await;
        assert_eq!(rows[0].tried_at, None);
        settle(store, "ann", &rows, Outcome::NotSent).await;
    }
    drain(store).await;
}

async fn what_is_refused_is_put_aside_until_somebody_decides(store: &dyn Stageable) {
    let topic = topic("suite:refused");
    let bad = store.stage(&topic, json(1)).await;
    let worse = store.stage(&topic, json(2)).await;
    store.stage(&topic, json(3)).await;
    let rows = claim(store, "ann", &[], 2, LEASE).await;
    settle(store, "ann", &rows, Outcome::Refused { reason: "too long".to_owned() }).await;
    assert_eq!(numbers(&claim(store, "ann", &[], 64, LEASE).await), ["3"], "the next ones go on");
    let counts = store.counts().await.expect("it answers");
    assert_eq!((counts.pending, counts.refused), (1, 2));
    assert_eq!(store.state(bad).await.expect("it answers"), RowState::Refused("too long".to_owned()));
    let refused = store.refused(1).await.expect("it answers");
    assert_eq!((refused.len(), refused[0].id, refused[0].topic.as_str(), refused[0].reason.as_str()), (1, bad, topic.as_str(), "too long"));

    assert!(store.discard(worse).await.expect("it answers"));
    assert!(!store.discard(worse).await.expect("it answers"));
    store.settle("ann", &[]).await.expect("it settles");
    drain(store).await;
    assert_eq!(store.retry(Some(RowId(bad.0 + 1))).await.expect("it answers"), 0);
    assert_eq!(store.retry(None).await.expect("it answers"), 1);
    let rows = claim(store, "ann", &[], 64, LEASE).await;
    assert_eq!((numbers(&rows), rows[0].tried_at), (vec!["1".to_owned()], None));
    assert!(!store.discard(bad).await.expect("it answers"), "it is pending");
    publish_all(store, "ann", &rows).await;
    assert_eq!(store.counts().await.expect("it answers"), crate::outbox::OutboxCounts::default());
}

async fn claim(store: &dyn Stageable, worker: &str, except: &[Topic], rows: usize, lease: Duration) -> Vec<OutboxRow> {
    store.claim(Claim { worker, except, rows, bytes: 1 << 20, lease }).await.expect("it gives")
}

async fn settle(store: &dyn Stageable, worker: &str, rows: &[OutboxRow], outcome: Outcome) {
    let settled: Vec<Settled> = rows.iter().map(|row| Settled { row: row.id, outcome: outcome.clone() }).collect();
    store.settle(worker, &settled).await.expect("it settles");
}

async fn publish_all(store: &dyn Stageable, worker: &str, rows: &[OutboxRow]) {
    settle(store, worker, rows, Outcome::Published).await;
}

/// Publishes whatever is left.
async fn drain(store: &dyn Stageable) {
    loop {
        let rows = claim(store, "drain", &[], 64, LEASE).await;
        if rows.is_empty() {
            return;
        }
        publish_all(store, "drain", &rows).await;
    }
}

fn numbers(rows: &[OutboxRow]) -> Vec<String> {
    rows.iter().map(|row| String::from_utf8_lossy(row.publish.data.bytes()).into_owned()).collect()
}

fn json(number: u32) -> Publish {
    Publish::new(Payload::json(number.to_string()))
}

fn topic(name: &str) -> Topic {
    name.parse().expect("a legal name")
}
