//! What goes over the bus, and what stands in front of an entry in log and rows. Written by the scripts (`lua/*.lua`), read here.
//!
//! # Format of the bus, version 1
//! `version kind top(6) count(2) len(1) epoch`; kind 0: `count` items follow, each `flags len(4) entry`; `top` is the offset before the first,
//! and each item with flag 1 has the next one; those without have no position. Kind 1: the topic has this epoch from now on, and stands at `top`.
//! Kinds 2 and 3, `version kind who`: somebody came or went. Big-endian throughout.

use broker_core::{Announcement, Epoch, Position, SessionInfo};

use crate::entry::{self, Unreadable};

/// The version that is read.
pub(crate) const VERSION: u8 = 1;

/// Stands for the epoch where no script wrote the message.
const NO_EPOCH: &str = "-";

/// A message of the bus about one topic.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Message<'a> {
    /// Publications, each with its position or without one, and where the log stands behind them.
    Publications {
        /// Entry and position.
        items: Vec<(&'a [u8], Option<Position>)>,
        /// Behind the last one; `None`: whoever sent it knows of no log.
        top: Option<Position>,
    },
    /// Another life of the log began.
    Epoch(Position),
    /// Somebody came.
    Join(SessionInfo),
    /// Somebody went.
    Leave(SessionInfo),
}

/// Reads a message of the bus.
pub(crate) fn decode(bytes: &[u8]) -> Result<Message<'_>, Unreadable> {
    let (&version, rest) = bytes.split_first().ok_or(Unreadable::Malformed)?;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    match rest.split_first() {
        Some((2, who)) => return entry::decode_who(who).map(Message::Join),
        Some((3, who)) => return entry::decode_who(who).map(Message::Leave),
        _ => {}
    }
    let (head, rest) = rest.split_at_checked(10).ok_or(Unreadable::Malformed)?;
    let (kind, base) = (head[0], number(&head[1..7]));
    let (count, epoch_len) = (number(&head[7..9]), usize::from(head[9]));
    let (epoch, mut rest) = rest.split_at_checked(epoch_len).ok_or(Unreadable::Malformed)?;
    let epoch = epoch_of(epoch)?;
    match kind {
        1 => Ok(Message::Epoch(Position { offset: base, epoch })),
        0 => {
            let mut items = Vec::with_capacity(count.min(64) as usize);
            let mut offset = base;
            for _ in 0..count {
                let (head, behind) = rest.split_at_checked(5).ok_or(Unreadable::Malformed)?;
                let (entry, behind) = behind.split_at_checked(number(&head[1..]) as usize).ok_or(Unreadable::Malformed)?;
                let is_positioned = head[0] & 1 > 0;
                offset += u64::from(is_positioned);
                items.push((entry, is_positioned.then_some(Position { offset, epoch })));
                rest = behind;
            }
            let top = (epoch.as_str() != NO_EPOCH).then_some(Position { offset, epoch });
            Ok(Message::Publications { items, top })
        }
        _ => Err(Unreadable::Malformed),
    }
}

/// Writes what the publish script writes, for publications of a topic that keeps nothing: they need no script, and have no position.
pub(crate) fn encode_unkept(entries: &[bytes::Bytes]) -> Vec<u8> {
    let bytes: usize = entries.iter().map(|entry| entry.len() + 5).sum();
    let mut out = Vec::with_capacity(12 + bytes);
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&(entries.len() as u16).to_be_bytes());
    out.push(NO_EPOCH.len() as u8);
    out.extend_from_slice(NO_EPOCH.as_bytes());
    for entry in entries {
        out.push(0);
        out.extend_from_slice(&(entry.len() as u32).to_be_bytes());
        out.extend_from_slice(entry);
    }
    out
}

/// Writes that somebody came or went.
pub(crate) fn encode_announcement(announcement: &Announcement) -> Vec<u8> {
    let (kind, who) = match announcement {
        Announcement::Join(who) => (2, who),
        Announcement::Leave(who) => (3, who),
    };
    let mut out = vec![VERSION, kind];
    out.extend_from_slice(&entry::encode_who(who));
    out
}

/// An entry of the log.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Logged<'a> {
    pub(crate) offset: u64,
    /// When it goes by its own ttl, by the server's clock in milliseconds; 0: it does not.
    pub(crate) expires_at_ms: u64,
    pub(crate) entry: &'a [u8],
}

/// Reads what stands in the log: `offset(6) sum of bytes before(6) end(6) entry`.
pub(crate) fn decode_logged(bytes: &[u8]) -> Result<Logged<'_>, Unreadable> {
    let (head, entry) = bytes.split_at_checked(18).ok_or(Unreadable::Malformed)?;
    Ok(Logged { offset: number(&head[..6]), expires_at_ms: number(&head[12..18]), entry })
}

/// Reads what stands in a row: `offset(6) end(6) weight(4) entry`.
pub(crate) fn decode_row(bytes: &[u8]) -> Result<Logged<'_>, Unreadable> {
    let (head, entry) = bytes.split_at_checked(16).ok_or(Unreadable::Malformed)?;
    Ok(Logged { offset: number(&head[..6]), expires_at_ms: number(&head[6..12]), entry })
}

pub(crate) fn epoch_of(bytes: &[u8]) -> Result<Epoch, Unreadable> {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or(Unreadable::Malformed)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn at(offset: u64) -> Position {
        Position { offset, epoch: "e1".parse().expect("legal") }
    }

    /// What a released version sent is read for ever.
    #[test]
    fn golden_bytes_of_version_1_are_read() {
        let marker = b"\x01\x01\x00\x00\x00\x00\x00\x07\x00\x00\x02e1";
        assert_eq!(decode(marker), Ok(Message::Epoch(at(7))));
        let batch = b"\x01\x00\x00\x00\x00\x00\x00\x07\x00\x03\x02e1\x01\x00\x00\x00\x01a\x00\x00\x00\x00\x02bb\x01\x00\x00\x00\x00";
        let items: Vec<(&[u8], Option<Position>)> = vec![(b"a", Some(at(8))), (b"bb", None), (b"", Some(at(9)))];
        assert_eq!(decode(batch), Ok(Message::Publications { items, top: Some(at(9)) }));
        let logged = b"\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09abc";
        assert_eq!(decode_logged(logged), Ok(Logged { offset: 5, expires_at_ms: 9, entry: b"abc" }));
        let row = b"\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x09\x00\x00\x00\x01abc";
        assert_eq!(decode_row(row), Ok(Logged { offset: 5, expires_at_ms: 9, entry: b"abc" }));
    }

    #[test]
    fn what_is_not_kept_is_sent_without_a_position() {
        let sent = encode_unkept(&[Bytes::from_static(b"a")]);
        assert_eq!(decode(&sent), Ok(Message::Publications { items: vec![(&b"a"[..], None)], top: None }));
    }

    #[test]
    fn who_came_comes_back() {
        let who =
            SessionInfo { session: broker_core::SessionId::from_random(7), user: "kim".into(), info: None, topic_info: Some("{}".into()) };
        let sent = encode_announcement(&Announcement::Join(who.clone().into()));
        assert_eq!(decode(&sent), Ok(Message::Join(who)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = decode_logged(&bytes);
        }
    }
}
