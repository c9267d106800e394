//! Control limits: where the points of a process lie that nothing disturbs. Whether points break a rule lives in `rules`.

use serde::{Deserialize, Serialize};

use super::{mean, range};

/// What a subgroup of 2 to 10 readings says about the spread: d2 turns the mean range into sigma, D3 and D4 bound the range.
const BY_SIZE: [(f64, f64, f64); 9] = [
    (1.128, 0.0, 3.267),
    (1.693, 0.0, 2.574),
    (2.059, 0.0, 2.282),
    (2.326, 0.0, 2.114),
    (2.534, 0.0, 2.004),
    (2.704, 0.076, 1.924),
    (2.847, 0.136, 1.864),
    (2.970, 0.184, 1.816),
    (3.078, 0.223, 1.777),
];

/// The centre of a control chart and its spread: limits are at three sigma, zones at one and two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Where the points lie on average.
    pub centre: f64,
    /// The spread of the *points*: of readings in a chart of individuals, of means in one of subgroups.
    pub sigma: f64,
}

impl Limits {
    /// The lower control limit.
    pub fn lower(&self) -> f64 {
        self.centre - 3.0 * self.sigma
    }

    /// The upper control limit.
    pub fn upper(&self) -> f64 {
        self.centre + 3.0 * self.sigma
    }

    /// How many sigma a point is above the centre; 0 where nothing varies.
    pub fn z(&self, point: f64) -> f64 {
        if self.sigma > 0.0 { (point - self.centre) / self.sigma } else { 0.0 }
    }
}

/// The spread of single readings within subgroups, from their mean range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sigma(pub f64);

/// Why readings make no chart.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSubgroups {
    /// Not enough of them to know a spread.
    #[error("a chart needs at least two points")]
    TooFew,
    /// A subgroup that no constants are known for, or subgroups that differ in size.
    #[error("all subgroups of a chart have the same 2 to 10 readings")]
    Size,
}

/// A chart of single readings: the mean moving range of neighbours gives sigma.
pub fn individuals(readings: &[f64]) -> Result<(Limits, Sigma), InvalidSubgroups> {
    if readings.len() < 2 {
        return Err(InvalidSubgroups::TooFew);
    }
    let moving: Vec<f64> = readings.windows(2).map(range).collect();
    let sigma = mean(&moving) / BY_SIZE[0].0;
    Ok((Limits { centre: mean(readings), sigma }, Sigma(sigma)))
}

/// A chart of subgroups' means: the mean range within subgroups gives sigma.
pub fn xbar(subgroups: &[Vec<f64>]) -> Result<(Limits, Sigma), InvalidSubgroups> {
    let size = subgroups.first().ok_or(InvalidSubgroups::TooFew)?.len();
    if subgroups.len() < 2 {
        return Err(InvalidSubgroups::TooFew);
    }
    if subgroups.iter().any(|subgroup| subgroup.len() != size) {
        return Err(InvalidSubgroups::Size);
    }
    let means: Vec<f64> = subgroups.iter().map(|subgroup| mean(subgroup)).collect();
    let ranges: Vec<f64> = subgroups.iter().map(|subgroup| range(subgroup)).collect();
    of_ranges(mean(&means), mean(&ranges), size)
}

/// The chart of ranges beside it, of subgroups, or of neighbours where points are single readings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RangeLimits {
    /// The mean range.
    pub centre: f64,
    /// The lower control limit; 0 for small subgroups.
    pub lower: f64,
    /// The upper control limit.
    pub upper: f64,
}

/// The limits of ranges, from the spread of readings within subgroups of this size.
pub fn range_limits(within: Sigma, size: usize) -> Result<RangeLimits, InvalidSubgroups> {
    let (d2, lower, upper) = constants(size.max(2))?;
    let centre = within.0 * d2;
    Ok(RangeLimits { centre, lower: lower * centre, upper: upper * centre })
}

fn of_ranges(grand_mean: f64, mean_range: f64, size: usize) -> Result<(Limits, Sigma), InvalidSubgroups> {
    let sigma = mean_range / constants(size)?.0;
    Ok((Limits { centre: grand_mean, sigma: sigma / (size as f64).sqrt() }, Sigma(sigma)))
}

fn constants(size: usize) -> Result<(f64, f64, f64), InvalidSubgroups> {
    size.checked_sub(2).and_then(|at| BY_SIZE.get(at)).copied().ok_or(InvalidSubgroups::Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64, within: f64) {
        assert!((found - expected).abs() <= within, "{found} is not {expected}");
    }

    /// NIST/SEMATECH e-Handbook, 6.3.2.2: flow rates of batches.
    #[test]
    fn individuals_of_the_nist_handbook() {
        let (limits, _) = individuals(&[49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1]).unwrap();
        close(limits.centre, 50.81, 1e-9);
        close(limits.upper(), 55.8041, 5e-4);
        close(limits.lower(), 45.8159, 5e-4);
    }

    /// Montgomery, example 6.1: flow widths, 25 subgroups of 5.
    #[test]
    fn means_and_ranges_of_montgomerys_flow_widths() {
        let (limits, sigma) = of_ranges(1.5056, 0.32521, 5).unwrap();
        close(limits.upper(), 1.69325, 1e-4);
        close(limits.lower(), 1.31795, 1e-4);
        close(sigma.0, 0.1398, 1e-4);
        let ranges = range_limits(sigma, 5).unwrap();
        close(ranges.centre, 0.32521, 1e-9);
        close(ranges.upper, 0.68749, 1e-4);
        close(ranges.lower, 0.0, 0.0);
    }

    #[test]
    fn subgroups_are_averaged_before_their_spread_is_taken() {
        let (limits, sigma) = xbar(&[vec![9.0, 11.0], vec![10.0, 14.0], vec![8.0, 8.0]]).unwrap();
        close(limits.centre, 10.0, 1e-12);
        close(sigma.0, 2.0 / 1.128, 1e-12);
        close(limits.sigma, 2.0 / 1.128 / 2f64.sqrt(), 1e-12);
    }

    #[test]
    fn what_makes_no_chart_is_refused() {
        assert_eq!(individuals(&[1.0]), Err(InvalidSubgroups::TooFew));
        assert_eq!(xbar(&[]), Err(InvalidSubgroups::TooFew));
        assert_eq!(xbar(&[vec![1.0], vec![2.0]]), Err(InvalidSubgroups::Size));
        assert_eq!(xbar(&[vec![1.0, 2.0], vec![2.0, 3.0, 4.0]]), Err(InvalidSubgroups::Size));
        assert_eq!(range_limits(Sigma(1.0), 11), Err(InvalidSubgroups::Size));
    }
}
