//! Run rules: patterns that a process makes which something disturbs. What becomes of a broken rule lives elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::Limits;

/// One pattern. Western Electric's four zone tests, and Nelson's eight; where both have a pattern they differ in its length.
///
/// Written as on charts: `WE2`, `N5`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Western Electric 1 to 4.
    WesternElectric(u8),
    /// Nelson 1 to 8.
    Nelson(u8),
}

/// Which rules a chart is watched by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleSet {
    /// The four zone tests of the Western Electric handbook (1956).
    WesternElectric,
    /// The eight tests of L. S. Nelson (Journal of Quality Technology, 1984).
    #[default]
    Nelson,
}

impl RuleSet {
    /// The rules in it.
    pub fn rules(self) -> impl Iterator<Item = Rule> {
        let (rule, count): (fn(u8) -> Rule, u8) = match self {
            Self::WesternElectric => (Rule::WesternElectric, 4),
            Self::Nelson => (Rule::Nelson, 8),
        };
        (1..=count).map(rule)
    }
}

/// What a rule asks of the last points, as distances from the centre in sigma.
enum Test {
    /// So many of the last so many lie further out than this, all on one side.
    Beyond { count: usize, of: usize, sigma: f64 },
    /// So many in a row on one side of the centre.
    OneSide(usize),
    /// So many in a row that rise, or fall.
    Trend(usize),
    /// So many in a row that go up and down in turn.
    Alternating(usize),
    /// So many in a row within one sigma.
    Hugging(usize),
    /// So many in a row beyond one sigma, whichever side.
    Avoiding(usize),
}

impl Rule {
    fn test(self) -> Test {
        match self {
            Self::WesternElectric(1) | Self::Nelson(1) => Test::Beyond { count: 1, of: 1, sigma: 3.0 },
            Self::WesternElectric(2) | Self::Nelson(5) => Test::Beyond { count: 2, of: 3, sigma: 2.0 },
            Self::WesternElectric(3) | Self::Nelson(6) => Test::Beyond { count: 4, of: 5, sigma: 1.0 },
            Self::WesternElectric(_) => Test::OneSide(8),
            Self::Nelson(2) => Test::OneSide(9),
            Self::Nelson(3) => Test::Trend(6),
            Self::Nelson(4) => Test::Alternating(14),
            Self::Nelson(7) => Test::Hugging(15),
            Self::Nelson(_) => Test::Avoiding(8),
        }
    }

    /// What the pattern is, for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::WesternElectric(1) | Self::Nelson(1) => "one point beyond 3 sigma",
            Self::WesternElectric(2) | Self::Nelson(5) => "two of three points beyond 2 sigma on one side",
            Self::WesternElectric(3) | Self::Nelson(6) => "four of five points beyond 1 sigma on one side",
            Self::WesternElectric(_) => "eight points in a row on one side of the centre",
            Self::Nelson(2) => "nine points in a row on one side of the centre",
            Self::Nelson(3) => "six points in a row steadily rising or falling",
            Self::Nelson(4) => "fourteen points in a row alternating up and down",
            Self::Nelson(7) => "fifteen points in a row within 1 sigma",
            Self::Nelson(_) => "eight points in a row beyond 1 sigma, on either side",
        }
    }

    /// How many points it looks at.
    pub fn span(self) -> usize {
        match self.test() {
            Test::Beyond { of, .. } => of,
            Test::OneSide(count) | Test::Trend(count) | Test::Alternating(count) | Test::Hugging(count) | Test::Avoiding(count) => count,
        }
    }

    /// Whether the newest of these points, oldest first, completes the pattern or goes on with it.
    pub fn is_broken(self, points: &[f64], limits: &Limits) -> bool {
        let Some(from) = points.len().checked_sub(self.span()) else { return false };
        let points = &points[from..];
        let z: Vec<f64> = points.iter().map(|point| limits.z(*point)).collect();
        match self.test() {
            Test::Beyond { count, sigma, .. } => on_a_side(&z, |z| {
                // The newest point has to be one of them: an old pattern is told once, when it is complete.
                z.last().is_some_and(|last| *last > sigma) && z.iter().filter(|z| **z > sigma).count() >= count
            }),
            Test::OneSide(_) => on_a_side(&z, |z| z.iter().all(|z| *z > 0.0)),
            Test::Trend(_) => on_a_side(points, |points| points.windows(2).all(|pair| pair[1] > pair[0])),
            Test::Alternating(_) => points.windows(3).all(|three| (three[1] - three[0]) * (three[2] - three[1]) < 0.0),
            Test::Hugging(_) => limits.sigma > 0.0 && z.iter().all(|z| z.abs() < 1.0),
            Test::Avoiding(_) => z.iter().all(|z| z.abs() > 1.0),
        }
    }
}

/// The rules that begin to be broken with the newest of these points, oldest first. A pattern that goes on is not told again; a point
/// beyond three sigma is, each time.
pub fn broken_by_newest(points: &[f64], limits: &Limits, rules: RuleSet) -> Vec<Rule> {
    let before = &points[..points.len().saturating_sub(1)];
    rules.rules().filter(|rule| rule.is_broken(points, limits) && (rule.span() == 1 || !rule.is_broken(before, limits))).collect()
}

/// Whether it holds for the values, or for their mirror image.
fn on_a_side(values: &[f64], holds: impl Fn(&[f64]) -> bool) -> bool {
    let mirrored: Vec<f64> = values.iter().map(|value| -value).collect();
    holds(values) || holds(&mirrored)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WesternElectric(number) => write!(f, "WE{number}"),
            Self::Nelson(number) => write!(f, "N{number}"),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Limits = Limits { centre: 0.0, sigma: 1.0 };

    /// Which rules the last point begins to break, with points in sigma; and the same for the mirror image.
    #[track_caller]
    fn check(rules: RuleSet, points: &[f64], expected: &str) {
        for side in [1.0, -1.0] {
            let points: Vec<f64> = points.iter().map(|point| point * side).collect();
            let broken: Vec<String> = broken_by_newest(&points, &UNIT, rules).iter().map(ToString::to_string).collect();
            assert_eq!(broken.join(" "), expected, "{points:?}");
        }
    }

    #[test]
    fn nelson_1_is_each_point_beyond_three_sigma() {
        check(RuleSet::Nelson, &[0.1, 3.0], "");
        check(RuleSet::Nelson, &[0.1, 3.1], "N1");
        check(RuleSet::Nelson, &[3.1, -3.2], "N1");
    }

    #[test]
    fn nelson_2_is_the_ninth_point_on_one_side_and_not_the_tenth() {
        let side = [0.3, 0.5, 0.2, 0.4, 0.9, 0.3, 0.6, 0.2, 0.5, 0.4];
        check(RuleSet::Nelson, &side[..8], "");
        check(RuleSet::Nelson, &side[..9], "N2");
        check(RuleSet::Nelson, &side, "");
        check(RuleSet::Nelson, &[-0.1, 0.3, 0.5, 0.2, 0.4, 0.9, 0.3, 0.6, 0.2], "");
    }

    #[test]
    fn nelson_3_is_six_points_that_rise_without_a_pause() {
        check(RuleSet::Nelson, &[-0.9, -0.5, -0.1, 0.1, 0.4, 0.9], "N3");
        check(RuleSet::Nelson, &[-0.9, -0.5, -0.1, -0.1, 0.4, 0.9], "");
        check(RuleSet::Nelson, &[-0.5, -0.1, 0.1, 0.4, 0.9], "");
    }

    #[test]
    fn nelson_4_is_fourteen_points_up_and_down() {
        let saw: Vec<f64> = (0..14).map(|n| if n % 2 == 0 { 1.5 } else { -0.5 }).collect();
        check(RuleSet::Nelson, &saw, "N4");
        check(RuleSet::Nelson, &saw[1..], "");
    }

    #[test]
    fn nelson_5_and_6_count_one_side_only_and_the_newest_point_is_one_of_them() {
        check(RuleSet::Nelson, &[2.1, 0.0, 2.2], "N5");
        check(RuleSet::Nelson, &[2.1, 0.0, -2.2], "");
        check(RuleSet::Nelson, &[2.1, 2.2, 0.0], "");
        check(RuleSet::Nelson, &[1.1, 1.2, -0.5, 1.3, 1.4], "N6");
        check(RuleSet::Nelson, &[1.1, 1.2, -1.5, -1.3, 1.4], "");
        check(RuleSet::Nelson, &[1.1, 1.2, 1.3, 1.4, 0.5], "");
    }

    #[test]
    fn nelson_7_and_8_are_points_that_hug_or_avoid_the_centre() {
        let near: Vec<f64> = [0.5, -0.3, 0.1, 0.4, -0.6].repeat(3);
        check(RuleSet::Nelson, &near, "N7");
        check(RuleSet::Nelson, &near[1..], "");
        check(RuleSet::Nelson, &[1.5, -1.2, -1.6, 1.3, 1.1, -1.5, -1.2, 1.4], "N8");
        check(RuleSet::Nelson, &[1.5, -1.2, -1.6, 1.3, 0.9, -1.5, -1.2, 1.4], "");
    }

    #[test]
    fn western_electric_is_four_zone_tests_and_eight_make_a_run() {
        check(RuleSet::WesternElectric, &[3.5], "WE1");
        check(RuleSet::WesternElectric, &[2.5, 2.1], "");
        check(RuleSet::WesternElectric, &[0.5, 2.5, 2.1], "WE2");
        check(RuleSet::WesternElectric, &[1.5, 1.1, 1.2, 0.2, 1.9], "WE3");
        check(RuleSet::WesternElectric, &[0.3, 0.5, 0.2, 0.4, 0.9, 0.3, 0.6, 0.2], "WE4");
        check(RuleSet::WesternElectric, &[-0.9, -0.5, -0.1, 0.1, 0.4, 0.9], "");
    }

    /// NIST/SEMATECH e-Handbook, 6.3.2.2: "the process is in control", so no zone test fires at any of its points.
    #[test]
    fn the_flow_rates_of_the_nist_handbook_are_in_control() {
        let points = [49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1];
        let (limits, _) = super::super::individuals(&points).unwrap();
        for upto in 1..=points.len() {
            assert_eq!(broken_by_newest(&points[..upto], &limits, RuleSet::WesternElectric), []);
        }
    }

    #[test]
    fn a_process_that_does_not_vary_breaks_no_rule() {
        let still = Limits { centre: 5.0, sigma: 0.0 };
        assert_eq!(broken_by_newest(&[5.0; 20], &still, RuleSet::Nelson), []);
    }
}
