//! Where a publication stands in the history of its topic, and where to resume.

use std::{fmt, str::FromStr, sync::Arc};

/// A place in one life (epoch) of a topic's history, written `offset@epoch`. Cloning copies a pointer.
///
/// The first publication of an epoch has offset 1; an empty history stands at offset 0. Keep it as it was received:
/// offsets of different epochs say nothing about each other.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Position {
    /// Number of publications in this epoch up to and including this one.
    pub offset: u64,
    /// The life of the history that the offset counts in.
    pub epoch: Arc<str>,
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (offset, epoch) = text.split_once('@').ok_or(InvalidPosition)?;
        if epoch.is_empty() || !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidPosition);
        }
        Ok(Self { offset: offset.parse().map_err(|_| InvalidPosition)?, epoch: epoch.into() })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.offset, self.epoch)
    }
}

/// Where a subscription resumes from, or a history is read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Since {
    /// Everything that is kept, written `0`.
    Beginning,
    /// Everything after this position.
    Position(Position),
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
        for text in ["0@a", "17@Bx3k", "18446744073709551615@x"] {
            assert_eq!(text.parse::<Position>().map(|position| position.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "17", "17@", "+1@x", "99999999999999999999@x"] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
        assert_eq!("0".parse(), Ok(Since::Beginning));
    }
}
