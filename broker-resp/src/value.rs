//! What a server says: values, errors, pushes. How they look on the wire lives in `decode`.

use std::{fmt, mem};

use bytes::Bytes;

/// One value of a reply, of RESP3 or RESP2.
///
/// Text and bulk strings share the memory of the read buffer: a value that is kept for long keeps up to 64 KiB with it, so copy what you keep.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// No value: `_`, and `$-1` and `*-1` of RESP2.
    Null,
    /// A signed number of 64 bits.
    Integer(i64),
    /// A floating-point number; infinities and NaN included.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// A status such as `OK`: a line without CR and LF.
    Simple(Bytes),
    /// Any bytes. Text with a format (`=txt:`) arrives here too, without the format.
    Bulk(Bytes),
    /// The digits of a number of any size.
    BigNumber(Bytes),
    /// An error. A link hands one that is a whole reply over as [`CallError::Refused`](crate::CallError::Refused).
    Error(ServerError),
    /// Values in order.
    Array(Vec<Value>),
    /// Values without order, as they came.
    Set(Vec<Value>),
    /// Pairs, as they came; keys may repeat.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// The number, also where it came as text.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Simple(text) | Self::Bulk(text) | Self::BigNumber(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            Self::Boolean(truth) => Some(i64::from(*truth)),
            _ => None,
        }
    }

    /// The bytes of a status, a bulk string or a big number.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) | Self::BigNumber(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes, as text where they are UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Takes the bytes out.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) | Self::BigNumber(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Takes the elements of an array or a set out.
    pub fn into_values(self) -> Option<Vec<Value>> {
        match self {
            Self::Array(values) | Self::Set(values) => Some(values),
            _ => None,
        }
    }

    /// The elements of an array or a set; `None` for everything else.
    pub fn values(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) | Self::Set(values) => Some(values),
            _ => None,
        }
    }

    /// The value of a key in a map, or in an array in which keys and values alternate, as RESP2 has them.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let is = |key: &Value| key.bytes().is_some_and(|key| key == name.as_bytes());
        match self {
            Self::Map(pairs) => pairs.iter().find(|(key, _)| is(key)).map(|(_, value)| value),
            Self::Array(values) => values.chunks_exact(2).find(|pair| is(&pair[0])).map(|pair| &pair[1]),
            _ => None,
        }
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// An error that a server answered: a code such as `NOSCRIPT`, `MOVED`, `READONLY`, `WRONGPASS`, and the rest of the line.
#[derive(Clone, Eq, PartialEq, thiserror::Error)]
#[error("{}", self.line())]
pub struct ServerError {
    /// The whole line, without the sign in front of it.
    line: Bytes,
}

impl ServerError {
    /// An error from its line, as `MOVED 3999 127.0.0.1:6381`.
    pub fn new(line: impl Into<Bytes>) -> Self {
        Self { line: line.into() }
    }

    /// The first word: `MOVED`. Empty where the line does not begin with one.
    pub fn code(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    /// What follows the first word: `3999 127.0.0.1:6381`.
    pub fn message(&self) -> &str {
        self.line().split_once(' ').map_or("", |(_, message)| message)
    }

    /// The whole line; `an error that is not UTF-8` where it is none.
    pub fn line(&self) -> &str {
        std::str::from_utf8(&self.line).unwrap_or("an error that is not UTF-8")
    }

    /// Whether this is an error with this code.
    pub fn is(&self, code: &str) -> bool {
        self.code() == code
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({:?})", self.line())
    }
}

/// What a server says without being asked, and its confirmations of (un)subscribe commands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Push {
    /// `message` or `smessage`.
    Message {
        /// Whether it came by sharded pub/sub (`smessage`).
        sharded: bool,
        /// Where it was published.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// `pmessage`.
    PatternMessage {
        /// The pattern that was subscribed.
        pattern: Bytes,
        /// Where it was published.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// A subscription began or ended: asked for, or not asked for as where a slot moves (`sunsubscribe`).
    Subscription {
        /// What happened.
        change: Change,
        /// The channel or pattern; `None` where everything was unsubscribed and there was nothing.
        channel: Option<Bytes>,
        /// How many subscriptions of this kind the connection has left.
        count: u64,
    },
    /// Any other push, such as `invalidate`.
    Other {
        /// Its first element.
        kind: Bytes,
        /// The elements after it.
        values: Vec<Value>,
    },
}

impl Push {
    /// Its share of the bounds on a queue: bytes of what it carries, and what the queue needs for it.
    pub fn cost_bytes(&self) -> usize {
        mem::size_of::<Self>()
            + match self {
                Self::Message { channel, payload, .. } => channel.len() + payload.len(),
                Self::PatternMessage { pattern, channel, payload } => pattern.len() + channel.len() + payload.len(),
                Self::Subscription { channel, .. } => channel.as_ref().map_or(0, Bytes::len),
                Self::Other { kind, values } => kind.len() + values.iter().map(cost_bytes).sum::<usize>(),
            }
    }
}

/// What a [`Push::Subscription`] tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// `subscribe`
    Subscribed,
    /// `unsubscribe`
    Unsubscribed,
    /// `psubscribe`
    PatternSubscribed,
    /// `punsubscribe`
    PatternUnsubscribed,
    /// `ssubscribe`
    ShardSubscribed,
    /// `sunsubscribe`
    ShardUnsubscribed,
}

/// One whole thing that a server wrote.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The answer to a command; an error too.
    Reply(Value),
    /// Not the answer to a command.
    Push(Push),
}

fn cost_bytes(value: &Value) -> usize {
    mem::size_of::<Value>()
        + match value {
            Value::Simple(bytes) | Value::Bulk(bytes) | Value::BigNumber(bytes) => bytes.len(),
            Value::Error(error) => error.line.len(),
            Value::Array(values) | Value::Set(values) => values.iter().map(cost_bytes).sum(),
            Value::Map(pairs) => pairs.iter().map(|(key, value)| cost_bytes(key) + cost_bytes(value)).sum(),
            Value::Null | Value::Integer(_) | Value::Double(_) | Value::Boolean(_) => 0,
        }
}
