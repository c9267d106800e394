//! What the scripts answer.

use broker_core::{Epoch, Position};
use broker_resp::Value;
use bytes::Bytes;

use crate::{failure::Failure, frame};

/// What became of one publication of a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    At(Position),
    /// Sent, not kept.
    Unkept,
    Duplicate(Option<Position>),
    Outdated(Option<Position>),
    TooManyRows,
    RowsTooLarge,
    TooManyVersions,
}

/// Reads what the publish script answers: `{epoch, top before, top, fresh, receivers, codes or false}`.
pub(crate) fn published(answer: Value, count: usize) -> Result<Vec<Taken>, Failure> {
    let fields = fields(answer, 6)?;
    let epoch = epoch(&fields[0])?;
    let base = number(&fields[1])?;
    let Some(codes) = fields[5].values() else {
        return Ok((1..=count as u64).map(|n| Taken::At(Position { offset: base + n, epoch })).collect());
    };
    if codes.len() != 2 * count {
        return Err(Failure::Unexpected("other publications than were sent"));
    }
    codes.chunks_exact(2).map(|pair| taken(&pair[0], &pair[1], epoch)).collect()
}

fn taken(code: &Value, offset: &Value, epoch: Epoch) -> Result<Taken, Failure> {
    let position = offset.integer().and_then(|offset| u64::try_from(offset).ok()).map(|offset| Position { offset, epoch });
    Ok(match (code.integer(), position) {
        (Some(0), Some(position)) => Taken::At(position),
        (Some(0), None) => Taken::Unkept,
        (Some(1), position) => Taken::Duplicate(position),
        (Some(2), position) => Taken::Outdated(position),
        (Some(3), _) => Taken::TooManyRows,
        (Some(4), _) => Taken::RowsTooLarge,
        (Some(5), _) => Taken::TooManyVersions,
        _ => return Err(Failure::Unexpected("a code that no script answers")),
    })
}

/// What the history script answers.
#[derive(Debug)]
pub(crate) struct LogPart {
    pub(crate) top: Position,
    /// The offset of the oldest entry that is kept; one behind the top where none is.
    pub(crate) first: u64,
    /// The server's clock, in milliseconds.
    pub(crate) now_ms: u64,
    pub(crate) entries: Vec<Bytes>,
}

/// Reads `{epoch, top, first, fresh, now, entries}`.
pub(crate) fn log_part(answer: Value) -> Result<LogPart, Failure> {
    let fields = fields(answer, 6)?;
    let top = Position { epoch: epoch(&fields[0])?, offset: number(&fields[1])? };
    let (first, now_ms) = (number(&fields[2])?, number(&fields[4])?);
    let entries = fields.into_iter().nth(5).and_then(Value::into_values).unwrap_or_default();
    Ok(LogPart { top, first, now_ms, entries: entries.into_iter().filter_map(Value::into_bytes).collect() })
}

/// What the state script answers.
#[derive(Debug)]
pub(crate) struct StatePart {
    pub(crate) top: Position,
    pub(crate) now_ms: u64,
    pub(crate) next: Option<u64>,
    pub(crate) rows: Vec<Bytes>,
}

/// Reads `{epoch, top, fresh, now, next or -1, rows as key, entry}`.
pub(crate) fn state_part(answer: Value) -> Result<StatePart, Failure> {
    let fields = fields(answer, 6)?;
    let top = Position { epoch: epoch(&fields[0])?, offset: number(&fields[1])? };
    let now_ms = number(&fields[3])?;
    let next = fields[4].integer().and_then(|next| u64::try_from(next).ok());
    let rows = fields.into_iter().nth(5).and_then(Value::into_values).unwrap_or_default();
    // The key stands in the entry too.
    let rows = rows.into_iter().skip(1).step_by(2).filter_map(Value::into_bytes).collect();
    Ok(StatePart { top, now_ms, next, rows })
}

fn fields(answer: Value, count: usize) -> Result<Vec<Value>, Failure> {
    let fields = answer.into_values().unwrap_or_default();
    if fields.len() == count { Ok(fields) } else { Err(Failure::Unexpected("not what the script answers")) }
}

fn epoch(value: &Value) -> Result<Epoch, Failure> {
    value.bytes().and_then(|bytes| frame::epoch_of(bytes).ok()).ok_or(Failure::Unexpected("no epoch"))
}

fn number(value: &Value) -> Result<u64, Failure> {
    value.integer().and_then(|number| u64::try_from(number).ok()).ok_or(Failure::Unexpected("no number"))
}
