//! What every registry must do.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{Identity, Member, Registry, Revocation, Revoked, SessionId, Subject, Tenant};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

/// Runs the suite against an empty registry.
///
/// # Panics
/// Where the registry breaks its contract.
pub async fn registry_suite(registry: &dyn Registry) {
    memberships_last_as_long_as_was_said(registry).await;
    members_of_tenants_are_others(registry).await;
    a_ticket_is_taken_once(registry).await;
    a_revocation_means_what_was_issued_before(registry).await;
    tokens_and_groups_are_revoked_by_name(registry).await;
    a_later_revocation_takes_nothing_from_an_earlier_one(registry).await;
}

async fn memberships_last_as_long_as_was_said(registry: &dyn Registry) {
    let ann = member("suite ann", None);
    assert_eq!(groups(registry, &ann).await, [] as [String; 0]);
    registry.join(&ann, "a", LONG).await.expect("a membership is taken");
    registry.join(&ann, "b", LONG).await.expect("a membership is taken");
    registry.join(&ann, "a", LONG).await.expect("a repetition is taken");
    assert_eq!(groups(registry, &ann).await, ["a", "b"]);
    registry.leave(&ann, "a").await.expect("a leave is taken");
    registry.leave(&ann, "never").await.expect("a leave is taken");
    assert_eq!(groups(registry, &ann).await, ["b"]);
    registry.join(&ann, "short", SHORT).await.expect("a membership is taken");
    until("a membership ends", async || groups(registry, &ann).await == ["b"]).await;
}

async fn members_of_tenants_are_others(registry: &dyn Registry) {
    let (bob, bob_of_acme) = (member("suite bob", None), member("suite bob", Some("acme")));
    registry.join(&bob, "outside", LONG).await.expect("a membership is taken");
    registry.join(&bob_of_acme, "inside", LONG).await.expect("a membership is taken");
    assert_eq!(groups(registry, &bob).await, ["outside"]);
    assert_eq!(groups(registry, &bob_of_acme).await, ["inside"]);
}

async fn a_ticket_is_taken_once(registry: &dyn Registry) {
    assert_eq!(registry.take_ticket("suite none").await, Ok(None));
    registry.put_ticket("suite once", Bytes::from_static(b"\0content"), LONG).await.expect("a ticket is taken");
    assert_eq!(registry.take_ticket("suite once").await, Ok(Some(Bytes::from_static(b"\0content"))));
    assert_eq!(registry.take_ticket("suite once").await, Ok(None));
    registry.put_ticket("suite late", Bytes::from_static(b"late"), SHORT).await.expect("a ticket is taken");
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(registry.take_ticket("suite late").await, Ok(None), "its time is over");
}

async fn a_revocation_means_what_was_issued_before(registry: &dyn Registry) {
    let whose = || Revoked::User("suite carl".into());
    assert_eq!(registry.revocation_of(&subject("suite carl", None, at(10))).await, Ok(None));
    let revocation = Revocation::now(whose()).before(at(20));
    registry.revoke(&revocation, LONG).await.expect("a revocation is taken");
    assert_eq!(registry.revocation_of(&subject("suite carl", None, at(10))).await, Ok(Some(revocation)));
    assert_eq!(registry.revocation_of(&subject("suite carl", None, at(21))).await, Ok(None), "issued later");
    assert_eq!(registry.revocation_of(&subject("suite other", None, at(10))).await, Ok(None), "another user");
    assert_eq!(registry.revocation_of(&subject("suite carl", Some("acme"), at(10))).await, Ok(None), "a tenant's user");
    let of_acme = Revocation::now(whose()).before(at(20)).tenant(Some(tenant("acme")));
    registry.revoke(&of_acme, SHORT).await.expect("a revocation is taken");
    assert_eq!(registry.revocation_of(&subject("suite carl", Some("acme"), at(10))).await, Ok(Some(of_acme)));
    until("a revocation ends", async || registry.revocation_of(&subject("suite carl", Some("acme"), at(10))).await == Ok(None)).await;
}

async fn tokens_and_groups_are_revoked_by_name(registry: &dyn Registry) {
    let identity = Identity::user("suite dora").token_id("suite 7").group("suite ward").issued_at(at(10));
    let dora = Subject::new(SessionId::from_random(1), &identity);
    let group = Revocation::now(Revoked::Group("suite ward".into())).before(at(9));
    registry.revoke(&group, LONG).await.expect("a revocation is taken");
    assert_eq!(registry.revocation_of(&dora).await, Ok(None), "issued later");
    let token = Revocation::now(Revoked::Token("suite 7".into())).before(at(1));
    registry.revoke(&token, LONG).await.expect("a revocation is taken");
    assert_eq!(registry.revocation_of(&dora).await, Ok(Some(token)), "a token is revoked whenever it was issued");
}

async fn a_later_revocation_takes_nothing_from_an_earlier_one(registry: &dyn Registry) {
    let until_moment = |seconds| Revocation::now(Revoked::User("suite emil".into())).before(at(seconds));
    registry.revoke(&until_moment(20), LONG).await.expect("a revocation is taken");
    registry.revoke(&until_moment(30), SHORT).await.expect("a revocation is taken");
    assert_eq!(registry.revocation_of(&subject("suite emil", None, at(25))).await, Ok(Some(until_moment(30))));
    until("the shorter one ends", async || registry.revocation_of(&subject("suite emil", None, at(25))).await == Ok(None)).await;
    assert_eq!(registry.revocation_of(&subject("suite emil", None, at(15))).await, Ok(Some(until_moment(20))), "kept as long as was said");
}

/// Waits for what must happen within a few seconds.
async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if happened().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it does not happen: {what}");
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn tenant(name: &str) -> Tenant {
    name.parse().expect("a legal tenant")
}

fn member(user: &str, of: Option<&str>) -> Member {
    Member { user: user.into(), tenant: of.map(tenant) }
}

fn subject(user: &str, of: Option<&str>, issued_at: SystemTime) -> Subject {
    let identity = Identity::user(user).issued_at(issued_at);
    let identity = of.map_or(identity.clone(), |name| identity.tenant(tenant(name)));
    Subject::new(SessionId::from_random(1), &identity)
}

async fn groups(registry: &dyn Registry, member: &Member) -> Vec<String> {
    let mut groups: Vec<String> = registry.groups_of(member).await.expect("the registry answers").into_iter().map(Into::into).collect();
    groups.sort_unstable();
    groups
}
