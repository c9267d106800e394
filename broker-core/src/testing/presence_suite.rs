//! What every presence must do.

use std::{sync::Arc, time::Duration};

use crate::{Arrival, Departure, Presence, PresenceStats, SessionId, SessionInfo, Topic};

const AT_ONCE: Duration = Duration::ZERO;
const LATER: Duration = Duration::from_secs(60);

/// Runs the suite against an empty presence.
///
/// # Panics
/// Where the presence breaks its contract.
pub async fn presence_suite(presence: &dyn Presence) {
    sessions_are_listed_and_users_counted(presence).await;
    a_user_comes_with_the_first_session_and_goes_with_the_last(presence).await;
    a_user_lingers_until_settled_or_back(presence).await;
    a_session_changes_hands(presence).await;
    anonymous_sessions_are_individuals(presence).await;
}

async fn sessions_are_listed_and_users_counted(presence: &dyn Presence) {
    let (topic, other) = (topic("suite:here"), topic("suite:there"));
    assert_eq!(presence.list(&topic).await.expect("presence answers"), []);
    for info in [who(1, "ann"), who(2, "ann"), who(3, "bob")] {
        come(presence, &topic, info).await;
    }
    assert_eq!(come(presence, &topic, who(3, "bob")).await, Arrival::default(), "a repetition replaces");
    come(presence, &other, who(1, "ann")).await;
    check_count(presence, &topic, 3, 2).await;

    let first = who(1, "ann").session;
    assert_eq!(go(presence, &topic, 1, AT_ONCE).await, Departure::Unnoticed);
    assert_eq!(go(presence, &topic, 1, AT_ONCE).await, Departure::Unnoticed, "a second removal changes nothing");
    let left = presence.list(&topic).await.expect("presence answers");
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|info| info.session != first));
    check_count(presence, &topic, 2, 2).await;
    check_count(presence, &other, 1, 1).await;
}

async fn a_user_comes_with_the_first_session_and_goes_with_the_last(presence: &dyn Presence) {
    let topic = topic("suite:users");
    assert!(come(presence, &topic, who(1, "ann")).await.joined);
    assert!(!come(presence, &topic, who(2, "ann")).await.joined);
    assert!(come(presence, &topic, who(3, "bob")).await.joined);
    assert_eq!(go(presence, &topic, 1, LATER).await, Departure::Unnoticed);
    assert_eq!(go(presence, &topic, 2, AT_ONCE).await, Departure::Left);
    assert!(come(presence, &topic, who(4, "ann")).await.joined);
}

async fn a_user_lingers_until_settled_or_back(presence: &dyn Presence) {
    let topic = topic("suite:lingering");
    come(presence, &topic, who(1, "ann")).await;
    assert_eq!(go(presence, &topic, 1, LATER).await, Departure::Lingers);
    check_count(presence, &topic, 0, 0).await;
    assert_eq!(presence.list(&topic).await.expect("presence answers"), [], "sessions leave at once");
    assert!(!come(presence, &topic, who(2, "ann")).await.joined, "the user had not left");
    assert!(!settle(presence, &topic, 1, "ann").await, "the user is back");

    assert_eq!(go(presence, &topic, 2, LATER).await, Departure::Lingers);
    assert!(!settle(presence, &topic, 1, "ann").await, "another session's time");
    assert!(settle(presence, &topic, 2, "ann").await);
    assert!(!settle(presence, &topic, 2, "ann").await, "told once");
    assert!(come(presence, &topic, who(3, "ann")).await.joined);
    assert_eq!(go(presence, &topic, 3, AT_ONCE).await, Departure::Left);
}

async fn a_session_changes_hands(presence: &dyn Presence) {
    let topic = topic("suite:hands");
    come(presence, &topic, who(1, "ann")).await;
    assert_eq!(come(presence, &topic, who(1, "bob")).await, Arrival { joined: true, left: true });
    check_count(presence, &topic, 1, 1).await;
    assert!(!come(presence, &topic, who(2, "bob")).await.joined);
    assert_eq!(come(presence, &topic, who(1, "ann")).await, Arrival { joined: true, left: false }, "another session of bob's stays");
    assert_eq!(come(presence, &topic, who(2, "ann")).await, Arrival { joined: false, left: true });
    assert_eq!(come(presence, &topic, who(2, "")).await, Arrival { joined: true, left: false });
    check_count(presence, &topic, 2, 2).await;
}

async fn anonymous_sessions_are_individuals(presence: &dyn Presence) {
    let topic = topic("suite:anonymous");
    for session in 1..=2 {
        assert!(come(presence, &topic, who(session, "")).await.joined);
    }
    check_count(presence, &topic, 2, 2).await;
    assert!(!come(presence, &topic, who(2, "")).await.joined, "a repetition");
    assert_eq!(go(presence, &topic, 1, LATER).await, Departure::Left, "nobody knows who comes back");
    check_count(presence, &topic, 1, 1).await;
}

fn topic(name: &str) -> Topic {
    name.parse().expect("a legal topic")
}

fn who(session: u128, user: &str) -> Arc<SessionInfo> {
    Arc::new(SessionInfo { session: SessionId::from_random(session), user: user.into(), info: None, topic_info: None })
}

async fn come(presence: &dyn Presence, topic: &Topic, who: Arc<SessionInfo>) -> Arrival {
    presence.upsert(topic, who).await.expect("presence is taken")
}

async fn go(presence: &dyn Presence, topic: &Topic, session: u128, linger: Duration) -> Departure {
    presence.remove(topic, SessionId::from_random(session), linger).await.expect("a removal is taken")
}

async fn settle(presence: &dyn Presence, topic: &Topic, session: u128, user: &str) -> bool {
    presence.settle(topic, &who(session, user)).await.expect("presence answers")
}

async fn check_count(presence: &dyn Presence, topic: &Topic, sessions: usize, users: usize) {
    let stats = presence.count(topic).await.expect("presence answers");
    assert_eq!(stats, PresenceStats { sessions, users }, "{topic}");
}
