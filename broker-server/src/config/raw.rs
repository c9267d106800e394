//! A value as it was written, before its key says what it must be.

use std::{borrow::Cow, ops::Range};

use toml::{Spanned, de::DeValue};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) value: RawValue,
    /// Bytes of the file; `None` for the environment and flags.
    pub(super) span: Option<Range<usize>>,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum RawValue {
    /// A TOML string.
    Text(String),
    /// A TOML integer, in decimal digits.
    Integer(String),
    /// `true` or `false`.
    Bool(bool),
    /// A TOML array.
    Array(Vec<Raw>),
    /// Something no key takes: its name for people.
    Other(&'static str),
    /// From the environment or a flag, where everything is text.
    Plain(String),
}

impl Raw {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { value: RawValue::Plain(text.into()), span: None }
    }

    pub(super) fn from_toml(value: &Spanned<DeValue<'_>>) -> Self {
        let span = Some(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => RawValue::Text(text.to_string()),
            DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => RawValue::Integer(number.to_string()),
                Err(_) => RawValue::Integer(integer.as_str().to_owned()),
            },
            DeValue::Boolean(value) => RawValue::Bool(*value),
            DeValue::Array(elements) => RawValue::Array(elements.iter().map(Self::from_toml).collect()),
            DeValue::Float(_) => RawValue::Other("a number with a fraction"),
            DeValue::Datetime(_) => RawValue::Other("a date"),
            DeValue::Table(_) => RawValue::Other("a table"),
        };
        Self { value, span }
    }

    /// For people: "a string".
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            RawValue::Text(_) => "a string",
            RawValue::Integer(_) => "a whole number",
            RawValue::Bool(_) => "true or false",
            RawValue::Array(_) => "a list",
            RawValue::Other(kind) => kind,
            RawValue::Plain(_) => "something else",
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            RawValue::Text(text) | RawValue::Plain(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_integer(&self) -> Option<&str> {
        match &self.value {
            RawValue::Integer(digits) => Some(digits),
            RawValue::Plain(text) if !text.is_empty() && text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(text)
            }
            _ => None,
        }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match &self.value {
            RawValue::Bool(value) => Some(*value),
            RawValue::Plain(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The elements of an array; in the environment either TOML (`["a", "b"]`) or `a,b`.
    pub(super) fn as_list(&self) -> Option<Cow<'_, [Self]>> {
        match &self.value {
            RawValue::Array(elements) => Some(Cow::Borrowed(elements)),
            RawValue::Plain(text) if text.trim_start().starts_with('[') => match Self::from_toml(&DeValue::parse(text).ok()?).value {
                RawValue::Array(elements) => Some(Cow::Owned(elements)),
                _ => None,
            },
            RawValue::Plain(text) => Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Self::plain).collect()),
            _ => None,
        }
    }
}
