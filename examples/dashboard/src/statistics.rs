//! What is known about the machine at one moment. How it is found out lives in `machine`.

use serde::Serialize;

/// The machine at one moment; rates are averages since the moment before.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Time since the machine started, in seconds.
    pub uptime_s: u64,
    /// The processors.
    pub cpu: Cpu,
    /// Processes that run or want to, on average over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// The memory.
    pub memory: Memory,
    /// All network interfaces together, without loopback.
    pub network: Network,
    /// The disks, one entry for each device.
    pub disks: Vec<Disk>,
    /// The processes.
    pub processes: Processes,
}

/// The processors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Busy share of all cores, in percent.
    pub percent: f64,
    /// Busy share of each core, in percent.
    pub cores: Vec<f64>,
}

/// The memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// All there is.
    pub total_bytes: u64,
    /// In use, caches not counted.
    pub used_bytes: u64,
    /// Room on disk for memory that is not needed.
    pub swap_total_bytes: u64,
    /// Of that in use.
    pub swap_used_bytes: u64,
}

impl Memory {
    /// The share in use, in percent.
    pub fn percent(&self) -> f64 {
        if self.total_bytes == 0 { 0.0 } else { self.used_bytes as f64 * 100.0 / self.total_bytes as f64 }
    }
}

/// What goes over the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Network {
    /// Bytes that come in, per second.
    pub received_per_s: f64,
    /// Bytes that go out, per second.
    pub sent_per_s: f64,
}

/// One disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// Its size.
    pub total_bytes: u64,
    /// Of that in use.
    pub used_bytes: u64,
    /// Bytes read, per second.
    pub read_per_s: f64,
    /// Bytes written, per second.
    pub written_per_s: f64,
}

/// The processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Processes {
    /// How many there are.
    pub count: usize,
    /// Programs that keep the processors busiest, busiest first.
    pub busiest: Vec<Program>,
}

/// All processes with one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Program {
    /// The name.
    pub name: String,
    /// How many processes.
    pub count: usize,
    /// Their share of one core, in percent: more than 100 with several cores.
    pub cpu_percent: f64,
    /// Their memory, in bytes; what they share is counted for each.
    pub memory_bytes: u64,
}

/// What does not change while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Host {
    /// What the machine calls itself.
    pub name: String,
    /// The operating system.
    pub system: String,
    /// Number of cores.
    pub cores: usize,
    /// The processors' model.
    pub cpu_model: String,
}

/// One moment in the chart: time in ms, CPU percent, memory percent, received/s, sent/s, load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point(pub u64, pub f64, pub f64, pub f64, pub f64, pub f64);

impl From<&Statistics> for Point {
    fn from(statistics: &Statistics) -> Self {
        let network = &statistics.network;
        Self(
            statistics.at_ms,
            statistics.cpu.percent,
            round(statistics.memory.percent()),
            network.received_per_s,
            network.sent_per_s,
            statistics.load[0],
        )
    }
}

/// One digit after the point: nobody reads more, and frames stay short.
pub(crate) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
