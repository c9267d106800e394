//! Centrifuge JSON: replies and pushes and the exact frames that they become.

use std::{sync::Arc, time::Duration};

use broker_core::{
    CloseReason, CommandId, Connected, Gap, GapReason, Payload, Position, Push, Refusal, RefusalKind, Reply, Resume, SessionId, Since,
    Subscribed, Tags, UnsubscribeReason,
};
use broker_protocol::CentrifugeJson;

use crate::support::{position, publication, push, reply, session, subscribed, topic};

#[track_caller]
fn check(answer: &Reply, expected: &str) {
    let frames = reply(&CentrifugeJson, &CommandId::Number(1), answer).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    assert_eq!(frames, format!("{expected}\n"));
    assert_eq!(reply(&CentrifugeJson, &CommandId::None, answer), "");
}

#[track_caller]
fn check_push(told: &Push, expected: &str) {
    assert_eq!(push(&CentrifugeJson, told), expected);
}

fn connected() -> Connected {
    Connected {
        session: SessionId::from_random(1),
        user: "u".into(),
        ttl: None,
        data: None,
        ping_interval: Duration::from_secs(25),
        subscriptions: Vec::new(),
    }
}

#[test]
fn connect_is_answered_with_session_and_ping() {
    check(
        &Reply::Connected(connected()),
        r#"{"id":1,"connect":{"client":"00000000-0000-4000-8000-000000000001","version":"broker VERSION","ping":25,"pong":true}}"#,
    );
    check(
        &Reply::Connected(Connected {
            ttl: Some(Duration::from_millis(90_900)),
            data: Some(Payload::json(r#"{"a":1}"#)),
            ping_interval: Duration::from_millis(200),
            ..connected()
        }),
        r#"{"id":1,"connect":{"client":"00000000-0000-4000-8000-000000000001","version":"broker VERSION","expires":true,"ttl":90,"data":{"a":1},"ping":1,"pong":true}}"#,
    );
    check(
        &Reply::Connected(Connected { ttl: Some(Duration::ZERO), ping_interval: Duration::ZERO, ..connected() }),
        r#"{"id":1,"connect":{"client":"00000000-0000-4000-8000-000000000001","version":"broker VERSION","expires":true,"ttl":1}}"#,
    );
}

#[test]
fn connect_tells_the_subscriptions_of_the_server_as_a_subscribe_is_answered() {
    let since = Since::Position(position("16@Bx3k"));
    let missed = vec![Arc::new(publication("tenant:acme/news", Payload::json("17"), Some("17@Bx3k")))];
    let subscriptions = vec![
        Subscribed { ttl: Some(Duration::from_secs(60)), data: Some(Payload::json("{}")), ..subscribed("user:a%20b") },
        Subscribed { topic: topic("tenant:acme/news"), missed, ..resumed("17@Bx3k", since, true) },
        Subscribed { topic: topic("c\"d"), snapshot: Some(Payload::text("s")), ..resumed("3@e", since, false) },
    ];
    check(
        &Reply::Connected(Connected { subscriptions, ping_interval: Duration::ZERO, ..connected() }),
        concat!(
            r#"{"id":1,"connect":{"client":"00000000-0000-4000-8000-000000000001","version":"broker VERSION","subs":{"#,
            r#""user:a%20b":{"expires":true,"ttl":60,"data":{}},"#,
            r#""news":{"recoverable":true,"epoch":"Bx3k","publications":[{"data":17,"offset":17}],"recovered":true,"offset":16,"#,
            r#""positioned":true,"was_recovering":true},"#,
            r#""c\"d":{"recoverable":true,"epoch":"e","offset":3,"positioned":true,"data":"s","was_recovering":true}}}}"#,
        ),
    );
}

#[test]
fn a_client_in_a_tenant_reads_local_names() {
    let inside = "tenant:acme/chat:1";
    let who = Arc::new(session(1, "ann"));
    for told in [
        Push::Publication(Arc::new(publication(inside, Payload::json("1"), None))),
        Push::Join { topic: topic(inside), who: who.clone() },
        Push::Leave { topic: topic(inside), who },
        Push::Unsubscribed { topic: topic(inside), reason: UnsubscribeReason::Server },
        Push::Gap { topic: topic(inside), gap: Gap { from: None, to: None, reason: GapReason::Epoch } },
        Push::Subscribed(subscribed(inside).into()),
    ] {
        let frame = push(&CentrifugeJson, &told);
        assert!(frame.starts_with(r#"{"push":{"channel":"chat:1","#) && !frame.contains("acme"), "{frame}");
    }
}

fn recoverable(at: &str) -> Subscribed {
    Subscribed { position: Some(position(at)), recoverable: true, ..subscribed("news") }
}

fn resumed(at: &str, since: Since, recovered: bool) -> Subscribed {
    Subscribed { resume: Some(Resume { since, recovered, gap: None }), ..recoverable(at) }
}

#[test]
fn subscribe_is_answered_with_the_position() {
    check(&Reply::Subscribed(subscribed("news").into()), r#"{"id":1,"subscribe":{}}"#);
    check(
        &Reply::Subscribed(recoverable("17@Bx3kAb9z").into()),
        r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"Bx3kAb9z","offset":17,"positioned":true}}"#,
    );
    check(
        &Reply::Subscribed(recoverable("0@Bx3kAb9z").into()),
        r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"Bx3kAb9z","positioned":true}}"#,
    );
}

#[test]
fn a_subscription_that_ends_says_when() {
    let told = |ttl: Duration| Reply::Subscribed(Subscribed { ttl: Some(ttl), ..recoverable("17@Bx3k") }.into());
    check(
        &told(Duration::from_millis(60_900)),
        r#"{"id":1,"subscribe":{"expires":true,"ttl":60,"recoverable":true,"epoch":"Bx3k","offset":17,"positioned":true}}"#,
    );
    check(
        &Reply::SubscriptionRefreshed { topic: topic("news"), ttl: Some(Duration::from_secs(60)) },
        r#"{"id":1,"sub_refresh":{"expires":true,"ttl":60}}"#,
    );
    check(&Reply::SubscriptionRefreshed { topic: topic("news"), ttl: None }, r#"{"id":1,"sub_refresh":{}}"#);
}

#[test]
fn a_recovered_subscription_gets_its_own_offset_back_and_what_was_missed() {
    let missed = vec![
        Arc::new(publication("news", Payload::json("1"), Some("16@e"))),
        Arc::new(publication("news", Payload::json("2"), Some("17@e"))),
    ];
    check(
        &Reply::Subscribed(Subscribed { missed, ..resumed("17@e", Since::Position(position("15@e")), true) }.into()),
        r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"e","publications":[{"data":1,"offset":16},{"data":2,"offset":17}],"recovered":true,"offset":15,"positioned":true,"was_recovering":true}}"#,
    );
    let missed = vec![Arc::new(publication("news", Payload::json("1"), Some("1@e")))];
    check(
        &Reply::Subscribed(Subscribed { missed, ..resumed("1@e", Since::Beginning, true) }.into()),
        r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"e","publications":[{"data":1,"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}"#,
    );
}

#[test]
fn a_failed_recovery_starts_at_the_top() {
    check(
        &Reply::Subscribed(resumed("17@e", Since::Position(position("3@f")), false).into()),
        r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"e","offset":17,"positioned":true,"was_recovering":true}}"#,
    );
}

#[test]
fn the_snapshot_is_the_data_of_the_answer() {
    let data = Some(Payload::json("{\"hook\":1}"));
    check(&Reply::Subscribed(Subscribed { data: data.clone(), ..subscribed("a") }.into()), r#"{"id":1,"subscribe":{"data":{"hook":1}}}"#);
    let snapshot = Some(Payload::json("{\"state\":1}"));
    check(&Reply::Subscribed(Subscribed { data, snapshot, ..subscribed("a") }.into()), r#"{"id":1,"subscribe":{"data":{"state":1}}}"#);
}

#[test]
fn the_other_answers_have_the_references_shape() {
    check(&Reply::Unsubscribed { topic: topic("a") }, r#"{"id":1,"unsubscribe":{}}"#);
    check(&Reply::Published { topic: topic("a"), position: Some(position("1@e")) }, r#"{"id":1,"publish":{}}"#);
    check(&Reply::Presence { topic: topic("a"), sessions: Vec::new() }, r#"{"id":1,"presence":{"presence":{}}}"#);
    let mut who = session(2, "ann");
    who.info = Some("{\n\"name\":\"Ann\"}".into());
    who.topic_info = Some("[]".into());
    check(
        &Reply::Presence { topic: topic("a"), sessions: vec![Arc::new(session(1, "")), Arc::new(who)] },
        r#"{"id":1,"presence":{"presence":{"00000000-0000-4000-8000-000000000001":{"user":"","client":"00000000-0000-4000-8000-000000000001"},"00000000-0000-4000-8000-000000000002":{"user":"ann","client":"00000000-0000-4000-8000-000000000002","conn_info":{ "name":"Ann"},"chan_info":[]}}}}"#,
    );
    check(
        &Reply::PresenceStats { topic: topic("a"), sessions: 0, users: 0 },
        r#"{"id":1,"presence_stats":{"num_clients":0,"num_users":0}}"#,
    );
    check(
        &Reply::History { topic: topic("a"), position: position("0@e"), publications: Vec::new() },
        r#"{"id":1,"history":{"publications":[],"epoch":"e","offset":0}}"#,
    );
    check(
        &Reply::History {
            topic: topic("a"),
            position: position("1@e"),
            publications: vec![Arc::new(publication("a", Payload::json("1"), Some("1@e")))],
        },
        r#"{"id":1,"history":{"publications":[{"data":1,"offset":1}],"epoch":"e","offset":1}}"#,
    );
    check(&refreshed(None), r#"{"id":1,"refresh":{"client":"00000000-0000-4000-8000-000000000001","version":"broker VERSION"}}"#);
    check(
        &refreshed(Some(Duration::from_secs(60))),
        r#"{"id":1,"refresh":{"client":"00000000-0000-4000-8000-000000000001","version":"broker VERSION","expires":true,"ttl":60}}"#,
    );
    let changed = Reply::Refreshed {
        session: SessionId::from_random(1),
        user: "u".into(),
        ttl: None,
        left: vec![topic("group:a")],
        joined: vec![topic("group:b")],
    };
    check(&changed, r#"{"id":1,"refresh":{"client":"00000000-0000-4000-8000-000000000001","version":"broker VERSION"}}"#);
    check(&Reply::CallResult(Payload::json("[1]")), r#"{"id":1,"rpc":{"data":[1]}}"#);
    check(&Reply::Pong { bare: false }, r#"{"id":1,"ping":{}}"#);
}

#[test]
fn a_refusal_is_an_error_with_its_hint() {
    check(
        &Reply::Refused(Refusal::permission_denied("subscribing to a is not allowed")),
        r#"{"id":1,"error":{"code":103,"message":"subscribing to a is not allowed"}}"#,
    );
    check(
        &Reply::Refused(Refusal::bad_request("publish.data is missing").hint("null is allowed").at(7).rule("none")),
        r#"{"id":1,"error":{"code":107,"message":"publish.data is missing - null is allowed"}}"#,
    );
    for kind in [RefusalKind::Unavailable, RefusalKind::TooManyRequests] {
        let code = broker_protocol::codes::refusal(kind).number;
        check(
            &Reply::Refused(Refusal::new(kind, "\"later\"")),
            &format!(r#"{{"id":1,"error":{{"code":{code},"message":"\"later\"","temporary":true}}}}"#),
        );
    }
    check(&Reply::Refused(Refusal::new(RefusalKind::Application(1500), "no")), r#"{"id":1,"error":{"code":1500,"message":"no"}}"#);
}

#[test]
fn publications_are_pushed_with_what_is_known_of_them() {
    let bare = publication("news", Payload::json(r#"{"a":1}"#), None);
    check_push(&Push::Publication(Arc::new(bare)), "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":{\"a\":1}}}}\n");

    // Raw line breaks are white space in JSON, and would end a frame here.
    let broken = publication("news", Payload::json("{\n\"a\":\r1}"), None);
    check_push(&Push::Publication(Arc::new(broken)), "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":{ \"a\": 1}}}}\n");

    let mut full = publication(r#"a"b\c"#, Payload::json("1"), Some("17@Bx3k"));
    full.publisher = Some(Arc::new(session(1, "ann")));
    full.tags = Some(Arc::new(Tags::from([("k\n".to_owned(), "v".to_owned()), ("l".to_owned(), "\"".to_owned())])));
    full.key = Some("o7".into());
    check_push(
        &Push::Publication(Arc::new(full)),
        "{\"push\":{\"channel\":\"a\\\"b\\\\c\",\"pub\":{\"data\":1,\"info\":{\"user\":\"ann\",\"client\":\"00000000-0000-4000-8000-000000000001\"},\
         \"offset\":17,\"tags\":{\"k\\n\":\"v\",\"l\":\"\\\"\",\"broker_key\":\"o7\"},\"key\":\"o7\"}}}\n",
    );
}

#[test]
fn only_the_first_publication_of_an_epoch_names_it() {
    let first = publication("news", Payload::json("1"), Some("1@Bx3k"));
    check_push(
        &Push::Publication(Arc::new(first)),
        "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":1,\"offset\":1,\"epoch\":\"Bx3k\"}}}\n",
    );
}

#[test]
fn text_and_bytes_become_json_strings() {
    let text = publication("a", Payload::text("line\n\"two\""), Some("2@e"));
    check_push(
        &Push::Publication(Arc::new(text)),
        "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":\"line\\n\\\"two\\\"\",\"offset\":2}}}\n",
    );
    let bytes = publication("a", Payload::binary(&b"\0\xff\x10"[..]), Some("3@e"));
    check_push(&Push::Publication(Arc::new(bytes)), "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":\"AP8Q\",\"offset\":3}}}\n");
}

#[test]
fn join_and_leave_say_who() {
    let who = Arc::new(session(1, "ann"));
    let info = "{\"info\":{\"user\":\"ann\",\"client\":\"00000000-0000-4000-8000-000000000001\"}}";
    check_push(&Push::Join { topic: topic("a"), who: who.clone() }, &format!("{{\"push\":{{\"channel\":\"a\",\"join\":{info}}}}}\n"));
    check_push(&Push::Leave { topic: topic("a"), who }, &format!("{{\"push\":{{\"channel\":\"a\",\"leave\":{info}}}}}\n"));
}

#[test]
fn ends_and_gaps_of_subscriptions_are_unsubscribes() {
    for (reason, told) in [
        (UnsubscribeReason::Server, r#"{"code":2000,"reason":"server unsubscribe"}"#),
        (UnsubscribeReason::InsufficientState, r#"{"code":2500,"reason":"insufficient state"}"#),
        (UnsubscribeReason::Expired, r#"{"code":2501,"reason":"subscription expired"}"#),
    ] {
        check_push(
            &Push::Unsubscribed { topic: topic("a"), reason },
            &format!("{{\"push\":{{\"channel\":\"a\",\"unsubscribe\":{told}}}}}\n"),
        );
    }
    let gap = Gap { from: Some(position("3@e")), to: None, reason: GapReason::SlowConsumer };
    check_push(
        &Push::Gap { topic: topic("a"), gap },
        "{\"push\":{\"channel\":\"a\",\"unsubscribe\":{\"code\":2500,\"reason\":\"insufficient state\"}}}\n",
    );
}

#[test]
fn subscriptions_of_the_server_are_pushed_with_what_was_missed_behind() {
    let missed = vec![Arc::new(publication("a", Payload::json("1"), Some("4@e")))];
    let since = Since::Position(Position { offset: 3, ..position("4@e") });
    check_push(
        &Push::Subscribed(
            Subscribed {
                topic: topic("a"),
                snapshot: Some(Payload::json("{}")),
                missed,
                ttl: Some(Duration::from_secs(9)),
                ..resumed("4@e", since, true)
            }
            .into(),
        ),
        "{\"push\":{\"channel\":\"a\",\"subscribe\":{\"recoverable\":true,\"epoch\":\"e\",\"offset\":4,\"positioned\":true,\"data\":{}}}}\n\
         {\"push\":{\"channel\":\"a\",\"pub\":{\"data\":1,\"offset\":4}}}\n",
    );
}

#[test]
fn messages_and_pings_are_pushed_and_the_rest_is_silent() {
    check_push(&Push::Message(Payload::json(r#"{"hi":1}"#)), "{\"push\":{\"message\":{\"data\":{\"hi\":1}}}}\n");
    check_push(&Push::Ping, "{}\n");
    check_push(&Push::Refreshed { ttl: Some(Duration::from_secs(30)) }, "{\"push\":{\"refresh\":{\"expires\":true,\"ttl\":30}}}\n");
    check_push(&Push::Refreshed { ttl: None }, "{\"push\":{\"refresh\":{}}}\n");
    check_push(&Push::Identity { user: "u".into(), left: vec![topic("a")], joined: vec![topic("b")] }, "");
    check_push(&Push::Expiring { within: Duration::from_secs(30) }, "");
    check_push(&Push::Refused(Refusal::bad_request("x")), "");
    check_push(&Push::Closing(CloseReason::NoPong), "");
}

fn refreshed(ttl: Option<Duration>) -> Reply {
    Reply::Refreshed { session: SessionId::from_random(1), user: "u".into(), ttl, left: Vec::new(), joined: Vec::new() }
}

#[test]
fn keys_and_removals_have_their_fields() {
    let mut row = publication("orders", Payload::json("7"), Some("8@e"));
    row.key = Some("o7".into());
    check_push(
        &Push::Publication(Arc::new(row.clone())),
        "{\"push\":{\"channel\":\"orders\",\"pub\":{\"data\":7,\"offset\":8,\"tags\":{\"broker_key\":\"o7\"},\"key\":\"o7\"}}}\n",
    );
    row.tags = Some(Arc::new([("broker_key".to_owned(), "forged".to_owned()), ("a".to_owned(), "b".to_owned())].into_iter().collect()));
    row.removed = true;
    row.data = Payload::json("");
    check_push(
        &Push::Publication(Arc::new(row)),
        "{\"push\":{\"channel\":\"orders\",\"pub\":{\"data\":null,\"offset\":8,\"tags\":{\"a\":\"b\",\"broker_key\":\"o7\",\"broker_removed\":\"true\"},\"key\":\"o7\",\"removed\":true}}}\n",
    );
}

/// A map stands where its answer ends; a stream would stand where it resumed, and move with what it missed.
#[test]
fn a_map_is_answered_with_its_rows_and_the_place_behind_them() {
    let row = |at: &str| Arc::new(publication("orders", Payload::json("7"), Some(at)));
    let map = || Subscribed { position: Some(position("0@e")), recoverable: true, keyed: true, ..subscribed("orders") };
    check(
        &Reply::Subscribed(Subscribed { missed: vec![row("3@e"), row("8@e")], ..map() }.into()),
        r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"e","publications":[{"data":7,"offset":3},{"data":7,"offset":8}],"offset":8,"positioned":true,"type":1}}"#,
    );
    let resume = Some(Resume { since: Since::Position(position("5@e")), recovered: true, gap: None });
    check(
        &Reply::Subscribed(Subscribed { position: Some(position("8@e")), resume, ..map() }.into()),
        r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"e","recovered":true,"offset":8,"positioned":true,"was_recovering":true,"type":1}}"#,
    );
}

/// The client's position moves with the rows, from a place where nothing is lost if it is cut between them.
#[test]
fn rows_come_with_the_answer_and_move_the_position() {
    let row = |at: &str| Arc::new(publication("orders", Payload::json("7"), Some(at)));
    check(
        &Reply::Subscribed(
            Subscribed { position: Some(position("0@e")), recoverable: true, missed: vec![row("3@e"), row("8@e")], ..subscribed("orders") }
                .into(),
        ),
        r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"e","publications":[{"data":7,"offset":3},{"data":7,"offset":8}],"positioned":true}}"#,
    );
}
