//! Reading an answer of the application: JSON whose mistakes are told with the path of their field. What the fields mean does not live here.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::{Payload, Refusal, RefusalKind, Tags, Topic};
use bytes::Bytes;
use serde_json::value::RawValue;

/// The last second that a time may name, the end of the year 9999: what lies beyond was meant as milliseconds.
const LAST_SECOND: f64 = 253_402_300_799.0;
/// The longest message of an error that reaches a client, in characters.
const MESSAGE_MAX_LEN: usize = 512;

/// Where an answer is wrong, and what is wrong there. Holds none of the answer's values: they may be secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Malformed {
    /// The path of the field: `result.subs.news.info`; empty: the answer as a whole.
    pub(super) path: String,
    /// What is wrong with it.
    pub(super) what: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { write!(f, "the answer {}", self.what) } else { write!(f, "`{}` {}", self.path, self.what) }
    }
}

/// What the application says.
pub(super) enum Verdict<'a> {
    /// Yes, and this.
    Result(Object<'a>),
    /// No, and the client is told.
    Error(Refusal),
    /// The client must go.
    Disconnect(Ending),
}

/// The code and text with which a connection is to end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ending {
    pub(super) code: u16,
    pub(super) reason: String,
}

/// Reads the envelope that all answers share.
///
/// An answer that says nothing at all is malformed: nothing is allowed by an empty object.
// spec: Centrifugo proxies, "Return custom error" and "Return custom disconnect".
pub(super) fn read(body: &[u8]) -> Result<Verdict<'_>, Malformed> {
    let whole = |what: &str| Malformed { path: String::new(), what: what.to_owned() };
    let raw: &RawValue = serde_json::from_slice(body).map_err(|error| whole(&format!("is not JSON (column {})", error.column())))?;
    let answer = Object::of(String::new(), raw)?;
    if let Some(disconnect) = answer.object("disconnect")? {
        return Ok(Verdict::Disconnect(ending(&disconnect)?));
    }
    if let Some(error) = answer.object("error")? {
        return Ok(Verdict::Error(refusal(&error)?));
    }
    match answer.object("result")? {
        Some(result) => Ok(Verdict::Result(result)),
        None => Err(whole("has none of `result`, `error` and `disconnect`")),
    }
}

/// An error for the client: one of the broker's own numbers, or the application's.
pub(super) fn refusal(error: &Object<'_>) -> Result<Refusal, Malformed> {
    let code = error.number("code")?.ok_or_else(|| error.malformed("code", "is missing"))?;
    let code = u32::try_from(code)
        .ok()
        .filter(|code| *code > 0)
        .ok_or_else(|| error.malformed("code", "must be a number from 1 to 4294967295"))?;
    let kind = match code {
        100 => RefusalKind::Unavailable,
        101 => RefusalKind::Unauthorized,
        102 => RefusalKind::UnknownTopic,
        103 => RefusalKind::PermissionDenied,
        104 => RefusalKind::UnknownAction,
        105 => RefusalKind::AlreadySubscribed,
        106 => RefusalKind::LimitExceeded,
        107 => RefusalKind::BadRequest,
        108 => RefusalKind::NotAvailable,
        109 => RefusalKind::TokenExpired,
        110 => RefusalKind::Expired,
        111 => RefusalKind::TooManyRequests,
        112 => RefusalKind::UnrecoverablePosition,
        code => RefusalKind::Application(code),
    };
    let message = error.text("message")?.unwrap_or_default();
    let message: String =
        if message.is_empty() { "the application refused this".to_owned() } else { message.chars().take(MESSAGE_MAX_LEN).collect() };
    let refusal = Refusal::new(kind, message).rule("the application's answer to a hook");
    Ok(if error.flag("temporary")? { refusal.retry_after(Duration::from_secs(1)) } else { refusal })
}

/// The end of a connection.
pub(super) fn ending(disconnect: &Object<'_>) -> Result<Ending, Malformed> {
    let code = disconnect.number("code")?.ok_or_else(|| disconnect.malformed("code", "is missing"))?;
    let code = u16::try_from(code).ok().filter(|code| (4000..=4999).contains(code));
    let code = code.ok_or_else(|| disconnect.malformed("code", "must be a number from 4000 to 4999"))?;
    Ok(Ending { code, reason: disconnect.text("reason")?.unwrap_or_default() })
}

/// A JSON object at a path. What is `null` counts as left out, as backends in many languages write it.
#[derive(Debug, Default)]
pub(super) struct Object<'a> {
    path: String,
    fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Object<'a> {
    fn of(path: String, raw: &'a RawValue) -> Result<Self, Malformed> {
        let malformed = |what: String| Malformed { path: path.clone(), what };
        if !raw.get().starts_with('{') {
            return Err(malformed(format!("must be an object, it is {}", kind_of(raw))));
        }
        let fields = serde_json::from_str(raw.get()).map_err(|_| malformed("cannot be read as an object".to_owned()))?;
        Ok(Self { path, fields })
    }

    /// What is wrong with a field.
    pub(super) fn malformed(&self, name: &str, what: impl Into<String>) -> Malformed {
        Malformed { path: self.path_of(name), what: what.into() }
    }

    /// What is wrong with the object as a whole.
    pub(super) fn malformed_itself(&self, what: impl Into<String>) -> Malformed {
        Malformed { path: self.path.clone(), what: what.into() }
    }

    /// The names of the fields that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|(_, raw)| raw.get() != "null").map(|(name, _)| name.as_str())
    }

    /// A field as it was written.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.get(name).copied().filter(|raw| raw.get() != "null")
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Object<'a>>, Malformed> {
        self.raw(name).map(|raw| Object::of(self.path_of(name), raw)).transpose()
    }

    pub(super) fn objects(&self, name: &str) -> Result<Vec<Object<'a>>, Malformed> {
        let elements = self.elements(name)?;
        elements.into_iter().enumerate().map(|(index, raw)| Object::of(format!("{}[{index}]", self.path_of(name)), raw)).collect()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Malformed> {
        self.raw(name).map(|raw| text(raw).ok_or_else(|| self.wrong(name, "a string", raw))).transpose()
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Malformed> {
        let elements = self.elements(name)?;
        let read = |(index, raw): (usize, &'a RawValue)| text(raw).ok_or_else(|| self.wrong(&format!("{name}[{index}]"), "a string", raw));
        elements.into_iter().enumerate().map(read).collect()
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Malformed> {
        let Some(raw) = self.raw(name) else { return Ok(false) };
        serde_json::from_str(raw.get()).map_err(|_| self.wrong(name, "true or false", raw))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Malformed> {
        let read = |raw: &RawValue| serde_json::from_str(raw.get()).map_err(|_| self.wrong(name, "a whole number", raw));
        self.raw(name).map(read).transpose()
    }

    /// A moment in seconds since 1970; 0: never.
    pub(super) fn moment(&self, name: &str) -> Result<Option<SystemTime>, Malformed> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let seconds: f64 = serde_json::from_str(raw.get()).map_err(|_| self.wrong(name, "a number of seconds since 1970", raw))?;
        if seconds == 0.0 {
            return Ok(None);
        }
        if seconds > LAST_SECOND {
            return Err(self.malformed(name, "lies beyond the year 9999: it counts seconds, not milliseconds"));
        }
        let since = Duration::try_from_secs_f64(seconds).ok().and_then(|since| UNIX_EPOCH.checked_add(since));
        since.map(Some).ok_or_else(|| self.malformed(name, "lies before 1970"))
    }

    pub(super) fn topic(&self, name: &str) -> Result<Topic, Malformed> {
        let text = self.text(name)?.ok_or_else(|| self.malformed(name, "is missing"))?;
        text.parse().map_err(|error| self.malformed(name, format!("is no channel: {error}")))
    }

    /// One JSON value, from a field or in base64 from its twin.
    pub(super) fn json(&self, name: &str, encoded: &str) -> Result<Option<Bytes>, Malformed> {
        match self.decoded(encoded)? {
            Some(bytes) if is_json(&bytes) => Ok(Some(bytes.into())),
            Some(_) => Err(self.malformed(encoded, "does not decode to one JSON value")),
            None => Ok(self.raw(name).map(owned)),
        }
    }

    /// Data for a client: `data` holds JSON, `text` text, `b64data` any bytes.
    pub(super) fn payload(&self) -> Result<Option<Payload>, Malformed> {
        if let Some(bytes) = self.decoded("b64data")? {
            return Ok(Some(if is_json(&bytes) { Payload::json(bytes) } else { Payload::binary(bytes) }));
        }
        if let Some(text) = self.text("text")? {
            return Ok(Some(Payload::text(text)));
        }
        Ok(self.raw("data").map(|raw| Payload::json(owned(raw))))
    }

    /// Short texts by name.
    pub(super) fn tags(&self, name: &str) -> Result<Tags, Malformed> {
        let Some(tags) = self.object(name)? else { return Ok(Tags::new()) };
        tags.names().map(|tag| Ok((tag.to_owned(), tags.text(tag)?.unwrap_or_default()))).collect()
    }

    fn decoded(&self, name: &str) -> Result<Option<Vec<u8>>, Malformed> {
        let decode =
            |text: String| STANDARD.decode(text).map_err(|_| self.malformed(name, "is not base64 with its standard alphabet and padding"));
        self.text(name)?.filter(|text| !text.is_empty()).map(decode).transpose()
    }

    fn elements(&self, name: &str) -> Result<Vec<&'a RawValue>, Malformed> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        serde_json::from_str(raw.get()).map_err(|_| self.wrong(name, "a list", raw))
    }

    fn wrong(&self, name: &str, expected: &str, raw: &RawValue) -> Malformed {
        self.malformed(name, format!("must be {expected}, it is {}", kind_of(raw)))
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Whether bytes are one JSON value.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

fn owned(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn kind_of(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-') => "a negative number",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &str) {
        let malformed = match read(body.as_bytes()) {
            Err(malformed) => malformed,
            Ok(Verdict::Result(result)) => result.moment("expire_at").err().or(result.text("user").err()).expect("a mistake"),
            Ok(_) => panic!("{body} was read"),
        };
        assert_eq!(malformed.to_string(), expected);
    }

    #[test]
    fn a_mistake_is_told_with_its_path_and_without_its_value() {
        check("<html>", "the answer is not JSON (column 1)");
        check("[]", "the answer must be an object, it is a list");
        check("{}", "the answer has none of `result`, `error` and `disconnect`");
        check(r#"{"result":null}"#, "the answer has none of `result`, `error` and `disconnect`");
        check(r#"{"result":true}"#, "`result` must be an object, it is a boolean");
        check(r#"{"result":{"user":7}}"#, "`result.user` must be a string, it is a number");
        check(r#"{"result":{"expire_at":"soon"}}"#, "`result.expire_at` must be a number of seconds since 1970, it is a string");
        check(
            r#"{"result":{"expire_at":1800000000000}}"#,
            "`result.expire_at` lies beyond the year 9999: it counts seconds, not milliseconds",
        );
        check(r#"{"error":{"message":"x"}}"#, "`error.code` is missing");
        check(r#"{"error":{"code":-1}}"#, "`error.code` must be a whole number, it is a negative number");
        check(r#"{"disconnect":{"code":1000}}"#, "`disconnect.code` must be a number from 4000 to 4999");
    }

    #[test]
    fn the_brokers_own_numbers_are_its_kinds_and_others_are_the_applications() {
        let kind = |code: u32| match read(format!(r#"{{"error":{{"code":{code}}}}}"#).as_bytes()) {
            Ok(Verdict::Error(refusal)) => refusal.kind,
            _ => panic!("{code}"),
        };
        assert_eq!(kind(103), RefusalKind::PermissionDenied);
        assert_eq!(kind(111), RefusalKind::TooManyRequests);
        assert_eq!(kind(403), RefusalKind::Application(403));
        assert_eq!(kind(1000), RefusalKind::Application(1000));
    }
}
