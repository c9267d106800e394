//! Sequences that a follower must take, and ones with a mistake that it must find.

use broker_core::{Epoch, Except, Payload, Publication, Publish, SessionId};

use super::*;
use crate::wants::ByTag;

fn topic() -> Topic {
    "cut:a".parse().unwrap()
}

fn at(offset: u64) -> Position {
    Position { offset, epoch: Epoch::from_random(1) }
}

fn append(truth: &Truth, position: Option<Position>, payload: &str, except: Except) {
    let mut publication = Publication::new(topic(), Publish::new(Payload::text(payload)).except(except));
    publication.position = position;
    truth.appended(&publication);
}

/// Five publications; the fourth is not for session 1.
fn truth() -> Truth {
    let truth = Truth::default();
    for offset in 1..=5 {
        let except = if offset == 4 { Except::nobody().session(SessionId::from_random(1)) } else { Except::nobody() };
        append(&truth, Some(at(offset)), &format!("n{offset}"), except);
    }
    truth
}

fn live(truth: &Truth, since: u64) -> Follower {
    let mut follower = Follower::new(topic(), Promise::STREAM);
    let since = Since::Position(at(since));
    let answer = Answer {
        position: Some(at(5)),
        since: Some(since),
        recovered: Some(true),
        gap_follows: true,
        reach: 0,
        wants: Wants::default(),
        asked_at: Instant::now(),
    };
    follower.subscribed(truth, &answer).unwrap();
    follower
}

/// Feeds publications by offset, and says whether all was right, the head included.
#[track_caller]
fn check(since: u64, heard: &[u64], session: u128, found: &str) {
    let truth = truth();
    let who = Who { session: Some(SessionId::from_random(session)), users: Vec::new() };
    let mut follower = live(&truth, since);
    let mut result = Ok(());
    for offset in heard {
        result = result.and_then(|()| follower.publication(&truth, &who, Some(at(*offset)), &format!("n{offset}")));
    }
    let result = result.and_then(|()| follower.at_head(&truth, &who, Some(at(5))));
    match result {
        Ok(()) => assert_eq!(found, ""),
        Err(text) => assert!(!found.is_empty() && text.contains(found), "{text}"),
    }
}

#[test]
fn what_is_contiguous_is_right() {
    check(0, &[1, 2, 3, 4, 5], 2, "");
    check(3, &[4, 5], 2, "");
    check(3, &[5], 1, "");
}

#[test]
fn what_is_lost_doubled_or_out_of_order_is_found() {
    check(0, &[1, 3, 4, 5], 2, "lost without a signal");
    check(0, &[1, 2, 2, 3, 4, 5], 2, "a double");
    check(0, &[2, 1, 3, 4, 5], 2, "lost without a signal");
    check(0, &[1, 2, 3, 4], 2, "lost without a signal");
    check(3, &[5], 2, "lost without a signal");
    check(3, &[4, 5], 1, "not for this client");
    check(4, &[5, 6], 2, "nothing was published");
}

#[test]
fn a_wrong_payload_and_a_silent_change_of_epoch_are_found() {
    let (truth, who) = (truth(), Who::default());
    assert!(live(&truth, 0).publication(&truth, &who, Some(at(1)), "n2").is_err());
    let other = Position { offset: 1, epoch: Epoch::from_random(2) };
    append(&truth, Some(other), "m1", Except::nobody());
    assert!(live(&truth, 0).publication(&truth, &who, Some(other), "m1").unwrap_err().contains("without a signal"));
    let answer = Answer {
        position: Some(other),
        since: Some(Since::Position(at(1))),
        recovered: Some(true),
        gap_follows: true,
        reach: 0,
        wants: Wants::default(),
        asked_at: Instant::now(),
    };
    assert!(Follower::new(topic(), Promise::STREAM).subscribed(&truth, &answer).is_err());
}

#[test]
fn a_gap_excuses_what_it_names_and_nothing_before_it() {
    let (truth, who) = (truth(), Who::default());
    let mut follower = live(&truth, 1);
    follower.gap(&truth, &who, Some(at(2)), Some(at(4))).unwrap();
    follower.publication(&truth, &who, Some(at(5)), "n5").unwrap();
    assert!(live(&truth, 1).gap(&truth, &who, Some(at(3)), Some(at(4))).unwrap_err().contains("lost without a signal"));
    assert!(live(&truth, 3).gap(&truth, &who, Some(at(3)), Some(at(4))).is_err(), "a gap that steps backwards");
}

#[test]
fn what_comes_outside_a_subscription_or_before_its_gap_is_found() {
    let (truth, who) = (truth(), Who::default());
    let mut follower = live(&truth, 0);
    follower.ended();
    assert!(follower.publication(&truth, &who, Some(at(1)), "n1").unwrap_err().contains("outside"));
    let failed = Answer {
        position: Some(at(5)),
        since: Some(Since::Position(at(1))),
        recovered: Some(false),
        gap_follows: true,
        reach: 3,
        wants: Wants::default(),
        asked_at: Instant::now(),
    };
    follower.subscribed(&truth, &failed).unwrap();
    assert!(follower.publication(&truth, &who, Some(at(5)), "n5").unwrap_err().contains("before the gap"));
    assert!(follower.subscribed(&truth, &Answer { reach: 4, ..failed }).unwrap_err().contains("can be recovered"));
}

#[test]
fn publications_without_a_position_are_followed_by_their_numbers() {
    let (truth, who) = (Truth::default(), Who::default());
    append(&truth, None, "n0", Except::nobody());
    let mut follower = Follower::new(topic(), Promise::BARE);
    let answer = Answer {
        position: None,
        since: None,
        recovered: None,
        gap_follows: false,
        reach: 0,
        wants: Wants::default(),
        asked_at: Instant::now(),
    };
    follower.subscribed(&truth, &answer).unwrap();
    for n in 1..4 {
        append(&truth, None, &format!("n{n}"), Except::nobody());
    }
    follower.publication(&truth, &who, None, "n1").unwrap();
    assert!(follower.clone().publication(&truth, &who, None, "n3").is_err());
    assert!(follower.clone().publication(&truth, &who, None, "n1").is_err());
    assert!(follower.at_head(&truth, &who, None).is_err());
    follower.publication(&truth, &who, None, "n2").unwrap();
    follower.publication(&truth, &who, None, "n3").unwrap();
    follower.at_head(&truth, &who, None).unwrap();
}

#[test]
fn a_position_that_is_used_twice_is_found_in_the_log() {
    let truth = truth();
    append(&truth, Some(at(5)), "other", Except::nobody());
    append(&truth, Some(at(6)), "n1", Except::nobody());
    assert_eq!(truth.wrong().len(), 2);
}

/// A keyed topic: `a` at 1, `b` at 2, `a` again at 3, the end of `b` at 4, `c` at 5.
fn rows() -> Truth {
    let truth = Truth::default();
    for (offset, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "c")] {
        let publish = if offset == 4 { Publish::remove(key) } else { Publish::new(Payload::text(format!("n{offset}"))).key(key) };
        let mut publication = Publication::new(topic(), publish);
        publication.position = Some(at(offset));
        truth.appended(&publication);
    }
    truth
}

/// A subscription without a position to a topic of this kind.
fn begun(truth: &Truth, promise: Promise, wants: Wants) -> Follower {
    let mut follower = Follower::new(topic(), promise);
    let position = (!promise.bare).then_some(at(if promise.keyed { 0 } else { 3 }));
    let answer = Answer { position, since: None, recovered: None, gap_follows: true, reach: 0, wants, asked_at: Instant::now() };
    follower.subscribed(truth, &answer).unwrap();
    follower
}

/// Feeds publications by offset to one that has subscribed, and says whether all was right, the head included.
#[track_caller]
fn check_begun(truth: &Truth, mut follower: Follower, heard: &[u64], found: &str) {
    let who = Who::default();
    let mut result = Ok(());
    for offset in heard {
        let payload = truth.at(&topic(), at(*offset)).unwrap().heard().to_owned();
        result = result.and_then(|()| follower.publication(truth, &who, Some(at(*offset)), &payload));
    }
    let result = result.and_then(|()| follower.at_head(truth, &who, Some(at(5))));
    match result {
        Ok(()) => assert_eq!(found, ""),
        Err(text) => assert!(!found.is_empty() && text.contains(found), "{text}"),
    }
}

#[tokio::test]
async fn rows_that_are_missing_resurrected_or_not_changed_are_found() {
    let truth = rows();
    let begun = || begun(&truth, Promise::KEYED, Wants::default());
    check_begun(&truth, begun(), &[3, 5], "");
    check_begun(&truth, begun(), &[1, 2, 3, 4, 5], "");
    check_begun(&truth, begun(), &[2, 3, 4, 5], "");
    check_begun(&truth, begun(), &[5], "lost without a signal");
    check_begun(&truth, begun(), &[3], "lost without a signal");
    check_begun(&truth, begun(), &[2, 3, 5], "lost without a signal");
    check_begun(&truth, begun(), &[3, 2, 5], "out of order");
    let mut stale = begun();
    stale.gap(&truth, &Who::default(), None, None).unwrap();
    check_begun(&truth, stale, &[3, 5], "did not begin anew");
}

#[tokio::test]
async fn what_a_filter_leaves_out_must_not_come_and_what_a_pace_replaces_need_not() {
    let truth = rows();
    let filtered = Wants { filter: Some(ByTag::IsThere), pace_ms: None };
    check_begun(&truth, begun(&truth, Promise::STREAM, filtered), &[], "");
    check_begun(&truth, begun(&truth, Promise::STREAM, filtered), &[4], "the client wants");
    let paced = Wants { filter: None, pace_ms: Some(200) };
    let stream = || begun(&truth, Promise::LATEST, paced);
    check_begun(&truth, stream(), &[4, 5], "");
    check_begun(&truth, stream(), &[5], "lost without a signal");
    check_begun(&truth, stream(), &[4], "lost without a signal");
    let truth = self::truth();
    check_begun(&truth, begun(&truth, Promise::STREAM, paced), &[5], "");
    check_begun(&truth, begun(&truth, Promise::STREAM, paced), &[4], "lost without a signal");
}

#[tokio::test]
async fn a_hole_between_the_state_of_the_application_and_what_follows_is_found() {
    let truth = truth();
    let with_state = |reflected: u64| {
        let mut follower = begun(&truth, Promise::SNAPSHOT, Wants::default());
        follower.snapshot(&format!(r#"{{"snap":"{}"}}"#, at(reflected))).unwrap();
        follower
    };
    check_begun(&truth, with_state(2), &[3, 4, 5], "");
    check_begun(&truth, with_state(2), &[2, 3, 4, 5], "");
    check_begun(&truth, with_state(5), &[], "");
    check_begun(&truth, with_state(2), &[4, 5], "lost without a signal");
    check_begun(&truth, with_state(3), &[4], "lost without a signal");
    check_begun(&truth, begun(&truth, Promise::SNAPSHOT, Wants::default()), &[4, 5], "before the state");
}
