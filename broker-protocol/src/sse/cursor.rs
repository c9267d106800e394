//! The cursor of an SSE connection: where it stands in all its topics, as one short text for `id:` and `Last-Event-ID`.
//!
//! A connection with one topic has its position, `17@Bx3k`. Others have `1.` and base64 of: flags, number of epochs, the epochs, and for each topic
//! a number made of its name, its offset and which epoch; then two bytes that tell a cursor from other text. Names would make it 32 KiB long.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_core::{Cursor, Epoch, Position, Since};

/// Most topics in one cursor.
pub const CURSOR_TOPICS_MAX: usize = 128;

/// The longest cursor, in bytes: as many topics as there may be, each with the longest offset and an epoch of its own.
pub const CURSOR_LEN_MAX: usize = 5_640;

const PREFIX: &str = "1.";
const KEY_LEN: usize = 6;
/// Not every topic of the connection is in the cursor.
const PARTIAL: u8 = 1;

/// A topic in a cursor: 48 bits of its name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TopicKey(pub(super) u64);

impl TopicKey {
    /// The key of a name without its tenant. The same in every process and version.
    pub fn of(topic: &str) -> Self {
        Self(fnv(topic.as_bytes()) & 0xffff_ffff_ffff)
    }
}

/// Stands for the position of a topic that keeps no history: whoever comes back with it is told that there may be a gap.
pub fn no_history() -> Position {
    Position { offset: 0, epoch: "-".parse().expect("a dash is a legal epoch") }
}

/// Appends a cursor; `is_whole` says that no topic of the connection is left out.
pub fn write_cursor(topics: &[(TopicKey, Position)], is_whole: bool, out: &mut Vec<u8>) {
    let topics = &topics[..topics.len().min(CURSOR_TOPICS_MAX)];
    let mut epochs: Vec<Epoch> = Vec::new();
    for (_, position) in topics {
        if !epochs.contains(&position.epoch) {
            epochs.push(position.epoch);
        }
    }
    let mut bytes = Vec::with_capacity(8 + epochs.len() * 16 + topics.len() * (KEY_LEN + 4));
    bytes.push(if is_whole { 0 } else { PARTIAL });
    bytes.push(epochs.len() as u8);
    for epoch in &epochs {
        bytes.push(epoch.as_str().len() as u8);
        bytes.extend_from_slice(epoch.as_str().as_bytes());
    }
    for (key, position) in topics {
        bytes.extend_from_slice(&key.0.to_le_bytes()[..KEY_LEN]);
        let mut offset = position.offset;
        while offset >= 0x80 {
            bytes.push(offset as u8 | 0x80);
            offset >>= 7;
        }
        bytes.push(offset as u8);
        bytes.push(epochs.iter().position(|epoch| *epoch == position.epoch).expect("every epoch was collected above") as u8);
    }
    bytes.extend_from_slice(&check(&bytes));
    out.extend_from_slice(PREFIX.as_bytes());
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = URL_SAFE_NO_PAD.encode_slice(&bytes, &mut out[start..]).expect("three bytes become four characters");
    out.truncate(start + written);
}

/// A cursor as a client brings it back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SseCursor {
    /// Of a connection with one topic.
    Single(Position),
    /// Of any other connection.
    Many {
        /// The topics, and where the connection stands in each.
        topics: Box<[(TopicKey, Position)]>,
        /// Whether no topic was left out.
        is_whole: bool,
    },
}

impl SseCursor {
    /// Reads what `id:` said. Refuses in constant time what is longer than [`CURSOR_LEN_MAX`].
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > CURSOR_LEN_MAX {
            return Err(InvalidCursor::TooLong { len: text.len() });
        }
        match text.strip_prefix(PREFIX) {
            None => text.parse().map(Self::Single).map_err(|_| InvalidCursor::Foreign),
            Some(encoded) => {
                let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidCursor::Damaged)?;
                read_many(&bytes).ok_or(InvalidCursor::Damaged)
            }
        }
    }

    /// Every topic in it; none in that of a connection with one topic, which the client knows.
    pub fn topics(&self) -> &[(TopicKey, Position)] {
        match self {
            Self::Single(_) => &[],
            Self::Many { topics, .. } => topics,
        }
    }

    /// Where a topic stands; `Unreadable` where the cursor had no room for it.
    pub fn since(&self, topic: &str) -> Option<Since> {
        let Self::Many { topics, is_whole } = self else { return None };
        let key = TopicKey::of(topic);
        let found = topics.iter().find(|(of, _)| *of == key).map(|(_, position)| Since::Position(*position));
        found.or_else(|| (!is_whole).then_some(Since::Unreadable))
    }
}

impl Cursor for SseCursor {
    fn since(&self, topic: &str) -> Option<Since> {
        Self::since(self, topic)
    }
}

fn read_many(bytes: &[u8]) -> Option<SseCursor> {
    let (bytes, sum) = bytes.split_last_chunk::<2>()?;
    if check(bytes) != *sum {
        return None;
    }
    let mut rest = Reader(bytes);
    let is_whole = match rest.byte()? {
        0 => true,
        PARTIAL => false,
        _ => return None,
    };
    let epochs = rest.byte()?;
    let epochs: Vec<Epoch> = (0..epochs)
        .map(|_| {
            let len = rest.byte()?;
            std::str::from_utf8(rest.take(usize::from(len))?).ok()?.parse().ok()
        })
        .collect::<Option<_>>()?;
    let mut topics = Vec::new();
    while !rest.0.is_empty() {
        if topics.len() == CURSOR_TOPICS_MAX {
            return None;
        }
        let mut key = [0; 8];
        key[..KEY_LEN].copy_from_slice(rest.take(KEY_LEN)?);
        let offset = rest.number()?;
        let epoch = *epochs.get(usize::from(rest.byte()?))?;
        topics.push((TopicKey(u64::from_le_bytes(key)), Position { offset, epoch }));
    }
    Some(SseCursor::Many { topics: topics.into(), is_whole })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// Why text is no cursor of this broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InvalidCursor {
    /// It is longer than any cursor.
    TooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// It is neither a position nor a cursor.
    Foreign,
    /// It begins as a cursor does, and something is wrong in it.
    Damaged,
}

impl fmt::Display for InvalidCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len } => write!(f, "a cursor has at most {CURSOR_LEN_MAX} bytes, this has {len}"),
            Self::Foreign => f.write_str("this is neither a position (offset@epoch) nor a cursor that this server sent as `id:`"),
            Self::Damaged => f.write_str("the cursor is damaged; it must come back exactly as it was sent"),
        }
    }
}

impl std::error::Error for InvalidCursor {}

/// Tells a cursor from other text, and from one that lost a part. No protection against whoever means harm: a cursor opens nothing.
fn check(bytes: &[u8]) -> [u8; 2] {
    let sum = fnv(bytes);
    ((sum >> 16) as u16 ^ sum as u16).to_le_bytes()
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(topics: &[(TopicKey, Position)], is_whole: bool) -> String {
        let mut out = Vec::new();
        write_cursor(topics, is_whole, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn topics(count: usize, offset: u64, epoch: impl Fn(usize) -> String) -> Vec<(TopicKey, Position)> {
        (0..count).map(|n| (TopicKey::of(&format!("topic:{n}")), Position { offset, epoch: epoch(n).parse().unwrap() })).collect()
    }

    #[test]
    fn cursors_read_back_as_written() {
        for count in [0, 1, 2, 128] {
            for offset in [0, 127, 128, u64::MAX] {
                for is_whole in [true, false] {
                    let topics = topics(count, offset, |n| format!("e{}", n % 3));
                    let read = SseCursor::parse(&written(&topics, is_whole)).unwrap();
                    assert_eq!(read, SseCursor::Many { topics: topics.into(), is_whole });
                }
            }
        }
        assert_eq!(SseCursor::parse("17@Bx3k"), Ok(SseCursor::Single("17@Bx3k".parse().unwrap())));
    }

    #[test]
    fn the_longest_cursor_is_as_long_as_the_bound_says() {
        let longest = written(&topics(128, u64::MAX, |n| format!("{n:015}")), true);
        assert_eq!(longest.len(), CURSOR_LEN_MAX);
        assert!(longest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')), "safe in a URL");
        let usual = written(&topics(128, 100_000, |_| "Bx3kBx3k".to_owned()), true);
        assert_eq!(usual.len(), 1_726);
        assert!(SseCursor::parse(&longest).is_ok());
        assert_eq!(SseCursor::parse(&format!("{longest}A")), Err(InvalidCursor::TooLong { len: CURSOR_LEN_MAX + 1 }));
    }

    #[test]
    fn other_text_is_no_cursor() {
        for text in ["", "0", "42", "abc", "2.AAAA", "1763712000000-0", "{\"a\":1}"] {
            assert_eq!(SseCursor::parse(text), Err(InvalidCursor::Foreign), "{text}");
        }
        for text in ["1.", "1.AAAA", "1.42", "1.!"] {
            assert_eq!(SseCursor::parse(text), Err(InvalidCursor::Damaged), "{text}");
        }
    }

    #[test]
    fn a_cursor_that_lost_or_changed_a_byte_is_refused() {
        let whole = written(&topics(3, 1_000, |n| format!("e{n}")), true);
        for end in 2..whole.len() {
            assert_eq!(SseCursor::parse(&whole[..end]), Err(InvalidCursor::Damaged), "{end}");
        }
        for at in 2..whole.len() {
            let mut changed = whole.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(SseCursor::parse(&String::from_utf8(changed).unwrap()), Err(InvalidCursor::Damaged), "{at}");
        }
    }

    #[test]
    fn a_topic_that_found_no_room_is_told_so() {
        let at: Position = "5@e".parse().unwrap();
        let parse = |is_whole| SseCursor::parse(&written(&[(TopicKey::of("a"), at)], is_whole)).unwrap();
        assert_eq!((parse(true).since("a"), parse(true).since("b")), (Some(Since::Position(at)), None));
        assert_eq!(parse(false).since("b"), Some(Since::Unreadable));
    }
}
