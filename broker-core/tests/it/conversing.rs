//! What a session answers: order of answers, mistakes, deadlines, hooks.

use std::time::Duration;

use broker_core::{
    Action, CloseReason, Connect, Grant, Identity, Payload, Recovery, Refusal, Request, Since, Subscribe,
    testing::{Client, LineProtocol},
};

use crate::delivering::{json, open_engine, quiet, topic};

#[tokio::test(start_paused = true)]
async fn a_client_that_never_connects_is_closed_after_5s() {
    let engine = open_engine().build().unwrap();
    let opened = tokio::time::Instant::now();
    let mut client = Client::open(&engine);
    assert_eq!(client.next().await, "closed never_connected");
    let after = opened.elapsed();
    assert!(after >= Duration::from_secs(5) && after < Duration::from_millis(5_200), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn the_time_that_the_application_takes_is_not_the_clients() {
    let engine = open_engine()
        .with_settings(|settings| settings.hook_timeout = Duration::from_secs(20))
        .on_connect(|_| async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(Identity::user("ann"))
        })
        .build()
        .unwrap();
    Client::connect_as(&engine, LineProtocol::default(), None).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_within_25s_and_closed_10s_later() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    let connected = tokio::time::Instant::now();
    assert_eq!(client.next().await, "ping");
    let first = connected.elapsed();
    assert!(first >= Duration::from_millis(12_500) && first <= Duration::from_millis(25_200), "{first:?}");
    client.connection().heard();
    let heard = tokio::time::Instant::now();
    assert_eq!(client.next().await, "ping");
    assert_eq!(heard.elapsed().as_secs(), 25);
    let pinged = tokio::time::Instant::now();
    assert_eq!(client.next().await, "closed no_pong");
    assert_eq!(pinged.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_listens_is_pinged_for_ever() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect_as(&engine, LineProtocol { only_listens: true, ..LineProtocol::default() }, None).await;
    for _ in 0..10 {
        assert_eq!(client.next().await, "ping");
    }
}

#[tokio::test]
async fn every_mistake_is_answered_and_the_session_lives() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::open(&engine);
    client.subscribe("a");
    assert!(client.next().await.starts_with("refused BadRequest: the first command must be connect"));
    client.send(Request::Connect(Connect::default()));
    assert_eq!(client.next().await, "connected ");
    client.send(Request::Connect(Connect::default()));
    assert!(client.next().await.starts_with("refused BadRequest"));
    client.send_all([
        Request::Subscribe(Subscribe::new(topic("plain:a"))),
        Request::Subscribe(Subscribe::new(topic("plain:a"))),
        Request::Unsubscribe { topic: topic("plain:b") },
        Request::Presence { topic: topic("plain:a") },
        Request::History { topic: topic("plain:a"), since: None, limit: None, reverse: false },
        Request::Call { method: "x".to_owned(), data: Payload::json("1") },
        Request::Message { data: Payload::json("1") },
        Request::Subscribe(Subscribe::new(topic("group:a"))),
        Request::Subscribe(Subscribe::new(topic("nowhere:a"))),
        Request::Mistake(Refusal::bad_request("no")),
        Request::Ping { bare: false },
    ]);
    let kinds = [
        "subscribed plain:a",
        "refused AlreadySubscribed",
        "unsubscribed plain:b",
        "refused NotAvailable: presence is off for plain:a",
        "refused NotAvailable: history is off for plain:a",
        "refused NotAvailable",
        "refused BadRequest",
        "refused PermissionDenied: subscribing to group:a is not allowed",
        "refused UnknownTopic: there is no namespace `nowhere` for nowhere:a",
        "refused BadRequest: no",
        "pong",
    ];
    // Answers about one topic keep their order, others may overtake a subscribe.
    let mut answers = client.take(kinds.len()).await;
    let at = |answers: &[String], kind: &str| answers.iter().position(|line| line.starts_with(kind));
    assert!(at(&answers, kinds[0]) < at(&answers, kinds[1]));
    for kind in kinds {
        let found = at(&answers, kind).unwrap_or_else(|| panic!("no {kind} in {answers:?}"));
        answers.remove(found);
    }
}

#[tokio::test]
async fn a_resume_is_told_how_it_went_also_where_no_history_is_kept() {
    let mut no_recovery = quiet(10);
    no_recovery.recovery = Recovery::Off;
    let engine = open_engine().namespace("off", no_recovery).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.resume("plain:a", Since::Beginning);
    assert_eq!(client.next().await, "subscribed plain:a not recovered");
    client.resume("off:a", Since::Beginning);
    assert_eq!(client.next().await, "subscribed off:a at 0 not recovered");
}

#[tokio::test]
async fn too_many_mistakes_in_a_minute_close() {
    let engine = open_engine().with_settings(|settings| settings.mistakes_per_minute = 3).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.send_all((0..4).map(|_| Request::Mistake(Refusal::bad_request("no"))));
    assert_eq!(client.take(4).await, ["refused BadRequest: no"; 4]);
    assert_eq!(client.next().await, "closed too_many_mistakes");
}

#[tokio::test]
async fn the_subscription_bound_is_told() {
    let engine = open_engine().with_settings(|settings| settings.subscriptions_max = 1).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("plain:a");
    client.subscribe("plain:b");
    let mut answers = client.take(2).await;
    answers.sort();
    assert_eq!(answers, ["refused LimitExceeded: a session may have 1 subscriptions", "subscribed plain:a"]);
}

#[tokio::test]
async fn hooks_say_who_a_client_is_and_what_it_may() {
    let engine = open_engine()
        .on_connect(|request| async move {
            match request.connect.token.as_deref() {
                Some("expired") => Err(Refusal::new(broker_core::RefusalKind::TokenExpired, "the token is past its end")),
                Some(name) if name != "bad" => Ok(Identity::user(name)),
                _ => Err(Refusal::unauthorized("the signature is wrong")),
            }
        })
        .on_subscribe(|request| async move {
            tokio::task::yield_now().await;
            if request.subscribe.topic.as_str() == "secret" { Err(Refusal::permission_denied("not for you")) } else { Ok(Grant::plain()) }
        })
        .on_publish(|mut request| async move {
            request.publish.data = Payload::json("\"changed\"");
            Ok(request.publish)
        })
        .on_rpc(|call| async move { Ok(Payload::json(format!("\"{} {}\"", call.method, call.subject.user))) })
        .on_message(|message| async move {
            Ok(vec![Action::Reply(message.data), Action::Subscribe(topic("plain:by-hook")), Action::Publish(topic("quiet:b"), json("7"))])
        })
        .build()
        .unwrap();
    let mut client = Client::connect_as(&engine, LineProtocol::default(), Some("ann")).await;
    client.subscribe("secret");
    client.subscribe("quiet:a");
    client.publish("quiet:a", "1");
    assert_eq!(client.next().await, "refused PermissionDenied: not for you");
    assert_eq!(client.next().await, "subscribed quiet:a at 0");
    assert_eq!(client.take(2).await, ["quiet:a 1:\"changed\"", "published quiet:a at 1"]);
    client.send(Request::Call { method: "who".to_owned(), data: Payload::json("1") });
    assert_eq!(client.next().await, "result \"who ann\"");
    client.send(Request::Message { data: Payload::json("{\"mine\":1}") });
    assert_eq!(client.take(2).await, ["message {\"mine\":1}", "subscribed plain:by-hook"]);

    let mut bad = Client::open(&engine);
    bad.send(Request::Connect(Connect { token: Some("bad".to_owned()), ..Connect::default() }));
    assert_eq!(bad.take(2).await, ["refused Unauthorized: the signature is wrong", "closed invalid_credentials"]);
    let mut late = Client::open(&engine);
    late.send(Request::Connect(Connect { token: Some("expired".to_owned()), ..Connect::default() }));
    assert_eq!(late.next().await, "refused TokenExpired: the token is past its end");
    late.send(Request::Connect(Connect { token: Some("fresh".to_owned()), ..Connect::default() }));
    assert_eq!(late.next().await, "connected fresh");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_or_hangs_costs_one_answer() {
    let engine = open_engine()
        .on_rpc(|call| async move {
            match call.method.as_str() {
                "panic" => panic!("planted"),
                "hang" => std::future::pending().await,
                _ => Ok(call.data),
            }
        })
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    for method in ["panic", "hang", "echo"] {
        client.send(Request::Call { method: method.to_owned(), data: Payload::json("1") });
    }
    let mut answers = client.take(3).await;
    answers.sort();
    assert!(answers[0].starts_with("refused Unavailable") && answers[1].starts_with("refused Unavailable"));
    assert_eq!(answers[2], "result 1");
    assert_eq!(engine.stats().panics.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_end_close_the_session() {
    let engine = open_engine()
        .on_connect(|_| async { Ok(Identity::user("ann").expires_at(std::time::SystemTime::now() + Duration::from_secs(60))) })
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    let mut line = client.next().await;
    while line == "ping" {
        client.connection().heard();
        line = client.next().await;
    }
    assert!(line.starts_with("expiring in 29.") || line.starts_with("expiring in 30"), "{line}");
    while line != "closed credentials_expired" {
        client.connection().heard();
        line = client.next().await;
    }
}

#[tokio::test]
async fn the_application_is_told_of_occupied_and_vacated_topics_in_order() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let vacated = tell.clone();
    let engine = open_engine()
        .on_occupied(move |topic| {
            let _ = tell.send(format!("occupied {topic}"));
            async {}
        })
        .on_vacated(move |topic| {
            let _ = vacated.send(format!("vacated {topic}"));
            async {}
        })
        .build()
        .unwrap();
    for _ in 0..3 {
        let mut client = Client::connect(&engine).await;
        client.subscribe("plain:a");
        client.next().await;
        assert_eq!(told.recv().await.unwrap(), "occupied plain:a");
        client.connection().close(CloseReason::ClientLeft { code: Some(1000) });
        assert_eq!(told.recv().await.unwrap(), "vacated plain:a");
    }
}
