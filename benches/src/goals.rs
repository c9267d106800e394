//! Goals beside what was measured: each figure says in words whether it is met.

use std::fmt::Display;

/// The goals of one run, and how many of them are missed.
#[derive(Debug, Default)]
pub(crate) struct Goals {
    missed: usize,
}

impl Goals {
    /// Whether every goal was met.
    pub(crate) fn are_met(&self) -> bool {
        self.missed == 0
    }

    /// A figure that is to be at most `goal`: the median of the rounds, of which there is one at least.
    pub(crate) fn at_most(&mut self, what: impl Display, unit: &str, mut rounds: Vec<f64>, goal: f64) {
        rounds.sort_by(f64::total_cmp);
        let measured = median(&rounds);
        let is_met = measured <= goal;
        self.missed += usize::from(!is_met);
        let (verdict, of) = (if is_met { "met" } else { "MISSED" }, if rounds.len() > 1 { ", median" } else { "" });
        println!("- {what}{of}: {} {unit}, goal {} {unit}: {verdict}", short(measured), short(goal));
    }
}

/// The middle of values that are in order; there is one at least.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// As many digits as say something.
fn short(value: f64) -> String {
    if value < 2.0 { format!("{value:.3}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_for_the_median_and_one_that_is_missed_is_counted() {
        let mut goals = Goals::default();
        goals.at_most("even", "ms", vec![9.0, 1.0, 3.0, 2.0], 2.5);
        goals.at_most("odd", "ms", vec![100.0, 2.0, 1.0], 2.0);
        assert!(goals.are_met());
        goals.at_most("over", "ms", vec![2.1], 2.0);
        assert!(!goals.are_met());
    }
}
