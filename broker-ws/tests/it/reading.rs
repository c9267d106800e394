//! What the reader makes of bytes: every kind of frame, every rule, every limit one byte over, and the same whatever the cuts.

use std::{
    io::{self, Cursor, Read, Write},
    time::{Duration, Instant},
};

use broker_core::{CloseReason, Inbound};
use broker_ws::{Event, Reader, WsLimits};
use proptest::prelude::*;
use tungstenite::{
    Error, Message,
    error::ProtocolError,
    protocol::{Role, WebSocket, WebSocketConfig},
};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CONTINUE: u8 = 0;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[test]
fn whole_messages_come_out_as_they_were_sent() {
    check(&[fin(TEXT, b"hello")], &["text hello"]);
    check(&[fin(BINARY, &[0, 255])], &["binary [0, 255]"]);
    check(&[fin(TEXT, b"")], &["text "]);
    check(&[fin(TEXT, b"a"), fin(TEXT, b"b")], &["text a", "text b"]);
    check(&[fin(TEXT, "x".repeat(65_536).as_bytes())], &[&format!("text {}", "x".repeat(65_536))]);
}

#[test]
fn fragments_are_put_together_and_control_frames_may_stand_between() {
    check(
        &[part(TEXT, b"he"), fin(PING, b"1"), part(CONTINUE, b""), fin(PONG, b""), fin(CONTINUE, b"llo"), fin(BINARY, b"")],
        &["ping [49]", "pong", "text hello", "binary []"],
    );
}

#[test]
fn a_character_may_be_split_over_fragments_but_bad_utf8_is_1007() {
    check(&[part(TEXT, b"\xc3"), fin(CONTINUE, b"\xa9")], &["text é"]);
    check(&[part(TEXT, b"\xc3"), fin(CONTINUE, b"x")], &["not_utf8"]);
    check(&[part(TEXT, b"\xff"), fin(PING, b"")], &["not_utf8"]);
    check(&[part(TEXT, b"\xc3"), part(CONTINUE, b""), fin(CONTINUE, b"")], &["not_utf8"]);
    check(&[fin(TEXT, b"\xff")], &["not_utf8"]);
    check(&[fin(TEXT, b"\xed\xa0\x80")], &["not_utf8"]);
    check(&[fin(CLOSE, b"\x03\xe8\xff")], &["not_utf8"]);
}

#[test]
fn a_close_frame_ends_the_reading_and_hands_on_its_code() {
    check(&[fin(CLOSE, b""), fin(TEXT, b"late")], &["left None"]);
    check(&[fin(CLOSE, b"\x03\xe8bye")], &["left Some(1000)"]);
    check(&[fin(CLOSE, b"\x0f\xa1")], &["left Some(4001)"]);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2000, 2999, 5000, 65_535] {
        check(&[fin(CLOSE, &code.to_be_bytes())], &["violation"]);
    }
    check(&[fin(CLOSE, b"\x03")], &["violation"]);
}

#[test]
fn frames_against_the_rules_are_violations() {
    let unmasked = vec![0x81, 1, b'x'];
    check(&[unmasked], &["violation"]);
    for reserved_bit in [0x40, 0x20, 0x10] {
        check(&[frame(0x80 | reserved_bit | TEXT, b"x")], &["violation"]);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check(&[fin(opcode, b"x")], &["violation"]);
    }
    check(&[fin(CONTINUE, b"x")], &["violation"]);
    check(&[part(CONTINUE, b"x")], &["violation"]);
    check(&[part(TEXT, b"x"), fin(TEXT, b"y")], &["violation"]);
    check(&[part(TEXT, b"x"), part(BINARY, b"y")], &["violation"]);
    check(&[part(PING, b"x")], &["violation"]);
    check(&[fin(PING, &[0; 126])], &["violation"]);
    check(&[part(TEXT, b"x"), fin(CONTINUE, b"y"), fin(CONTINUE, b"z")], &["text xy", "violation"]);
}

#[test]
fn one_byte_over_a_limit_is_refused_with_the_header() {
    let limits = WsLimits::default().message_max(300);
    let seen = |frames: &[Vec<u8>]| read_in_pieces(&frames.concat(), usize::MAX, &limits);
    assert_eq!(seen(&[fin(BINARY, &[0; 300])]).len(), 1);
    assert_eq!(seen(&[fin(BINARY, &[0; 301])[..8].to_vec()]), ["too_large 300"]);
    assert_eq!(seen(&[part(TEXT, &[b'x'; 200]), fin(CONTINUE, &[b'x'; 100])]).len(), 1);
    assert_eq!(seen(&[part(TEXT, &[b'x'; 200]), fin(CONTINUE, &[b'x'; 101])[..6].to_vec()]), ["too_large 300"]);
    let endless = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(seen(&[endless.to_vec()]), ["too_large 300"]);
}

#[test]
fn a_message_has_a_bounded_number_of_frames() {
    let mut limits = WsLimits::default();
    limits.fragments_max = 3;
    let frames = |parts: usize| [vec![part(TEXT, b""); 1], vec![part(CONTINUE, b""); parts], vec![fin(CONTINUE, b"x")]].concat().concat();
    assert_eq!(read_in_pieces(&frames(1), usize::MAX, &limits), ["text x"]);
    assert_eq!(read_in_pieces(&frames(2), usize::MAX, &limits), ["violation"]);
}

#[test]
fn more_pings_in_a_second_than_allowed_close() {
    let mut limits = WsLimits::default();
    limits.control_frames_max = 2;
    let mut reader = Reader::default();
    let start = Instant::now();
    let mut ping = |at: Duration| reader.read(&mut fin(PING, b""), &limits, start + at, &mut |_| {});
    assert_eq!(ping(Duration::ZERO), Ok(()));
    assert_eq!(ping(Duration::ZERO), Ok(()));
    assert_eq!(ping(Duration::from_secs(1)), Ok(()));
    assert_eq!(ping(Duration::from_secs(1)), Ok(()));
    assert_eq!(ping(Duration::from_secs(1)), Err(CloseReason::TooManyRequests));
}

#[test]
fn a_message_is_unfinished_from_its_first_byte_to_its_last() {
    let (mut reader, limits, start) = (Reader::default(), WsLimits::default(), Instant::now());
    let later = start + Duration::from_secs(3);
    let (mut first, mut last) = (part(TEXT, b"ab"), fin(CONTINUE, b"c"));
    assert_eq!(reader.unfinished_since(), None);
    reader.read(&mut first[..1], &limits, start, &mut |_| {}).unwrap();
    assert_eq!(reader.unfinished_since(), Some(start));
    reader.read(&mut first[1..], &limits, later, &mut |_| {}).unwrap();
    reader.read(&mut fin(PING, b""), &limits, later, &mut |_| {}).unwrap();
    assert_eq!(reader.unfinished_since(), Some(start), "a ping between fragments finishes nothing");
    reader.read(&mut last, &limits, later, &mut |_| {}).unwrap();
    assert_eq!(reader.unfinished_since(), None);
    assert!(size_of::<Reader>() <= 40, "a reader between messages is {} bytes", size_of::<Reader>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn how_the_bytes_are_cut_makes_no_difference(frames in prop::collection::vec(any_frame(), 0..8), piece in 1..40_usize) {
        let (bytes, limits) = (frames.concat(), WsLimits::default().message_max(2_000));
        let whole = read_in_pieces(&bytes, usize::MAX, &limits);
        prop_assert_eq!(&whole, &read_in_pieces(&bytes, 1, &limits));
        prop_assert_eq!(&whole, &read_in_pieces(&bytes, piece, &limits));
    }

    #[test]
    fn an_independent_implementation_reads_the_same(frames in prop::collection::vec(any_frame(), 0..8)) {
        let bytes = frames.concat();
        let ours = read_in_pieces(&bytes, 7, &WsLimits::default());
        prop_assert_eq!(ours, read_with_tungstenite(bytes, WsLimits::default().message_max));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1..40_usize) {
        read_in_pieces(&bytes, piece, &WsLimits::default());
    }
}

/// Mostly legal frames, so that sequences get past their first one.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        20 => prop::sample::select(vec![0x81_u8, 0x82, 0x80, 0x01, 0x02, 0x00, 0x89, 0x8a]),
        2 => prop::sample::select(vec![0x88_u8, 0x09, 0x83, 0xc1]),
    ];
    let payload = prop_oneof![
        6 => "[a-zé😀]{0,20}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..8),
        1 => (100..2_100_usize).prop_map(|len| vec![b'x'; len]),
        1 => (999..5_001_u16).prop_map(|code| code.to_be_bytes().to_vec()),
    ];
    (first, payload).prop_map(|(first, payload)| frame(first, &payload))
}

#[track_caller]
fn check(frames: &[Vec<u8>], expected: &[&str]) {
    let (bytes, limits) = (frames.concat(), WsLimits::default());
    assert_eq!(read_in_pieces(&bytes, usize::MAX, &limits), expected, "in one piece");
    assert_eq!(read_in_pieces(&bytes, 1, &limits), expected, "byte by byte");
}

fn read_in_pieces(bytes: &[u8], piece: usize, limits: &WsLimits) -> Vec<String> {
    let (mut reader, now, mut seen) = (Reader::default(), Instant::now(), Vec::new());
    let mut bytes = bytes.to_vec();
    for piece in bytes.chunks_mut(piece) {
        let result = reader.read(piece, limits, now, &mut |event| {
            seen.push(match event {
                Event::Message(Inbound::Text(text)) => format!("text {text}"),
                Event::Message(Inbound::Binary(bytes)) => format!("binary {bytes:?}"),
                Event::Ping(payload) => format!("ping {payload:?}"),
                Event::Pong => "pong".to_owned(),
            });
        });
        if let Err(reason) = result {
            seen.push(match reason {
                CloseReason::ClientLeft { code } => format!("left {code:?}"),
                CloseReason::TransportViolation(_) => "violation".to_owned(),
                CloseReason::NotUtf8 => "not_utf8".to_owned(),
                CloseReason::TooLarge { max_bytes } => format!("too_large {max_bytes}"),
                other => format!("{other:?}"),
            });
            break;
        }
    }
    seen
}

/// The same words from a server of tungstenite.
fn read_with_tungstenite(bytes: Vec<u8>, message_max: usize) -> Vec<String> {
    let config = WebSocketConfig::default().max_message_size(Some(message_max)).max_frame_size(Some(message_max));
    let mut socket = WebSocket::from_raw_socket(OneWay(Cursor::new(bytes)), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => format!("text {text}"),
            Ok(Message::Binary(bytes)) => format!("binary {:?}", &bytes[..]),
            Ok(Message::Ping(payload)) => format!("ping {:?}", &payload[..]),
            Ok(Message::Pong(_)) => "pong".to_owned(),
            Ok(Message::Close(frame)) => {
                // Tungstenite answers a code that must not be sent instead of reporting it.
                let code = frame.map(|frame| u16::from(frame.code));
                let refused = code == Some(1002);
                seen.push(if refused { "violation".to_owned() } else { format!("left {code:?}") });
                return seen;
            }
            Ok(Message::Frame(_)) => unreachable!("a reading socket hands out no raw frames"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return seen,
            Err(error) => {
                seen.push(match error {
                    Error::Protocol(_) => "violation".to_owned(),
                    Error::Utf8(_) => "not_utf8".to_owned(),
                    Error::Capacity(_) => format!("too_large {message_max}"),
                    other => format!("{other:?}"),
                });
                return seen;
            }
        });
    }
}

/// Reads from the bytes, forgets what is written.
struct OneWay(Cursor<Vec<u8>>);

impl Read for OneWay {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for OneWay {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fin(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(0x80 | opcode, payload)
}

fn part(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(opcode, payload)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
