//! What the calls of one hook are counted as. Exporting the numbers does not live here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::options::Hook;

/// Counts the calls of one hook.
#[derive(Debug, Default)]
pub(super) struct Counts {
    calls: AtomicU64,
    failures: [AtomicU64; CAUSES.len()],
    opened: AtomicU64,
    is_open: AtomicBool,
}

/// Every cause of a failure.
const CAUSES: [&str; 8] = ["overloaded", "circuit_open", "timeout", "transport", "status", "redirect", "too_large", "malformed"];

/// The numbers of one hook at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct HookCounts {
    /// The hook.
    pub hook: Hook,
    /// Calls, those that were refused before they went out included.
    pub calls: u64,
    /// Calls without a usable answer, by cause: `overloaded`, `circuit_open`, `timeout`, `transport`, `status`, `redirect`, `too_large`, `malformed`.
    pub failures: Vec<(&'static str, u64)>,
    /// Times that the circuit opened.
    pub circuit_opened: u64,
    /// Whether calls are refused at this moment, or only tried.
    pub is_circuit_open: bool,
}

impl Counts {
    pub(super) fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(super) fn failure(&self, cause: &str) {
        if let Some(at) = CAUSES.iter().position(|known| *known == cause) {
            self.failures[at].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn circuit(&self, is_open: bool) {
        if !self.is_open.swap(is_open, Relaxed) && is_open {
            self.opened.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn read(&self, hook: Hook) -> HookCounts {
        HookCounts {
            hook,
            calls: self.calls.load(Relaxed),
            failures: CAUSES.iter().zip(&self.failures).map(|(cause, count)| (*cause, count.load(Relaxed))).collect(),
            circuit_opened: self.opened.load(Relaxed),
            is_circuit_open: self.is_open.load(Relaxed),
        }
    }
}
