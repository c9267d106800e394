//! The `rate` of a subscription: updates per second, in a command and in a URL.

use std::time::Duration;

use broker_core::Selection;

/// The time between two updates for so many a second, as `4` or `0.5`; `None`: no number from one in an hour to a thousand a second.
///
/// ```
/// use std::time::Duration;
/// use broker_protocol::update_interval;
///
/// assert_eq!(update_interval("4"), Some(Duration::from_millis(250)));
/// assert_eq!(update_interval("0"), None);
/// ```
pub fn update_interval(rate: &str) -> Option<Duration> {
    let is_number = !rate.is_empty() && rate.len() <= 16 && rate.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let rate: f64 = rate.parse().ok().filter(|_| is_number)?;
    let interval = Duration::try_from_secs_f64(1.0 / rate).ok()?;
    (Selection::PACE_MIN..=Selection::PACE_MAX).contains(&interval).then_some(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_of_updates_a_second() {
        for (rate, millis) in [("4", Some(250)), ("0.5", Some(2_000)), ("1000", Some(1)), ("0", None), ("1001", None), ("0.0001", None)] {
            assert_eq!(update_interval(rate).map(|interval| interval.as_millis()), millis, "{rate}");
        }
        for bad in ["", "x", "-1", "+1", "1e2", "inf", "NaN", "1.2.3", "99999999999999999999"] {
            assert_eq!(update_interval(bad), None, "{bad}");
        }
    }
}
