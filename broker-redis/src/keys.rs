//! How things are named in Redis. What stands under the names lives in the scripts.

use broker_core::Topic;

use crate::topology::slot_of;

/// The names of everything that belongs to one broker; several may share a Redis, each with a prefix of its own.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Box<str>,
}

/// The prefix of names in Redis is empty, too long, or has characters that it must not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a prefix has 1 to {max} letters, digits, `-`, `_`, `.` and `:`", max = Keys::PREFIX_MAX)]
pub struct InvalidPrefix;

impl Keys {
    /// The longest prefix, in bytes.
    pub(crate) const PREFIX_MAX: usize = 64;

    pub(crate) fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        if prefix.is_empty() || prefix.len() > Self::PREFIX_MAX || !prefix.bytes().all(legal) {
            return Err(InvalidPrefix);
        }
        Ok(Self { prefix: prefix.into() })
    }

    /// The names of a topic. All have the same hash tag, so that a cluster keeps them together.
    pub(crate) fn topic(&self, topic: &Topic) -> Group {
        self.group(topic.as_str())
    }

    /// The names of what belongs together under `tag`: anything; braces in it are written otherwise, so that nobody chooses a slot by a name.
    /// Topics hold no spaces, so no other tag is written the same.
    pub(crate) fn group(&self, tag: &str) -> Group {
        let mut base = String::with_capacity(self.prefix.len() + tag.len() + 4);
        base.push_str(&self.prefix);
        base.push_str(":{");
        for letter in tag.chars() {
            match letter {
                '{' => base.push_str(" ["),
                '}' => base.push_str(" ]"),
                other => base.push(other),
            }
        }
        base.push('}');
        Group { base }
    }

    /// The topic that a channel belongs to; `None`: it is no topic's.
    #[cfg(test)]
    pub(crate) fn topic_of(&self, channel: &[u8]) -> Option<Topic> {
        let text = std::str::from_utf8(channel).ok()?;
        let tag = text.strip_prefix(&*self.prefix)?.strip_prefix(":{")?.strip_suffix('}')?;
        if tag.contains(' ') { tag.replace(" [", "{").replace(" ]", "}").parse().ok() } else { tag.parse().ok() }
    }
}

/// Names with the same hash tag.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Group {
    base: String,
}

impl Group {
    /// The channel.
    pub(crate) fn channel(&self) -> &str {
        &self.base
    }

    /// The slot that all of them are in.
    pub(crate) fn slot(&self) -> u16 {
        slot_of(self.base.as_bytes())
    }

    /// One key.
    pub(crate) fn key(&self, suffix: &str) -> String {
        format!("{}:{suffix}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_choose_its_slot() {
        let keys = Keys::new("b").expect("legal");
        let topic: Topic = "a}{b".parse().expect("legal");
        assert_eq!(keys.topic(&topic).key("m"), "b:{a ] [b}:m");
        assert_eq!(keys.topic_of(keys.topic(&topic).channel().as_bytes()), Some(topic));
    }

    #[test]
    fn prefixes_hold_no_braces_and_no_patterns() {
        for bad in ["", "a{", "a b", "a*", "a\r\n"] {
            assert_eq!(Keys::new(bad).err(), Some(InvalidPrefix), "{bad:?}");
        }
    }
}
