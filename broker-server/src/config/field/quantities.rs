//! Durations, sizes and whole numbers, each within its range.

use std::{ops::RangeInclusive, time::Duration};

use super::{Fault, Field, quoted};
use crate::config::{
    quantity::{Rate, parse_byte_rate, parse_duration, parse_rate, parse_size, show_byte_rate, show_duration, show_rate, show_size},
    raw::{Raw, RawValue},
};

/// A duration within a range, such as "25s".
pub(in crate::config) fn duration(target: &mut Duration, range: RangeInclusive<Duration>) -> impl Field + '_ {
    DurationField { target, range }
}

struct DurationField<'a> {
    target: &'a mut Duration,
    range: RangeInclusive<Duration>,
}

impl Field for DurationField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(text) = raw.as_text() else {
            return Err(match &raw.value {
                RawValue::Integer(number) => Fault::found("this has no unit").help(format!("write \"{number}s\" for seconds")),
                _ => Fault::kind(raw),
            });
        };
        match parse_duration(text) {
            Some(value) if self.range.contains(&value) => *self.target = value,
            Some(value) => return Err(Fault::found(format!("this is {}", show_duration(value)))),
            None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(Fault::found("this has no unit").help(format!("write \"{text}s\" for seconds")));
            }
            None => return Err(Fault::found("this is no duration").help("write it like \"25s\", \"500ms\", \"10m\", \"1h30m\" or \"7d\"")),
        }
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&show_duration(*self.target)))
    }

    fn expected(&self) -> String {
        format!("a duration from {} to {}", show_duration(*self.range.start()), show_duration(*self.range.end()))
    }
}

/// A size in bytes within a range, such as "64KiB".
pub(in crate::config) fn size(target: &mut usize, range: RangeInclusive<u64>) -> impl Field + '_ {
    SizeField { target, range }
}

struct SizeField<'a> {
    target: &'a mut usize,
    range: RangeInclusive<u64>,
}

impl Field for SizeField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(text) = raw.as_text() else {
            return Err(match &raw.value {
                RawValue::Integer(number) => Fault::found("this has no unit").help(format!("write \"{number}B\" for bytes")),
                _ => Fault::kind(raw),
            });
        };
        match parse_size(text) {
            Some(value) if self.range.contains(&value) => *self.target = usize::try_from(value).unwrap_or(usize::MAX),
            Some(value) => return Err(Fault::found(format!("this is {}", show_size(value)))),
            None => return Err(Fault::found("this is no size").help("write it like \"512B\", \"64KiB\" or \"1MiB\"")),
        }
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&show_size(*self.target as u64)))
    }

    fn expected(&self) -> String {
        format!("a size from {} to {}", show_size(*self.range.start()), show_size(*self.range.end()))
    }
}

/// A whole number within a range.
pub(in crate::config) fn count(target: &mut usize, range: RangeInclusive<usize>) -> impl Field + '_ {
    CountField { target: CountTarget::Always(target), range }
}

/// A whole number within a range, or none.
pub(in crate::config) fn optional_count(target: &mut Option<usize>, range: RangeInclusive<usize>) -> impl Field + '_ {
    CountField { target: CountTarget::Maybe(target), range }
}

struct CountField<'a> {
    target: CountTarget<'a>,
    range: RangeInclusive<usize>,
}

enum CountTarget<'a> {
    Always(&'a mut usize),
    Maybe(&'a mut Option<usize>),
}

impl Field for CountField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(number) = raw.as_integer() else {
            let fault = Fault::kind(raw);
            return Err(match &raw.value {
                RawValue::Text(text) if text.parse::<u64>().is_ok() => fault.help(format!("write {text} without quotes")),
                _ => fault,
            });
        };
        match number.parse::<usize>() {
            Ok(value) if self.range.contains(&value) => match &mut self.target {
                CountTarget::Always(target) => **target = value,
                CountTarget::Maybe(target) => **target = Some(value),
            },
            _ => return Err(Fault::found(format!("this is {number}"))),
        }
        Ok(())
    }

    fn show(&self) -> Option<String> {
        match &self.target {
            CountTarget::Always(target) => Some(target.to_string()),
            CountTarget::Maybe(target) => target.map(|target| target.to_string()),
        }
    }

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.range.start(), self.range.end())
    }

    fn example(&self) -> String {
        self.show().unwrap_or_else(|| self.range.start().to_string())
    }
}

/// A rate such as "50/s", or "off".
pub(in crate::config) fn rate(target: &mut Option<Rate>) -> impl Field + '_ {
    RateField { target, of_bytes: false }
}

/// A rate of bytes such as "1MiB/s", or "off".
pub(in crate::config) fn byte_rate(target: &mut Option<Rate>) -> impl Field + '_ {
    RateField { target, of_bytes: true }
}

struct RateField<'a> {
    target: &'a mut Option<Rate>,
    of_bytes: bool,
}

impl RateField<'_> {
    fn parse(&self, text: &str) -> Option<Rate> {
        if self.of_bytes { parse_byte_rate(text) } else { parse_rate(text) }
    }

    fn no_unit(&self, number: &str) -> Fault {
        let (unit, what) = if self.of_bytes { ("B", "bytes") } else { ("", "so many") };
        Fault::found("this has no unit").help(format!("write \"{number}{unit}/s\" for {what} a second"))
    }
}

impl Field for RateField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(text) = raw.as_text() else {
            return match &raw.value {
                RawValue::Integer(number) if number == "0" => {
                    *self.target = None;
                    Ok(())
                }
                RawValue::Integer(number) => Err(self.no_unit(number)),
                _ => Err(Fault::kind(raw)),
            };
        };
        *self.target = match text {
            "off" | "0" => None,
            text => Some(self.parse(text).ok_or_else(|| match text.parse::<u32>() {
                Ok(_) => self.no_unit(text),
                Err(_) if self.of_bytes => Fault::found("this is no rate of bytes").help("write it like \"1MiB/s\" or \"64KiB/m\""),
                Err(_) => Fault::found("this is no rate").help("write it like \"50/s\", \"600/m\" or \"1000/h\""),
            })?),
        };
        Ok(())
    }

    fn show(&self) -> Option<String> {
        let show = if self.of_bytes { show_byte_rate } else { show_rate };
        Some(quoted(&self.target.map_or_else(|| "off".to_owned(), show)))
    }

    fn expected(&self) -> String {
        let examples = if self.of_bytes { "\"1MiB/s\" or \"64KiB/m\"" } else { "\"50/s\" or \"600/m\"" };
        format!("a rate such as {examples}, or \"off\"")
    }
}
