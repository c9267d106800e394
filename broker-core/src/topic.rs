//! The name of a topic, and why a string is not one. Matching of patterns does not live here.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// The name of a topic: where publications are sent and subscriptions listen.
///
/// A name is 1 to [`Topic::MAX_LEN`] bytes of printable ASCII (0x21 to 0x7e) without the wildcards `*` and `>`.
/// The text before the first `:` is its namespace. Cloning copies a pointer, not the text.
///
/// Called *channel* in Centrifugo, *topic* in Phoenix, *room* in Socket.IO, *group* in Django Channels.
///
/// ```
/// use broker_core::{InvalidTopic, Topic};
///
/// let alerts: Topic = "spc:product.7".parse()?;
/// assert_eq!(alerts.namespace(), Some("spc"));
/// assert_eq!("".parse::<Topic>(), Err(InvalidTopic::Empty));
/// # Ok::<(), InvalidTopic>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text before the first `:`, which selects the topic's options; `None` where there is no `:`.
    pub fn namespace(&self) -> Option<&str> {
        self.0.split_once(':').map(|(namespace, _)| namespace)
    }
}

impl FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(name: &str) -> Result<Self, InvalidTopic> {
        if name.is_empty() {
            return Err(InvalidTopic::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(InvalidTopic::TooLong { len: name.len() });
        }
        if let Some(at) = name.bytes().position(|byte| !(0x21..=0x7e).contains(&byte)) {
            return Err(InvalidTopic::BadByte { at, byte: name.as_bytes()[at] });
        }
        match name.bytes().position(|byte| byte == b'*' || byte == b'>') {
            Some(at) => Err(InvalidTopic::Wildcard { at }),
            None => Ok(Self(name.into())),
        }
    }
}

impl TryFrom<&str> for Topic {
    type Error = InvalidTopic;

    fn try_from(name: &str) -> Result<Self, InvalidTopic> {
        name.parse()
    }
}

impl TryFrom<String> for Topic {
    type Error = InvalidTopic;

    fn try_from(name: String) -> Result<Self, InvalidTopic> {
        name.parse()
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a string is not a [`Topic`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopic {
    /// The name has no bytes.
    #[error("the topic is empty")]
    Empty,
    /// The name is longer than [`Topic::MAX_LEN`].
    #[error("the topic has {len} bytes, at most {} are allowed", Topic::MAX_LEN)]
    TooLong {
        /// Length of the refused name, in bytes.
        len: usize,
    },
    /// A byte is not printable ASCII; such bytes are percent-encoded by convention.
    #[error("byte {at} of the topic is 0x{byte:02x}; only printable ASCII without spaces is allowed, percent-encode the rest")]
    BadByte {
        /// Index of the byte in the refused name.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// `*` and `>` belong to patterns, not to names.
    #[error("byte {at} of the topic is a wildcard; a topic is one name, not a pattern")]
    Wildcard {
        /// Index of the byte in the refused name.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Result<Option<&str>, InvalidTopic>) {
        let topic = name.parse::<Topic>();
        assert_eq!(topic.as_ref().map(Topic::namespace).map_err(|error| *error), expected);
    }

    #[test]
    fn a_topic_is_printable_ascii_of_1_to_255_bytes() {
        check("news", Ok(None));
        check("chat:1", Ok(Some("chat")));
        check("a:b:c", Ok(Some("a")));
        check(":x", Ok(Some("")));
        check("", Err(InvalidTopic::Empty));
        check(&"x".repeat(255), Ok(None));
        check(&"x".repeat(256), Err(InvalidTopic::TooLong { len: 256 }));
        check("a b", Err(InvalidTopic::BadByte { at: 1, byte: b' ' }));
        check("a\r\n", Err(InvalidTopic::BadByte { at: 1, byte: b'\r' }));
        check("é", Err(InvalidTopic::BadByte { at: 0, byte: 0xc3 }));
        check("news.*", Err(InvalidTopic::Wildcard { at: 5 }));
    }
}
