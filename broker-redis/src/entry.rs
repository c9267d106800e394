//! One publication as bytes: what stands in the log, in the rows and on the bus. The frame around it lives in `frame`.
//!
//! # Format, version 1
//! `version kind flags published_at(8)`, then by flag: key, tags, publisher, except, ttl, report; the rest is the data. Texts and lists have
//! their length in front as a varint, numbers are big-endian. `kind`: 0 JSON, 1 text, 2 binary.

use std::{sync::Arc, time::Duration};

use broker_core::{Except, Payload, PayloadKind, Publication, Publish, SessionId, SessionInfo, Tags, Topic, UserId, unix_ms};
use bytes::{BufMut, Bytes, BytesMut};

/// The version that is written.
pub(crate) const VERSION: u8 = 1;

const KEY: u8 = 1;
const REMOVED: u8 = 2;
const TAGS: u8 = 4;
const PUBLISHER: u8 = 8;
const EXCEPT: u8 = 16;
const TTL: u8 = 32;
const REPORT: u8 = 64;

/// Why bytes are no publication.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Another version of the broker wrote it.
    #[error("it is written in version {0}, this node reads version {VERSION}")]
    Version(u8),
    /// Cut short, or not the broker's.
    #[error("it is no publication")]
    Malformed,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The publication, as a publish.
    pub(crate) publish: Publish,
    /// When a node took it, in milliseconds of Unix time.
    pub(crate) published_at_ms: u64,
    /// Under which a publisher of this node waits for a report.
    pub(crate) report: Option<u64>,
}

impl Entry {
    /// The publication, at a position if it has one.
    pub(crate) fn into_publication(self, topic: Topic, position: Option<broker_core::Position>) -> Publication {
        let mut publication = Publication::new(topic, self.publish);
        publication.position = position;
        publication.published_at_ms = self.published_at_ms;
        publication
    }
}

/// Writes a publish. `report`: under which this node waits for it.
pub(crate) fn encode(publish: &Publish, report: Option<u64>) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + publish.data.len());
    out.put_u8(VERSION);
    out.put_u8(match publish.data.kind() {
        PayloadKind::Json => 0,
        PayloadKind::Text => 1,
        PayloadKind::Binary => 2,
    });
    let mut flags = 0;
    for (flag, is_set) in [
        (KEY, publish.key.is_some()),
        (REMOVED, publish.removed),
        (TAGS, publish.tags.is_some()),
        (PUBLISHER, publish.publisher.is_some()),
        (EXCEPT, publish.except.is_some()),
        (TTL, publish.ttl.is_some()),
        (REPORT, report.is_some()),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    out.put_u8(flags);
    out.put_u64(unix_ms(std::time::SystemTime::now()));
    if let Some(key) = &publish.key {
        put_text(&mut out, key.as_bytes());
    }
    if let Some(tags) = &publish.tags {
        put_varint(&mut out, tags.len() as u64);
        for (key, value) in tags.iter() {
            put_text(&mut out, key.as_bytes());
            put_text(&mut out, value.as_bytes());
        }
    }
    if let Some(who) = &publish.publisher {
        put_who(&mut out, who);
    }
    if let Some(except) = &publish.except {
        put_varint(&mut out, except.users.len() as u64);
        for user in &except.users {
            put_text(&mut out, user.as_str().as_bytes());
        }
        put_varint(&mut out, except.sessions.len() as u64);
        for session in &except.sessions {
            put_session(&mut out, *session);
        }
    }
    if let Some(ttl) = publish.ttl {
        put_varint(&mut out, ttl.as_millis() as u64);
    }
    if let Some(report) = report {
        out.put_u64(report);
    }
    out.put_slice(publish.data.bytes());
    out.freeze()
}

/// Reads a publish. The data is copied: what was received may be a small part of a large buffer.
pub(crate) fn decode(bytes: &[u8]) -> Result<Entry, Unreadable> {
    let mut input = Input { rest: bytes };
    let version = input.byte()?;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let kind = input.byte()?;
    let flags = input.byte()?;
    let published_at_ms = input.number()?;
    let key = if flags & KEY > 0 { Some(input.text()?) } else { None };
    let tags = if flags & TAGS > 0 {
        let mut tags = Tags::new();
        for _ in 0..input.varint()? {
            tags.insert(input.text()?.to_owned(), input.text()?.to_owned());
        }
        Some(tags)
    } else {
        None
    };
    let publisher = if flags & PUBLISHER > 0 { Some(input.session_info()?) } else { None };
    let except = if flags & EXCEPT > 0 {
        let mut except = Except::nobody();
        for _ in 0..input.varint()? {
            except = except.user(input.text()?);
        }
        for _ in 0..input.varint()? {
            except = except.session(input.session()?);
        }
        Some(except)
    } else {
        None
    };
    let ttl = if flags & TTL > 0 { Some(Duration::from_millis(input.varint()?)) } else { None };
    let report = if flags & REPORT > 0 { Some(input.number()?) } else { None };
    let data = match kind {
        0 => Payload::json(Bytes::copy_from_slice(input.rest)),
        1 => Payload::text(std::str::from_utf8(input.rest).map_err(|_| Unreadable::Malformed)?),
        2 => Payload::binary(Bytes::copy_from_slice(input.rest)),
        _ => return Err(Unreadable::Malformed),
    };
    let mut publish = Publish::new(data);
    publish.key = key.map(Into::into);
    publish.removed = flags & REMOVED > 0;
    publish.ttl = ttl;
    publish.tags = tags.map(Arc::new);
    publish.publisher = publisher.map(Arc::new);
    publish.except = except.map(Arc::new);
    Ok(Entry { publish, published_at_ms, report })
}

/// Writes who somebody is.
pub(crate) fn encode_who(who: &SessionInfo) -> BytesMut {
    let mut out = BytesMut::with_capacity(128);
    put_who(&mut out, who);
    out
}

/// Reads who somebody is.
pub(crate) fn decode_who(bytes: &[u8]) -> Result<SessionInfo, Unreadable> {
    Input { rest: bytes }.session_info()
}

fn put_who(out: &mut BytesMut, who: &SessionInfo) {
    put_session(out, who.session);
    put_text(out, who.user.as_str().as_bytes());
    put_optional(out, who.info.as_ref());
    put_optional(out, who.topic_info.as_ref());
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn put_text(out: &mut BytesMut, text: &[u8]) {
    put_varint(out, text.len() as u64);
    out.put_slice(text);
}

fn put_optional(out: &mut BytesMut, text: Option<&Bytes>) {
    out.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(out, text);
    }
}

fn put_session(out: &mut BytesMut, session: SessionId) {
    out.put_slice(session.to_string().as_bytes());
}

/// Length of a session's id as text.
const SESSION_LEN: usize = 36;

/// What is still to be read.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Unreadable::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        let bytes = self.take(8)?.try_into().map_err(|_| Unreadable::Malformed)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn varint(&mut self) -> Result<u64, Unreadable> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Unreadable::Malformed)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| Unreadable::Malformed)?)
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable::Malformed)
    }

    fn optional(&mut self) -> Result<Option<Bytes>, Unreadable> {
        if self.byte()? == 0 { Ok(None) } else { Ok(Some(Bytes::copy_from_slice(self.bytes()?))) }
    }

    fn session(&mut self) -> Result<SessionId, Unreadable> {
        let text = std::str::from_utf8(self.take(SESSION_LEN)?).map_err(|_| Unreadable::Malformed)?;
        text.parse().map_err(|_| Unreadable::Malformed)
    }

    fn session_info(&mut self) -> Result<SessionInfo, Unreadable> {
        let session = self.session()?;
        let user = UserId::from(self.text()?);
        Ok(SessionInfo { session, user, info: self.optional()?, topic_info: self.optional()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn everything() -> Publish {
        let who = SessionInfo {
            session: SessionId::from_random(7),
            user: "ris1".into(),
            info: Some(Bytes::from_static(br#"{"name":"Kim"}"#)),
            topic_info: None,
        };
        let tags = Tags::from([("unit".to_owned(), "mm".to_owned())]);
        Publish::new(Payload::json("7"))
            .key("o7")
            .tags(tags)
            .ttl(Duration::from_secs(300))
            .except(Except::nobody().user("ris2").session(SessionId::from_random(8)))
            .publisher(Arc::new(who))
    }

    /// What a released version wrote is read for ever.
    #[test]
    fn golden_bytes_of_version_1_are_read() {
        let plain = b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x2a{\"n\":1}";
        let entry = decode(plain).expect("version 1");
        assert_eq!((entry.publish.data, entry.published_at_ms, entry.report), (Payload::json(r#"{"n":1}"#), 42, None));
        let rich = b"\x01\x01\x67\x00\x00\x00\x00\x00\x00\x00\x01\x02o7\x01\x04unit\x02mm\x90\x4e\x00\x00\x00\x00\x00\x00\x00\x09gone";
        let entry = decode(rich).expect("version 1");
        let publish = entry.publish;
        assert_eq!((publish.key.as_deref(), publish.removed, entry.report), (Some("o7"), true, Some(9)));
        assert_eq!(publish.ttl, Some(Duration::from_secs(10)));
        assert_eq!(publish.tags.as_deref(), Some(&Tags::from([("unit".to_owned(), "mm".to_owned())])));
        assert_eq!(publish.data, Payload::text("gone"));
    }

    #[test]
    fn everything_comes_back() {
        let sent = everything();
        let entry = decode(&encode(&sent, None)).expect("readable");
        let got = entry.publish;
        assert_eq!((&got.data, &got.key, got.ttl, &got.tags), (&sent.data, &sent.key, sent.ttl, &sent.tags));
        assert_eq!((&got.publisher, &got.except), (&sent.publisher, &sent.except));
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(decode(&[9, 0, 0]).err(), Some(Unreadable::Version(9)));
    }

    proptest! {
        #[test]
        fn cut_and_changed_bytes_never_panic(cut in 0_usize..200, at in 0_usize..200, byte: u8) {
            let mut bytes = encode(&everything(), Some(1)).to_vec();
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(cut);
            let _ = decode(&bytes);
        }

        #[test]
        fn any_data_comes_back(data: Vec<u8>) {
            let entry = decode(&encode(&Publish::new(Payload::binary(data.clone())), None)).expect("readable");
            prop_assert_eq!(&entry.publish.data.bytes()[..], &data[..]);
        }
    }
}
