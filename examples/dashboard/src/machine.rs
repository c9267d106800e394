//! The machine this runs on, for one more widget: how busy it is.

use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::dispatch::now_ms;

/// Reads one machine, again and again.
pub struct Machine(System);

/// How busy it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Busy share of all processors since the reading before, in percent.
    pub cpu_percent: f32,
    /// Share of the memory that is in use, in percent.
    pub memory_percent: f32,
}

impl Machine {
    /// Reads once, so that the first reading that counts has something to compare with.
    pub fn new() -> Self {
        let what = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_cpu_usage()).with_memory(MemoryRefreshKind::everything());
        Self(System::new_with_specifics(what))
    }

    /// How busy the machine was since the last time. Takes less than a millisecond.
    pub fn read(&mut self) -> Load {
        self.0.refresh_cpu_usage();
        self.0.refresh_memory();
        let memory_percent = self.0.used_memory() as f32 * 100.0 / self.0.total_memory().max(1) as f32;
        Load { at_ms: now_ms(), cpu_percent: round(self.0.global_cpu_usage()), memory_percent: round(memory_percent) }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

/// One digit after the point: nobody reads more.
fn round(value: f32) -> f32 {
    (value * 10.0).round() / 10.0
}
