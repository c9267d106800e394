//! Who is behind a session, and what happens when that changes: refresh, another user on the same connection, revocation.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker_core::{
    Capability, Connect, Engine, EngineBuilder, Grant, Identity, Namespace, Refusal, Request, Revocation, Revoked, ServerSubscription,
    SubscribeRequest, Target, Verbs,
    testing::{Client, LineProtocol},
};

use crate::delivering::{json, open_engine, quiet, topic};

/// What a test's token says: `ris1 groups=a,b channels=x caps=news:* jti=7 iat=SECONDS ttl=SECONDS tenant=acme`.
pub(crate) fn identity(token: &str) -> Result<Identity, Refusal> {
    let mut words = token.split(' ');
    let mut identity = Identity::user(words.next().unwrap_or_default()).rule("test token");
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let seconds = || Duration::from_secs_f64(value.parse().unwrap());
        identity = match key {
            "groups" => value.split(',').fold(identity, Identity::group),
            "channels" => value.split(',').fold(identity, |identity, name| identity.subscription(ServerSubscription::new(topic(name)))),
            "caps" => identity.capability(Capability { topics: vec![value.parse().unwrap()], allow: Verbs::ALL }),
            "tenant" => identity.tenant(value.parse().unwrap()),
            "jti" => identity.token_id(value),
            "iat" => identity.issued_at(SystemTime::UNIX_EPOCH + seconds()),
            "ttl" => identity.expires_at(SystemTime::now() + seconds()),
            "bad" => return Err(Refusal::unauthorized("the token is bad")),
            other => panic!("no word {other} in test tokens"),
        };
    }
    Ok(identity)
}

/// An engine whose namespace `group` keeps a history, and that believes every token.
pub(crate) fn trusting() -> EngineBuilder {
    let mut group = quiet(50);
    group.allow = Verbs::NONE;
    open_engine()
        .namespace("group", group)
        .namespace("closed", Namespace::default())
        .on_connect(|request| async move { identity(request.connect.token.as_deref().unwrap_or_default()) })
}

pub(crate) async fn connect(engine: &Engine, token: &str) -> Client {
    Client::connect_as(engine, LineProtocol::default(), Some(token)).await
}

pub(crate) fn authenticate(client: &Client, token: &str) {
    client.send(Request::Refresh { token: token.to_owned() });
}

/// Lines up to and with the first that begins so.
pub(crate) async fn until(client: &mut Client, beginning: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        lines.push(client.next().await);
        assert_ne!(lines.last().map(String::as_str), Some("finished"), "no {beginning} in {lines:?}");
        client.connection().heard();
        if lines.last().is_some_and(|line| line.starts_with(beginning)) {
            return lines;
        }
    }
}

#[tokio::test]
async fn topics_of_an_identity_are_live_when_the_connect_is_answered() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 groups=ocs_ris channels=quiet:alerts").await;
    assert_eq!(client.take(2).await, ["subscribed group:ocs_ris at 0", "subscribed quiet:alerts at 0"]);
    engine.publish(&topic("group:ocs_ris"), json("1")).await.unwrap();
    engine.publish(&topic("user:ris1"), json("2")).await.unwrap();
    engine.publish(&topic("quiet:alerts"), json("3")).await.unwrap();
    assert_eq!(client.take(3).await, ["group:ocs_ris 1:1", "user:ris1 2", "quiet:alerts 1:3"]);
}

#[tokio::test]
async fn a_publication_during_the_connect_is_told_after_its_answer() {
    let engine = trusting()
        .with_settings(|settings| settings.shards = 1)
        .snapshot("group:slow", |_| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(broker_core::Payload::json("\"state\""))
        })
        .build()
        .unwrap();
    let mut client = Client::open(&engine);
    client.send(Request::Connect(Connect { token: Some("ris1 groups=fast,slow".to_owned()), ..Connect::default() }));
    while engine.topics().await.iter().all(|count| count.topic.as_str() != "group:fast") {
        tokio::task::yield_now().await;
    }
    engine.publish(&topic("group:fast"), json("1")).await.unwrap();
    let lines = client.take(5).await;
    assert_eq!(lines[0], "connected ris1");
    assert_eq!(lines.iter().filter(|line| line.starts_with("group:fast")).count(), 1, "{lines:?}");
    let at = |beginning: &str| lines.iter().position(|line| line.starts_with(beginning)).unwrap();
    assert!(at("subscribed group:fast") < at("group:fast"), "{lines:?}");
    assert!(lines.contains(&"snapshot group:slow \"state\"".to_owned()));
}

#[tokio::test]
async fn a_server_subscription_resumes_from_its_position() {
    let engine = trusting().build().unwrap();
    let position = engine.publish(&topic("group:a"), json("1")).await.unwrap().position.unwrap();
    engine.publish(&topic("group:a"), json("2")).await.unwrap();
    let mut client = Client::open(&engine);
    let resume = vec![(topic("group:a"), broker_core::Since::Position(position))];
    client.send(Request::Connect(Connect { token: Some("ris1 groups=a".to_owned()), resume, ..Connect::default() }));
    assert_eq!(client.take(3).await, ["connected ris1", "subscribed group:a at 2 recovered", "group:a 2:2"]);
}

#[tokio::test]
async fn a_cursor_is_asked_for_topics_that_only_the_server_knows() {
    #[derive(Debug)]
    struct Kept(broker_core::Position);
    impl broker_core::Cursor for Kept {
        fn since(&self, topic: &str) -> Option<broker_core::Since> {
            match topic {
                "group:a" => Some(broker_core::Since::Position(self.0)),
                "group:b" => Some(broker_core::Since::Unreadable),
                _ => None,
            }
        }
    }
    let engine = trusting().build().unwrap();
    let position = engine.publish(&topic("group:a"), json("1")).await.unwrap().position.unwrap();
    engine.publish(&topic("group:a"), json("2")).await.unwrap();
    engine.publish(&topic("group:b"), json("3")).await.unwrap();
    let mut client = Client::open(&engine);
    let cursor: Option<std::sync::Arc<dyn broker_core::Cursor>> = Some(std::sync::Arc::new(Kept(position)));
    client.send(Request::Connect(Connect { token: Some("ris1 groups=a,b,c".to_owned()), cursor, ..Connect::default() }));
    let mut lines = client.take(5).await;
    lines.sort();
    let expected = [
        "connected ris1",
        "group:a 2:2",
        "subscribed group:a at 2 recovered",
        "subscribed group:b at 1 not recovered",
        "subscribed group:c at 0",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn an_identity_that_names_what_does_not_exist_is_refused() {
    let engine = trusting().build().unwrap();
    let check = async |token: &str, refused: &str| {
        let mut client = Client::open(&engine);
        client.send(Request::Connect(Connect { token: Some(token.to_owned()), ..Connect::default() }));
        let line = client.next().await;
        assert!(line.starts_with(refused), "{token}: {line}");
    };
    check("ris1 channels=nowhere:x", "refused UnknownTopic: there is no namespace `nowhere`").await;
    check("ris1 groups=a\u{fc}", "refused BadRequest: the credentials name a group").await;
    let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    check(&format!("ris1 groups={}", many.join(",")), "refused LimitExceeded").await;
}

#[tokio::test]
async fn another_user_on_a_connection_leaves_what_was_the_first_ones_and_joins_its_own() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 groups=ocs_ris,all").await;
    client.take(2).await;
    client.subscribe("quiet:open");
    client.next().await;
    authenticate(&client, "lis1 groups=ocs_lis,all");
    let lines = until(&mut client, "identity").await;
    assert_eq!(
        lines,
        ["subscribed group:ocs_lis at 0", "identity lis1 left [\"group:ocs_ris\"] joined [\"group:ocs_lis\"]"],
        "what both may hear goes on without a word"
    );
    for name in ["group:ocs_ris", "user:ris1", "group:ocs_lis", "user:lis1", "group:all", "quiet:open"] {
        engine.publish(&topic(name), json("1")).await.unwrap();
    }
    assert_eq!(client.take(4).await, ["group:ocs_lis 1:1", "user:lis1 1", "group:all 1:1", "quiet:open 1:1"]);
    assert!(client.try_next().is_none());
    assert_eq!(engine.sessions(Target::user("ris1")).count().await.unwrap(), 0);
    assert_eq!(engine.sessions(Target::user("lis1")).count().await.unwrap(), 1);
}

#[tokio::test]
async fn what_waits_for_a_slow_client_is_not_sent_to_the_next_user() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 groups=ocs_ris").await;
    client.next().await;
    client.set_capacity(Some(0));
    for n in 0..100 {
        engine.publish(&topic("group:ocs_ris"), json(&n.to_string())).await.unwrap();
    }
    authenticate(&client, "lis1");
    while engine.sessions(Target::user("lis1")).count().await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    client.set_capacity(None);
    let lines = until(&mut client, "identity").await;
    // At most the frame that was partly written.
    assert!(lines.len() <= 2, "{lines:?}");
}

#[tokio::test]
async fn a_subscription_that_the_new_user_may_not_have_ends() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 caps=closed:*").await;
    client.subscribe("closed:a");
    assert_eq!(client.next().await, "subscribed closed:a");
    authenticate(&client, "lis1");
    assert_eq!(client.next().await, "identity lis1 left [\"closed:a\"] joined []");
    client.subscribe("closed:a");
    assert!(client.next().await.starts_with("refused PermissionDenied"));
}

#[tokio::test]
async fn the_application_is_asked_whether_a_subscription_outlives_a_change_of_user() {
    let engine = trusting()
        .on_subscribe(|request: SubscribeRequest| async move {
            tokio::task::yield_now().await;
            match (request.subject.user.as_str(), request.subscribe.topic.as_str()) {
                ("lis1", "quiet:ris") => Err(Refusal::permission_denied("not yours")),
                _ => Ok(Grant::plain()),
            }
        })
        .build()
        .unwrap();
    let mut client = connect(&engine, "ris1").await;
    for name in ["quiet:ris", "quiet:both"] {
        client.subscribe(name);
        client.next().await;
    }
    authenticate(&client, "lis1");
    assert_eq!(client.next().await, "identity lis1 left [\"quiet:ris\"] joined []");
}

#[tokio::test]
async fn commands_before_a_change_are_the_old_users_and_commands_after_it_the_new_ones() {
    let engine = trusting()
        .on_publish(|request| async move {
            tokio::task::yield_now().await;
            Ok(json(&format!("\"{}\"", request.subject.user)))
        })
        .build()
        .unwrap();
    let mut client = connect(&engine, "ris1").await;
    let publish = || Request::Publish {
        topic: topic("quiet:log"),
        data: broker_core::Payload::json("0"),
        key: None,
        idempotency_key: None,
        removed: false,
    };
    client.send_all([publish(), publish(), Request::Refresh { token: "lis1 groups=x".to_owned() }, publish()]);
    until(&mut client, "published quiet:log at 3").await;
    let page = engine.history(&topic("quiet:log"), broker_core::HistoryQuery { limit: 9, ..Default::default() }).await.unwrap();
    let users: Vec<_> = page.publications.iter().map(|publication| publication.data.bytes().clone()).collect();
    assert_eq!(users, [&b"\"ris1\""[..], b"\"ris1\"", b"\"lis1\""]);
}

#[tokio::test]
async fn a_bad_token_leaves_the_identity_as_it_was() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 groups=a").await;
    client.next().await;
    for bad in ["lis1 bad=1", "lis1 channels=nowhere:x"] {
        authenticate(&client, bad);
        assert!(client.next().await.starts_with("refused"));
    }
    engine.publish(&topic("group:a"), json("1")).await.unwrap();
    assert_eq!(client.next().await, "group:a 1:1");
    assert_eq!(engine.sessions(Target::user("ris1")).count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_protocol_that_cannot_change_hands_loses_its_subscriptions_and_is_sent_back() {
    let engine = trusting().build().unwrap();
    let protocol = LineProtocol { gap_ends: true, ..LineProtocol::default() };
    let mut client = Client::connect_as(&engine, protocol, Some("ris1 groups=a caps=closed:*")).await;
    client.next().await;
    for name in ["closed:a", "quiet:a"] {
        client.subscribe(name);
        client.next().await;
    }
    authenticate(&client, "lis1");
    let mut ended = until(&mut client, "closed").await;
    assert_eq!(ended.pop().as_deref(), Some("closed identity_changed"));
    ended.sort_unstable();
    assert_eq!(ended, ["unsubscribed closed:a Server", "unsubscribed group:a Server", "unsubscribed user:ris1 Server"]);
}

#[tokio::test]
async fn the_same_user_in_other_groups_stays_on_the_connection_in_every_protocol() {
    let engine = trusting().build().unwrap();
    let protocol = LineProtocol { gap_ends: true, ..LineProtocol::default() };
    let mut client = Client::connect_as(&engine, protocol, Some("ris1 groups=a")).await;
    client.next().await;
    authenticate(&client, "ris1 groups=b");
    assert_eq!(
        client.take(3).await,
        ["unsubscribed group:a Server", "subscribed group:b at 0", "identity ris1 left [\"group:a\"] joined [\"group:b\"]"]
    );
}

#[tokio::test(start_paused = true)]
async fn renewed_credentials_move_the_end_and_lose_nothing() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 groups=a ttl=60").await;
    client.next().await;
    assert!(until(&mut client, "expiring").await.len() <= 4);
    authenticate(&client, "ris1 groups=a ttl=120");
    assert_eq!(client.next().await, "refreshed");
    let renewed = tokio::time::Instant::now();
    engine.publish(&topic("group:a"), json("1")).await.unwrap();
    assert_eq!(client.next().await, "group:a 1:1");
    until(&mut client, "closed credentials_expired").await;
    let after = renewed.elapsed();
    assert!(after >= Duration::from_secs(119) && after <= Duration::from_secs(121), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn the_application_renews_what_the_server_renews() {
    let engine = open_engine()
        .on_connect(|_| async { Ok(Identity::user("ris1").expires_at(SystemTime::now() + Duration::from_secs(40)).renewed_by_server()) })
        .on_refresh(|request: broker_core::RefreshRequest| async move {
            assert_eq!(request.subject.user.as_str(), "ris1");
            Ok(broker_core::Renewal::until(SystemTime::now() + Duration::from_secs(40)))
        })
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    let connected = tokio::time::Instant::now();
    while connected.elapsed() < Duration::from_secs(200) {
        assert_eq!(client.next().await, "ping", "nobody but the application is asked");
        client.connection().heard();
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_with_its_own_credentials() {
    let engine =
        trusting().on_subscribe(|_| async { Ok(Grant::plain().expires_at(SystemTime::now() + Duration::from_secs(5))) }).build().unwrap();
    let mut client = connect(&engine, "ris1").await;
    client.subscribe("quiet:a");
    client.next().await;
    let subscribed = tokio::time::Instant::now();
    assert_eq!(client.next().await, "unsubscribed quiet:a Expired");
    let after = subscribed.elapsed();
    assert!(after >= Duration::from_secs(4) && after <= Duration::from_secs(6), "{after:?}");
    client.subscribe("quiet:a");
    assert!(client.next().await.starts_with("subscribed"));
}

#[tokio::test]
async fn a_revocation_ends_sessions_and_refuses_older_credentials() {
    let engine = trusting().build().unwrap();
    let mut by_user = connect(&engine, "ris1 iat=1000").await;
    let mut by_token = connect(&engine, "ris2 jti=t7 iat=1000").await;
    let mut by_group = connect(&engine, "ris3 groups=g iat=1000").await;
    by_group.next().await;
    let mut other = connect(&engine, "other groups=h iat=1000").await;
    other.next().await;
    let before = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_700);
    for whose in [Revoked::User("ris1".into()), Revoked::Token("t7".into()), Revoked::Group("g".into())] {
        assert_eq!(engine.revoke(Revocation::now(whose).before(before)).await.unwrap(), 1);
    }
    for client in [&mut by_user, &mut by_token, &mut by_group] {
        assert_eq!(client.next().await, "closed revoked");
    }
    for token in ["ris1 iat=1000", "ris1 iat=999", "ris2 jti=t7 iat=5000", "new groups=g iat=1000"] {
        let mut client = Client::open(&engine);
        client.send(Request::Connect(Connect { token: Some(token.to_owned()), ..Connect::default() }));
        assert_eq!(client.next().await, "refused Unauthorized: the credentials were revoked", "{token}");
    }
    for token in ["ris1 iat=1001", "ris2 jti=t8 iat=1000", "new groups=g iat=1001"] {
        connect(&engine, token).await;
    }
    engine.publish(&topic("group:h"), json("1")).await.unwrap();
    assert_eq!(other.next().await, "group:h 1:1");
}

#[tokio::test]
async fn a_session_that_came_when_the_clock_was_ahead_is_ended_by_a_revocation_of_the_present() {
    let engine = trusting().build().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut ahead = connect(&engine, &format!("ris1 iat={}", now + 3600)).await;
    let mut other = connect(&engine, &format!("ris2 iat={}", now + 3600)).await;
    let earlier = SystemTime::now() - Duration::from_secs(60);
    assert_eq!(engine.revoke(Revocation::now(Revoked::User("ris1".into())).before(earlier)).await.unwrap(), 0, "it means what was");
    assert_eq!(engine.revoke(Revocation::now(Revoked::User("ris1".into()))).await.unwrap(), 1);
    assert_eq!(ahead.next().await, "closed revoked");
    other.subscribe("quiet:a");
    assert!(other.next().await.starts_with("subscribed quiet:a"));
}

#[tokio::test]
async fn nothing_is_written_to_a_revoked_session_once_the_revocation_is_answered() {
    for round in 0..200_u32 {
        let engine = trusting().build().unwrap();
        let mut client = connect(&engine, "ris1 groups=g iat=1000").await;
        client.next().await;
        if round % 2 == 0 {
            client.set_capacity(Some(64));
        }
        let publishing = tokio::spawn({
            let engine = engine.clone();
            async move {
                for n in 0..50 {
                    engine.publish(&topic("group:g"), json(&n.to_string())).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        for _ in 0..round % 17 {
            tokio::task::yield_now().await;
        }
        assert_eq!(engine.revoke(Revocation::now(Revoked::User("ris1".into()))).await.unwrap(), 1);
        let writes = client.writes();
        publishing.await.unwrap();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.writes(), writes, "round {round}");
    }
}

#[tokio::test]
async fn credentials_that_are_looked_at_during_a_revocation_do_not_outlive_it() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let hook = gate.clone();
    let engine = open_engine()
        .on_connect(move |_| {
            let gate = hook.clone();
            async move {
                let identity = Identity::user("ris1").issued_at(SystemTime::UNIX_EPOCH);
                gate.acquire().await.unwrap().forget();
                Ok(identity)
            }
        })
        .build()
        .unwrap();
    let mut client = Client::open(&engine);
    client.send(Request::Connect(Connect::default()));
    tokio::task::yield_now().await;
    assert_eq!(engine.revoke(Revocation::now(Revoked::User("ris1".into()))).await.unwrap(), 0);
    gate.add_permits(1);
    let line = client.next().await;
    assert!(line.starts_with("refused Unauthorized") || line.starts_with("closed"), "{line}");
}

#[tokio::test]
async fn the_server_gives_a_session_another_identity() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 groups=a").await;
    client.next().await;
    let changed = engine.sessions(Target::user("ris1")).change_identity(Identity::user("lis1").group("b")).await.unwrap();
    assert_eq!(changed, 1);
    engine.publish(&topic("group:a"), json("1")).await.unwrap();
    engine.publish(&topic("group:b"), json("2")).await.unwrap();
    assert_eq!(client.take(3).await, ["subscribed group:b at 0", "identity lis1 left [\"group:a\"] joined [\"group:b\"]", "group:b 1:2"]);
}

#[tokio::test]
async fn a_capability_allows_what_the_namespace_does_not() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 caps=closed:room.*").await;
    for (name, allowed) in [("closed:room.1", true), ("closed:room.1.2", false), ("closed:other", false)] {
        client.subscribe(name);
        let line = client.next().await;
        assert_eq!(line.starts_with("subscribed"), allowed, "{line}");
        client.publish(name, "1");
        let lines = client.take(if allowed { 2 } else { 1 }).await;
        assert_eq!(lines.iter().any(|line| line.starts_with("published")), allowed, "{lines:?}");
    }
}

/// 200 random changes of user while everything is published to: nothing of the old identity after the acknowledgement, all of the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_user_under_load_leak_nothing_and_lose_nothing() {
    const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];
    let mut group = quiet(10_000);
    group.allow = Verbs::NONE;
    let engine = trusting().namespace("group", group).build().unwrap();
    let mut client = connect(&engine, "u0 groups=u0,all").await;
    client.take(2).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let publishing = tokio::spawn({
        let (engine, stop) = (engine.clone(), stop.clone());
        async move {
            let mut n = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for user in USERS.into_iter().chain(["all"]) {
                    engine.publish(&topic(&format!("group:{user}")), json(&n.to_string())).await.unwrap();
                }
                n += 1;
                tokio::task::yield_now().await;
            }
        }
    });
    let mut random = fastrand::Rng::with_seed(7);
    let (mut present, mut last, mut last_of_all) = ("u0", None::<u64>, None::<u64>);
    for change in 0..200 {
        let next = USERS[random.usize(0..4)];
        authenticate(&client, &format!("{next} groups={next},all"));
        let mut acknowledged = false;
        let mut heard = 0;
        while !acknowledged || heard < 5 {
            let line = client.next().await;
            if line.starts_with("identity") || line == "refreshed" {
                acknowledged = true;
                present = next;
                continue;
            }
            if let Some((_, offset)) = line.strip_prefix("subscribed group:").and_then(|rest| rest.split_once(" at ")) {
                last = Some(offset.parse().unwrap());
                continue;
            }
            let (name, rest) = line.strip_prefix("group:").unwrap_or_else(|| panic!("{line}")).split_once(' ').unwrap();
            let offset: u64 = rest.split_once(':').unwrap().0.parse().unwrap();
            if name == "all" {
                assert!(last_of_all.is_none_or(|last| offset == last + 1), "change {change}: {line} after {last_of_all:?} in group:all");
                last_of_all = Some(offset);
            } else if acknowledged {
                assert_eq!(name, present, "change {change}: a publication of another identity");
                assert!(last.is_none_or(|last| offset == last + 1), "change {change}: {line} after {last:?}");
                last = Some(offset);
                heard += 1;
            } else if name == next || name == present {
                last = Some(offset);
            }
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    publishing.await.unwrap();
}

#[tokio::test]
async fn a_url_may_name_a_topic_that_the_identity_brings_and_resume_it() {
    let engine = trusting().build().unwrap();
    let position = engine.publish(&topic("group:a"), json("1")).await.unwrap().position.unwrap();
    engine.publish(&topic("group:a"), json("2")).await.unwrap();
    let open = |token: &str| {
        let start = broker_core::Start::AtOnce {
            connect: Connect { token: Some(token.to_owned()), ..Connect::default() },
            subscriptions: vec![broker_core::Subscribe::new(topic("group:a")).since(broker_core::Since::Position(position))],
        };
        let client = Client::open_with(&engine, LineProtocol::default(), start);
        client.attach();
        client
    };
    let mut member = open("ris1 groups=a");
    member.connection().opened().await.unwrap();
    assert_eq!(member.take(3).await, ["connected ris1", "subscribed group:a at 2 recovered", "group:a 2:2"]);
    let refused = open("ris2").connection().opened().await.unwrap_err();
    assert_eq!(refused.kind, broker_core::RefusalKind::PermissionDenied);
}

#[tokio::test]
async fn what_the_server_orders_while_a_session_connects_is_done_when_it_has() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let snapshots = gate.clone();
    let engine = trusting()
        .with_settings(|settings| settings.shards = 1)
        .snapshot("group:slow", move |_| {
            let gate = snapshots.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(broker_core::Payload::json("1"))
            }
        })
        .build()
        .unwrap();
    let connecting = |token: &str| {
        let client = Client::open(&engine);
        client.send(Request::Connect(Connect { token: Some(token.to_owned()), ..Connect::default() }));
        client
    };
    let user = engine.sessions(Target::user("ris1"));
    let entering = async || {
        while user.count().await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    let mut client = connecting("ris1 groups=slow");
    entering().await;
    assert_eq!(user.unsubscribe(&topic("group:slow")).await.unwrap(), 1);
    assert_eq!(client.next().await, "connected ris1");
    drop(client);
    while user.count().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    let mut client = connecting("ris1 groups=slow");
    entering().await;
    let change = tokio::spawn({
        let user = user.clone();
        async move { user.change_identity(Identity::user("lis1").group("b")).await }
    });
    tokio::task::yield_now().await;
    gate.add_permits(9);
    assert_eq!(change.await.unwrap().unwrap(), 1);
    assert_eq!(
        client.take(5).await,
        [
            "connected ris1",
            "subscribed group:slow at 0",
            "snapshot group:slow 1",
            "subscribed group:b at 0",
            "identity lis1 left [\"group:slow\"] joined [\"group:b\"]"
        ]
    );
}

#[tokio::test]
async fn a_gap_in_a_topic_of_the_server_ends_a_connection_that_would_not_come_back_to_it() {
    let mut group = quiet(5);
    group.slow_consumer = broker_core::SlowConsumer::DropOldest;
    let engine = trusting()
        .namespace("group", group)
        .with_settings(|settings| {
            settings.backlog_max_bytes = 4096;
            settings.shards = 1;
        })
        .build()
        .unwrap();
    let protocol = LineProtocol { gap_ends: true, ..LineProtocol::default() };
    let mut client = Client::connect_as(&engine, protocol, Some("ris1 groups=a")).await;
    client.next().await;
    client.set_capacity(Some(0));
    for n in 0..200 {
        engine.publish(&topic("group:a"), json(&format!("\"{n:0>64}\""))).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.set_capacity(None);
    assert_eq!(until(&mut client, "closed").await.pop().as_deref(), Some("closed insufficient_state"));
}
