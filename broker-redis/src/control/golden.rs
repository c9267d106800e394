//! What version 1 sends, byte by byte: a node that was released reads and writes exactly this for ever.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use broker_core::{
    Act, Capability, ControlAnswer, ControlQuestion, Identity, NodeInfo, Payload, Publish, Revocation, Revoked, ServerSubscription,
    SessionId, SessionReport, Since, Target, Topic, TopicCount, Verbs, Version,
};
use bytes::Bytes;

use super::envelope::{self, Body, Head, Question};

/// `name hex` in each line.
const GOLDEN: &str = include_str!("golden_v1.txt");

fn head() -> Head {
    Head { node: "n1".into(), id: 0x0102_0304_0506_0708 }
}

fn topic(name: &str) -> Topic {
    name.parse().expect("a legal topic")
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn session() -> SessionId {
    SessionId::from_random(7)
}

fn questions() -> Vec<(&'static str, ControlQuestion)> {
    let tenant = || "acme".parse().expect("a legal tenant");
    let identity = Identity::user("ann")
        .info("{}")
        .expires_at(at(9))
        .group("ward")
        .subscription(ServerSubscription::new(topic("t:1")).topic_info("1").data(Payload::json("2")))
        .capability(Capability { topics: vec!["chat:*".parse().expect("a pattern")], allow: Verbs::ALL })
        .meta("3")
        .tenant(tenant())
        .token_id("jti")
        .issued_at(at(8))
        .data(Payload::text("hello"))
        .rule("hs256 token");
    let mut publish = Publish::new(Payload::binary(&b"\x00\xff"[..])).key("k").idempotency_key("i");
    publish.version = Some(Box::new(Version::new(3).epoch("e")));
    let everybody = Target::any([Target::user("ann"), Target::Topic(topic("group:ward"))]).except([Target::Session(session())]);
    let disconnect = Act::Disconnect {
        code: 4001,
        reason: "out".into(),
        reconnect_after: Some(Duration::from_millis(1500)),
        whitelist: vec![session()],
    };
    let subscribe = Act::Subscribe {
        subscription: ServerSubscription::new(topic("t:1")),
        since: Some(Since::Position("7@e1".parse().expect("a position"))),
    };
    let act = |act| ControlQuestion::Act(Target::User { user: "ann".into(), tenant: Some(tenant()) }, act);
    vec![
        ("info", ControlQuestion::Info),
        ("topics", ControlQuestion::Topics),
        ("groups", ControlQuestion::Groups),
        ("count", act(Act::Count)),
        ("send", ControlQuestion::Act(everybody, Act::Send(Arc::new(publish)))),
        ("subscribe", act(subscribe)),
        ("unsubscribe", act(Act::Unsubscribe(topic("t:1")))),
        ("disconnect", act(disconnect)),
        ("refresh", act(Act::Refresh { expires_at: Some(at(5)) })),
        ("expire", act(Act::Expire)),
        ("change_identity", act(Act::ChangeIdentity(Box::new(identity)))),
        ("revoke_user", ControlQuestion::Revoke(Revocation::now(Revoked::User("ann".into())).before(at(4)).tenant(Some(tenant())))),
        ("revoke_token", ControlQuestion::Revoke(Revocation::now(Revoked::Token("jti".into())).before(at(4)))),
        ("sessions", ControlQuestion::Sessions { target: Target::Session(session()), limit: 10 }),
    ]
}

/// Answers are read from what stands here: who writes one cannot make all of them outside of an engine.
fn answers() -> Vec<(&'static str, ControlAnswer)> {
    vec![
        ("done", ControlAnswer::Done { sessions: 3 }),
        ("topics_answer", ControlAnswer::Topics(vec![TopicCount::new(topic("t:1"), 2)])),
        ("groups_answer", ControlAnswer::Groups(vec![(topic("group:ward"), vec!["ann".into(), "bob".into()])])),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).expect("four bits");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn golden(name: &str) -> Vec<u8> {
    let line = GOLDEN.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let hex = line.unwrap_or_else(|| panic!("{name} is not in golden_v1.txt"));
    hex.as_bytes().chunks(2).map(|digits| u8::from_str_radix(std::str::from_utf8(digits).expect("ascii"), 16).expect("hex")).collect()
}

#[test]
fn what_is_written_is_what_version_1_wrote() {
    let to = |name: &str| (name == "sessions").then(|| vec!["n2".into()]);
    let questions = questions().into_iter().map(|(name, question)| {
        let question = Question { to: to(name), question };
        (name, envelope::question(&head(), &question).expect("it is written"))
    });
    let answers = answers().into_iter().map(|(name, answer)| (name, envelope::answer(&head(), answer).expect("it is written").remove(0)));
    let refusal = [("refusal", envelope::refusal(&head(), "no"))];
    let written: Vec<String> = questions.chain(answers).chain(refusal).map(|(name, bytes)| format!("{name} {}", hex(&bytes))).collect();
    let missing: Vec<&String> = written.iter().filter(|line| !GOLDEN.lines().any(|golden| golden == **line)).collect();
    assert!(missing.is_empty(), "version 1 wrote otherwise:\n{}", missing.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_version_1_wrote_is_read() {
    for (name, question) in questions() {
        let (from, body) = envelope::read(&golden(name)).expect(name);
        let Body::Question(read) = body else { panic!("{name} is a question") };
        assert_eq!((from, format!("{:?}", read.question)), (head(), format!("{question:?}")), "{name}");
    }
    for (name, answer) in answers() {
        let Ok((_, Body::Answer(0, 1, read))) = envelope::read(&golden(name)) else { panic!("{name} is an answer") };
        assert_eq!(format!("{read:?}"), format!("{answer:?}"), "{name}");
    }
    assert!(matches!(envelope::read(&golden("refusal")), Ok((_, Body::Refusal(why))) if &*why == "no"));
    let Ok((_, Body::Answer(0, 1, info))) = envelope::read(&golden("info_answer")) else { panic!("an answer") };
    let ControlAnswer::Info(NodeInfo { id, version, sessions, .. }) = *info else { panic!("an info") };
    assert_eq!((&*id, &*version, sessions), ("n1", "1.0.0", 4));
    let Ok((_, Body::Answer(0, 1, sessions))) = envelope::read(&golden("sessions_answer")) else { panic!("an answer") };
    let ControlAnswer::Sessions(reports) = *sessions else { panic!("sessions") };
    let [SessionReport { session: id, user, rule, transport, protocol, address, .. }] = &reports[..] else { panic!("one session") };
    let address = address.map(|address| address.to_string());
    assert_eq!((*id, user.as_str(), &**rule, &**transport, &**protocol), (session(), "ann", "hs256 token", "websocket", "plain"));
    assert_eq!(address.as_deref(), Some("127.0.0.1:80"));
}

#[test]
fn another_version_is_told_apart_from_nonsense() {
    let mut newer = golden("info");
    newer[0] = 2;
    let error = envelope::read(&newer).expect_err("another version");
    assert!(
        matches!(error, envelope::Unreadable::NotUnderstood { ref head, is_question: true, version: 2, .. } if *head == self::head()),
        "{error}"
    );
    let mut unknown = golden("refusal");
    unknown[1] = 9;
    assert!(matches!(envelope::read(&unknown), Err(envelope::Unreadable::NotUnderstood { is_question: false, version: 1, .. })));
    for len in 0..12 {
        assert_eq!(envelope::read(&golden("info")[..len]).err(), Some(envelope::Unreadable::Malformed));
    }
}

#[test]
fn long_answers_are_cut_into_parts_and_joined_again() {
    let users = |n: usize| (0..n).map(|n| format!("u{n}").as_str().into()).collect::<Vec<_>>();
    let groups = ControlAnswer::Groups(vec![(topic("group:a"), users(1_200)), (topic("group:b"), users(3))]);
    let topics = ControlAnswer::Topics((0..1_001).map(|n| TopicCount::new(topic(&format!("t:{n}")), n)).collect());
    for (answer, count) in [(groups, 3), (topics, 3), (ControlAnswer::Topics(Vec::new()), 1), (ControlAnswer::Groups(Vec::new()), 1)] {
        let text = format!("{answer:?}");
        let parts = envelope::answer(&head(), answer).expect("it is written");
        assert_eq!(parts.len(), count);
        let mut parts = parts.iter().map(|part: &Bytes| match envelope::read(part) {
            Ok((_, Body::Answer(_, _, part))) => *part,
            other => panic!("{other:?}"),
        });
        let mut whole = parts.next().expect("at least one");
        parts.for_each(|part| envelope::join(&mut whole, part));
        let joined = format!("{whole:?}").replace(")), (Topic", ")), (Topic");
        // A group that was cut stands there in its pieces.
        assert!(joined == text || joined.matches("group:a").count() == 3, "{joined}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = envelope::read(&bytes);
    }
}
