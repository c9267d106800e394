//! Appending JSON to a buffer. What is already JSON is copied, not parsed.

use std::fmt::Display;
use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::{Payload, PayloadKind};

/// Appends a string with quotes and escapes.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes every byte, and a str is always a JSON string");
}

/// Appends a number.
pub(crate) fn number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("a Vec takes every byte, and a u64 is always a JSON number");
}

/// What the bytes of a payload can be sent as: bytes that are no UTF-8 are binary, whatever their publisher called them.
///
/// A text frame that is no UTF-8 ends the connection of everyone who gets it, and again when they come back for it.
pub(crate) fn sendable_kind(payload: &Payload) -> PayloadKind {
    match payload.kind() {
        PayloadKind::Json if std::str::from_utf8(payload.bytes()).is_err() => PayloadKind::Binary,
        kind => kind,
    }
}

/// Appends a payload as one JSON value on one line: JSON as it is, text as a string, bytes as a string in base64.
pub(crate) fn payload(out: &mut Vec<u8>, payload: &Payload) {
    let bytes = payload.bytes();
    match sendable_kind(payload) {
        // No bytes are no JSON value: the frame around must stay whole.
        PayloadKind::Json if bytes.is_empty() => out.extend_from_slice(b"null"),
        PayloadKind::Json if memchr::memchr2(b'\n', b'\r', bytes).is_some() => one_line(out, bytes),
        PayloadKind::Json => out.extend_from_slice(bytes),
        PayloadKind::Text => text(out, &String::from_utf8_lossy(bytes)),
        PayloadKind::Binary => base64(out, bytes),
    }
}

/// Appends one JSON value on one line: a raw line break is white space, and would end a frame.
pub(crate) fn one_line(out: &mut Vec<u8>, json: &[u8]) {
    let start = out.len();
    out.extend_from_slice(json);
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Appends bytes as a string in base64.
pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).expect("three bytes become four characters");
    out.truncate(start + written);
    out.push(b'"');
}

/// Writes one object, key by key. It is closed by [`ObjectWriter::end`].
#[derive(Debug)]
pub(crate) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens an object.
    pub(crate) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Closes the object.
    pub(crate) fn end(self) {
        self.out.push(b'}');
    }

    /// Writes a key that needs no escapes; the value is appended to what is returned.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.out.extend_from_slice(if self.empty { b"\"" } else { b",\"" });
        self.empty = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A string.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        text(self.key(key), value);
    }

    /// Writes a key of the application's, which may need escapes; the value is appended to what is returned.
    fn foreign_key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        text(self.out, key);
        self.out.push(b':');
        self.out
    }

    /// A string under a key of the application's.
    pub(crate) fn pair(&mut self, key: &str, value: &str) {
        text(self.foreign_key(key), value);
    }

    /// An object under a key of the application's.
    pub(crate) fn object_of(&mut self, key: &str) -> ObjectWriter<'_> {
        ObjectWriter::open(self.foreign_key(key))
    }

    /// A string of something that writes itself without a byte that needs an escape: a position, an id.
    pub(crate) fn word(&mut self, key: &str, value: impl Display) {
        write!(self.key(key), "\"{value}\"").expect("a Vec takes every byte");
    }

    /// A number.
    pub(crate) fn number(&mut self, key: &str, value: u64) {
        number(self.key(key), value);
    }

    /// `true`.
    pub(crate) fn yes(&mut self, key: &str) {
        self.key(key).extend_from_slice(b"true");
    }

    /// A payload as one JSON value.
    pub(crate) fn payload(&mut self, key: &str, value: &Payload) {
        payload(self.key(key), value);
    }

    /// An object within.
    pub(crate) fn object(&mut self, key: &str) -> ObjectWriter<'_> {
        ObjectWriter::open(self.key(key))
    }

    /// An array within.
    pub(crate) fn array<T>(&mut self, key: &str, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
        let out = self.key(key);
        out.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write(out, item);
        }
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &Payload, expected: &str) {
        let mut out = b"x".to_vec();
        payload(&mut out, value);
        assert_eq!(out, format!("x{expected}").as_bytes());
    }

    #[test]
    fn every_payload_is_one_json_value() {
        check(&Payload::json(r#"{"a": 1}"#), r#"{"a": 1}"#);
        check(&Payload::json(""), "null");
        check(&Payload::text("a\n\"b\""), r#""a\n\"b\"""#);
        check(&Payload::binary(&b""[..]), r#""""#);
        check(&Payload::binary(&b"\0"[..]), r#""AA==""#);
        check(&Payload::binary(&b"\0\x01\xff"[..]), r#""AAH/""#);
        check(&Payload::json(&b"\0\x01\xff"[..]), r#""AAH/""#);
    }

    #[test]
    fn json_of_the_application_stands_on_one_line() {
        let mut out = b"a\n".to_vec();
        one_line(&mut out, b"{\r\n\"a\":1}");
        assert_eq!(out, b"a\n{  \"a\":1}");
    }
}
