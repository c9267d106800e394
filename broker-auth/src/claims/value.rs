//! One claim of a token: what it must be, and how a mistake in it is named. What claims mean lives above.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::Refusal;
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The last second that a claim of time may name, the end of the year 9999: what lies beyond was meant as milliseconds.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Where a value stands: `caps[1].allow[0]`. What the token calls things is not in it: messages quote nothing of a token.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Claim(&'a str),
    Field(&'a Place<'a>, &'static str),
    Element(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl Place<'_> {
    /// "the token's claim `exp` lies before 1970".
    pub(super) fn refusal(&self, what: impl fmt::Display) -> Refusal {
        Refusal::unauthorized(format!("the token's claim `{self}` {what}"))
    }

    fn must_be(&self, what: &str, value: &RawValue) -> Refusal {
        self.refusal(format_args!("must be {what}, it is {}", kind_of(value)))
    }
}

/// A value that must be text.
pub(super) fn text(place: Place<'_>, value: &RawValue) -> Result<String, Refusal> {
    serde_json::from_str(value.get()).map_err(|_| {
        let refusal = place.must_be("a string", value);
        match value.get() {
            "null" => refusal.hint(format!("leave `{place}` out, or send an empty string")),
            _ => refusal.hint("write the value in quotes"),
        }
    })
}

/// A value of time: seconds since 1970, a fraction allowed.
// spec: RFC 7519 section 2, "NumericDate".
pub(super) fn moment(place: Place<'_>, value: &RawValue) -> Result<SystemTime, Refusal> {
    let seconds: f64 = serde_json::from_str(value.get()).map_err(|_| place.must_be("a number of seconds since 1970", value))?;
    if seconds > LAST_SECOND {
        return Err(place.refusal("lies beyond the year 9999").hint(format!("`{place}` counts seconds, not milliseconds")));
    }
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| place.refusal("lies before 1970"))?;
    UNIX_EPOCH.checked_add(since).ok_or_else(|| place.refusal("is beyond what this machine's clock can tell"))
}

/// A list of at most `max` elements.
pub(super) fn list<'a>(place: Place<'_>, value: &'a RawValue, max: usize) -> Result<Vec<&'a RawValue>, Refusal> {
    let elements: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| place.must_be("a list", value))?;
    match elements.len() {
        len if len > max => Err(place.refusal(format_args!("has {len} elements, at most {max} are allowed"))),
        _ => Ok(elements),
    }
}

/// An object, read by its fields; a name that stands in it twice is refused.
pub(super) fn object<'a, T: Deserialize<'a>>(place: Place<'_>, value: &'a RawValue) -> Result<T, Refusal> {
    // An array would be read as the fields in their order.
    if !value.get().starts_with('{') {
        return Err(place.must_be("an object", value));
    }
    serde_json::from_str(value.get()).map_err(|_| place.refusal("must be an object that has each name once"))
}

/// Any JSON value, as it was written; `null` is none.
pub(super) fn json(value: &RawValue) -> Option<Bytes> {
    (value.get() != "null").then(|| Bytes::copy_from_slice(value.get().as_bytes()))
}

/// One JSON value as it is, or in base64 under another name, which wins.
pub(super) fn json_or_base64(
    plain: Option<&RawValue>,
    encoded: Option<&RawValue>,
    encoded_place: Place<'_>,
) -> Result<Option<Bytes>, Refusal> {
    let Some(encoded) = encoded else { return Ok(plain.and_then(json)) };
    let decoded = STANDARD
        .decode(text(encoded_place, encoded)?)
        .map_err(|_| encoded_place.refusal("is not base64 with its standard alphabet and padding"))?;
    match serde_json::from_slice::<&RawValue>(&decoded) {
        Ok(_) => Ok(Some(decoded.into())),
        Err(_) => Err(encoded_place.refusal("does not decode to one JSON value")),
    }
}

/// A claim that is there, `null` too: `"exp": null` must not pass for a token without an end.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The entries of an object whose names the application chose, in their order; no name stands twice.
pub(super) struct Entries<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                let mut names = std::collections::HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if !names.insert(name.clone()) {
                        return Err(de::Error::custom("a name stands twice"));
                    }
                    entries.push((name, value));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
