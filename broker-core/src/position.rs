//! Where a publication stands in the history of its topic: offset and epoch.

use std::{fmt, str::FromStr};

/// One life of a topic's history. Offsets of different epochs say nothing about each other.
///
/// 1 to [`Epoch::MAX_LEN`] bytes of ASCII letters, digits, `-` and `_`. Copying is cheap.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "String", into = "String"))]
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Epoch {
    len: u8,
    bytes: [u8; Epoch::MAX_LEN],
}

impl Epoch {
    /// The longest epoch, in bytes.
    pub const MAX_LEN: usize = 15;

    /// An epoch that was never used before, with the given randomness.
    pub fn from_random(random: u64) -> Self {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut rest = random;
        let mut bytes = [0; Self::MAX_LEN];
        for byte in &mut bytes[..8] {
            *byte = ALPHABET[(rest % 62) as usize];
            rest /= 62;
        }
        Self { len: 8, bytes }
    }

    /// The epoch as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("an epoch holds only ASCII")
    }
}

impl FromStr for Epoch {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let legal = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if text.is_empty() || text.len() > Self::MAX_LEN || !legal {
            return Err(InvalidPosition);
        }
        let mut bytes = [0; Self::MAX_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { len: text.len() as u8, bytes })
    }
}

impl TryFrom<String> for Epoch {
    type Error = InvalidPosition;

    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.as_str().to_owned()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in one life of a topic's history, written `offset@epoch`.
///
/// The first publication of an epoch has offset 1; the position of an empty history has offset 0.
/// `(topic, epoch, offset)` names one publication for ever.
///
/// ```
/// use broker_core::Position;
///
/// let position: Position = "17@Bx3k".parse()?;
/// assert_eq!(position.offset, 17);
/// assert_eq!(position.to_string(), "17@Bx3k");
/// # Ok::<(), broker_core::InvalidPosition>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Position {
    /// Number of publications in this epoch up to and including this one.
    pub offset: u64,
    /// The life of the history that the offset counts in.
    pub epoch: Epoch,
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (offset, epoch) = text.split_once('@').ok_or(InvalidPosition)?;
        if !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidPosition);
        }
        Ok(Self { offset: offset.parse().map_err(|_| InvalidPosition)?, epoch: epoch.parse()? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.offset, self.epoch)
    }
}

/// Where a subscription resumes from, or a history is read from.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Since {
    /// Everything that is kept, written `0`.
    Beginning,
    /// Everything after this position.
    Position(Position),
    /// Whatever the client kept is no position of this broker: nothing can be resumed, and the client is told so.
    Unreadable,
}

impl FromStr for Since {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        if text == "0" { Ok(Self::Beginning) } else { text.parse().map(Self::Position) }
    }
}

/// The text is neither `0` nor a position of the form `offset@epoch`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a position has the form offset@epoch, as it was received")]
pub struct InvalidPosition;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_as_written() {
        for text in ["0@a", "17@Bx3k", "18446744073709551615@abcdefgh_-12345"] {
            assert_eq!(text.parse::<Position>().map(|position| position.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "17", "@", "17@", "@x", "-1@x", "+1@x", "1 @x", "1@x y", "1@x@y", "99999999999999999999@x", "1@abcdefghijklmnop"] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
        assert_eq!("0".parse(), Ok(Since::Beginning));
    }

    #[test]
    fn different_randomness_gives_different_epochs() {
        assert_ne!(Epoch::from_random(1), Epoch::from_random(2));
        assert_eq!(Epoch::from_random(u64::MAX).as_str().len(), 8);
    }
}
