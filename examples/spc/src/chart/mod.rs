//! Statistical process control as pure functions: control limits, run rules, capability. Knows no product, no database, no socket.
//!
//! Formulas and constants are those of D. C. Montgomery, *Introduction to Statistical Quality Control*, and of the NIST/SEMATECH
//! *e-Handbook of Statistical Methods*, whose examples are the tests.

mod capability;
mod limits;
mod rules;

pub use capability::{Capability, Specification, Verdict};
pub use limits::{InvalidSubgroups, Limits, RangeLimits, Sigma, individuals, range_limits, xbar};
pub use rules::{Rule, RuleSet, broken_by_newest};

/// The arithmetic mean; 0 for nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Largest minus smallest; 0 for nothing.
pub fn range(values: &[f64]) -> f64 {
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    if values.is_empty() { 0.0 } else { high - low }
}
