//! Reading one JSON object: known keys with their unparsed values, and refusals that name the key and the place of a mistake.

use std::{borrow::Cow, fmt};

use broker_core::{InvalidTopic, Payload, Refusal, RefusalKind, Topic};
use bytes::Bytes;
use serde::{
    Deserializer as _,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Most levels of objects and arrays in one command, its data included.
pub(crate) const DEPTH_MAX: usize = 64;

/// The whole message of a client, to tell where in it a part stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a>(pub(crate) &'a [u8]);

impl Frame<'_> {
    /// The byte offset of `part`, which is a slice of the frame.
    pub(crate) fn at(self, part: &str) -> usize {
        part.as_ptr().addr().saturating_sub(self.0.as_ptr().addr())
    }
}

/// One object of a client's frame: the values of the keys it may have, unparsed.
#[derive(Debug)]
pub(crate) struct Object<'a, const N: usize> {
    frame: Frame<'a>,
    /// What stands before the name of a key in messages: `subscribe.`, or nothing.
    path: &'static str,
    names: &'static [&'static str; N],
    values: [Option<&'a str>; N],
    keys: usize,
    unknown: Option<&'a str>,
    twice: Option<(&'static str, &'a str)>,
}

impl<'a, const N: usize> Object<'a, N> {
    /// Reads `json`, a slice of `frame`. Keys that are not in `names` are ignored, but their values must be JSON.
    pub(crate) fn read(frame: Frame<'a>, path: &'static str, json: &'a str, names: &'static [&'static str; N]) -> Result<Self, Refusal> {
        let mut object = Self { frame, path, names, values: [None; N], keys: 0, unknown: None, twice: None };
        let mut deserializer = serde_json::Deserializer::from_str(json);
        match Fill(&mut object).deserialize(&mut deserializer).and_then(|()| deserializer.end()) {
            Ok(()) => Ok(object),
            Err(error) => Err(object_refusal(frame, path, json, &error)),
        }
    }

    /// Refuses an object in which a known key stands twice: whoever reads the other one would read another command.
    pub(crate) fn check_distinct(&self) -> Result<(), Refusal> {
        match self.twice {
            None => Ok(()),
            Some((name, value)) => Err(Refusal::bad_request(format!("the key {}{name} stands twice", self.path)).at(self.frame.at(value))),
        }
    }

    /// Whether the object has no key at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The first key that is not among the names, where it was written without escapes.
    pub(crate) fn unknown(&self) -> Option<&'a str> {
        self.unknown
    }

    /// The value as it was written; `null` is a value here.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        let index = self.names.iter().position(|known| *known == name);
        self.values[index.expect("only names that were read are asked for")]
    }

    /// The value as it was written; `null` counts as absent.
    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.raw(name).filter(|value| *value != "null")
    }

    /// The first name in order, from index `from` on, that has a value which is not `null`.
    pub(crate) fn first_value(&self, from: usize) -> Option<(&'static str, &'a str)> {
        self.names.iter().zip(self.values).skip(from).find_map(|(name, value)| Some((*name, value.filter(|value| *value != "null")?)))
    }

    /// A value of any type, as a payload.
    pub(crate) fn payload(&self, name: &str) -> Option<Payload> {
        self.raw(name).map(json_payload)
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        self.value(name).map(|value| self.parse_text(name, value)).transpose()
    }

    /// A string that must be there.
    pub(crate) fn required_text(&self, name: &str) -> Result<Cow<'a, str>, Refusal> {
        self.raw(name).map_or_else(|| Err(self.missing(name)), |value| self.parse_text(name, value))
    }

    /// A whole number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        self.parsed(name, "a whole number that is not negative")
    }

    /// A whole number that may be negative.
    pub(crate) fn signed(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.parsed(name, "a whole number")
    }

    /// A boolean; false where it is absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        self.parsed(name, "a boolean").map(Option::unwrap_or_default)
    }

    /// The name of a topic, which must be there.
    pub(crate) fn topic(&self, name: &str) -> Result<Topic, Refusal> {
        self.required_text(name)?.parse().map_err(|error: InvalidTopic| self.refuse(name, &format!("is no topic: {error}")))
    }

    /// The refusal of a key that is not there.
    pub(crate) fn missing(&self, name: &str) -> Refusal {
        Refusal::bad_request(format!("{}{name} is missing", self.path))
    }

    /// The refusal of a value: `is` says what is wrong with it.
    pub(crate) fn refuse(&self, name: &str, is: &str) -> Refusal {
        let refusal = Refusal::bad_request(format!("{}{name} {is}", self.path));
        match self.raw(name) {
            Some(value) => refusal.at(self.frame.at(value)),
            None => refusal,
        }
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Refusal> {
        let Some(value) = self.value(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.wrong_type(name, value, expected))
    }

    fn parse_text(&self, name: &str, value: &'a str) -> Result<Cow<'a, str>, Refusal> {
        let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Err(self.wrong_type(name, value, "a string"));
        };
        if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
            return Ok(Cow::Borrowed(inner));
        }
        serde_json::from_str(value).map(Cow::Owned).map_err(|_| self.refuse(name, "has an escape that is no character"))
    }

    fn wrong_type(&self, name: &str, value: &str, expected: &str) -> Refusal {
        let found = kind_name(value);
        if expected.starts_with("a whole number") && found == "a number" {
            return self.refuse(name, &format!("must be {expected} of at most 64 bits"));
        }
        self.refuse(name, &format!("must be {expected}, not {found}"))
    }
}

/// The entries of an object whose keys are names of the client's own, with their unparsed values: at most `max`, each name once.
///
/// `path` is the name of the object in messages. Takes memory for `max` entries at most, however long the object is.
pub(crate) fn entries<'a>(
    frame: Frame<'a>,
    path: &'static str,
    json: &'a str,
    max: usize,
) -> Result<Vec<(Cow<'a, str>, &'a str)>, Refusal> {
    let mut entries = Entries { found: Vec::new(), max, excess: false };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = deserializer.deserialize_map(&mut entries).and_then(|()| deserializer.end());
    read.map_err(|error| object_refusal(frame, path, json, &error))?;
    if entries.excess {
        let refusal = Refusal::new(RefusalKind::LimitExceeded, format!("{path} has more than {max} entries"));
        return Err(refusal.at(frame.at(json)));
    }
    let found = entries.found;
    for (index, (name, value)) in found.iter().enumerate() {
        if found[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(Refusal::bad_request(format!("{path} has {} twice", quoted(name))).at(frame.at(value)));
        }
    }
    Ok(found)
}

/// A name of the client's in a message: in quotes and cut, because it goes into the answer and the log.
pub(crate) fn quoted(name: &str) -> String {
    format!("{:?}", name.chars().take(32).collect::<String>())
}

/// A payload of JSON whose syntax was checked.
pub(crate) fn json_payload(json: &str) -> Payload {
    Payload::json(Bytes::copy_from_slice(json.as_bytes()))
}

/// What kind of JSON value a text is, with its article, by its first byte.
pub(crate) fn kind_name(value: &str) -> &'static str {
    match value.trim_ascii_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The JSON value that a text is, without the white space around it; `None` where it is no JSON.
pub(crate) fn syntax(text: &str) -> Option<&str> {
    serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
}

/// Refuses text that nests deeper than [`DEPTH_MAX`]. Also works on text that is no JSON.
pub(crate) fn check_depth(frame: Frame<'_>, json: &str) -> Result<(), Refusal> {
    // Counting has no branches and runs over many bytes at once: hardly any command has so many brackets.
    let brackets: usize = json.as_bytes().chunks(255).map(count_brackets).sum();
    if brackets <= DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Refusal::bad_request(format!("the command nests deeper than {DEPTH_MAX} levels")).at(frame.at(json) + at));
        }
    }
    Ok(())
}

/// Opening brackets in at most 255 bytes.
fn count_brackets(bytes: &[u8]) -> usize {
    // `{` and `[` differ in one bit.
    usize::from(bytes.iter().map(|byte| u8::from(byte & !0x20 == b'[')).fold(0_u8, u8::wrapping_add))
}

/// Why something that must be an object could not be read.
fn object_refusal(frame: Frame<'_>, path: &str, json: &str, error: &serde_json::Error) -> Refusal {
    if !error.is_data() {
        return syntax_refusal(frame, json, error);
    }
    let what = if path.is_empty() { "a command" } else { path.trim_end_matches('.') };
    Refusal::bad_request(format!("{what} must be an object, not {}", kind_name(json))).at(frame.at(json.trim_ascii_start()))
}

fn syntax_refusal(frame: Frame<'_>, json: &str, error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let line_at = match error.line() {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', json.as_bytes()).nth(line - 2).map_or(0, |newline| newline + 1),
    };
    let within = if error.is_eof() { json.len() } else { (line_at + error.column()).saturating_sub(1).min(json.len()) };
    Refusal::bad_request(format!("malformed JSON: {text}")).at(frame.at(json) + within)
}

/// Collects an object's known keys.
struct Fill<'o, 'a, const N: usize>(&'o mut Object<'a, N>);

impl<'a, const N: usize> DeserializeSeed<'a> for Fill<'_, 'a, N> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for Fill<'_, 'a, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let object = self.0;
        while let Some(key) = map.next_key_seed(Key(object.names))? {
            object.keys += 1;
            match key {
                Known::Name(index) => {
                    let value = map.next_value::<&'a RawValue>()?.get();
                    if object.values[index].is_some() {
                        object.twice.get_or_insert((object.names[index], value));
                    } else {
                        object.values[index] = Some(value);
                    }
                }
                Known::Other(name) => {
                    map.next_value::<IgnoredAny>()?;
                    object.unknown = object.unknown.or(name);
                }
            }
        }
        Ok(())
    }
}

/// A key of an object.
enum Known<'a> {
    /// The index of its name.
    Name(usize),
    /// Not among the names.
    Other(Option<&'a str>),
}

/// Reads a key as bytes, so that a lone surrogate in a foreign key is tolerated as it is in a value. A raw control character in a key is
/// tolerated with it: no key goes further than this file.
struct Key<const N: usize>(&'static [&'static str; N]);

impl<const N: usize> Key<N> {
    fn index(&self, key: &[u8]) -> Option<usize> {
        self.0.iter().position(|name| name.as_bytes() == key)
    }
}

impl<'a, const N: usize> DeserializeSeed<'a> for Key<N> {
    type Value = Known<'a>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Known<'a>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for Key<N> {
    type Value = Known<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<E>(self, key: &'a [u8]) -> Result<Known<'a>, E> {
        Ok(self.index(key).map_or_else(|| Known::Other(std::str::from_utf8(key).ok()), Known::Name))
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Known<'a>, E> {
        Ok(self.index(key).map_or(Known::Other(None), Known::Name))
    }
}

/// Collects the entries of an object.
struct Entries<'a> {
    found: Vec<(Cow<'a, str>, &'a str)>,
    max: usize,
    excess: bool,
}

impl<'a> Visitor<'a> for &mut Entries<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            if self.found.len() < self.max {
                self.found.push((name, map.next_value::<&'a RawValue>()?.get()));
            } else {
                self.excess = true;
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads a key as text, without a copy where it has no escapes.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Cow<'a, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'a str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
