//! What the server says of a user while that user connects, renews or changes hands: whoever comes first, the outcome is what was said last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use broker_core::{
    Connect, Engine, EngineBuilder, Grant, Identity, Member, MemoryRegistry, Registry, Request, Revocation, Revoked, ServerSubscription,
    Subject, SubscribeRequest, Target, Tenant, Unavailable, testing::Client,
};
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{
    delivering::{json, open_engine, topic},
    identity::{authenticate, connect, trusting, until},
};

/// What lets everybody through but the first one after it was shut, who waits.
#[derive(Clone)]
struct Gate(Arc<(Semaphore, Semaphore, AtomicBool)>);

impl Gate {
    fn open() -> Self {
        Self(Arc::new((Semaphore::new(0), Semaphore::new(0), AtomicBool::new(false))))
    }

    fn shut(&self) {
        self.0.2.store(true, Relaxed);
    }

    /// Waits until somebody stands at the shut gate.
    async fn reached(&self) {
        self.0.1.acquire().await.unwrap().forget();
    }

    fn let_through(&self) {
        self.0.0.add_permits(1);
    }

    async fn pass(&self) {
        if self.0.2.swap(false, Relaxed) {
            self.0.1.add_permits(1);
            self.0.0.acquire().await.unwrap().forget();
        }
    }
}

/// Remembers as the memory does; what it has read can be held up, and it can fail.
struct SlowRegistry {
    memory: MemoryRegistry,
    read: Gate,
    fails: AtomicBool,
}

impl SlowRegistry {
    fn new() -> Arc<Self> {
        Arc::new(Self { memory: MemoryRegistry::new(), read: Gate::open(), fails: AtomicBool::new(false) })
    }
}

#[async_trait]
impl Registry for SlowRegistry {
    async fn join(&self, member: &Member, group: &str, keep: Duration) -> Result<(), Unavailable> {
        self.memory.join(member, group, keep).await
    }

    async fn leave(&self, member: &Member, group: &str) -> Result<(), Unavailable> {
        self.memory.leave(member, group).await
    }

    async fn groups_of(&self, member: &Member) -> Result<Vec<Box<str>>, Unavailable> {
        if self.fails.load(Relaxed) {
            return Err(Unavailable("the registry is away".to_owned()));
        }
        let groups = self.memory.groups_of(member).await;
        self.read.pass().await;
        groups
    }

    async fn revoke(&self, revocation: &Revocation, keep: Duration) -> Result<(), Unavailable> {
        self.memory.revoke(revocation, keep).await
    }

    async fn revocation_of(&self, subject: &Subject) -> Result<Option<Revocation>, Unavailable> {
        self.memory.revocation_of(subject).await
    }

    async fn put_ticket(&self, ticket: &str, content: Bytes, keep: Duration) -> Result<(), Unavailable> {
        self.memory.put_ticket(ticket, content, keep).await
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, Unavailable> {
        self.memory.take_ticket(ticket).await
    }
}

/// An engine whose subscribe hook stands behind a gate.
fn gated(gate: &Gate) -> EngineBuilder {
    let gate = gate.clone();
    trusting().on_subscribe(move |_: SubscribeRequest| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Ok(Grant::plain())
        }
    })
}

fn connecting(engine: &Engine, token: &str) -> Client {
    let client = Client::open(engine);
    client.send(Request::Connect(Connect { token: Some(token.to_owned()), ..Connect::default() }));
    client
}

/// Everything that is told up to something that comes behind it.
async fn told(engine: &Engine, client: &mut Client) -> Vec<String> {
    let session = client.connection().session();
    engine.sessions(Target::Session(session)).send(json("\"end\"")).await.unwrap();
    let mut lines = until(client, &format!("session:{session} ")).await;
    lines.retain(|line| !line.contains("session:"));
    lines
}

#[tokio::test]
async fn an_identity_that_the_application_looks_up_during_a_revocation_does_not_outlive_it() {
    let gate = Gate::open();
    gate.shut();
    let hook = gate.clone();
    let engine = open_engine()
        .on_connect(move |_| {
            let gate = hook.clone();
            async move {
                gate.pass().await;
                Ok(Identity::user("ris1"))
            }
        })
        .build()
        .unwrap();
    let mut client = connecting(&engine, "");
    gate.reached().await;
    let revocation = Revocation::now(Revoked::User("ris1".into()));
    let before = revocation.before;
    engine.revoke(revocation).await.unwrap();
    // Moments are compared by the millisecond.
    while SystemTime::now() < before + Duration::from_millis(2) {
        tokio::task::yield_now().await;
    }
    gate.let_through();
    let line = client.next().await;
    assert!(line.starts_with("refused Unauthorized"), "{line}");
}

#[tokio::test]
async fn a_user_who_connects_while_it_is_joined_to_a_group_is_in_it() {
    let registry = SlowRegistry::new();
    let engine = trusting().registry(registry.clone()).build().unwrap();
    registry.read.shut();
    let mut client = connecting(&engine, "ris1");
    registry.read.reached().await;
    engine.join_group("night", &Target::user("ris1")).await.unwrap();
    registry.read.let_through();
    until(&mut client, "subscribed group:night").await;
    engine.publish(&topic("group:night"), json("1")).await.unwrap();
    assert_eq!(client.next().await, "group:night 1:1");
}

#[tokio::test]
async fn a_user_who_connects_or_renews_while_it_leaves_a_group_hears_no_more_of_it() {
    let registry = SlowRegistry::new();
    let engine = trusting().registry(registry.clone()).build().unwrap();
    let user = Target::user("ris1");
    engine.join_group("night", &user).await.unwrap();
    registry.read.shut();
    let mut client = connecting(&engine, "ris1");
    registry.read.reached().await;
    engine.leave_group("night", &user).await.unwrap();
    registry.read.let_through();
    until(&mut client, "connected").await;
    engine.publish(&topic("group:night"), json("1")).await.unwrap();
    assert!(told(&engine, &mut client).await.iter().all(|line| !line.starts_with("group:night")));

    engine.join_group("night", &user).await.unwrap();
    client.next().await;
    registry.read.shut();
    authenticate(&client, "ris1 groups=other");
    registry.read.reached().await;
    engine.leave_group("night", &user).await.unwrap();
    registry.read.let_through();
    until(&mut client, "identity").await;
    engine.publish(&topic("group:night"), json("2")).await.unwrap();
    assert!(told(&engine, &mut client).await.iter().all(|line| !line.starts_with("group:night")));
    let members = engine.group_members(&topic("group:night")).await.unwrap();
    assert_eq!(members, []);
}

#[tokio::test]
async fn a_group_that_a_user_is_joined_to_while_it_renews_stays() {
    let gate = Gate::open();
    let engine = gated(&gate).build().unwrap();
    let mut client = connect(&engine, "ris1 groups=a").await;
    client.next().await;
    client.subscribe("quiet:x");
    client.next().await;
    gate.shut();
    authenticate(&client, "ris1 groups=b");
    gate.reached().await;
    assert_eq!(engine.join_group("night", &Target::user("ris1")).await.unwrap(), 1);
    gate.let_through();
    let lines = until(&mut client, "identity").await;
    assert_eq!(lines.last().unwrap(), "identity ris1 left [\"group:a\"] joined [\"group:b\"]");
    engine.publish(&topic("group:night"), json("1")).await.unwrap();
    assert_eq!(client.next().await, "group:night 1:1");
}

#[tokio::test(start_paused = true)]
async fn credentials_end_when_they_say_however_long_the_application_is_asked_about_subscriptions() {
    let engine = trusting()
        .on_subscribe(|request: SubscribeRequest| async move {
            if request.subject.user.as_str() == "lis1" {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            Ok(Grant::plain())
        })
        .build()
        .unwrap();
    let mut client = connect(&engine, "ris1").await;
    client.subscribe("quiet:x");
    client.next().await;
    let authenticated = tokio::time::Instant::now();
    authenticate(&client, "lis1 ttl=20");
    until(&mut client, "closed credentials_expired").await;
    let after = authenticated.elapsed();
    assert!(after >= Duration::from_secs(19) && after <= Duration::from_secs(21), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_stays_ends_when_the_application_says_for_the_new_user() {
    let engine = trusting()
        .on_subscribe(|request: SubscribeRequest| async move {
            let seconds = if request.subject.user.as_str() == "lis1" { 5 } else { 500 };
            Ok(Grant::plain().expires_at(SystemTime::now() + Duration::from_secs(seconds)))
        })
        .build()
        .unwrap();
    let mut client = connect(&engine, "ris1").await;
    client.subscribe("quiet:x");
    client.next().await;
    authenticate(&client, "lis1");
    until(&mut client, "refreshed").await;
    let changed = tokio::time::Instant::now();
    until(&mut client, "unsubscribed quiet:x Expired").await;
    assert!(changed.elapsed() <= Duration::from_secs(6), "{:?}", changed.elapsed());
}

#[tokio::test]
async fn a_subscribe_that_waits_for_the_application_is_answered_when_the_new_identity_brings_its_topic() {
    let gate = Gate::open();
    gate.shut();
    let engine = gated(&gate).build().unwrap();
    let mut client = connect(&engine, "ris1").await;
    client.subscribe("quiet:x");
    gate.reached().await;
    let identity = Identity::user("lis1").subscription(ServerSubscription::new(topic("quiet:x")));
    assert_eq!(engine.sessions(Target::user("ris1")).change_identity(identity).await.unwrap(), 1);
    let lines = until(&mut client, "identity").await;
    assert!(lines.iter().any(|line| line.starts_with("refused Unavailable: the session changed its identity")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("subscribed quiet:x")), "{lines:?}");
    engine.publish(&topic("quiet:x"), json("1")).await.unwrap();
    assert_eq!(client.next().await, "quiet:x 1:1");
}

#[tokio::test]
async fn a_group_that_the_server_gave_to_one_user_is_not_the_next_ones_for_good() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1").await;
    let session = Target::Session(client.connection().session());
    engine.join_group("a", &session).await.unwrap();
    client.next().await;
    authenticate(&client, "lis1 groups=a");
    assert_eq!(client.next().await, "refreshed");
    authenticate(&client, "lis1");
    assert_eq!(client.next().await, "identity lis1 left [\"group:a\"] joined []");
}

#[tokio::test]
async fn an_unsubscribe_takes_back_the_subscribe_that_waits_in_a_tenant_too() {
    let gate = Gate::open();
    gate.shut();
    let hook = gate.clone();
    let engine = trusting()
        .on_publish(move |request| {
            let gate = hook.clone();
            async move {
                gate.pass().await;
                Ok(request.publish)
            }
        })
        .build()
        .unwrap();
    let mut client = connect(&engine, "u tenant=acme").await;
    client.publish("quiet:x", "1");
    gate.reached().await;
    client.subscribe("quiet:x");
    client.unsubscribe("quiet:x");
    until(&mut client, "unsubscribed quiet:x").await;
    gate.let_through();
    until(&mut client, "published quiet:x").await;
    let told = told(&engine, &mut client).await;
    assert!(told.iter().all(|line| !line.starts_with("subscribed")), "{told:?}");
}

#[tokio::test]
async fn a_group_whose_topic_is_too_long_in_its_tenant_is_refused_and_keeps_nobody_out() {
    let engine = trusting().build().unwrap();
    let tenant: Tenant = "acme".parse().unwrap();
    let user = Target::User { user: "u".into(), tenant: Some(tenant) };
    assert!(engine.join_group(&"g".repeat(245), &user).await.is_err());
    connect(&engine, "u tenant=acme").await;
}

#[tokio::test]
async fn a_group_more_than_a_session_may_have_topics_is_refused_and_keeps_nobody_out() {
    let engine = trusting().with_settings(|settings| settings.subscriptions_max = 3).build().unwrap();
    let user = Target::user("ris1");
    for group in ["a", "b", "a"] {
        engine.join_group(group, &user).await.unwrap();
    }
    assert!(engine.join_group("c", &user).await.is_err());
    connect(&engine, "ris1").await;
}

#[tokio::test]
async fn nobody_in_particular_cannot_be_revoked() {
    let engine = open_engine().build().unwrap();
    assert!(engine.revoke(Revocation::now(Revoked::User("".into()))).await.is_err());
    Client::connect(&engine).await;
}

#[tokio::test]
async fn credentials_without_a_tenant_name_no_topic_inside_one() {
    let engine = trusting().build().unwrap();
    let mut client = connecting(&engine, "u channels=tenant:acme/quiet:x");
    let line = client.next().await;
    assert!(line.starts_with("refused UnknownTopic"), "{line}");
}

#[tokio::test]
async fn a_session_is_sent_to_from_inside_its_tenant_only() {
    let engine = trusting().build().unwrap();
    let mut acme = connect(&engine, "u tenant=acme").await;
    let mut nobodys = connect(&engine, "v").await;
    let check = async |sender: &str, target: &mut Client| {
        let mut sender = connect(&engine, sender).await;
        sender.publish(&format!("session:{}", target.connection().session()), "\"secret\"");
        until(&mut sender, "published").await;
        assert_eq!(target.try_next(), None);
    };
    check("s tenant=other caps=session:*", &mut acme).await;
    check("s caps=session:*", &mut acme).await;
    check("s tenant=acme caps=session:*", &mut nobodys).await;
    let sender = connect(&engine, "s tenant=acme caps=session:*").await;
    let name = format!("session:{}", acme.connection().session());
    sender.publish(&name, "1");
    assert_eq!(acme.take(2).await, [format!("subscribed {name}"), format!("{name} 1")]);
}

#[tokio::test]
async fn whoever_unsubscribes_as_soon_as_it_is_connected_is_not_told_of_as_there() {
    let engine = trusting().build().unwrap();
    let mut witness = connect(&engine, "witness channels=room").await;
    until(&mut witness, "join room witness").await;
    let client = Client::open(&engine);
    client.send_all([
        Request::Connect(Connect { token: Some("ris1 channels=room".to_owned()), ..Connect::default() }),
        Request::Unsubscribe { topic: topic("room") },
    ]);
    assert_eq!(witness.take(2).await, ["join room ris1", "leave room ris1"]);
}

#[tokio::test]
async fn an_identity_that_cannot_be_looked_at_for_a_while_sends_the_client_back() {
    let registry = SlowRegistry::new();
    let engine = trusting().registry(registry.clone()).build().unwrap();
    let mut client = connect(&engine, "ris1").await;
    registry.fails.store(true, Relaxed);
    engine.sessions(Target::user("ris1")).change_identity(Identity::user("lis1")).await.unwrap();
    assert_eq!(client.next().await, "closed server_error");
}

#[tokio::test]
async fn a_second_join_is_answered_no_sooner_than_the_first_is_live() {
    let gate = Gate::open();
    gate.shut();
    let hook = gate.clone();
    let engine = trusting()
        .snapshot("group:slow", move |_| {
            let gate = hook.clone();
            async move {
                gate.pass().await;
                Ok(broker_core::Payload::json("1"))
            }
        })
        .build()
        .unwrap();
    let client = connect(&engine, "ris1").await;
    let join = || {
        let engine = engine.clone();
        tokio::spawn(async move { engine.join_group("slow", &Target::user("ris1")).await.unwrap() })
    };
    let first = join();
    gate.reached().await;
    let second = join();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!first.is_finished() && !second.is_finished());
    gate.let_through();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 1));
    drop(client);
}
