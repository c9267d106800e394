//! Durations ("25s", "1h30m") and sizes ("64KiB") as people write them. Which of them a key accepts does not live here.

use std::{fmt::Write as _, time::Duration};

/// The units of a duration, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of a size, largest first, in bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

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
