//! One value of the configuration: how it is read, checked and shown. Which keys there are does not live here.

mod quantities;
mod texts;
mod words;

use std::fmt::Write as _;

pub(super) use self::{
    quantities::{byte_rate, count, duration, optional_count, rate, size},
    texts::{Complaint, address, file, headers, redis_url, secret, text, texts},
    words::{asked, choice, switch, verbs},
};
use super::raw::Raw;

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

/// "did you mean ..?", for the label beside a caret.
pub(super) fn did_you_mean(meant: Option<&str>) -> Option<String> {
    meant.map(|word| format!("did you mean \"{word}\"?"))
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
