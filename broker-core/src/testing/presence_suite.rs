//! What every presence must do.

use std::sync::Arc;

use crate::{Presence, PresenceStats, SessionId, SessionInfo, Topic};

/// Runs the suite against an empty presence.
///
/// # Panics
/// Where the presence breaks its contract.
pub async fn presence_suite(presence: &dyn Presence) {
    let topic: Topic = "suite:here".parse().expect("a legal topic");
    let other: Topic = "suite:there".parse().expect("a legal topic");
    let who =
        |n: u128, user: &str| Arc::new(SessionInfo { session: SessionId::from_random(n), user: user.into(), info: None, topic_info: None });
    assert_eq!(presence.list(&topic).await.expect("presence answers"), []);
    for info in [who(1, "ann"), who(2, "ann"), who(3, "bob")] {
        presence.upsert(&topic, info).await.expect("presence is taken");
    }
    presence.upsert(&topic, who(3, "bob")).await.expect("a repetition replaces");
    presence.upsert(&other, who(1, "ann")).await.expect("presence is taken");
    assert_eq!(presence.count(&topic).await.expect("presence answers"), PresenceStats { sessions: 3, users: 2 });

    let first = who(1, "ann").session;
    presence.remove(&topic, first).await.expect("a removal is taken");
    presence.remove(&topic, first).await.expect("a second removal changes nothing");
    let left = presence.list(&topic).await.expect("presence answers");
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|info| info.session != first));
    assert_eq!(presence.count(&topic).await.expect("presence answers"), PresenceStats { sessions: 2, users: 2 });
    assert_eq!(presence.count(&other).await.expect("presence answers").sessions, 1, "topics do not touch each other");
}
