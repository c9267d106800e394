//! What a publication carries: bytes, and whether they are JSON, text or binary.

use bytes::Bytes;

/// The data of a publication, a reply or an application message.
///
/// Cloning copies a pointer. The engine never looks inside.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payload {
    kind: PayloadKind,
    bytes: Bytes,
}

/// What the bytes of a [`Payload`] are; fixed when it is made.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PayloadKind {
    /// One JSON value in UTF-8.
    Json,
    /// Text in UTF-8 that is not meant as JSON.
    Text,
    /// Any bytes.
    Binary,
}

impl Payload {
    /// One JSON value; the caller has checked the syntax. Kept byte for byte: a protocol whose frames end at line breaks replaces them itself.
    pub fn json(bytes: impl Into<Bytes>) -> Self {
        Self { kind: PayloadKind::Json, bytes: bytes.into() }
    }

    /// Text that is not JSON.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: PayloadKind::Text, bytes: Bytes::from(text.into()) }
    }

    /// Any bytes.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self { kind: PayloadKind::Binary, bytes: bytes.into() }
    }

    /// What the bytes are.
    pub fn kind(&self) -> PayloadKind {
        self.kind
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
