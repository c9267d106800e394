//! One value of the configuration: how it is read, checked and shown. Which keys there are does not live here.

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
    ops::RangeInclusive,
    time::Duration,
};

use broker_core::{Verb, Verbs};

use super::{
    quantity::{parse_duration, parse_size, show_duration, show_size},
    raw::{Raw, RawValue},
    secret::Secret,
    suggest,
};

/// Where a value of the configuration goes.
pub(super) trait Field {
    /// Takes the value, or says what is wrong with it and leaves what was there.
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault>;
    /// The value as TOML; `None` where there is none.
    fn show(&self) -> Option<String>;
    /// For people: "a duration from 1s to 10m".
    fn expected(&self) -> String;
    /// A value as TOML, for a key that has none.
    fn example(&self) -> String {
        self.show().unwrap_or_default()
    }
    /// Whether no value may be shown.
    fn is_secret(&self) -> bool {
        false
    }
}

/// What is wrong with one value.
#[derive(Debug, Default)]
pub(super) struct Fault {
    /// What was found: "this is 20m".
    pub(super) found: String,
    /// How to put it right.
    pub(super) help: Option<String>,
    /// The element that is wrong, where the value is a list: its index.
    pub(super) element: Option<usize>,
    /// What would have been right, where it differs from [`Field::expected`].
    pub(super) expected: Option<String>,
}

impl Fault {
    fn found(found: impl Into<String>) -> Self {
        Self { found: found.into(), ..Self::default() }
    }

    fn kind(raw: &Raw) -> Self {
        Self::found(format!("this is {}", raw.kind()))
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A duration within a range, such as "25s".
pub(super) fn duration(target: &mut Duration, range: RangeInclusive<Duration>) -> impl Field + '_ {
    DurationField { target, range }
}

struct DurationField<'a> {
    target: &'a mut Duration,
    range: RangeInclusive<Duration>,
}

impl Field for DurationField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(text) = raw.as_text() else {
            return Err(match &raw.value {
                RawValue::Integer(number) => Fault::found("this has no unit").help(format!("write \"{number}s\" for seconds")),
                _ => Fault::kind(raw),
            });
        };
        match parse_duration(text) {
            Some(value) if self.range.contains(&value) => *self.target = value,
            Some(value) => return Err(Fault::found(format!("this is {}", show_duration(value)))),
            None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(Fault::found("this has no unit").help(format!("write \"{text}s\" for seconds")));
            }
            None => return Err(Fault::found("this is no duration").help("write it like \"25s\", \"500ms\", \"10m\", \"1h30m\" or \"7d\"")),
        }
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&show_duration(*self.target)))
    }

    fn expected(&self) -> String {
        format!("a duration from {} to {}", show_duration(*self.range.start()), show_duration(*self.range.end()))
    }
}

/// A size in bytes within a range, such as "64KiB".
pub(super) fn size(target: &mut usize, range: RangeInclusive<u64>) -> impl Field + '_ {
    SizeField { target, range }
}

struct SizeField<'a> {
    target: &'a mut usize,
    range: RangeInclusive<u64>,
}

impl Field for SizeField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(text) = raw.as_text() else {
            return Err(match &raw.value {
                RawValue::Integer(number) => Fault::found("this has no unit").help(format!("write \"{number}B\" for bytes")),
                _ => Fault::kind(raw),
            });
        };
        match parse_size(text) {
            Some(value) if self.range.contains(&value) => *self.target = usize::try_from(value).unwrap_or(usize::MAX),
            Some(value) => return Err(Fault::found(format!("this is {}", show_size(value)))),
            None => return Err(Fault::found("this is no size").help("write it like \"512B\", \"64KiB\" or \"1MiB\"")),
        }
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&show_size(*self.target as u64)))
    }

    fn expected(&self) -> String {
        format!("a size from {} to {}", show_size(*self.range.start()), show_size(*self.range.end()))
    }
}

/// A whole number within a range.
pub(super) fn count(target: &mut usize, range: RangeInclusive<usize>) -> impl Field + '_ {
    CountField { target: CountTarget::Always(target), range }
}

/// A whole number within a range, or none.
pub(super) fn optional_count(target: &mut Option<usize>, range: RangeInclusive<usize>) -> impl Field + '_ {
    CountField { target: CountTarget::Maybe(target), range }
}

struct CountField<'a> {
    target: CountTarget<'a>,
    range: RangeInclusive<usize>,
}

enum CountTarget<'a> {
    Always(&'a mut usize),
    Maybe(&'a mut Option<usize>),
}

impl Field for CountField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(number) = raw.as_integer() else {
            let fault = Fault::kind(raw);
            return Err(match &raw.value {
                RawValue::Text(text) if text.parse::<u64>().is_ok() => fault.help(format!("write {text} without quotes")),
                _ => fault,
            });
        };
        match number.parse::<usize>() {
            Ok(value) if self.range.contains(&value) => match &mut self.target {
                CountTarget::Always(target) => **target = value,
                CountTarget::Maybe(target) => **target = Some(value),
            },
            _ => return Err(Fault::found(format!("this is {number}"))),
        }
        Ok(())
    }

    fn show(&self) -> Option<String> {
        match &self.target {
            CountTarget::Always(target) => Some(target.to_string()),
            CountTarget::Maybe(target) => target.map(|target| target.to_string()),
        }
    }

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.range.start(), self.range.end())
    }

    fn example(&self) -> String {
        self.show().unwrap_or_else(|| self.range.start().to_string())
    }
}

/// `true` or `false`.
pub(super) fn switch(target: &mut bool) -> impl Field + '_ {
    SwitchField(target)
}

struct SwitchField<'a>(&'a mut bool);

impl Field for SwitchField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(value) = raw.as_bool() else {
            let fault = Fault::kind(raw);
            return Err(match raw.as_text() {
                Some(text @ ("true" | "false")) => fault.help(format!("write {text} without quotes")),
                Some("on" | "yes" | "1") => fault.help("write true"),
                Some("off" | "no" | "0") => fault.help("write false"),
                _ => fault,
            });
        };
        *self.0 = value;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(self.0.to_string())
    }

    fn expected(&self) -> String {
        "true or false".to_owned()
    }
}

/// One word of a list. `later` holds words that a later version will know, and what to write until then.
pub(super) fn choice<'a, T: Copy + PartialEq>(
    target: &'a mut T,
    words: &'a [(&'static str, T)],
    later: &'a [(&'static str, &'static str)],
) -> impl Field + 'a {
    ChoiceField { target, words, later }
}

struct ChoiceField<'a, T> {
    target: &'a mut T,
    words: &'a [(&'static str, T)],
    later: &'a [(&'static str, &'static str)],
}

impl<T: Copy + PartialEq> Field for ChoiceField<'_, T> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let text = raw.as_text().ok_or_else(|| Fault::kind(raw))?;
        if let Some((_, value)) = self.words.iter().find(|(word, _)| *word == text) {
            *self.target = *value;
            return Ok(());
        }
        if let Some((word, help)) = self.later.iter().find(|(word, _)| *word == text) {
            return Err(Fault::found(format!("{} is not in this version yet", quoted(word))).help(*help));
        }
        let meant = suggest::nearest(text, self.words.iter().map(|(word, _)| *word));
        Err(Fault::found(did_you_mean(meant).unwrap_or_else(|| "unknown word".to_owned())))
    }

    fn show(&self) -> Option<String> {
        self.words.iter().find(|(_, value)| value == self.target).map(|(word, _)| quoted(word))
    }

    fn expected(&self) -> String {
        suggest::either(&self.words.iter().map(|(word, _)| quoted(word)).collect::<Vec<_>>())
    }
}

/// A list of verbs: `["sub", "pub"]`.
pub(super) fn verbs(target: &mut Verbs) -> impl Field + '_ {
    VerbsField(target)
}

struct VerbsField<'a>(&'a mut Verbs);

impl Field for VerbsField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let elements = raw.as_list().ok_or_else(|| bare_element(raw))?;
        let mut verbs = Verbs::NONE;
        for (index, element) in elements.iter().enumerate() {
            let text = element.as_text().ok_or_else(|| Fault { element: Some(index), ..Fault::kind(element) })?;
            let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.word() == text) else {
                let found = did_you_mean(meant_verb(text)).unwrap_or_else(|| "unknown word".to_owned());
                return Err(Fault { element: Some(index), ..Fault::found(found) });
            };
            verbs = verbs.with(verb);
        }
        *self.0 = verbs;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(list(Verb::ALL.into_iter().filter(|verb| self.0.has(*verb)).map(Verb::word)))
    }

    fn expected(&self) -> String {
        "a list of \"sub\", \"pub\", \"hst\" and \"prs\"".to_owned()
    }
}

fn meant_verb(text: &str) -> Option<&'static str> {
    match text {
        "subscribe" | "read" => Some("sub"),
        "publish" | "write" => Some("pub"),
        "history" | "hist" => Some("hst"),
        "presence" | "pres" => Some("prs"),
        _ => suggest::nearest(text, Verb::ALL.map(Verb::word)),
    }
}

/// A list of strings, each with its own check.
pub(super) fn texts<'a>(target: &'a mut Vec<String>, expected: &'static str, check: fn(&str) -> Result<(), Complaint>) -> impl Field + 'a {
    TextsField { target, expected, check }
}

/// Why a text is refused: what was found, and how to put it right.
pub(super) type Complaint = (String, Option<String>);

struct TextsField<'a> {
    target: &'a mut Vec<String>,
    expected: &'static str,
    check: fn(&str) -> Result<(), Complaint>,
}

impl Field for TextsField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let elements = raw.as_list().ok_or_else(|| bare_element(raw))?;
        let mut texts = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let text = element.as_text().ok_or_else(|| Fault { element: Some(index), ..Fault::kind(element) })?;
            (self.check)(text).map_err(|(found, help)| Fault { element: Some(index), help, ..Fault::found(found) })?;
            texts.push(text.to_owned());
        }
        *self.target = texts;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(list(self.target.iter().map(String::as_str)))
    }

    fn expected(&self) -> String {
        self.expected.to_owned()
    }
}

/// A string, with a check that may turn it into another type.
pub(super) fn text<'a, T: fmt::Display>(
    target: &'a mut Option<T>,
    expected: &'static str,
    example: &'static str,
    parse: fn(&str) -> Result<T, Complaint>,
) -> impl Field + 'a {
    TextField { target, expected, example, parse }
}

struct TextField<'a, T> {
    target: &'a mut Option<T>,
    expected: &'static str,
    example: &'static str,
    parse: fn(&str) -> Result<T, Complaint>,
}

impl<T: fmt::Display> Field for TextField<'_, T> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let text = raw.as_text().ok_or_else(|| Fault::kind(raw))?;
        *self.target = Some((self.parse)(text).map_err(|(found, help)| Fault { help, ..Fault::found(found) })?);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.target.as_ref().map(|value| quoted(&value.to_string()))
    }

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn example(&self) -> String {
        quoted(self.example)
    }
}

/// An address with its port: "127.0.0.1:8000".
pub(super) fn address(target: &mut SocketAddr) -> impl Field + '_ {
    AddressField(target)
}

struct AddressField<'a>(&'a mut SocketAddr);

impl Field for AddressField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let text = raw.as_text().ok_or_else(|| Fault::kind(raw))?;
        *self.0 = text.parse().map_err(|_| {
            let help = match text.strip_prefix("localhost").or_else(|| text.strip_prefix(':').map(|_| text)) {
                Some(port) if port.starts_with(':') => format!("write \"127.0.0.1{port}\""),
                _ if text.parse::<std::net::IpAddr>().is_ok() => format!("write \"{text}:8000\""),
                _ => "write it like \"127.0.0.1:8000\" or \"[::1]:8000\"; port 0 takes a free one".to_owned(),
            };
            Fault::found("this is no address with a port").help(help)
        })?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0.to_string()))
    }

    fn expected(&self) -> String {
        "an address and a port, such as \"127.0.0.1:8000\"".to_owned()
    }
}

/// A secret of at least `len_min` bytes. `why` says what a shorter one would cost.
pub(super) fn secret<'a>(target: &'a mut Option<Secret>, len_min: usize, why: &'static str) -> impl Field + 'a {
    SecretField { target, len_min, why }
}

struct SecretField<'a> {
    target: &'a mut Option<Secret>,
    len_min: usize,
    why: &'static str,
}

impl Field for SecretField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let text = raw.as_text().ok_or_else(|| Fault::kind(raw))?;
        if text.len() < self.len_min {
            let found = if text.is_empty() { "this is empty".to_owned() } else { format!("this has {} bytes", text.len()) };
            let help = match Secret::random() {
                Ok(fresh) => format!("{}\na random one: \"{}\"", self.why, fresh.expose()),
                Err(_) => self.why.to_owned(),
            };
            return Err(Fault::found(found).help(help));
        }
        *self.target = Some(Secret::new(text));
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.target.as_ref().map(|secret| quoted(secret.expose()))
    }

    fn expected(&self) -> String {
        format!("a secret of at least {} bytes", self.len_min)
    }

    fn example(&self) -> String {
        quoted("...")
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// "did you mean ..?", for the label beside a caret.
pub(super) fn did_you_mean(meant: Option<&str>) -> Option<String> {
    meant.map(|word| format!("did you mean \"{word}\"?"))
}

/// Text as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", words.map(quoted).collect::<Vec<_>>().join(", "))
}

fn bare_element(raw: &Raw) -> Fault {
    let fault = Fault::kind(raw);
    match raw.as_text() {
        Some(text) => fault.help(format!("write [{}]", quoted(text))),
        None => fault,
    }
}
