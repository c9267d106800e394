//! Two tenants of one broker see nothing of each other, on every path.

use broker_core::{HistoryQuery, Request, Since, Subscribe, Target, Tenant};

use crate::{
    delivering::{json, topic},
    identity::{connect, trusting, until},
};

#[tokio::test]
async fn everything_a_session_names_is_inside_its_tenant() {
    let engine = trusting().build().unwrap();
    let mut acme = connect(&engine, "u tenant=acme groups=g channels=quiet:alerts").await;
    let mut other = connect(&engine, "u tenant=other groups=g channels=quiet:alerts").await;
    for client in [&mut acme, &mut other] {
        assert_eq!(client.take(2).await, ["subscribed group:g at 0", "subscribed quiet:alerts at 0"], "local names are told");
        client.subscribe("quiet:room");
        client.next().await;
    }
    acme.publish("quiet:room", "\"secret\"");
    assert_eq!(acme.take(2).await, ["quiet:room 1:\"secret\"", "published quiet:room at 1"].map(str::to_owned));
    for request in [
        Request::History { topic: topic("quiet:room"), since: None, limit: Some(9), reverse: false },
        Request::Presence { topic: topic("quiet:room") },
        Request::PresenceStats { topic: topic("quiet:room") },
    ] {
        other.send(request);
    }
    let answers = other.take(3).await;
    assert!(answers.iter().all(|answer| !answer.contains("secret")), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.ends_with(" 1 1")), "one session of one user is there: {answers:?}");
    other.unsubscribe("quiet:room");
    other.next().await;
    other.send(Request::Subscribe(Subscribe::new(topic("quiet:room")).since(Since::Beginning)));
    assert_eq!(other.next().await, "subscribed quiet:room at 0 recovered");
    // The host knows the full names.
    for (name, heard) in
        [("tenant:acme/group:g", "group:g 1:1"), ("tenant:acme/user:u", "user:u 1"), ("tenant:acme/quiet:alerts", "quiet:alerts 1:1")]
    {
        engine.publish(&topic(name), json("1")).await.unwrap();
        assert_eq!(acme.next().await, heard);
    }
    assert_eq!(engine.history(&topic("tenant:acme/quiet:room"), HistoryQuery::default()).await.unwrap().position.offset, 1);
    assert_eq!(other.try_next(), None);
}

#[tokio::test]
async fn no_name_leads_into_a_tenant_or_out_of_it() {
    let engine = trusting().build().unwrap();
    let mut acme = connect(&engine, "u tenant=acme").await;
    let mut nobodys = connect(&engine, "u").await;
    for client in [&mut acme, &mut nobodys] {
        for name in ["tenant:acme/quiet:room", "tenant:other/quiet:room", "tenant:acme", "tenant:/x"] {
            for request in [
                Request::Subscribe(Subscribe::new(topic(name))),
                Request::Publish {
                    topic: topic(name),
                    data: broker_core::Payload::json("1"),
                    key: None,
                    idempotency_key: None,
                    removed: false,
                },
                Request::History { topic: topic(name), since: None, limit: None, reverse: false },
                Request::Presence { topic: topic(name) },
                Request::PresenceStats { topic: topic(name) },
            ] {
                client.send(request);
                let line = client.next().await;
                assert!(line.starts_with("refused UnknownTopic"), "{name}: {line}");
            }
        }
    }
    nobodys.subscribe("tenant:acme/quiet:room");
    assert_eq!(nobodys.next().await, "refused UnknownTopic: tenant:acme/quiet:room names a topic of a tenant, and this session has none");
    for (name, expected) in [
        ("tenant:other/quiet:room", "tenant:other/quiet:room names a topic of another tenant"),
        ("tenant:acme/quiet:room", "tenant:acme/quiet:room names a topic with the prefix of its tenant"),
    ] {
        acme.subscribe(name);
        assert_eq!(acme.next().await, format!("refused UnknownTopic: {expected}"));
    }
    acme.subscribe(&"x".repeat(250));
    assert!(acme.next().await.starts_with("refused BadRequest: with the prefix of its tenant"));
}

#[tokio::test]
async fn acts_of_the_server_mean_one_tenants_users() {
    let engine = trusting().build().unwrap();
    let mut acme = connect(&engine, "u tenant=acme").await;
    let mut nobodys = connect(&engine, "u").await;
    let tenant: Tenant = "acme".parse().unwrap();
    let of_acme = Target::User { user: "u".into(), tenant: Some(tenant) };
    assert_eq!(engine.sessions(of_acme.clone()).send(json("1")).await.unwrap().sessions, 1);
    assert_eq!(acme.next().await, "user:u 1");
    assert_eq!(engine.join_group("g", &of_acme).await.unwrap(), 1);
    assert_eq!(acme.next().await, "subscribed group:g at 0");
    engine.publish(&topic("group:g"), json("2")).await.unwrap();
    engine.publish(&topic("tenant:acme/group:g"), json("3")).await.unwrap();
    assert_eq!(acme.next().await, "group:g 1:3");
    assert_eq!(engine.leave_group("g", &of_acme).await.unwrap(), 1);
    acme.next().await;
    let session = Target::Session(acme.connection().session());
    assert_eq!(engine.join_group("h", &session).await.unwrap(), 1);
    assert_eq!(acme.next().await, "subscribed group:h at 0");
    assert_eq!(engine.leave_group("h", &session).await.unwrap(), 1);
    assert_eq!(acme.next().await, "unsubscribed group:h Server");
    assert_eq!(engine.sessions(of_acme).disconnect(4000, "bye").await.unwrap(), 1);
    until(&mut acme, "closed").await;
    engine.publish(&topic("user:u"), json("4")).await.unwrap();
    assert_eq!(nobodys.next().await, "user:u 4");
}
