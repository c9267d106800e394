//! Durations ("25s", "1h30m"), sizes ("64KiB") and rates ("50/s") as people write them. Which of them a key accepts does not live here.

use std::{fmt::Write as _, time::Duration};

/// The units of a duration, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of a size, largest first, in bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// The units of a rate, in seconds.
const TIMES: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3_600)];

/// So many in a second, a minute or an hour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many, at least 1.
    pub count: u32,
    /// In which time: 1 s, 60 s or 3,600 s.
    pub per: Duration,
}

/// Reads "25s", "500ms", "1h30m"; units from the longest to the shortest, each once.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest)?;
        let (_, scale) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*scale)?)?;
        rest = after;
    }
    (!text.trim().is_empty()).then(|| Duration::from_millis(total))
}

/// Reads "64KiB", "1MiB", "512B".
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit, after) = number_and_unit(text.trim())?;
    let (_, scale) = SIZES.iter().find(|(name, _)| *name == unit)?;
    if !after.is_empty() {
        return None;
    }
    number.checked_mul(*scale)
}

/// Reads "50/s", "600/m", "1000/h".
pub(super) fn parse_rate(text: &str) -> Option<Rate> {
    let (count, per) = in_time(text)?;
    let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
    let count = count.parse().ok().filter(|count| is_number && *count > 0)?;
    Some(Rate { count, per })
}

/// Reads "1MiB/s", "64KiB/m".
pub(super) fn parse_byte_rate(text: &str) -> Option<Rate> {
    let (bytes, per) = in_time(text)?;
    let count = u32::try_from(parse_size(bytes)?).ok().filter(|count| *count > 0)?;
    Some(Rate { count, per })
}

/// The text that [`parse_rate`] reads as this.
pub(super) fn show_rate(rate: Rate) -> String {
    format!("{}/{}", rate.count, time_of(rate))
}

/// The text that [`parse_byte_rate`] reads as this.
pub(super) fn show_byte_rate(rate: Rate) -> String {
    format!("{}/{}", show_size(rate.count.into()), time_of(rate))
}

/// What stands before the slash, and the time after it.
fn in_time(text: &str) -> Option<(&str, Duration)> {
    let (count, unit) = text.trim().split_once('/')?;
    let (_, seconds) = TIMES.iter().find(|(name, _)| *name == unit)?;
    Some((count, Duration::from_secs(*seconds)))
}

fn time_of(rate: Rate) -> &'static str {
    TIMES.iter().find(|(_, seconds)| Duration::from_secs(*seconds) == rate.per).map_or("s", |(name, _)| name)
}

/// The shortest text that [`parse_duration`] reads as this, to the millisecond.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in UNITS {
        if left >= scale {
            let _ = write!(text, "{}{unit}", left / scale);
            left %= scale;
        }
    }
    text
}

/// The shortest text that [`parse_size`] reads as this.
pub(super) fn show_size(bytes: u64) -> String {
    let (unit, scale) = SIZES.iter().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / scale)
}

fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..digits].parse().ok()?;
    let rest = &text[digits..];
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    (end > 0).then(|| (number, &rest[..end], &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units_from_the_longest_to_the_shortest() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text}");
        check("25s", Some(25_000));
        check("500ms", Some(500));
        check("1h30m", Some(5_400_000));
        check("7d", Some(604_800_000));
        check("0s", Some(0));
        for bad in ["", "25", "s", "25 s", "30m1h", "1s1s", "1.5s", "-1s", "25sec", "99999999999999999999s", "9999999999999999d"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_size_is_a_number_and_a_binary_unit() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_size(text), expected, "{text}");
        check("64KiB", Some(65_536));
        check("1MiB", Some(1_048_576));
        check("512B", Some(512));
        for bad in ["", "64", "64KB", "64 KiB", "1MiB1KiB", "-1B", "99999999999GiB"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_rate_is_a_number_over_a_time() {
        for good in ["50/s", "600/m", "1000/h"] {
            assert_eq!(parse_rate(good).map(show_rate).as_deref(), Some(good));
        }
        for bad in ["", "50", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "50/d", "50 / s", "99999999999/s"] {
            assert_eq!(parse_rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_rate_of_bytes_is_a_size_over_a_time() {
        for good in ["1MiB/s", "64KiB/m", "1B/h"] {
            assert_eq!(parse_byte_rate(good).map(show_byte_rate).as_deref(), Some(good));
        }
        for bad in ["", "1MiB", "50/s", "0B/s", "1MiB/d", "4GiB/s", "1MB/s"] {
            assert_eq!(parse_byte_rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for ms in [0, 1, 999, 1_000, 90_500, 5_400_000, 694_861_001] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
        for bytes in [0, 1, 1_023, 1_024, 65_536, 1_048_577, 3 << 30] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
    }
}
