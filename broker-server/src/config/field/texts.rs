//! Texts with a meaning of their own: origins, paths, topics, addresses, secrets.

use std::{fmt, net::SocketAddr, path::PathBuf};

use broker::InvalidRedisUrl;
use broker_auth::HookHeader;

use super::{Fault, Field, bare_element, list, quoted};
use crate::config::{raw::Raw, redis_url::RedisUrl, secret::Secret};

/// A list of strings, each with its own check.
pub(in crate::config) fn texts<'a>(
    target: &'a mut Vec<String>,
    expected: &'static str,
    check: fn(&str) -> Result<(), Complaint>,
) -> impl Field + 'a {
    TextsField { target, expected, check }
}

/// Why a text is refused: what was found, and how to put it right.
pub(in crate::config) type Complaint = (String, Option<String>);

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

/// A list of headers. Their values are secrets, and are never shown.
pub(in crate::config) fn headers<'a>(
    target: &'a mut Vec<HookHeader>,
    expected: &'static str,
    parse: fn(&str) -> Result<HookHeader, Complaint>,
) -> impl Field + 'a {
    HeadersField { target, expected, parse }
}

struct HeadersField<'a> {
    target: &'a mut Vec<HookHeader>,
    expected: &'static str,
    parse: fn(&str) -> Result<HookHeader, Complaint>,
}

impl Field for HeadersField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let elements = raw.as_list().ok_or_else(|| bare_element(raw))?;
        let mut headers = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let text = element.as_text().ok_or_else(|| Fault { element: Some(index), ..Fault::kind(element) })?;
            headers.push((self.parse)(text).map_err(|(found, help)| Fault { element: Some(index), help, ..Fault::found(found) })?);
        }
        *self.target = headers;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        let shown: Vec<String> = self.target.iter().map(|header| format!("{}: {}", header.name(), Secret::MASK)).collect();
        Some(list(shown.iter().map(String::as_str)))
    }

    fn expected(&self) -> String {
        self.expected.to_owned()
    }
}

/// A string, with a check that may turn it into another type.
pub(in crate::config) fn text<'a, T: fmt::Display>(
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
pub(in crate::config) fn address(target: &mut SocketAddr) -> impl Field + '_ {
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

/// Where Redis is. Its password is never shown.
pub(in crate::config) fn redis_url(target: &mut Option<RedisUrl>) -> impl Field + '_ {
    RedisUrlField(target)
}

struct RedisUrlField<'a>(&'a mut Option<RedisUrl>);

impl Field for RedisUrlField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let text = raw.as_text().ok_or_else(|| Fault::kind(raw))?;
        let url = RedisUrl::parse(text).map_err(|error| match error {
            InvalidRedisUrl::Scheme if !text.is_empty() && !text.contains("://") => {
                Fault::found("this has no scheme").help("write \"redis://127.0.0.1:6379\"; rediss:// speaks TLS, unix:// names a socket")
            }
            InvalidRedisUrl::Port => {
                Fault::found("its port is no number").help("a password stands before the host: redis://:password@host:6379")
            }
            error => Fault::found(error.to_string()),
        })?;
        *self.0 = Some(url);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.0.as_ref().map(|url| quoted(&url.to_string()))
    }

    fn expected(&self) -> String {
        "the address of Redis, such as \"redis://127.0.0.1:6379\"".to_owned()
    }

    fn example(&self) -> String {
        quoted("redis://127.0.0.1:6379")
    }
}

/// A file, relative to where the process was started.
pub(in crate::config) fn file<'a>(target: &'a mut Option<PathBuf>, example: &'static str) -> impl Field + 'a {
    FileField { target, example }
}

struct FileField<'a> {
    target: &'a mut Option<PathBuf>,
    example: &'static str,
}

impl Field for FileField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let text = raw.as_text().ok_or_else(|| Fault::kind(raw))?;
        if text.is_empty() {
            return Err(Fault::found("this is empty").help("remove the key, or name a file"));
        }
        if text.starts_with("-----BEGIN") {
            return Err(Fault::found("this is the content of a file").help("write it to a file and name that"));
        }
        *self.target = Some(text.into());
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.target.as_ref().map(|file| quoted(&file.display().to_string()))
    }

    fn expected(&self) -> String {
        "a file".to_owned()
    }

    fn example(&self) -> String {
        quoted(self.example)
    }
}

/// A secret of at least `len_min` bytes. `why` says what a shorter one would cost.
pub(in crate::config) fn secret<'a>(target: &'a mut Option<Secret>, len_min: usize, why: &'static str) -> impl Field + 'a {
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
