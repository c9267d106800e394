//! Plain as server-sent events: pushes and the exact lines that they become. Ids over several topics are written by the transport.

use std::{sync::Arc, time::Duration};

use broker_core::{
    CloseReason, CommandId, Connected, FrameWriter, Gap, GapReason, Inbound, Payload, Protocol, Push, Refusal, Reply, Resume, SessionId,
    Since, Subscribed, UnsubscribeReason,
};
use broker_protocol::{Format, Plain, Record, RecordKind, Sse, SseFraming, TopicKey};
use bytes::Bytes;

use crate::support::{decode, position, publication, subscribed, topic};

const RAW: Sse = Sse { plain: Plain { format: Format::Raw, notices: true, dev: false } };
const ENVELOPE: Sse = Sse { plain: Plain { format: Format::Envelope, notices: true, dev: false } };
const QUIET: Sse = Sse { plain: Plain { format: Format::Raw, notices: false, dev: false } };

#[test]
fn a_payload_is_the_default_event_with_its_position_as_id() {
    check(RAW, &published(Payload::json(r#"{"a":1}"#)), "id: 17@Bx3k\ndata: {\"a\":1}\n\n");
    check(RAW, &published(Payload::text("a\nb\n")), "id: 17@Bx3k\ndata: a\ndata: b\ndata: \n\n");
    check(RAW, &published(Payload::text("")), "id: 17@Bx3k\ndata: \n\n");
    check(RAW, &published(Payload::json("[1,\r\n2]")), "id: 17@Bx3k\ndata: [1,\ndata: 2]\n\n");
}

#[test]
fn the_applications_greeting_is_the_first_event_in_raw() {
    let connected = Reply::Connected(Connected {
        session: SessionId::from_random(1),
        user: "".into(),
        ttl: None,
        data: Some(Payload::json(r#"{"type":"connection"}"#)),
        ping_interval: Duration::from_secs(25),
        subscriptions: Vec::new(),
    });
    let written = |sse: Sse| {
        let mut records = Vec::new();
        sse.encode_reply(&CommandId::None, &connected, &mut FrameWriter::new(&SseFraming, &mut records));
        String::from_utf8_lossy(&records).into_owned()
    };
    assert!(written(RAW).contains("data: {\"type\":\"connection\"}"), "{}", written(RAW));
    assert!(!written(RAW).contains("event: broker"), "{}", written(RAW));
    assert!(written(ENVELOPE).contains("event: broker"), "{}", written(ENVELOPE));
}

#[test]
fn what_lines_cannot_carry_comes_in_the_envelope() {
    for (payload, data) in [
        (Payload::text("a\r\nb"), r#""data":"a\r\nb""#),
        (Payload::binary(&b"\0\xff"[..]), r#""b64data":"AP8=""#),
        (Payload::json(&b"\xff"[..]), r#""b64data":"/w==""#),
    ] {
        let events = text(RAW, &published(payload));
        let expected = format!(r#"data: {{"broker":"publication","topic":"news","position":"17@Bx3k",{data},"#);
        assert!(events.contains(&expected), "{events}");
    }
}

#[test]
fn what_the_broker_says_has_its_own_event() {
    let gap = Gap { from: None, to: Some(position("24@Bx3k")), reason: GapReason::SlowConsumer };
    let gap = Push::Gap { topic: topic("news"), gap };
    let said = r#"{"broker":"gap","topic":"news","to":"24@Bx3k","reason":"slow_consumer"}"#;
    check(RAW, &gap, &format!("id: 24@Bx3k\nevent: broker\ndata: {said}\n\n"));
    check(QUIET, &gap, "");
    check(RAW, &Push::Expiring { within: Duration::from_secs(30) }, "event: broker\ndata: {\"broker\":\"expiring\",\"in_ms\":30000}\n\n");
    check(RAW, &Push::Ping, ":\n\n");
    let shutdown = Push::Closing(CloseReason::Shutdown { reconnect_after: Some(Duration::from_millis(1_200)) });
    let said = r#"{"broker":"closing","code":3001,"reason":"shutdown","reconnect_after_ms":1200}"#;
    check(RAW, &shutdown, &format!("retry: 1200\nevent: broker\ndata: {said}\n\n"));
    check(QUIET, &shutdown, "retry: 1200\n\n");
    check(RAW, &Push::Closing(CloseReason::TransportBroke("x".into())), "");
    let refused = text(RAW, &Push::Refused(Refusal::bad_request("no")));
    assert!(refused.starts_with("event: broker\ndata: {\"broker\":\"error\""), "{refused}");
}

#[test]
fn a_subscription_is_marked_and_a_failed_resume_moves_the_position_with_its_gap() {
    let mut live = subscribed("news");
    live.position = Some(position("17@Bx3k"));
    let records = records(RAW, &Push::Subscribed(Box::new(live.clone())));
    let [mark] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((mark.kind, mark.topic, mark.position), (RecordKind::Mark, Some(TopicKey::of("news")), live.position));

    let gap = Gap { from: None, to: Some(position("17@Bx3k")), reason: GapReason::Unreadable };
    live.resume = Some(Resume { since: Since::Unreadable, recovered: false, gap: Some(gap) });
    let all = self::records(ENVELOPE, &Push::Subscribed(Box::new(live.clone())));
    let kinds: Vec<_> = all.iter().map(|record| (record.kind, record.position)).collect();
    assert_eq!(kinds, [(RecordKind::Event, None), (RecordKind::Event, live.position), (RecordKind::Mark, live.position)]);

    live.missed = vec![Arc::new(publication("news", Payload::json("1"), Some("15@Bx3k")))];
    let all = self::records(QUIET, &Push::Subscribed(Box::new(live.clone())));
    let at: Vec<_> = all.iter().map(|record| record.position.unwrap().to_string()).collect();
    assert_eq!(at, ["14@Bx3k", "15@Bx3k", "17@Bx3k"]);
}

#[test]
fn whoever_is_cut_before_the_snapshot_comes_back_with_the_position_from_before() {
    let mut live = subscribed("news");
    live.position = Some(position("17@Bx3k"));
    live.snapshot = Some(Payload::json(r#"{"state":1}"#));
    let gap = Gap { from: None, to: Some(position("17@Bx3k")), reason: GapReason::Trimmed };
    live.resume = Some(Resume { since: Since::Beginning, recovered: false, gap: Some(gap) });
    let kinds = |live: &Subscribed| -> Vec<_> {
        records(RAW, &Push::Subscribed(Box::new(live.clone()))).iter().map(|record| (record.kind, record.position)).collect()
    };
    let top = live.position;
    assert_eq!(kinds(&live), [(RecordKind::Event, None), (RecordKind::Event, top), (RecordKind::Mark, top)]);
    live.missed = vec![Arc::new(publication("news", Payload::json("1"), Some("17@Bx3k")))];
    let state = Some(position("16@Bx3k"));
    assert_eq!(
        kinds(&live),
        [
            (RecordKind::Event, None),
            (RecordKind::Event, state),
            (RecordKind::Mark, state),
            (RecordKind::Event, top),
            (RecordKind::Mark, top)
        ]
    );
}

#[test]
fn topics_that_end_are_forgotten() {
    let ended = records(RAW, &Push::Unsubscribed { topic: topic("news"), reason: UnsubscribeReason::Server });
    assert_eq!(ended.last().map(|record| (record.kind, record.topic)), Some((RecordKind::Forget, Some(TopicKey::of("news")))));
}

#[test]
fn nothing_is_read() {
    assert!(decode(&RAW, Inbound::Text(r#"{"broker":"ping"}"#)).is_empty() && !RAW.answers_pings());
    let mut out = Vec::new();
    RAW.encode_reply(&CommandId::None, &Reply::Subscribed(Box::new(subscribed("news"))), &mut FrameWriter::new(&SseFraming, &mut out));
    assert!(!out.is_empty());
}

fn published(data: Payload) -> Push {
    Push::Publication(Arc::new(publication("news", data, Some("17@Bx3k"))))
}

fn records(sse: Sse, push: &Push) -> Vec<Record> {
    let mut out = Vec::new();
    sse.encode_push(push, &mut FrameWriter::new(&SseFraming, &mut out));
    let mut bytes = Bytes::from(out);
    std::iter::from_fn(|| Record::split_from(&mut bytes)).collect()
}

fn text(sse: Sse, push: &Push) -> String {
    records(sse, push).iter().map(|record| String::from_utf8(record.body.to_vec()).unwrap()).collect()
}

#[track_caller]
fn check(sse: Sse, push: &Push, expected: &str) {
    assert_eq!(text(sse, push), expected);
}

#[test]
fn a_removal_without_data_is_said_by_the_broker() {
    let mut removal = publication("news", Payload::json(""), Some("9@Bx3k"));
    removal.key = Some("o7".into());
    removal.removed = true;
    let push = Push::Publication(Arc::new(removal));
    check(RAW, &push, "id: 9@Bx3k\nevent: broker\ndata: {\"broker\":\"removed\",\"topic\":\"news\",\"key\":\"o7\"}\n\n");
    check(QUIET, &push, "");
    assert!(text(ENVELOPE, &push).contains(r#""key":"o7","removed":true"#));
}

#[test]
fn rows_move_the_position_although_the_answer_says_an_older_one() {
    let mut live = subscribed("news");
    live.position = Some(position("0@Bx3k"));
    live.missed = ["3@Bx3k", "8@Bx3k"].map(|at| Arc::new(publication("news", Payload::json("1"), Some(at)))).to_vec();
    let all = records(RAW, &Push::Subscribed(Box::new(live)));
    let at: Vec<_> = all.iter().map(|record| record.position.unwrap().to_string()).collect();
    assert_eq!(at, ["2@Bx3k", "3@Bx3k", "8@Bx3k", "8@Bx3k"]);
}
