//! Generated hostile frames: each is decoded to what its answer must be.

use std::collections::BTreeMap;

use broker_core::{Command, CommandId, Inbound, Protocol, Request};
use broker_protocol::{
    CentrifugeJson, Plain,
    testing::{HOSTILE_FRAME_MAX_LEN, HostileAnswer, HostileFrame, HostileProtocol, hostile_frames},
};

use crate::support::{decode, shown};

#[test]
fn every_generated_frame_gets_its_answer() {
    let mut kinds = BTreeMap::new();
    for seed in [0, 1, 2] {
        for frame in hostile_frames(seed, 10_000) {
            assert!(frame.bytes.len() <= HOSTILE_FRAME_MAX_LEN, "{}: {}", frame.what, frame.bytes.len());
            check(&frame);
            *kinds.entry((frame.protocol == HostileProtocol::Plain, frame.what)).or_insert(0) += 1;
        }
    }
    assert!(kinds.len() >= 35, "{kinds:?}");
    assert!(kinds.values().all(|count| *count >= 50), "{kinds:?}");
}

#[track_caller]
fn check(frame: &HostileFrame) {
    let inbound = match (std::str::from_utf8(&frame.bytes), frame.text) {
        (Ok(text), true) => Inbound::Text(text),
        (_, false) => Inbound::Binary(&frame.bytes),
        (Err(_), true) => {
            assert_eq!(frame.answer, HostileAnswer::Violation);
            return;
        }
    };
    let protocol: &dyn Protocol = match frame.protocol {
        HostileProtocol::Centrifuge => &CentrifugeJson,
        HostileProtocol::Plain => &Plain { format: broker_protocol::Format::Raw, notices: true, dev: false },
    };
    let commands = decode(protocol, inbound);
    let [Command { id, request }] = &commands[..] else { panic!("{} commands of {frame:?}", commands.len()) };
    let as_expected = match (&frame.answer, request) {
        (HostileAnswer::Error { id: expected }, Request::Mistake(_)) => match id {
            CommandId::Number(number) => number.to_string() == *expected,
            CommandId::Verbatim(text) => **text == **expected,
            CommandId::None => false,
        },
        (HostileAnswer::ErrorWithoutId, Request::Mistake(_) | Request::Message { .. }) => !matches!(id, CommandId::Number(_)),
        (HostileAnswer::Close, Request::Unreadable(_)) => true,
        _ => false,
    };
    assert!(as_expected, "{}: {}\n{:?}\n{}", frame.what, frame.bytes.escape_ascii(), frame.answer, shown(&commands[0]));
}
