//! Hostile frames by the thousand, the same for the same seed, each with the answer it must get. For end-to-end tests of servers.
//!
//! A frame is the client's whole message. None is longer than [`HOSTILE_FRAME_MAX_LEN`], so that what a transport refuses for its size
//! alone is not among them.

use std::iter;

use fastrand::Rng;
use serde::de::IgnoredAny;

/// The longest frame that is generated, in bytes: below the 64 KiB that a transport takes by default.
pub const HOSTILE_FRAME_MAX_LEN: usize = 60_000;

/// The language that a hostile frame is aimed at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostileProtocol {
    /// [`CentrifugeJson`](crate::CentrifugeJson).
    Centrifuge,
    /// [`Plain`](crate::Plain), on a route without a hook for messages.
    Plain,
}

/// One hostile frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostileFrame {
    /// Where it is sent.
    pub protocol: HostileProtocol,
    /// Whether it goes as a text frame; otherwise as a binary one.
    pub text: bool,
    /// What is sent; in a text frame maybe no UTF-8.
    pub bytes: Vec<u8>,
    /// What is wrong with it, for messages of tests.
    pub what: &'static str,
    /// What must come back.
    pub answer: HostileAnswer,
}

/// What a hostile frame is answered with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostileAnswer {
    /// An error that carries this id, as JSON text; the session lives.
    Error {
        /// The JSON text behind `"id":`.
        id: String,
    },
    /// An error without an id; the session lives. Plain only.
    ErrorWithoutId,
    /// The close code 3501, with a text that says what was wrong. Centrifuge only.
    Close,
    /// The transport closes with 1007 or 1002: a text frame that is no UTF-8.
    Violation,
}

/// Hostile frames for both protocols in turn.
///
/// ```
/// use broker_protocol::testing::hostile_frames;
///
/// assert_eq!(hostile_frames(7, 10_000).count(), 10_000);
/// assert!(hostile_frames(7, 50).eq(hostile_frames(7, 50)));
/// ```
pub fn hostile_frames(seed: u64, count: usize) -> impl Iterator<Item = HostileFrame> {
    let mut forge = Forge { rng: Rng::with_seed(seed), protocol: HostileProtocol::Plain };
    iter::repeat_with(move || {
        forge.protocol = match forge.protocol {
            HostileProtocol::Centrifuge => HostileProtocol::Plain,
            HostileProtocol::Plain => HostileProtocol::Centrifuge,
        };
        forge.frame()
    })
    .take(count)
}

/// A field of a command: the command, the field, what must stand there, what else the command needs.
type Field = (&'static str, &'static str, Type, &'static str);

/// What must stand in a field.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Flag,
    Number,
    Object,
}

impl Type {
    /// Values that are none.
    fn wrong(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["7", "-1.5e300", "true", "[]", "{}", "[\"a\"]"],
            Self::Flag => &["\"true\"", "0", "1", "[]", "{}"],
            Self::Number => &["\"7\"", "true", "[]", "{}", "1.5", "1e3", "99999999999999999999", "-99999999999999999999"],
            Self::Object => &["\"x\"", "7", "false", "[]", "[{}]"],
        }
    }
}

const CENTRIFUGE_FIELDS: [Field; 23] = [
    ("connect", "token", Type::Text, ""),
    ("connect", "name", Type::Text, ""),
    ("connect", "version", Type::Text, ""),
    ("connect", "subs", Type::Object, ""),
    ("subscribe", "channel", Type::Text, ""),
    ("subscribe", "token", Type::Text, r#","channel":"a""#),
    ("subscribe", "recover", Type::Flag, r#","channel":"a""#),
    ("subscribe", "epoch", Type::Text, r#","channel":"a""#),
    ("subscribe", "offset", Type::Number, r#","channel":"a""#),
    ("subscribe", "join_leave", Type::Flag, r#","channel":"a""#),
    ("subscribe", "flag", Type::Number, r#","channel":"a""#),
    ("subscribe", "type", Type::Number, r#","channel":"a""#),
    ("unsubscribe", "channel", Type::Text, ""),
    ("publish", "channel", Type::Text, r#","data":1"#),
    ("presence", "channel", Type::Text, ""),
    ("presence_stats", "channel", Type::Text, ""),
    ("history", "limit", Type::Number, r#","channel":"a""#),
    ("history", "since", Type::Object, r#","channel":"a""#),
    ("history", "reverse", Type::Flag, r#","channel":"a""#),
    ("rpc", "method", Type::Text, ""),
    ("refresh", "token", Type::Text, ""),
    ("sub_refresh", "channel", Type::Text, r#","token":"t""#),
    ("sub_refresh", "token", Type::Text, r#","channel":"a""#),
];

const PLAIN_FIELDS: [Field; 12] = [
    ("subscribe", "topic", Type::Text, ""),
    ("subscribe", "since", Type::Text, r#","topic":"a""#),
    ("unsubscribe", "topic", Type::Text, ""),
    ("publish", "topic", Type::Text, r#","data":1"#),
    ("publish", "key", Type::Text, r#","topic":"a","data":1"#),
    ("publish", "idempotency_key", Type::Text, r#","topic":"a","data":1"#),
    ("history", "topic", Type::Text, ""),
    ("history", "limit", Type::Number, r#","topic":"a""#),
    ("history", "reverse", Type::Flag, r#","topic":"a""#),
    ("presence", "topic", Type::Text, ""),
    ("authenticate", "token", Type::Text, ""),
    ("call", "method", Type::Text, ""),
];

/// Names of topics that are none, as they stand in a JSON string.
const BAD_TOPICS: [&str; 12] = ["", " ", "a b", "a\\n", "\\u0000", "a\\tb", "é", "\u{1f980}", "news.*", "orders.>", "\\ud800", "a\\u007f"];

/// Bytes that are no UTF-8, wherever they stand in ASCII.
const BAD_UTF8: [&[u8]; 6] = [b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80"];

/// Chance, and whom the next frame is for.
struct Forge {
    rng: Rng,
    protocol: HostileProtocol,
}

impl Forge {
    fn frame(&mut self) -> HostileFrame {
        match self.rng.u8(0..16) {
            0 | 1 => self.wrong_type(),
            2 => self.missing_field(),
            3 => self.unknown_command(),
            4 | 5 => self.malformed(),
            6 | 7 => self.half(),
            8 => self.deep(),
            9 => self.huge(),
            10 => self.bad_topic(),
            11 => self.twice(),
            12 => self.bad_utf8(),
            13 => self.bad_id(),
            14 => self.forbidden(),
            _ => self.no_command(),
        }
    }

    fn error(&self, what: &'static str, id: &str, text: impl Into<Vec<u8>>) -> HostileFrame {
        let answer = HostileAnswer::Error { id: id.to_owned() };
        HostileFrame { protocol: self.protocol, text: true, bytes: text.into(), what, answer }
    }

    /// A frame without an id that can be read: one protocol closes, the other does not.
    fn anonymous(&self, what: &'static str, text: impl Into<Vec<u8>>) -> HostileFrame {
        let answer = match self.protocol {
            HostileProtocol::Centrifuge => HostileAnswer::Close,
            HostileProtocol::Plain => HostileAnswer::ErrorWithoutId,
        };
        HostileFrame { answer, ..self.error(what, "", text) }
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.rng.usize(..among.len())]
    }

    fn id(&mut self) -> String {
        let id = self.rng.u32(1..);
        match self.protocol {
            HostileProtocol::Plain if self.rng.bool() => format!("\"n-{id}\""),
            _ => id.to_string(),
        }
    }

    /// A command, with its id in front of its fields.
    fn command(&self, name: &str, id: &str, fields: &str) -> String {
        match self.protocol {
            HostileProtocol::Centrifuge => format!(r#"{{"id":{id},"{name}":{{{fields}}}}}"#),
            HostileProtocol::Plain => {
                let comma = if fields.is_empty() { "" } else { "," };
                format!(r#"{{"broker":"{name}","id":{id}{comma}{fields}}}"#)
            }
        }
    }

    /// What stands in front of the fields of [`Forge::command`], with the byte that ends the id.
    fn prefix_len(&self, name: &str, id: &str) -> usize {
        match self.protocol {
            HostileProtocol::Centrifuge => r#"{"id":,"#.len() + id.len(),
            HostileProtocol::Plain => r#"{"broker":"","id":,"#.len() + name.len() + id.len(),
        }
    }

    fn topic_key(&self) -> &'static str {
        match self.protocol {
            HostileProtocol::Centrifuge => "channel",
            HostileProtocol::Plain => "topic",
        }
    }

    /// A publish with everything it needs.
    fn valid(&mut self, id: &str) -> String {
        let data = self.pick(&[r#"{"x":[1,2,{"y":"z"}]}"#, "\"a\\u00e9\\n\"", "[1.5e3,true,null]", "{\"s\":\"\\\"\"}"]);
        let key = self.topic_key();
        self.command("publish", id, &format!(r#""{key}":"chat:1","data":{data}"#))
    }

    fn wrong_type(&mut self) -> HostileFrame {
        let (command, field, expected, rest) = match self.protocol {
            HostileProtocol::Centrifuge => self.pick(&CENTRIFUGE_FIELDS),
            HostileProtocol::Plain => self.pick(&PLAIN_FIELDS),
        };
        let (id, value) = (self.id(), self.pick(expected.wrong()));
        self.error("wrong type", &id, self.command(command, &id, &format!(r#""{field}":{value}{rest}"#)))
    }

    fn missing_field(&mut self) -> HostileFrame {
        let id = self.id();
        let command = self.pick(&["subscribe", "unsubscribe", "publish", "history", "presence"]);
        let fields = self.pick(&["", r#""data":1"#, r#""CHANNEL":"a","Topic":"a""#, r#""topics":["a"]"#]);
        let fields = if command == "publish" && self.rng.bool() { format!(r#""{}":"a""#, self.topic_key()) } else { fields.to_owned() };
        self.error("missing field", &id, self.command(command, &id, &fields))
    }

    fn unknown_command(&mut self) -> HostileFrame {
        let id = self.id();
        let name: String = iter::repeat_with(|| self.rng.lowercase()).take(12).collect();
        let text = self.command(&name, &id, &format!(r#""{}":"a""#, self.topic_key()));
        match (self.protocol, self.rng.u8(0..4)) {
            (HostileProtocol::Centrifuge, 0) => self.anonymous("unknown command without id", format!(r#"{{"{name}":{{}}}}"#)),
            (HostileProtocol::Plain, 0) => self.anonymous("unknown command without id", format!(r#"{{"broker":"{name}"}}"#)),
            (HostileProtocol::Centrifuge, 1) => self.error("no command", &id, format!(r#"{{"id":{id}}}"#)),
            _ => self.error("unknown command", &id, text),
        }
    }

    fn malformed(&mut self) -> HostileFrame {
        let id = self.id();
        let whole = self.valid(&id).into_bytes();
        let from = self.prefix_len("publish", &id);
        for _ in 0..20 {
            let mut bytes = whole.clone();
            let at = self.rng.usize(from..bytes.len());
            let byte = self.pick(b"{}[]\",:\\x0-\x01\x00'/");
            match self.rng.u8(0..3) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, byte),
                _ => bytes[at] = byte,
            }
            let is_text = std::str::from_utf8(&bytes).is_ok();
            if is_text && serde_json::from_slice::<IgnoredAny>(&bytes).is_err() {
                return self.error("malformed", &id, bytes);
            }
        }
        self.error("without an end", &id, &whole[..whole.len() - 1])
    }

    fn half(&mut self) -> HostileFrame {
        let id = self.id();
        let whole = self.valid(&id);
        let cut = self.rng.usize(1..whole.len());
        if cut >= self.prefix_len("publish", &id) {
            self.error("half a frame", &id, &whole[..cut])
        } else {
            self.anonymous("half a frame without its id", &whole[..cut])
        }
    }

    fn deep(&mut self) -> HostileFrame {
        let id = self.id();
        let levels = self.rng.usize(65..20_000);
        let (open, close) = self.pick(&[("[", "]"), ("{\"a\":", "}")]);
        let levels = levels.min(HOSTILE_FRAME_MAX_LEN / 8);
        let value = format!("{}1{}", open.repeat(levels), close.repeat(levels));
        match self.rng.u8(0..4) {
            0 => self.anonymous("deep without id", value),
            1 => self.error("deep and open", &id, self.command("publish", &id, &format!(r#""data":{}"#, open.repeat(levels)))),
            _ => self.error("deep", &id, self.command("publish", &id, &format!(r#""{}":"a","data":{value}"#, self.topic_key()))),
        }
    }

    fn huge(&mut self) -> HostileFrame {
        let id = self.id();
        let len = self.rng.usize(256..HOSTILE_FRAME_MAX_LEN - 200);
        let (text, digits) = ("x".repeat(len), "9".repeat(len));
        let key = self.topic_key();
        let number = if self.protocol == HostileProtocol::Centrifuge { ("subscribe", "offset") } else { ("history", "limit") };
        match self.rng.u8(0..4) {
            0 => self.error("huge topic", &id, self.command("subscribe", &id, &format!(r#""{key}":"{text}""#))),
            1 => self.error("huge number", &id, self.command(number.0, &id, &format!(r#""{key}":"a","{}":{digits}"#, number.1))),
            2 => self.error("huge unknown key", &id, self.command("publish", &id, &format!(r#""{text}":"{key}""#))),
            _ => self.anonymous("huge garbage", text),
        }
    }

    fn bad_topic(&mut self) -> HostileFrame {
        let id = self.id();
        let name = self.pick(&BAD_TOPICS);
        let command = self.pick(&["subscribe", "unsubscribe", "publish", "history", "presence"]);
        self.error("bad topic", &id, self.command(command, &id, &format!(r#""{}":"{name}","data":1"#, self.topic_key())))
    }

    fn twice(&mut self) -> HostileFrame {
        let id = self.id();
        let key = self.topic_key();
        let fields = format!(r#""{key}":"a","data":1,"{key}":"b""#);
        match self.rng.u8(0..3) {
            0 => self.error("a key twice", &id, self.command("publish", &id, &fields)),
            1 => {
                let twice = format!("\"id\":{id},\"id\":{}", self.id());
                let text = self.valid(&id).replacen(&format!("\"id\":{id}"), &twice, 1);
                self.error("the id twice", &id, text)
            }
            _ => {
                let text = self.valid(&id);
                self.error("two commands on a line", &id, format!("{text}{text}"))
            }
        }
    }

    fn bad_utf8(&mut self) -> HostileFrame {
        let id = self.id();
        let mut bytes = self.valid(&id).into_bytes();
        let at = self.rng.usize(self.prefix_len("publish", &id)..bytes.len());
        let bad = self.pick(&BAD_UTF8);
        bytes.splice(at..at, bad.iter().copied());
        match (self.rng.bool(), self.protocol) {
            (true, _) => HostileFrame { answer: HostileAnswer::Violation, ..self.error("text that is no UTF-8", &id, bytes) },
            (_, HostileProtocol::Centrifuge) => HostileFrame { text: false, ..self.error("bytes that are no UTF-8", &id, bytes) },
            // Bytes are never a command in the plain protocol.
            (_, HostileProtocol::Plain) => HostileFrame { text: false, ..self.anonymous("bytes", bytes) },
        }
    }

    fn bad_id(&mut self) -> HostileFrame {
        let id = match self.protocol {
            HostileProtocol::Centrifuge => {
                self.pick(&["0", "-1", "1.5", "1e3", "\"7\"", "null", "true", "[7]", "{}", "18446744073709551616"])
            }
            HostileProtocol::Plain => self.pick(&["null", "true", "false", "[7]", "{}", "[]", "{\"id\":7}"]),
        };
        let text = self.valid(id);
        self.anonymous("bad id", text)
    }

    fn forbidden(&mut self) -> HostileFrame {
        let id = self.id();
        let (command, fields) = match self.protocol {
            HostileProtocol::Centrifuge => self.pick(&[
                ("ping", ""),
                ("sub_refresh", r#""channel":"a","token":"""#),
                ("connect", r#""subs":{"a b":{"recover":true}}"#),
                ("connect", r#""subs":{"a":{},"a":{}}"#),
                ("subscribe", r#""channel":"a","type":2"#),
                ("subscribe", r#""channel":"a","tf":{"op":"eq","key":"a","val":"b"}"#),
                ("refresh", r#""token":"""#),
            ]),
            HostileProtocol::Plain => self.pick(&[
                ("publish", r#""topic":"a","data":{"broker":"closing"}"#),
                ("publish", r#""topic":"a","data":{"a":{},"\u0062roker":1}"#),
                ("subscribe", r#""topic":"a","since":"17""#),
                ("subscribe", r#""topic":"a","since":"-1@e""#),
                ("subscribe", r#""topic":"a","rate":-4"#),
                ("subscribe", r#""topic":"a","filter":{"key":"a","cmp":"like"}"#),
                ("history", r#""topic":"a","limit":-1"#),
            ]),
        };
        self.error("forbidden value", &id, self.command(command, &id, fields))
    }

    fn no_command(&mut self) -> HostileFrame {
        let known = self.pick(&[
            "",
            " ",
            "\t",
            "[]",
            "\"text\"",
            "null",
            "7",
            "hello",
            "true",
            "-",
            "\u{feff}{}",
            "'",
            "<?xml?>",
            "GET / HTTP/1.1",
        ]);
        if self.rng.bool() {
            return self.anonymous("no command", known);
        }
        // No brace, so that it is no object; capitals, so that it is not the text `ping`.
        let len = self.rng.usize(1..300);
        let text: String = iter::repeat_with(|| self.pick(b"ABC012 ,:[]\"\\'-+.eE\t\x01\x7f") as char).take(len).collect();
        self.anonymous("garbage", text)
    }
}
