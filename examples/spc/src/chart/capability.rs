//! Capability: how well what a process makes fits its specification. Says nothing of whether the process is stable.

use serde::{Deserialize, Serialize};

use super::{Sigma, mean};

/// What the customer wants of a reading. One of the limits may be missing, as for a strength that only has a minimum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Specification {
    /// Lower specification limit.
    pub lsl: Option<f64>,
    /// Upper specification limit.
    pub usl: Option<f64>,
}

impl Specification {
    /// Whether the reading may be delivered.
    pub fn allows(&self, reading: f64) -> bool {
        self.lsl.is_none_or(|lsl| reading >= lsl) && self.usl.is_none_or(|usl| reading <= usl)
    }
}

/// The result of an analysis. What needs both limits, or a spread, is `None` without.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capability {
    /// Readings that were looked at.
    pub readings: usize,
    /// Their mean.
    pub mean: f64,
    /// The spread within subgroups: what the process could do.
    pub sigma_within: f64,
    /// The spread of all readings together: what it did.
    pub sigma_overall: f64,
    /// Width of the specification against the spread within.
    pub cp: Option<f64>,
    /// The same for the side that the mean is nearer to.
    pub cpk: Option<f64>,
    /// Width of the specification against the spread overall.
    pub pp: Option<f64>,
    /// The same for the nearer side.
    pub ppk: Option<f64>,
    /// Share of the readings that are out of specification, 0 to 1.
    pub outside: f64,
}

/// What people make of a Cpk.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// 1.33 and more.
    Capable,
    /// 1.00 to 1.33.
    Marginal,
    /// Less, or unknown.
    Incapable,
}

impl Capability {
    /// Looks at readings; `within` is the spread within their subgroups. `None` for fewer than two readings.
    pub fn of(readings: &[f64], within: Sigma, specification: Specification) -> Option<Self> {
        if readings.len() < 2 {
            return None;
        }
        let mean = mean(readings);
        let squares: f64 = readings.iter().map(|reading| (reading - mean).powi(2)).sum();
        let overall = (squares / (readings.len() - 1) as f64).sqrt();
        let outside = readings.iter().filter(|reading| !specification.allows(**reading)).count();
        Some(Self {
            readings: readings.len(),
            mean,
            sigma_within: within.0,
            sigma_overall: overall,
            cp: width(specification, within.0),
            cpk: nearer_side(specification, mean, within.0),
            pp: width(specification, overall),
            ppk: nearer_side(specification, mean, overall),
            outside: outside as f64 / readings.len() as f64,
        })
    }

    /// What people make of it.
    pub fn verdict(&self) -> Verdict {
        match self.cpk {
            Some(cpk) if cpk >= 1.33 => Verdict::Capable,
            Some(cpk) if cpk >= 1.0 => Verdict::Marginal,
            _ => Verdict::Incapable,
        }
    }
}

fn width(Specification { lsl, usl }: Specification, sigma: f64) -> Option<f64> {
    finite((usl? - lsl?) / (6.0 * sigma))
}

fn nearer_side(Specification { lsl, usl }: Specification, mean: f64, sigma: f64) -> Option<f64> {
    let lower = lsl.and_then(|lsl| finite((mean - lsl) / (3.0 * sigma)));
    let upper = usl.and_then(|usl| finite((usl - mean) / (3.0 * sigma)));
    match (lower, upper) {
        (Some(lower), Some(upper)) => Some(lower.min(upper)),
        (one, other) => one.or(other),
    }
}

/// A process that does not vary has no index.
fn finite(index: f64) -> Option<f64> {
    Some(index).filter(|index| index.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 5e-4), "{found:?} is not {expected}");
    }

    /// Montgomery, example 6.1 continued: flow widths of 1.50 ± 0.50 microns.
    #[test]
    fn the_flow_widths_of_montgomery() {
        let specification = Specification { lsl: Some(1.0), usl: Some(2.0) };
        close(width(specification, 0.1398), 1.192);
        close(nearer_side(specification, 1.5056, 0.1398), 1.1788);
    }

    /// NIST/SEMATECH e-Handbook, 6.1.6: limits 8 and 20, mean 16, sigma 2.
    #[test]
    fn the_example_of_the_nist_handbook() {
        let specification = Specification { lsl: Some(8.0), usl: Some(20.0) };
        close(width(specification, 2.0), 1.0);
        close(nearer_side(specification, 16.0, 2.0), 0.6667);
    }

    #[test]
    fn performance_is_by_the_spread_of_all_readings() {
        let readings = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let found = Capability::of(&readings, Sigma(1.0), Specification { lsl: Some(0.0), usl: Some(8.0) }).unwrap();
        close(Some(found.sigma_overall), 2.1381);
        close(found.pp, 8.0 / (6.0 * 2.1381));
        close(found.ppk, 3.0 / (3.0 * 2.1381));
        close(found.cp, 8.0 / 6.0);
        close(found.cpk, 1.0);
        close(Some(found.outside), 0.125);
        assert_eq!(found.verdict(), Verdict::Marginal);
    }

    #[test]
    fn one_limit_gives_one_side_and_no_width_and_no_spread_gives_nothing() {
        let minimum = Specification { lsl: Some(100.0), usl: None };
        let found = Capability::of(&[112.0, 118.0, 115.0], Sigma(5.0), minimum).unwrap();
        close(found.cpk, 1.0);
        assert_eq!((found.cp, found.pp), (None, None));
        let still = Capability::of(&[5.0, 5.0], Sigma(0.0), Specification { lsl: Some(0.0), usl: Some(9.0) }).unwrap();
        assert_eq!((still.cp, still.cpk, still.verdict()), (None, None, Verdict::Incapable));
        assert_eq!(Capability::of(&[5.0], Sigma(0.0), minimum), None);
    }
}
