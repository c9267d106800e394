//! Reads the statistics of the machine this program runs on. When to read, and who sees it, lives in `board`.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use sysinfo::{CpuRefreshKind, Disks, MemoryRefreshKind, Networks, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System, UpdateKind};

use crate::statistics::{Cpu, Disk, Host, Memory, Network, Processes, Program, Statistics, round};

/// Where statistics come from. Reading may block.
pub trait Source: Send + 'static {
    /// The machine as it is.
    fn read(&mut self) -> Result<Statistics, CollectError>;
}

/// Why there are no statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The system tells nothing about its processors.
    #[error("the system reports no processors")]
    NoProcessors,
    /// The system tells nothing about its memory.
    #[error("the system reports no memory")]
    NoMemory,
    /// The collector itself broke.
    #[error("the collector broke")]
    Broken,
    /// Someone wanted to see what happens.
    #[error("a failure is being simulated")]
    Simulated,
}

/// The machine this program runs on.
pub struct Machine {
    system: System,
    networks: Networks,
    disks: Disks,
    read_at: Instant,
}

/// Programs that are listed.
const BUSIEST_MAX: usize = 6;

impl Machine {
    /// Reads once, so that the first reading that counts has something to compare with.
    pub fn new() -> Self {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
            .with_memory(MemoryRefreshKind::everything())
            .with_processes(process_refresh());
        Self {
            system: System::new_with_specifics(what),
            networks: Networks::new_with_refreshed_list(),
            disks: Disks::new_with_refreshed_list(),
            read_at: Instant::now(),
        }
    }

    /// What does not change.
    pub fn host(&self) -> Host {
        let cpu_model = self.system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default();
        Host {
            name: System::host_name().unwrap_or_else(|| "this machine".to_owned()),
            system: System::long_os_version().unwrap_or_else(|| std::env::consts::OS.to_owned()),
            cores: self.system.cpus().len(),
            cpu_model,
        }
    }

    fn cpu(&self) -> Cpu {
        Cpu {
            percent: round(f64::from(self.system.global_cpu_usage())),
            cores: self.system.cpus().iter().map(|cpu| round(f64::from(cpu.cpu_usage()))).collect(),
        }
    }

    fn memory(&self) -> Memory {
        Memory {
            total_bytes: self.system.total_memory(),
            used_bytes: self.system.used_memory(),
            swap_total_bytes: self.system.total_swap(),
            swap_used_bytes: self.system.used_swap(),
        }
    }

    fn network(&self, seconds: f64) -> Network {
        let mut network = Network::default();
        for (name, data) in &self.networks {
            // What a machine says to itself is not traffic.
            if name != "lo" && !name.starts_with("lo0") {
                network.received_per_s += data.received() as f64 / seconds;
                network.sent_per_s += data.transmitted() as f64 / seconds;
            }
        }
        Network { received_per_s: network.received_per_s.round(), sent_per_s: network.sent_per_s.round() }
    }

    fn disks(&self, seconds: f64) -> Vec<Disk> {
        // A device that is mounted many times is one disk, named after its shortest mount point.
        let mut disks = BTreeMap::new();
        for disk in self.disks.list().iter().filter(|disk| disk.total_space() > 0) {
            let usage = disk.usage();
            let found = Disk {
                mount: disk.mount_point().display().to_string(),
                total_bytes: disk.total_space(),
                used_bytes: disk.total_space() - disk.available_space().min(disk.total_space()),
                read_per_s: (usage.read_bytes as f64 / seconds).round(),
                written_per_s: (usage.written_bytes as f64 / seconds).round(),
            };
            let kept = disks.entry(disk.name()).or_insert_with(|| found.clone());
            if found.mount.len() < kept.mount.len() {
                *kept = found;
            }
        }
        let mut disks: Vec<_> = disks.into_values().collect();
        disks.sort_by(|a, b| a.mount.cmp(&b.mount));
        disks
    }

    fn processes(&self) -> Processes {
        let mut programs = BTreeMap::<_, Program>::new();
        let mut count = 0;
        for process in self.system.processes().values().filter(|process| process.thread_kind().is_none()) {
            count += 1;
            let program = programs.entry(process.name()).or_default();
            program.count += 1;
            program.cpu_percent += f64::from(process.cpu_usage());
            program.memory_bytes += process.memory();
        }
        let mut busiest: Vec<_> =
            programs.into_iter().map(|(name, program)| Program { name: name.to_string_lossy().into_owned(), ..program }).collect();
        busiest.sort_by(|a, b| b.cpu_percent.total_cmp(&a.cpu_percent).then(b.memory_bytes.cmp(&a.memory_bytes)));
        busiest.truncate(BUSIEST_MAX);
        for program in &mut busiest {
            program.cpu_percent = round(program.cpu_percent);
        }
        Processes { count, busiest }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Source for Machine {
    fn read(&mut self) -> Result<Statistics, CollectError> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.system.refresh_processes_specifics(ProcessesToUpdate::All, true, process_refresh());
        self.networks.refresh(true);
        self.disks.refresh(true);
        let read_at = Instant::now();
        // Two readings at once have no rate between them; a millisecond keeps it finite.
        let seconds = (read_at - self.read_at).as_secs_f64().max(0.001);
        self.read_at = read_at;
        if self.system.cpus().is_empty() {
            return Err(CollectError::NoProcessors);
        }
        if self.system.total_memory() == 0 {
            return Err(CollectError::NoMemory);
        }
        let load = System::load_average();
        Ok(Statistics {
            at_ms: unix_ms(),
            uptime_s: System::uptime(),
            cpu: self.cpu(),
            load: [load.one, load.five, load.fifteen],
            memory: self.memory(),
            network: self.network(seconds),
            disks: self.disks(seconds),
            processes: self.processes(),
        })
    }
}

fn process_refresh() -> ProcessRefreshKind {
    ProcessRefreshKind::nothing().with_cpu().with_memory().with_exe(UpdateKind::Never).without_tasks()
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_memory_and_processes() {
        let mut machine = Machine::new();
        let statistics = machine.read().unwrap();
        assert_eq!(statistics.cpu.cores.len(), machine.host().cores);
        assert!(statistics.memory.used_bytes <= statistics.memory.total_bytes);
        assert!(statistics.processes.count > 0);
        assert!(statistics.cpu.percent.is_finite() && statistics.network.received_per_s.is_finite());
    }
}
