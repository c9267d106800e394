//! The name of a topic, whose it is, and why a string is not one. Matching of patterns does not live here.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    str::FromStr,
    sync::Arc,
};

use crate::{SessionId, UserId};

/// What the names of all topics inside tenants begin with.
const TENANT: &str = "tenant:";

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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "String", into = "String"))]
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text before the first `:`, which selects the topic's options; `None` where there is no `:`. Inside a tenant, that of the local name.
    pub fn namespace(&self) -> Option<&str> {
        self.local().split_once(':').map(|(namespace, _)| namespace)
    }

    /// Text as one level of a name: what a name may not hold, and `:` `.` `*` `>` `%`, is percent-encoded.
    pub fn encode_level(text: &str) -> Cow<'_, str> {
        let is_legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'.' | b'*' | b'>' | b'%');
        if text.bytes().all(is_legal) {
            return Cow::Borrowed(text);
        }
        let encoded = text.bytes().map(|byte| if is_legal(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
        Cow::Owned(encoded.collect())
    }

    /// The topic of a group: `group:` and the group's name.
    pub fn group(name: &str) -> Result<Self, InvalidTopic> {
        format!("group:{name}").parse()
    }

    /// The topic of everyone of a user: `user:` and the id, percent-encoded to one level; `None` for an anonymous one.
    pub fn of_user(user: &UserId) -> Option<Result<Self, InvalidTopic>> {
        (!user.is_anonymous()).then(|| format!("user:{}", Self::encode_level(user.as_str())).parse())
    }

    /// The topic of one session: `session:` and its id.
    pub fn of_session(session: SessionId) -> Self {
        Self(format!("session:{session}").into())
    }

    /// The name of the group whose topic this is.
    pub fn as_group(&self) -> Option<&str> {
        self.local().strip_prefix("group:")
    }

    /// Whether only the server decides who listens here: the topics of groups, users and sessions.
    pub fn is_of_the_server(&self) -> bool {
        matches!(self.namespace(), Some("group" | "user" | "session" | "tenant"))
    }

    /// Whether it is a user's topic, which every session of the user listens to by itself: it is in no count and no list that does not ask for it.
    pub(crate) fn is_of_a_user(&self) -> bool {
        self.local().starts_with("user:")
    }

    /// The tenant that this topic belongs to.
    pub fn tenant(&self) -> Option<&str> {
        self.split_tenant().map(|(tenant, _)| tenant)
    }

    /// The name as clients know it: inside a tenant, what follows the tenant's prefix.
    pub fn local(&self) -> &str {
        self.split_tenant().map_or(&self.0, |(_, local)| local)
    }

    /// The topic of this name inside a tenant: `tenant:acme/orders:7` for `orders:7`.
    pub fn in_tenant(&self, tenant: &Tenant) -> Result<Self, InvalidTopic> {
        format!("{TENANT}{tenant}/{}", self.local()).parse()
    }

    fn split_tenant(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix(TENANT)?.split_once('/').filter(|(tenant, local)| !tenant.is_empty() && !local.is_empty())
    }
}

/// A tenant: one of several customers that share a broker and see nothing of each other. Cloning copies a pointer.
///
/// The name is 1 to 64 bytes of letters, digits, `-`, `_` and `.`. Everything that a session of a tenant names is inside it: its `orders:7` is the
/// topic `tenant:acme/orders:7`, which the host and the server API know by that name, and which has the options of `orders`.
///
/// ```
/// use broker_core::{Tenant, Topic};
///
/// let acme: Tenant = "acme".parse()?;
/// let topic: Topic = "orders:7".parse()?;
/// let inside = topic.in_tenant(&acme)?;
/// assert_eq!((inside.as_str(), inside.local(), inside.namespace()), ("tenant:acme/orders:7", "orders:7", Some("orders")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "String", into = "String"))]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tenant {
    type Err = InvalidTenant;

    fn from_str(name: &str) -> Result<Self, InvalidTenant> {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > Self::MAX_LEN || !name.bytes().all(is_legal) {
            return Err(InvalidTenant);
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<String> for Tenant {
    type Error = InvalidTenant;

    fn try_from(name: String) -> Result<Self, InvalidTenant> {
        name.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.as_str().to_owned()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not the name of a tenant.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a tenant's name has 1 to {} letters, digits, `-`, `_` or `.`", Tenant::MAX_LEN)]
pub struct InvalidTenant;

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

impl From<Topic> for String {
    fn from(topic: Topic) -> Self {
        topic.as_str().to_owned()
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
        check("tenant:acme/chat:1", Ok(Some("chat")));
        check("tenant:acme/news", Ok(None));
        check("tenant:acme", Ok(Some("tenant")));
        check("tenant:/news", Ok(Some("tenant")));
    }

    #[test]
    fn a_user_id_is_one_level_of_its_topic() {
        let check = |id: &str, expected: &str| {
            let topic = Topic::of_user(&UserId::from(id)).unwrap().unwrap();
            assert_eq!((topic.as_str(), topic.namespace()), (expected, Some("user")));
        };
        check("ris1", "user:ris1");
        check("a:b.c*d>e%f g", "user:a%3Ab%2Ec%2Ad%3Ee%25f%20g");
        check("김", "user:%EA%B9%80");
        assert!(Topic::of_user(&UserId::anonymous()).is_none());
        assert_eq!(Topic::encode_level("a-1"), "a-1");
        assert_eq!(Topic::encode_level("a.b:c*d>e%f é"), "a%2Eb%3Ac%2Ad%3Ee%25f%20%C3%A9");
    }

    #[test]
    fn a_tenant_keeps_names_apart_and_options_together() {
        let topic = |name: &str| name.parse::<Topic>().unwrap();
        let acme: Tenant = "acme".parse().unwrap();
        assert_eq!(topic("group:ris").in_tenant(&acme).unwrap().as_group(), Some("ris"));
        assert_eq!(topic("tenant:other/a").in_tenant(&acme).unwrap().as_str(), "tenant:acme/a", "no name leads out of a tenant");
        assert_eq!((topic("a/b").tenant(), topic("a/b").local()), (None, "a/b"));
        for bad in ["", "a/b", "a:b", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Tenant>(), Err(InvalidTenant), "{bad}");
        }
    }
}
