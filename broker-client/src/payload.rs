//! What a publication, a call or an answer carries: one JSON value. Its meaning belongs to the application.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// One JSON value, kept as the text it is sent as. Cloning copies a pointer.
///
/// ```
/// use broker_client::Payload;
///
/// let price = Payload::of(&[7, 8])?;
/// assert_eq!(price.as_str(), "[7,8]");
/// assert_eq!(price.read::<Vec<u8>>()?, [7, 8]);
/// assert_eq!(r#"{"a": 1}"#.parse::<Payload>()?.as_str(), r#"{"a": 1}"#);
/// # Ok::<(), broker_client::InvalidPayload>(())
/// ```
#[derive(Clone)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// The JSON of a value.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidPayload> {
        Ok(Self::new(serde_json::value::to_raw_value(value)?))
    }

    /// Reads the value back.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, InvalidPayload> {
        Ok(serde_json::from_str(self.as_str())?)
    }

    /// The JSON text, on one line.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Takes JSON whose syntax is known to be right. Raw line breaks separate frames on the wire, so they become spaces:
    /// they cannot stand inside a JSON string.
    pub(crate) fn new(value: Box<RawValue>) -> Self {
        if !value.get().contains(['\n', '\r']) {
            return Self(value.into());
        }
        let line = value.get().replace(['\n', '\r'], " ");
        Self(RawValue::from_string(line).expect("white space for white space leaves JSON valid").into())
    }

    /// JSON's `null`, which the wire leaves out.
    pub(crate) fn null() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }
}

impl FromStr for Payload {
    type Err = InvalidPayload;

    fn from_str(json: &str) -> Result<Self, InvalidPayload> {
        Ok(Self::new(serde_json::from_str(json)?))
    }
}

impl Serialize for Payload {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::new)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not one JSON value, or the value does not have the expected shape.
#[derive(Debug, thiserror::Error)]
#[error("the payload is not the expected JSON: {0}")]
pub struct InvalidPayload(#[from] serde_json::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_stands_on_one_line() {
        assert_eq!("{\n\"a\":\r\n1}".parse::<Payload>().unwrap().as_str(), "{ \"a\":  1}");
        assert!("{".parse::<Payload>().is_err());
        assert!("1 2".parse::<Payload>().is_err());
    }
}
