//! Tickets: claims that a URL can carry, once.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker_auth::{Claims, TicketError, Tickets};
use broker_core::{MemoryRegistry, RefusalKind};

fn tickets() -> Tickets {
    Tickets::new(Arc::new(MemoryRegistry::new()))
}

#[tokio::test(start_paused = true)]
async fn a_ticket_opens_one_connection_with_what_it_stands_for() {
    let tickets = tickets();
    let claims = Claims::user("ris1").group("ocs_ris").channel("news").info(r#"{"name":"Kim"}"#).unwrap();
    let before = SystemTime::now() - Duration::from_secs(1);
    let ticket = tickets.create(&claims).await.unwrap();
    assert_eq!(ticket.len(), 43);
    assert_ne!(ticket, tickets.create(&claims).await.unwrap());
    let identity = tickets.redeem(&ticket).await.unwrap();
    assert_eq!((identity.user.as_str(), &*identity.rule), ("ris1", "ticket"));
    assert_eq!(*identity.groups, ["ocs_ris".into()]);
    assert_eq!(identity.subscriptions[0].topic.as_str(), "news");
    assert!(identity.issued_at.unwrap() >= before, "a ticket is as new as its making");
    let refusal = tickets.redeem(&ticket).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unauthorized);
    assert!(!format!("{refusal:?}").contains(&ticket), "the refusal quotes the ticket");
}

#[tokio::test(start_paused = true)]
async fn a_ticket_holds_for_30_s() {
    let tickets = tickets();
    let (early, late) = (tickets.create(&Claims::user("a")).await.unwrap(), tickets.create(&Claims::user("a")).await.unwrap());
    assert_eq!(tickets.hold(), Duration::from_secs(30));
    tokio::time::advance(Duration::from_millis(29_999)).await;
    assert!(tickets.redeem(&early).await.is_ok());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(tickets.redeem(&late).await.is_err());
}

#[tokio::test]
async fn what_is_no_ticket_and_what_no_token_could_claim_is_refused() {
    let tickets = tickets();
    for none in ["", "x", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA", &"A".repeat(43), &"A".repeat(10_000)] {
        assert_eq!(tickets.redeem(none).await.unwrap_err().kind, RefusalKind::Unauthorized, "{none}");
    }
    let wrong = tickets.create(&Claims::user("a").group("a b")).await.unwrap_err();
    assert!(matches!(&wrong, TicketError::Claims(refusal) if refusal.message.contains("`groups[0]`")), "{wrong}");
    let ended = Claims::user("a").expires_at(SystemTime::UNIX_EPOCH);
    assert!(matches!(tickets.create(&ended).await.unwrap_err(), TicketError::Claims(_)));
}
