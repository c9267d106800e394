//! The codec: any split of bytes gives the same frames, bounds hold, and no bytes do harm.

use broker_resp::{Bounds, Change, DecodeError, Decoder, Frame, Push, ServerError, Value};
use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};

/// Everything that a decoder says of bytes that come in pieces.
fn decode(pieces: &[&[u8]], bounds: Bounds) -> (Vec<Frame>, Result<(), DecodeError>) {
    let (mut decoder, mut buffer, mut frames) = (Decoder::new(bounds), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while !buffer.is_empty() {
            match decoder.next(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(()))
}

#[track_caller]
fn check(bytes: &str, expected: Value) {
    let (frames, outcome) = decode(&[bytes.as_bytes()], Bounds::default());
    assert_eq!(format!("{frames:?}"), format!("{:?}", [Frame::Reply(expected)]));
    assert_eq!(outcome, Ok(()));
}

#[track_caller]
fn check_refused(bytes: &str, expected: DecodeError) {
    let mut bounds = Bounds::default();
    (bounds.frame_max_bytes, bounds.values_max, bounds.depth_max, bounds.line_max_bytes) = (1000, 100, 4, 50);
    assert_eq!(decode(&[bytes.as_bytes()], bounds).1, Err(expected), "{bytes:?}");
}

fn bulk(text: &'static str) -> Value {
    Value::Bulk(text.into())
}

#[test]
fn each_kind_of_value_is_read() {
    check("+PONG\r\n", Value::Simple("PONG".into()));
    check("+\r\n", Value::Simple("".into()));
    check("-MOVED 1 a:2\r\n", Value::Error(ServerError::new("MOVED 1 a:2")));
    check("!5\r\nERR a\r\n", Value::Error(ServerError::new("ERR a")));
    check(":-9223372036854775808\r\n", Value::Integer(i64::MIN));
    check("$0\r\n\r\n", bulk(""));
    check("$5\r\na\r\nb\n\r\n", bulk("a\r\nb\n"));
    check("=6\r\ntxt:hi\r\n", bulk("hi"));
    check("_\r\n", Value::Null);
    check("$-1\r\n", Value::Null);
    check("*-1\r\n", Value::Null);
    check("#t\r\n", Value::Boolean(true));
    check("#f\r\n", Value::Boolean(false));
    check(",1.5e3\r\n", Value::Double(1500.0));
    check(",-inf\r\n", Value::Double(f64::NEG_INFINITY));
    check(",nan\r\n", Value::Double(f64::NAN));
    check("(-3492890328409238509324850943850943825024385\r\n", Value::BigNumber("-3492890328409238509324850943850943825024385".into()));
    check("*0\r\n", Value::Array(vec![]));
    check("*2\r\n:1\r\n*1\r\n$1\r\na\r\n", Value::Array(vec![Value::Integer(1), Value::Array(vec![bulk("a")])]));
    check("~1\r\n_\r\n", Value::Set(vec![Value::Null]));
    check("%1\r\n+k\r\n:1\r\n", Value::Map(vec![(Value::Simple("k".into()), Value::Integer(1))]));
    // Attributes tell about the value behind them and are left out, on every level.
    check("|1\r\n+ttl\r\n:5\r\n*2\r\n|1\r\n+a\r\n*1\r\n:9\r\n:1\r\n:2\r\n", Value::Array(vec![Value::Integer(1), Value::Integer(2)]));
}

#[test]
fn pushes_are_read_as_what_they_are() {
    let bytes = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n>3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n\
        >3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n:7\r\n";
    let (frames, outcome) = decode(&[bytes], Bounds::default());
    let pushes = [
        Push::Message { sharded: false, channel: "a".into(), payload: "hi".into() },
        Push::Subscription { change: Change::ShardUnsubscribed, channel: Some("a".into()), count: 0 },
        Push::Subscription { change: Change::Unsubscribed, channel: None, count: 0 },
        Push::Other { kind: "invalidate".into(), values: vec![Value::Array(vec![bulk("k")])] },
    ];
    assert_eq!(outcome, Ok(()));
    assert_eq!(frames, pushes.map(Frame::Push).into_iter().chain([Frame::Reply(Value::Integer(7))]).collect::<Vec<_>>());
}

#[test]
fn what_is_wrong_is_refused_as_soon_as_it_is_seen() {
    check_refused("H", DecodeError::UnknownSign(b'H'));
    check_refused("*2\r\n:1\r\nX", DecodeError::UnknownSign(b'X'));
    check_refused("$1001\r\n", DecodeError::TooLarge { max_bytes: 1000 });
    check_refused("*2\r\n$990\r\n", DecodeError::TooLarge { max_bytes: 1000 });
    check_refused("$999999999999999\r\n", DecodeError::TooLarge { max_bytes: 1000 });
    check_refused("$9999999999999999", DecodeError::Malformed(b'$'));
    check_refused("*100\r\n", DecodeError::TooMany { max: 100 });
    check_refused("%50\r\n", DecodeError::TooMany { max: 100 });
    check_refused("|999999999999999\r\n", DecodeError::TooMany { max: 100 });
    check_refused("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", DecodeError::TooDeep { max: 4 });
    check_refused(
        "|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
        DecodeError::TooDeep { max: 4 },
    );
    check_refused(&format!("+{}", "a".repeat(50)), DecodeError::TooLarge { max_bytes: 50 });
    check_refused("+a\rb", DecodeError::NoLineEnd);
    check_refused("$1\r\nabc", DecodeError::NoLineEnd);
    check_refused("$1\rx", DecodeError::NoLineEnd);
    check_refused("$-2\r\n", DecodeError::Malformed(b'$'));
    check_refused("%-1\r\n", DecodeError::Malformed(b'%'));
    check_refused("$\r\n", DecodeError::Malformed(b'$'));
    check_refused("$?\r\n", DecodeError::Streamed);
    check_refused("*?\r\n", DecodeError::Streamed);
    check_refused(":\r\n", DecodeError::Malformed(b':'));
    check_refused(":9223372036854775808\r\n", DecodeError::Malformed(b':'));
    check_refused(",x\r\n", DecodeError::Malformed(b','));
    check_refused("(1x\r\n", DecodeError::Malformed(b'('));
    check_refused("#x\r\n", DecodeError::Malformed(b'#'));
    check_refused("_x\r\n", DecodeError::Malformed(b'_'));
    check_refused("=3\r\ntxt\r\n", DecodeError::Malformed(b'='));
    check_refused(">0\r\n", DecodeError::Malformed(b'>'));
    check_refused(">2\r\n:1\r\n:2\r\n", DecodeError::Malformed(b'>'));
    check_refused("*1\r\n>2\r\n+a\r\n+b\r\n", DecodeError::PushInside);
}

/// How a server writes a value.
fn write(value: &Value, out: &mut Vec<u8>) {
    let mut aggregate = |sign: char, len: usize, values: &mut dyn Iterator<Item = &Value>| {
        out.extend(format!("{sign}{len}\r\n").bytes());
        values.for_each(|value| write(value, out));
    };
    match value {
        Value::Array(values) => aggregate('*', values.len(), &mut values.iter()),
        Value::Set(values) => aggregate('~', values.len(), &mut values.iter()),
        Value::Map(pairs) => aggregate('%', pairs.len(), &mut pairs.iter().flat_map(|(key, value)| [key, value])),
        Value::Null => out.extend(b"_\r\n"),
        Value::Integer(number) => out.extend(format!(":{number}\r\n").bytes()),
        Value::Double(number) => out.extend(format!(",{number}\r\n").bytes()),
        Value::Boolean(truth) => out.extend(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Error(error) => out.extend(format!("-{}\r\n", error.line()).bytes()),
        Value::Simple(text) => out.extend([b"+", &text[..], b"\r\n"].concat()),
        Value::BigNumber(text) => out.extend([b"(", &text[..], b"\r\n"].concat()),
        Value::Bulk(bytes) => {
            out.extend(format!("${}\r\n", bytes.len()).bytes());
            out.extend([&bytes[..], b"\r\n"].concat());
        }
        other => panic!("the test does not know how to write {other:?}"),
    }
}

fn values() -> impl Strategy<Value = Value> {
    let line = "[ -~]{0,20}".prop_map(Bytes::from);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("NaN equals nothing", |number| !number.is_nan()).prop_map(Value::Double),
        any::<bool>().prop_map(Value::Boolean),
        line.clone().prop_map(Value::Simple),
        line.prop_map(|line| Value::Error(ServerError::new(line))),
        "[0-9]{1,40}".prop_map(|digits| Value::BigNumber(digits.into())),
        vec(any::<u8>(), 0..200).prop_map(|bytes| Value::Bulk(bytes.into())),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::Array),
            vec(inner.clone(), 0..8).prop_map(Value::Set),
            vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

fn frames() -> impl Strategy<Value = Frame> {
    let bytes = || vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    prop_oneof![
        values().prop_map(Frame::Reply),
        (any::<bool>(), bytes(), bytes()).prop_map(|(sharded, channel, payload)| Frame::Push(Push::Message { sharded, channel, payload })),
        vec(values(), 0..5).prop_map(|values| Frame::Push(Push::Other { kind: "invalidate".into(), values })),
    ]
}

fn write_frame(frame: &Frame, out: &mut Vec<u8>) {
    let parts = match frame {
        Frame::Reply(value) => return write(value, out),
        Frame::Push(Push::Message { sharded, channel, payload }) => {
            vec![bulk(if *sharded { "smessage" } else { "message" }), Value::Bulk(channel.clone()), Value::Bulk(payload.clone())]
        }
        Frame::Push(Push::Other { kind, values }) => [&[Value::Bulk(kind.clone())], &values[..]].concat(),
        Frame::Push(other) => panic!("the test does not know how to write {other:?}"),
    };
    out.extend(format!(">{}\r\n", parts.len()).bytes());
    for part in &parts {
        write(part, out);
    }
}

/// Cuts bytes at places, which are taken modulo what is left.
fn cut<'a>(mut bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for place in places {
        let (piece, rest) = bytes.split_at(place % (bytes.len() + 1));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

/// Bytes that look like RESP more often than chance would have it.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[-+:$*~%|>!=(,#_]-?[0-9]{0,4}\r\n".prop_map(String::into_bytes),
        "[-+:$*~%|>!=(,#_?a-z0-9\r\n]{1,6}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..10),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_frames(frames in vec(frames(), 1..6), places in vec(any::<usize>(), 0..12)) {
        let mut bytes = Vec::new();
        for frame in &frames {
            write_frame(frame, &mut bytes);
        }
        prop_assert_eq!(decode(&cut(&bytes, &places), Bounds::default()), (frames.clone(), Ok(())));
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(decode(&single, Bounds::default()), (frames, Ok(())));
    }

    #[test]
    fn no_bytes_do_harm_and_their_split_does_not_matter(bytes in soup(), places in vec(any::<usize>(), 0..8)) {
        let mut bounds = Bounds::default();
        (bounds.frame_max_bytes, bounds.values_max, bounds.depth_max) = (5000, 50, 5);
        let whole = decode(&[&bytes], bounds);
        prop_assert_eq!(format!("{:?}", decode(&cut(&bytes, &places), bounds)), format!("{whole:?}"));
    }

    #[test]
    fn a_changed_byte_does_no_harm(frames in vec(frames(), 1..4), place in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        for frame in &frames {
            write_frame(frame, &mut bytes);
        }
        let place = place % bytes.len();
        bytes[place] = byte;
        let (read, _) = decode(&[&bytes], Bounds::default());
        prop_assert!(read.len() <= bytes.len());
    }
}
