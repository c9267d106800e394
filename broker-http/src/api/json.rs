//! Reading the JSON of a request: syntax, depth, and known fields by name and type. What a field means does not live here.

use std::{borrow::Cow, fmt};

use broker_core::{InvalidTopic, Refusal, Topic};
use serde::de::{self, DeserializeSeed, Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Most levels of objects and arrays in one request, what is published included.
const DEPTH_MAX: usize = 64;

/// The body is not a JSON object at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct NotJson {
    /// What is wrong, without the place.
    pub(crate) message: String,
    /// Byte offset in the body.
    pub(crate) at: usize,
}

/// A part of the body that is one JSON value, and its name in messages: `tags.year`, `commands[3].publish`, empty for the whole body.
#[derive(Clone, Debug)]
pub(crate) struct Value<'a> {
    body: &'a str,
    path: String,
    json: &'a str,
}

impl<'a> Value<'a> {
    /// The whole body, which must be an object.
    pub(crate) fn whole(body: &'a [u8]) -> Result<Self, NotJson> {
        let text =
            str::from_utf8(body).map_err(|error| NotJson { message: "the body is not UTF-8".to_owned(), at: error.valid_up_to() })?;
        if text.trim_ascii().is_empty() {
            return Err(NotJson { message: "the body is empty, a method without arguments takes {}".to_owned(), at: 0 });
        }
        let json: &RawValue = serde_json::from_str(text).map_err(|error| NotJson::new(text, &error))?;
        let whole = Self { body: text, path: String::new(), json: json.get() };
        match kind_of(whole.json) {
            "an object" => Ok(whole),
            other => Err(NotJson { message: format!("the body must be a JSON object, not {other}"), at: whole.at() }),
        }
    }

    /// Refuses what nests too deep.
    pub(crate) fn check_depth(&self) -> Result<(), Refusal> {
        match first_too_deep(self.json.as_bytes()) {
            None => Ok(()),
            Some(at) => Err(Refusal::bad_request(format!("the request nests deeper than {DEPTH_MAX} levels")).at(self.at() + at)),
        }
    }

    /// The JSON as it was written.
    pub(crate) fn json(&self) -> &'a str {
        self.json
    }

    /// Whether it is `null`, which counts as absent in every field but `data`.
    pub(crate) fn is_null(&self) -> bool {
        self.json == "null"
    }

    /// A string.
    pub(crate) fn text(&self) -> Result<Cow<'a, str>, Refusal> {
        if !self.json.starts_with('"') {
            return Err(self.must_be("a string"));
        }
        let mut deserializer = serde_json::Deserializer::from_str(self.json);
        deserializer.deserialize_str(Text).map_err(|_| self.refuse("has an escape that is no character"))
    }

    /// The name of a topic.
    pub(crate) fn topic(&self) -> Result<Topic, Refusal> {
        self.text()?.parse().map_err(|error: InvalidTopic| self.refuse(&format!("is no topic: {error}")))
    }

    /// A boolean.
    pub(crate) fn flag(&self) -> Result<bool, Refusal> {
        self.json.parse().map_err(|_| self.must_be("a boolean"))
    }

    /// A whole number.
    pub(crate) fn number<N: std::str::FromStr>(&self) -> Result<N, Refusal> {
        self.json.parse().map_err(|_| match kind_of(self.json) {
            "a number" if self.json.starts_with('-') => self.refuse("must not be negative"),
            "a number" => self.refuse("must be a whole number of at most 64 bits"),
            _ => self.must_be("a whole number"),
        })
    }

    /// An array: its elements.
    pub(crate) fn elements(&self) -> Result<Vec<Self>, Refusal> {
        let elements: Vec<&RawValue> = serde_json::from_str(self.json).map_err(|_| self.must_be("an array"))?;
        let named = |(index, json): (usize, &'a RawValue)| self.part(format!("{}[{index}]", self.path), json);
        Ok(elements.into_iter().enumerate().map(named).collect())
    }

    /// An array of strings: its elements.
    pub(crate) fn texts(&self) -> Result<Vec<Self>, Refusal> {
        let elements = self.elements()?;
        elements.iter().try_for_each(|element| element.text().map(|_| ()))?;
        Ok(elements)
    }

    /// A string, or an array of strings: the strings.
    pub(crate) fn one_or_more(&self) -> Result<Vec<Self>, Refusal> {
        match self.json.as_bytes().first() {
            Some(b'[') => self.texts(),
            Some(b'"') => Ok(vec![self.clone()]),
            _ => Err(self.must_be("a string or an array of strings")),
        }
    }

    /// An object: all its fields in their order, with their names.
    pub(crate) fn entries(&self) -> Result<Vec<(String, Self)>, Refusal> {
        let mut entries = Vec::new();
        self.for_each_field(|name, json| {
            entries.push((name.to_owned(), self.part(self.path_of(name), json)));
            Ok(())
        })?;
        Ok(entries)
    }

    /// An object: its fields of these names. Others are ignored.
    pub(crate) fn fields(&self, names: &'static [&'static str]) -> Result<Fields<'a>, Refusal> {
        let mut fields = Fields { whole: self.clone(), names, values: vec![None; names.len()] };
        self.for_each_field(|name, json| {
            let Some(index) = names.iter().position(|known| *known == name) else { return Ok(()) };
            let value = self.part(self.path_of(name), json);
            // Whoever reads the other one would do something else.
            if fields.values[index].is_some() {
                return Err(value.refuse("stands twice"));
            }
            fields.values[index] = Some(value);
            Ok(())
        })?;
        Ok(fields)
    }

    /// A refusal of this value: `is` says what is wrong with it.
    pub(crate) fn refuse(&self, is: &str) -> Refusal {
        let what = if self.path.is_empty() { "the request" } else { &self.path };
        Refusal::bad_request(format!("{what} {is}")).at(self.at())
    }

    fn must_be(&self, expected: &str) -> Refusal {
        self.refuse(&format!("must be {expected}, not {}", kind_of(self.json)))
    }

    fn path_of(&self, field: &str) -> String {
        // A name that the client chose is cut, it may be as long as the body.
        let field: String = field.chars().take(64).collect();
        if self.path.is_empty() { field } else { format!("{}.{field}", self.path) }
    }

    fn part(&self, path: String, json: &'a RawValue) -> Self {
        Self { body: self.body, path, json: json.get() }
    }

    fn at(&self) -> usize {
        self.json.as_ptr().addr().saturating_sub(self.body.as_ptr().addr())
    }

    fn for_each_field(&self, each: impl FnMut(&str, &'a RawValue) -> Result<(), Refusal>) -> Result<(), Refusal> {
        if !self.json.starts_with('{') {
            return Err(self.must_be("an object"));
        }
        let mut refused = None;
        let mut deserializer = serde_json::Deserializer::from_str(self.json);
        let read = deserializer.deserialize_map(EachField { each, refused: &mut refused });
        match (refused, read) {
            (Some(refusal), _) => Err(refusal),
            (None, Ok(())) => Ok(()),
            // The syntax was checked with the whole body, but escapes only as far as they have four digits.
            (None, Err(_)) => Err(self.refuse("has a name with an escape that is no character")),
        }
    }
}

impl NotJson {
    fn new(text: &str, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
        let line_at = match error.line() {
            0 | 1 => 0,
            line => text.match_indices('\n').nth(line - 2).map_or(0, |(newline, _)| newline + 1),
        };
        let at = if error.is_eof() { text.len() } else { (line_at + error.column()).saturating_sub(1).min(text.len()) };
        Self { message: format!("the body is not JSON: {message}"), at }
    }
}

/// The known fields of an object.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    whole: Value<'a>,
    names: &'static [&'static str],
    values: Vec<Option<Value<'a>>>,
}

impl<'a> Fields<'a> {
    /// A field that is there; `null` counts as absent.
    pub(crate) fn optional(&self, name: &str) -> Option<&Value<'a>> {
        self.raw(name).filter(|value| !value.is_null())
    }

    /// A field that is there, `null` too.
    pub(crate) fn raw(&self, name: &str) -> Option<&Value<'a>> {
        let index = self.names.iter().position(|known| *known == name);
        self.values[index.expect("only names that were read are asked for")].as_ref()
    }

    /// A field that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&Value<'a>, Refusal> {
        self.optional(name).ok_or_else(|| self.missing(name))
    }

    /// A string; an empty one counts as absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        Ok(self.optional(name).map(Value::text).transpose()?.filter(|text| !text.is_empty()))
    }

    /// A boolean; false where it is absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        self.optional(name).map_or(Ok(false), Value::flag)
    }

    /// Whether a field of this name was read for.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// The refusal of a field that is not there.
    pub(crate) fn missing(&self, name: &str) -> Refusal {
        Refusal::bad_request(format!("{} is missing", self.whole.path_of(name)))
    }
}

/// What kind of JSON value a text is, with its article.
fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Where valid JSON first nests deeper than [`DEPTH_MAX`].
fn first_too_deep(json: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    json.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEPTH_MAX
    })
}

/// Hands each field of an object to a closure, and stops where that refuses.
struct EachField<'r, F> {
    each: F,
    refused: &'r mut Option<Refusal>,
}

impl<'de, F: FnMut(&str, &'de RawValue) -> Result<(), Refusal>> Visitor<'de> for EachField<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Text)? {
            if let Err(refusal) = (self.each)(&name, map.next_value()?) {
                *self.refused = Some(refusal);
                return Err(de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// A string, borrowed where it was written without escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_json_is_told_with_its_byte() {
        let check = |body: &[u8], message: &str, at: usize| {
            assert_eq!(Value::whole(body).unwrap_err(), NotJson { message: message.to_owned(), at }, "{body:?}");
        };
        check(b"{", "the body is not JSON: EOF while parsing an object", 1);
        check(b"{\"a\":1}}", "the body is not JSON: trailing characters", 7);
        check(b"{\"a\":\n  nul}", "the body is not JSON: expected ident", 11);
        check(b"{'a':1}", "the body is not JSON: key must be a string", 1);
        check(b"{\"a\":01}", "the body is not JSON: invalid number", 6);
        check(b"{\"a\":\"\xff\"}", "the body is not UTF-8", 6);
        check(b"", "the body is empty, a method without arguments takes {}", 0);
        check(b" \n", "the body is empty, a method without arguments takes {}", 0);
        check(b" []", "the body must be a JSON object, not an array", 1);
        check(b"\"{}\"", "the body must be a JSON object, not a string", 0);
        check(b"channel=news", "the body is not JSON: expected value", 0);
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(first_too_deep(nested(64).as_bytes()), None);
        assert_eq!(first_too_deep(nested(65).as_bytes()), Some(64));
        assert_eq!(first_too_deep(format!(r#"["\"{}"]"#, "[".repeat(100)).as_bytes()), None);
    }
}
