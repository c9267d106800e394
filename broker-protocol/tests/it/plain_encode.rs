//! Plain: replies and pushes and the exact frames that they become, in both formats.

use std::{sync::Arc, time::Duration};

use broker_core::{
    CloseReason, CommandId, Connected, FrameWriter, Gap, GapReason, Payload, Protocol, Push, Refusal, RefusalKind, Reply, Resume,
    SessionId, Since, Subscribed, Tags, UnsubscribeReason,
};
use broker_protocol::{CentrifugeJson, Format, Plain};

use crate::support::{Lines, position, publication, push, reply, session, subscribed, topic};

const RAW: Plain = Plain { format: Format::Raw, notices: true, dev: false };
const ENVELOPE: Plain = Plain { format: Format::Envelope, ..RAW };
const QUIET_RAW: Plain = Plain { notices: false, ..RAW };
const QUIET_ENVELOPE: Plain = Plain { notices: false, ..ENVELOPE };
const DEV: Plain = Plain { dev: true, ..RAW };

const ONE: CommandId = CommandId::Number(1);

/// The answer is the same in every format, with and without notices.
#[track_caller]
fn check(answer: &Reply, expected: &str) {
    for plain in [RAW, ENVELOPE, QUIET_RAW, QUIET_ENVELOPE] {
        assert_eq!(reply(&plain, &ONE, answer), format!("{expected}\n"), "{plain:?}");
    }
}

#[track_caller]
fn check_push(told: &Push, raw: &str, envelope: &str, quiet_raw: &str, quiet_envelope: &str) {
    for (plain, expected) in [(RAW, raw), (ENVELOPE, envelope), (QUIET_RAW, quiet_raw), (QUIET_ENVELOPE, quiet_envelope)] {
        let expected = if expected.is_empty() { String::new() } else { format!("{expected}\n") };
        assert_eq!(push(&plain, told), expected, "{plain:?}");
    }
}

#[test]
fn ids_are_echoed_as_given() {
    let refused = Reply::Refused(Refusal::bad_request("no"));
    let verbatim = |id: &str| CommandId::Verbatim(id.into());
    for (id, told) in [
        (CommandId::None, ""),
        (verbatim(""), ""),
        (CommandId::Number(0), r#""id":0,"#),
        (verbatim("-1.50e3"), r#""id":-1.50e3,"#),
        (verbatim(r#""a\"\u00e9""#), r#""id":"a\"\u00e9","#),
    ] {
        assert_eq!(
            reply(&RAW, &id, &refused),
            format!("{{\"broker\":\"error\",{told}\"code\":107,\"error\":\"bad_request\",\"message\":\"no\"}}\n")
        );
    }
}

#[test]
fn connected_is_told_in_the_envelope_and_the_applications_greeting_stands_alone_in_raw() {
    let answer = Reply::Connected(Connected {
        session: SessionId::from_random(1),
        user: "ris1".into(),
        ttl: None,
        data: Some(Payload::json("{}")),
        ping_interval: Duration::from_secs(25),
        subscriptions: Vec::new(),
    });
    assert_eq!(
        reply(&ENVELOPE, &CommandId::None, &answer),
        "{\"broker\":\"connected\",\"session\":\"00000000-0000-4000-8000-000000000001\",\"user\":\"ris1\",\"data\":{}}\n"
    );
    for (plain, said) in [(RAW, "{}\n"), (QUIET_RAW, "{}\n"), (QUIET_ENVELOPE, "")] {
        assert_eq!(reply(&plain, &CommandId::None, &answer), said);
    }
}

/// A connection for which the server chose three topics.
fn entered() -> Reply {
    let since = Since::Position(position("17@Bx3k"));
    let missed = vec![Arc::new(publication("tenant:acme/group:b", Payload::json("18"), Some("18@Bx3k")))];
    let lost = Resume { since, recovered: false, gap: None };
    Reply::Connected(Connected {
        session: SessionId::from_random(1),
        user: "ris1".into(),
        ttl: None,
        data: None,
        ping_interval: Duration::from_secs(25),
        subscriptions: vec![
            Subscribed {
                position: Some(position("4@other")),
                resume: Some(lost),
                snapshot: Some(Payload::json("{}")),
                ..subscribed("group:a")
            },
            Subscribed {
                position: Some(position("18@Bx3k")),
                resume: Some(Resume { recovered: true, ..lost }),
                missed,
                ..subscribed("tenant:acme/group:b")
            },
            Subscribed { position: Some(position("0@e")), ..subscribed("user:ris1") },
        ],
    })
}

#[test]
fn topics_that_the_server_chose_follow_connected() {
    let connected = "{\"broker\":\"connected\",\"session\":\"00000000-0000-4000-8000-000000000001\",\"user\":\"ris1\"}\n\
                     {\"broker\":\"subscribed\",\"topic\":\"group:a\",\"position\":\"4@other\",\"recovered\":false,\"snapshot\":true}\n";
    let gap = "{\"broker\":\"gap\",\"topic\":\"group:a\",\"reason\":\"epoch\"}\n";
    let snapshot = "{\"broker\":\"snapshot\",\"topic\":\"group:a\",\"position\":\"4@other\",\"data\":{}}\n";
    let second = "{\"broker\":\"subscribed\",\"topic\":\"group:b\",\"position\":\"18@Bx3k\",\"recovered\":true}\n";
    let missed = "{\"broker\":\"publication\",\"topic\":\"group:b\",\"position\":\"18@Bx3k\",\"data\":18,\"time\":1763712000000}\n";
    let own = "{\"broker\":\"subscribed\",\"topic\":\"user:ris1\",\"position\":\"0@e\"}\n";
    assert_eq!(reply(&ENVELOPE, &CommandId::None, &entered()), format!("{connected}{gap}{snapshot}{second}{missed}{own}"));
    assert_eq!(reply(&QUIET_ENVELOPE, &CommandId::None, &entered()), format!("{snapshot}{missed}"));
    assert_eq!(reply(&RAW, &CommandId::None, &entered()), format!("{gap}{{}}\n18\n"));
    assert_eq!(reply(&QUIET_RAW, &CommandId::None, &entered()), "{}\n18\n");
}

#[test]
fn topics_of_user_and_session_come_without_a_word_unless_they_can_be_resumed() {
    let news = Subscribed { missed: vec![Arc::new(publication("user:u", Payload::json("1"), None))], ..subscribed("user:u") };
    let missed = r#"{"broker":"publication","topic":"user:u","data":1,"time":1763712000000}"#;
    check_push(&Push::Subscribed(news.into()), "1", missed, "1", missed);
    check_push(&Push::Subscribed(subscribed("session:s").into()), "", "", "", "");
    check_push(&Push::Subscribed(subscribed("tenant:acme/user:u").into()), "", "", "", "");
    let positioned = Subscribed { position: Some(position("3@e")), ..subscribed("user:u") };
    check_push(&Push::Subscribed(positioned.into()), "", r#"{"broker":"subscribed","topic":"user:u","position":"3@e"}"#, "", "");
    let told = r#"{"broker":"subscribed","topic":"group:a"}"#;
    check_push(&Push::Subscribed(subscribed("group:a").into()), "", told, "", "");
}

#[test]
fn a_change_of_identity_says_what_it_changed() {
    let (user, left, joined) = (|| "lis1".into(), || vec![topic("group:ris"), topic("tenant:acme/orders")], || vec![topic("group:lis")]);
    let lists = r#""user":"lis1","left":["group:ris","orders"],"joined":["group:lis"]}"#;
    check(
        &Reply::Refreshed { session: SessionId::from_random(1), user: user(), ttl: None, left: left(), joined: joined() },
        &format!(r#"{{"broker":"identity","id":1,{lists}"#),
    );
    let told = format!(r#"{{"broker":"identity",{lists}"#);
    check_push(&Push::Identity { user: user(), left: left(), joined: joined() }, &told, &told, "", "");
    assert!(RAW.changes_user_in_place() && !CentrifugeJson.changes_user_in_place());
}

#[test]
fn a_client_in_a_tenant_reads_local_names() {
    let inside = "tenant:acme/chat:1";
    let who = Arc::new(session(1, "ann"));
    let failed = Subscribed { topic: topic(inside), ..failed(None) };
    for told in [
        push(&ENVELOPE, &Push::Publication(Arc::new(publication(inside, Payload::json("1"), None)))),
        push(&ENVELOPE, &Push::Join { topic: topic(inside), who: who.clone() }),
        push(&ENVELOPE, &Push::Leave { topic: topic(inside), who }),
        push(&ENVELOPE, &Push::Unsubscribed { topic: topic(inside), reason: UnsubscribeReason::Server }),
        push(&ENVELOPE, &Push::Subscribed(Subscribed { missed: Vec::new(), ..failed }.into())),
        reply(&RAW, &ONE, &Reply::Subscribed(subscribed(inside).into())),
        reply(&RAW, &ONE, &Reply::Unsubscribed { topic: topic(inside) }),
        reply(&RAW, &ONE, &Reply::Published { topic: topic(inside), position: None }),
    ] {
        for frame in told.lines() {
            assert!(frame.contains(r#""topic":"chat:1""#) && !frame.contains("acme"), "{frame}");
        }
    }
}

#[test]
fn a_subscribe_command_is_answered_in_every_format() {
    check(&Reply::Subscribed(subscribed("orders").into()), r#"{"broker":"subscribed","id":1,"topic":"orders"}"#);
    let positioned = Subscribed { position: Some(position("17@Bx3k")), recoverable: true, ..subscribed("orders") };
    check(&Reply::Subscribed(positioned.clone().into()), r#"{"broker":"subscribed","id":1,"topic":"orders","position":"17@Bx3k"}"#);
    let since = Since::Position(position("17@Bx3k"));
    let resumed = Subscribed { resume: Some(Resume { since, recovered: true, gap: None }), ..positioned };
    check(&Reply::Subscribed(resumed.into()), r#"{"broker":"subscribed","id":1,"topic":"orders","position":"17@Bx3k","recovered":true}"#);
}

#[test]
fn a_subscription_of_the_url_is_told_in_the_envelope_only() {
    let answer = Reply::Subscribed(subscribed("orders").into());
    assert_eq!(reply(&ENVELOPE, &CommandId::None, &answer), "{\"broker\":\"subscribed\",\"topic\":\"orders\"}\n");
    for plain in [RAW, QUIET_RAW, QUIET_ENVELOPE] {
        assert_eq!(reply(&plain, &CommandId::None, &answer), "");
    }
}

/// A resume that failed, with the state instead of what was missed, and one publication since.
fn failed(gap: Option<Gap>) -> Subscribed {
    Subscribed {
        position: Some(position("24@Bx3k")),
        recoverable: true,
        resume: Some(Resume { since: Since::Position(position("17@Bx3k")), recovered: false, gap }),
        snapshot: Some(Payload::json(r#"{"state":1}"#)),
        missed: vec![Arc::new(publication("orders", Payload::json("24"), Some("24@Bx3k")))],
        ..subscribed("orders")
    }
}

#[test]
fn after_subscribed_come_the_gap_the_snapshot_and_what_was_missed() {
    let gap = Gap { from: Some(position("18@Bx3k")), to: Some(position("20@Bx3k")), reason: GapReason::Trimmed };
    let answer = Reply::Subscribed(failed(Some(gap)).into());
    let told = "{\"broker\":\"subscribed\",\"id\":1,\"topic\":\"orders\",\"position\":\"24@Bx3k\",\"recovered\":false,\"snapshot\":true}\n";
    let gap = "{\"broker\":\"gap\",\"topic\":\"orders\",\"from\":\"18@Bx3k\",\"to\":\"20@Bx3k\",\"reason\":\"trimmed\"}\n";
    let raw = "{\"state\":1}\n24\n";
    let envelope = "{\"broker\":\"snapshot\",\"topic\":\"orders\",\"position\":\"23@Bx3k\",\"data\":{\"state\":1}}\n\
                    {\"broker\":\"publication\",\"topic\":\"orders\",\"position\":\"24@Bx3k\",\"data\":24,\"time\":1763712000000}\n";
    assert_eq!(reply(&RAW, &ONE, &answer), format!("{told}{gap}{raw}"));
    assert_eq!(reply(&ENVELOPE, &ONE, &answer), format!("{told}{gap}{envelope}"));
    assert_eq!(reply(&QUIET_RAW, &ONE, &answer), format!("{told}{raw}"));
    assert_eq!(reply(&QUIET_ENVELOPE, &ONE, &answer), format!("{told}{envelope}"));
    assert_eq!(reply(&RAW, &CommandId::None, &answer), format!("{gap}{raw}"));
    assert_eq!(reply(&QUIET_RAW, &CommandId::None, &answer), raw);
    assert_eq!(
        push(&RAW, &Push::Subscribed(failed(None).into())),
        format!("{{\"broker\":\"gap\",\"topic\":\"orders\",\"reason\":\"trimmed\"}}\n{raw}")
    );
}

#[test]
fn a_failed_resume_always_says_why() {
    let reason = |since: Since| {
        let subscribed =
            Subscribed { resume: Some(Resume { since, recovered: false, gap: None }), snapshot: None, missed: Vec::new(), ..failed(None) };
        reply(&RAW, &CommandId::None, &Reply::Subscribed(subscribed.into()))
    };
    let told = |word: &str| format!("{{\"broker\":\"gap\",\"topic\":\"orders\",\"reason\":\"{word}\"}}\n");
    assert_eq!(reason(Since::Position(position("1@Bx3k"))), told("trimmed"));
    assert_eq!(reason(Since::Beginning), told("trimmed"));
    assert_eq!(reason(Since::Position(position("1@other"))), told("epoch"));
}

#[test]
fn the_other_answers_are_ok_with_their_results() {
    check(
        &Reply::Unsubscribed { topic: topic("orders") },
        r#"{"broker":"unsubscribed","id":1,"topic":"orders","code":2000,"reason":"client unsubscribe"}"#,
    );
    check(&Reply::Published { topic: topic("chat:1"), position: None }, r#"{"broker":"ok","id":1,"topic":"chat:1"}"#);
    check(
        &Reply::Published { topic: topic("chat:1"), position: Some(position("18@e")) },
        r#"{"broker":"ok","id":1,"topic":"chat:1","position":"18@e"}"#,
    );
    let mut keyed = publication("a", Payload::text("hi"), Some("2@e"));
    keyed.key = Some("o7".into());
    check(
        &Reply::History {
            topic: topic("a"),
            position: position("2@e"),
            publications: vec![Arc::new(publication("a", Payload::json("1"), Some("1@e"))), Arc::new(keyed)],
        },
        r#"{"broker":"ok","id":1,"publications":[{"position":"1@e","data":1,"time":1763712000000},{"position":"2@e","data":"hi","key":"o7","time":1763712000000}],"position":"2@e"}"#,
    );
    let mut who = session(1, "ann");
    who.info = Some(r#"{"name":"Ann"}"#.into());
    check(
        &Reply::Presence { topic: topic("a"), sessions: vec![Arc::new(who)] },
        r#"{"broker":"ok","id":1,"presence":{"00000000-0000-4000-8000-000000000001":{"user":"ann","client":"00000000-0000-4000-8000-000000000001","conn_info":{"name":"Ann"}}}}"#,
    );
    check(&Reply::PresenceStats { topic: topic("a"), sessions: 3, users: 2 }, r#"{"broker":"ok","id":1,"num_clients":3,"num_users":2}"#);
    check(
        &Reply::Refreshed { session: SessionId::from_random(1), user: "ann".into(), ttl: None, left: Vec::new(), joined: Vec::new() },
        r#"{"broker":"identity","id":1,"user":"ann","left":[],"joined":[]}"#,
    );
    check(&Reply::CallResult(Payload::json("[3]")), r#"{"broker":"ok","id":1,"data":[3]}"#);
    check(&Reply::CallResult(Payload::binary(&b"\0"[..])), r#"{"broker":"ok","id":1,"b64data":"AA=="}"#);
    check(&Reply::Pong { bare: true }, "pong");
    check(&Reply::Pong { bare: false }, r#"{"broker":"pong","id":1}"#);
}

#[test]
fn errors_carry_what_helps() {
    let refusal = Refusal::permission_denied("subscribing to orders:7 is not allowed")
        .at(12)
        .hint("ask for orders:1")
        .retry_after(Duration::from_millis(500))
        .rule("namespaces.orders.allow lacks \"sub\"");
    let frame = |hint: &str| {
        format!(
            r#"{{"broker":"error","id":1,"code":103,"error":"permission_denied","message":"subscribing to orders:7 is not allowed","at":12,"hint":"{hint}","retry_after_ms":500}}"#
        )
    };
    check(&Reply::Refused(refusal.clone()), &frame("ask for orders:1"));
    assert_eq!(
        reply(&DEV, &ONE, &Reply::Refused(refusal)),
        format!("{}\n", frame(r#"ask for orders:1; namespaces.orders.allow lacks \"sub\""#))
    );
    let refusal = Refusal::new(RefusalKind::UnknownTopic, "no such namespace").rule("add [namespaces.x]");
    check(
        &Reply::Refused(refusal.clone()),
        r#"{"broker":"error","id":1,"code":102,"error":"unknown_topic","message":"no such namespace"}"#,
    );
    assert_eq!(
        reply(&DEV, &ONE, &Reply::Refused(refusal)),
        "{\"broker\":\"error\",\"id\":1,\"code\":102,\"error\":\"unknown_topic\",\"message\":\"no such namespace\",\"hint\":\"add [namespaces.x]\"}\n"
    );
}

#[test]
fn publications_are_raw_or_in_an_envelope() {
    let mut full = publication("orders", Payload::json(r#"{"a": 1}"#), Some("17@Bx3k"));
    full.key = Some("o7".into());
    full.tags = Some(Arc::new(Tags::from([("region".to_owned(), "eu".to_owned())])));
    let envelope = r#"{"broker":"publication","topic":"orders","position":"17@Bx3k","data":{"a": 1},"key":"o7","tags":{"region":"eu"},"time":1763712000000}"#;
    let raw = r#"{"a": 1}"#;
    check_push(&Push::Publication(Arc::new(full)), raw, envelope, raw, envelope);

    let lines = Push::Publication(Arc::new(publication("a", Payload::json("[1,\n2]"), None)));
    let envelope = r#"{"broker":"publication","topic":"a","data":[1, 2],"time":1763712000000}"#;
    check_push(&lines, "[1,\n2]", envelope, "[1,\n2]", envelope);

    let text = Push::Publication(Arc::new(publication("a", Payload::text("say \"hi\""), None)));
    let envelope = r#"{"broker":"publication","topic":"a","data":"say \"hi\"","time":1763712000000}"#;
    check_push(&text, "say \"hi\"", envelope, "say \"hi\"", envelope);

    let bytes = Push::Publication(Arc::new(publication("a", Payload::binary(&b"abc"[..]), None)));
    let envelope = r#"{"broker":"publication","topic":"a","b64data":"YWJj","time":1763712000000}"#;
    check_push(&bytes, "binary:abc", envelope, "binary:abc", envelope);
}

#[test]
fn a_poisoned_publication_is_sent_as_bytes_and_moves_the_position() {
    let poison = Arc::new(publication("a", Payload::json(&b"\"\xc3"[..]), Some("2@e")));
    let mut out = Vec::new();
    RAW.encode_push(&Push::Publication(poison.clone()), &mut FrameWriter::new(&Lines, &mut out));
    assert_eq!(out, b"binary:\"\xc3\n");
    assert_eq!(
        push(&ENVELOPE, &Push::Publication(poison.clone())),
        "{\"broker\":\"publication\",\"topic\":\"a\",\"position\":\"2@e\",\"b64data\":\"IsM=\",\"time\":1763712000000}\n"
    );
    assert_eq!(
        push(&CentrifugeJson, &Push::Publication(poison)),
        "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":\"IsM=\",\"offset\":2}}}\n"
    );
}

#[test]
fn messages_of_the_application_are_always_as_they_are() {
    let text = r#"{"type":"hi"}"#;
    check_push(&Push::Message(Payload::json(text)), text, text, text, text);
}

#[test]
fn the_ping_is_the_transports_own() {
    check_push(&Push::Ping, "(ping)", "(ping)", "(ping)", "(ping)");
}

#[test]
fn join_and_leave_are_told_in_the_envelope_only() {
    let who = Arc::new(session(1, "ris1"));
    for (told, word) in [
        (Push::Join { topic: topic("chat:1"), who: who.clone() }, "join"),
        (Push::Leave { topic: topic("chat:1"), who: who.clone() }, "leave"),
    ] {
        let envelope = format!(r#"{{"broker":"{word}","topic":"chat:1","user":"ris1","session":"00000000-0000-4000-8000-000000000001"}}"#);
        check_push(&told, "", &envelope, "", "");
    }
}

#[test]
fn notices_are_told_unless_they_are_off() {
    let gap = Gap { from: Some(position("18@e")), to: Some(position("24@e")), reason: GapReason::SlowConsumer };
    for (told, frame) in [
        (
            Push::Gap { topic: topic("orders"), gap },
            r#"{"broker":"gap","topic":"orders","from":"18@e","to":"24@e","reason":"slow_consumer"}"#,
        ),
        (
            Push::Unsubscribed { topic: topic("orders"), reason: UnsubscribeReason::Server },
            r#"{"broker":"unsubscribed","topic":"orders","code":2000,"reason":"server unsubscribe"}"#,
        ),
        (Push::Expiring { within: Duration::from_secs(30) }, r#"{"broker":"expiring","in_ms":30000}"#),
        (
            Push::Refused(Refusal::bad_request("no handler takes messages")),
            r#"{"broker":"error","code":107,"error":"bad_request","message":"no handler takes messages"}"#,
        ),
        (
            Push::Closing(CloseReason::Shutdown { reconnect_after: Some(Duration::from_millis(1200)) }),
            r#"{"broker":"closing","code":3001,"reason":"shutdown","reconnect_after_ms":1200}"#,
        ),
        (
            Push::Closing(CloseReason::Ordered { code: 4000, reason: "moved".into(), reconnect_after: Some(Duration::from_millis(1200)) }),
            r#"{"broker":"closing","code":4000,"reason":"moved","reconnect_after_ms":1200}"#,
        ),
        (Push::Closing(CloseReason::NoPong), r#"{"broker":"closing","code":3012,"reason":"no pong"}"#),
    ] {
        check_push(&told, frame, frame, "", "");
    }
}

#[test]
fn another_end_of_the_credentials_is_told_by_the_notice_ahead_of_it() {
    check_push(&Push::Refreshed { ttl: Some(Duration::from_secs(30)) }, "", "", "", "");
    check(&Reply::SubscriptionRefreshed { topic: topic("a"), ttl: None }, r#"{"broker":"ok","id":1}"#);
}

#[test]
fn whoever_left_is_told_nothing() {
    check_push(&Push::Closing(CloseReason::ClientLeft { code: Some(1000) }), "", "", "", "");
    check_push(&Push::Closing(CloseReason::TransportBroke("reset".into())), "", "", "", "");
}

#[test]
fn a_refused_opening_says_so_before_it_closes() {
    let refusal = Refusal::permission_denied("subscribing to a is not allowed");
    let frame = r#"{"broker":"error","code":103,"error":"permission_denied","message":"subscribing to a is not allowed"}"#;
    check_push(&Push::Closing(CloseReason::Refused(Box::new(refusal))), frame, frame, frame, frame);
}

#[test]
fn connections_with_and_without_notices_share_no_bytes_where_joins_are_told() {
    let encoding = |format, notices| Plain { format, notices, dev: false }.encoding();
    assert_ne!(encoding(Format::Envelope, true), encoding(Format::Envelope, false));
    assert_eq!(encoding(Format::Raw, true), encoding(Format::Raw, false));
}

#[test]
fn a_removal_names_its_key_unless_its_data_says_it() {
    let mut removal = publication("orders", Payload::json(""), Some("9@e"));
    removal.key = Some("o7".into());
    removal.removed = true;
    let raw = r#"{"broker":"removed","topic":"orders","key":"o7"}"#;
    let envelope = r#"{"broker":"publication","topic":"orders","position":"9@e","key":"o7","removed":true,"time":1763712000000}"#;
    check_push(&Push::Publication(Arc::new(removal.clone())), raw, envelope, "", envelope);
    removal.data = Payload::json(r#"{"gone":"o7"}"#);
    let raw = r#"{"gone":"o7"}"#;
    let envelope =
        r#"{"broker":"publication","topic":"orders","position":"9@e","data":{"gone":"o7"},"key":"o7","removed":true,"time":1763712000000}"#;
    check_push(&Push::Publication(Arc::new(removal)), raw, envelope, raw, envelope);
}
