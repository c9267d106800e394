//! Patterns over topic names: which names a capability means. What it allows does not live here.

use std::{fmt, str::FromStr};

use crate::Topic;

/// A pattern over topic names.
///
/// The text before the first `:` is the namespace and stands for itself. Behind it, or in a pattern without `:`, levels are split at `.`: in a
/// level `*` stands for any text of one byte or more, and `>` as the last level for one level or more.
///
/// ```
/// use broker_core::TopicPattern;
///
/// let chats: TopicPattern = "chat:*".parse()?;
/// assert!(chats.matches(&"chat:7".parse()?) && !chats.matches(&"chat:7.typing".parse()?) && !chats.matches(&"news:7".parse()?));
/// let all: TopicPattern = "chat:>".parse()?;
/// assert!(all.matches(&"chat:7.typing".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "String", into = "String"))]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TopicPattern {
    text: Box<str>,
    /// Bytes before the first wildcard, which stand for themselves. Most names differ there, and a subscribe looks at every pattern of its session.
    literal_len: usize,
}

impl TopicPattern {
    /// The pattern that only this name matches.
    pub fn exactly(topic: &Topic) -> Self {
        Self::of(topic.local())
    }

    fn of(text: &str) -> Self {
        Self { text: text.into(), literal_len: text.find(['*', '>']).unwrap_or(text.len()) }
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the topic's local name matches.
    pub fn matches(&self, topic: &Topic) -> bool {
        let (pattern, name) = (&*self.text, topic.local());
        if self.literal_len == pattern.len() {
            return pattern == name;
        }
        if !name.starts_with(&pattern[..self.literal_len]) {
            return false;
        }
        match (pattern.split_once(':'), name.split_once(':')) {
            (Some((pattern_namespace, pattern)), Some((namespace, name))) => pattern_namespace == namespace && levels_match(pattern, name),
            (None, None) => levels_match(pattern, name),
            _ => false,
        }
    }
}

fn levels_match(mut pattern: &str, mut name: &str) -> bool {
    loop {
        if pattern == ">" {
            return !name.is_empty();
        }
        match (pattern.split_once('.'), name.split_once('.')) {
            (Some((level, pattern_rest)), Some((text, name_rest))) if level_matches(level, text) => {
                (pattern, name) = (pattern_rest, name_rest);
            }
            (None, None) => return level_matches(pattern, name),
            _ => return false,
        }
    }
}

/// One level: every `*` takes at least one byte. Greedy from both ends, so linear.
fn level_matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if text.is_empty() {
            return false;
        }
        if pieces.peek().is_none() {
            return text[1..].ends_with(piece);
        }
        match text[1..].find(piece) {
            Some(at) => text = &text[1 + at + piece.len()..],
            None => return false,
        }
    }
    true
}

impl TryFrom<String> for TopicPattern {
    type Error = InvalidPattern;

    fn try_from(pattern: String) -> Result<Self, InvalidPattern> {
        pattern.parse()
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.text.into()
    }
}

impl FromStr for TopicPattern {
    type Err = InvalidPattern;

    fn from_str(pattern: &str) -> Result<Self, InvalidPattern> {
        if pattern.is_empty() || pattern.len() > Topic::MAX_LEN {
            return Err(InvalidPattern::Length { len: pattern.len() });
        }
        if let Some(at) = pattern.bytes().position(|byte| !(0x21..=0x7e).contains(&byte)) {
            return Err(InvalidPattern::BadByte { at });
        }
        let (namespace, levels) = pattern.split_once(':').map_or(("", pattern), |(namespace, levels)| (namespace, levels));
        if let Some(at) = namespace.find(['*', '>']) {
            return Err(InvalidPattern::Namespace { at });
        }
        let last = levels.rfind('.').map_or(0, |at| at + 1);
        match levels.find('>') {
            Some(at) if at != last || at + 1 != levels.len() => Err(InvalidPattern::Rest { at: pattern.len() - levels.len() + at }),
            _ => Ok(Self::of(pattern)),
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a [`TopicPattern`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// It is empty or longer than a topic may be.
    #[error("the pattern has {len} bytes, 1 to {} are allowed", Topic::MAX_LEN)]
    Length {
        /// Length of the pattern, in bytes.
        len: usize,
    },
    /// A byte is not printable ASCII.
    #[error("byte {at} of the pattern is not printable ASCII")]
    BadByte {
        /// Index of the byte.
        at: usize,
    },
    /// The namespace stands for itself.
    #[error("byte {at} of the pattern is a wildcard in the namespace, which must be named")]
    Namespace {
        /// Index of the wildcard.
        at: usize,
    },
    /// `>` is a whole level, and the last one.
    #[error("byte {at} of the pattern is `>`, which must be the whole last level")]
    Rest {
        /// Index of the wildcard.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let parsed: TopicPattern = pattern.parse().unwrap();
        for name in matching {
            assert!(parsed.matches(&name.parse().unwrap()), "{pattern} must match {name}");
        }
        for name in others {
            assert!(!parsed.matches(&name.parse().unwrap()), "{pattern} must not match {name}");
        }
    }

    #[test]
    fn a_star_is_part_of_one_level_and_an_arrow_the_rest() {
        check("news", &["news", "tenant:acme/news"], &["news:", "new", "news.a", "a:news"]);
        check("chat:*", &["chat:1", "chat:a-b", "chat:a:b", "tenant:t/chat:1"], &["chat", "chat:1.2", "chats:1", "xchat:1"]);
        check("chat:*.in", &["chat:1.in"], &["chat:1", "chat:1.out", "chat:.in", "chat:1.2.in"]);
        check("chat:room-*", &["chat:room-1", "chat:room-x"], &["chat:room-", "chat:1", "chat:room-1.x"]);
        check("chat:a*b*c", &["chat:a1b2c", "chat:axbbc"], &["chat:abc", "chat:a1b2", "chat:a1bc"]);
        check("chat:>", &["chat:1", "chat:1.2.3"], &["chat", "news:1"]);
        check("chat:1.>", &["chat:1.2", "chat:1.2.3"], &["chat:1", "chat:2.3"]);
        check("*", &["news"], &["a.b", "a:b"]);
        check(">", &["news", "a.b"], &["a:b"]);
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        let check = |pattern: &str, expected| assert_eq!(pattern.parse::<TopicPattern>(), Err(expected), "{pattern}");
        check("", InvalidPattern::Length { len: 0 });
        check("a b", InvalidPattern::BadByte { at: 1 });
        check("*:a", InvalidPattern::Namespace { at: 0 });
        check("a:b>", InvalidPattern::Rest { at: 3 });
        check("a:>.b", InvalidPattern::Rest { at: 2 });
    }
}
