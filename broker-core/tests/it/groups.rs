//! Groups, and what the server does with sessions that it means: each once, also after they come back.

use std::time::Duration;

use broker_core::{ControlError, Except, ServerSubscription, Target, Topic, testing::Client};

use crate::{
    delivering::{json, topic},
    identity::{connect, trusting, until},
};

fn group(name: &str) -> Target {
    Target::group(name).unwrap()
}

#[tokio::test]
async fn a_set_is_sent_to_each_of_its_sessions_once() {
    let engine = trusting().build().unwrap();
    let mut both = connect(&engine, "ris1 groups=a,b").await;
    let mut only_a = connect(&engine, "ris2 groups=a").await;
    let mut only_b = connect(&engine, "ris3 groups=b").await;
    let mut nobody = connect(&engine, "ris4").await;
    both.take(2).await;
    only_a.next().await;
    only_b.next().await;
    let check = async |target: Target, sessions: usize| {
        let sent = engine.sessions(target).send(json("1")).await.unwrap();
        assert_eq!((sent.sessions, sent.position), (sessions, None));
    };
    check(Target::any([group("a"), group("b"), Target::user("ris1")]), 3).await;
    assert_eq!([both.next().await, only_a.next().await, only_b.next().await], ["group:a 1", "group:a 1", "group:b 1"]);
    check(Target::all([group("b"), group("a")]), 1).await;
    assert_eq!(both.next().await, "group:b 1");
    check(Target::any([group("a"), group("b")]).except([Target::user("ris2"), Target::all([group("a"), group("b")])]), 1).await;
    assert_eq!(only_b.next().await, "group:b 1");
    for client in [&mut both, &mut only_a, &mut only_b, &mut nobody] {
        assert_eq!(client.try_next(), None);
    }
    let refused = engine.sessions(Target::any([])).send(json("1")).await.unwrap_err();
    assert!(matches!(refused, ControlError::Refused(_)));
}

#[tokio::test]
async fn one_session_hears_its_own_topic() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1").await;
    let session = client.connection().session();
    engine.publish(&Topic::of_session(session), json("1")).await.unwrap();
    let sent = engine.sessions(Target::Session(session)).send(json("2")).await.unwrap();
    assert_eq!(sent.sessions, 1);
    assert_eq!(
        client.take(3).await,
        [format!("subscribed session:{session}"), format!("session:{session} 1"), format!("session:{session} 2")]
    );
}

#[tokio::test]
async fn a_user_stays_in_a_group_that_the_server_joined_it_to() {
    let engine = trusting().build().unwrap();
    let user = Target::user("ris1");
    let mut first = connect(&engine, "ris1").await;
    assert_eq!(engine.join_group("night", &user).await.unwrap(), 1);
    assert_eq!(first.next().await, "subscribed group:night at 0");
    let mut second = connect(&engine, "ris1").await;
    assert_eq!(second.next().await, "subscribed group:night at 0");
    let sent = engine.sessions(group("night")).send(json("1")).await.unwrap();
    assert_eq!((sent.sessions, sent.position.map(|position| position.offset)), (2, Some(1)));
    assert_eq!(engine.groups().await.unwrap().len(), 1);
    let members = engine.group_members(&topic("group:night")).await.unwrap();
    assert_eq!((members.len(), members[0].sessions.len()), (1, 2));
    assert_eq!(engine.leave_group("night", &user).await.unwrap(), 2);
    engine.publish(&topic("group:night"), json("2")).await.unwrap();
    assert_eq!(first.take(2).await, ["group:night 1:1", "unsubscribed group:night Server"]);
    let mut third = connect(&engine, "ris1").await;
    engine.publish(&topic("user:ris1"), json("3")).await.unwrap();
    assert_eq!(third.next().await, "user:ris1 3");
}

#[tokio::test]
async fn one_session_is_in_a_group_as_long_as_it_lasts() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1").await;
    let session = Target::Session(client.connection().session());
    assert_eq!(engine.join_group("a", &session).await.unwrap(), 1);
    drop(client);
    while engine.sessions(group("a")).count().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    let mut again = connect(&engine, "ris1").await;
    engine.publish(&topic("group:a"), json("1")).await.unwrap();
    engine.publish(&topic("user:ris1"), json("2")).await.unwrap();
    assert_eq!(again.next().await, "user:ris1 2");
}

#[tokio::test]
async fn the_server_subscribes_sends_away_and_lists() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1 groups=a").await;
    client.next().await;
    let mut stays = connect(&engine, "ris1").await;
    let user = engine.sessions(Target::user("ris1"));
    assert_eq!(user.subscribe(ServerSubscription::new(topic("quiet:x")), None).await.unwrap(), 2);
    engine.publish(&topic("quiet:x"), json("1")).await.unwrap();
    for client in [&mut client, &mut stays] {
        assert_eq!(client.take(2).await, ["subscribed quiet:x at 0", "quiet:x 1:1"]);
    }
    let reports = user.list(10).await.unwrap();
    let report = reports.iter().find(|report| report.session == client.connection().session()).unwrap();
    assert_eq!((report.user.as_str(), &*report.rule, &*report.protocol, report.groups.len()), ("ris1", "test token", "lines", 1));
    assert!(report.topics.contains(&topic("quiet:x")) && report.topics.contains(&topic("user:ris1")));
    assert_eq!(user.list(1).await.unwrap().len(), 1);
    assert_eq!(user.unsubscribe(&topic("quiet:x")).await.unwrap(), 2);
    assert_eq!(client.next().await, "unsubscribed quiet:x Server");
    let whitelist = vec![stays.connection().session()];
    assert_eq!(user.disconnect_except(4321, "moved", None, whitelist).await.unwrap(), 1);
    assert_eq!(client.next().await, "closed ordered");
    assert!(user.disconnect(1000, "no").await.is_err());
    assert_eq!(user.expire().await.unwrap(), 1);
    assert_eq!(stays.take(2).await, ["unsubscribed quiet:x Server", "closed credentials_expired"]);
}

#[tokio::test(start_paused = true)]
async fn the_server_moves_the_end_of_credentials() {
    let engine = trusting().build().unwrap();
    let mut client = connect(&engine, "ris1").await;
    let end = std::time::SystemTime::now() + Duration::from_secs(40);
    assert_eq!(engine.sessions(Target::user("ris1")).refresh(Some(end)).await.unwrap(), 1);
    assert!(client.next().await.starts_with("refreshed for"));
    let ordered = tokio::time::Instant::now();
    until(&mut client, "closed credentials_expired").await;
    assert!(ordered.elapsed() <= Duration::from_secs(41), "{:?}", ordered.elapsed());
}

/// U3: one accept reaches everybody of the role but the actor, once; also those who come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_of_a_thousand_sessions_hears_each_accept_once() {
    const SESSIONS: usize = 1_000;
    let engine = trusting().build().unwrap();
    let mut clients: Vec<Client> = Vec::with_capacity(SESSIONS);
    for n in 0..SESSIONS {
        let mut client = connect(&engine, &format!("ris{n} groups=ocs_ris")).await;
        client.next().await;
        clients.push(client);
    }
    let accept = json("\"accepted\"").except(Except::nobody().user("ris0"));
    for round in 1..=2_u64 {
        let sent = engine.sessions(group("ocs_ris")).send(accept.clone()).await.unwrap();
        assert_eq!((sent.sessions, sent.position.map(|position| position.offset)), (SESSIONS, Some(round)));
        let end = engine.sessions(group("ocs_ris")).send(json("\"end\"").skip_history()).await.unwrap();
        assert_eq!(end.sessions, SESSIONS);
        for (n, client) in clients.iter_mut().enumerate() {
            if n > 0 {
                assert_eq!(client.next().await, format!("group:ocs_ris {round}:\"accepted\""));
            }
            assert_eq!(client.next().await, "group:ocs_ris \"end\"", "ris{n}");
        }
        for (n, client) in clients.iter_mut().enumerate() {
            *client = connect(&engine, &format!("ris{n} groups=ocs_ris")).await;
            assert!(client.next().await.starts_with("subscribed group:ocs_ris"));
        }
        while engine.sessions(group("ocs_ris")).count().await.unwrap() > SESSIONS {
            tokio::task::yield_now().await;
        }
    }
}
