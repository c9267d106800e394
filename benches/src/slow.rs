//! Subscribers that take nothing, and a crowd beside one: what they cost the node, and what a healthy subscriber notices.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::{
    frames,
    goals::Goals,
    load::{Peer, Publisher, Subscribers, open_reading, open_small},
    process::Server,
};

/// Publications whose latency is measured, for one percentile.
const PROBES: usize = 1_000;
/// Time between two of them.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// Publications to the topic of the stuck, and their length: together twice what may wait for one of them.
const HOT_MESSAGES: usize = 512;
const HOT_LEN: usize = 4096;
/// Time for the node to send the stuck away.
const PATIENCE: Duration = Duration::from_secs(30);

/// Growth of resident memory, in MiB: of a node with stuck subscribers of one topic, and of one whose bound is the only end of it.
const GROWN_MAX: f64 = 64.0;
const GROWN_MAX_BOUND: f64 = 512.0;
/// Time until the stuck are gone, and until all are back, in seconds.
const GONE_MAX: f64 = 10.0;
const BACK_MAX: f64 = 3.0;
/// How much longer a healthy subscriber waits beside the stuck, and how long beside a storm and a crowd, in milliseconds.
const MORE_MAX: f64 = 25.0;
const STORM_MAX: f64 = 100.0;
const CROWD_MAX: f64 = 50.0;

/// One subscriber of a topic of its own, which publishes to it and listens.
pub(crate) struct Canary {
    stream: TcpStream,
    publisher: TcpStream,
    sent: u64,
}

impl Canary {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = open_small(address, "canary", None)?;
        let publisher = open_small(address, "", None)?;
        Ok(Self { stream, publisher, sent: 0 })
    }

    /// The time from a publish to its arrival.
    pub(crate) fn probe(&mut self) -> Result<Duration> {
        self.sent += 1;
        let started = Instant::now();
        self.publisher.write_all(&frames::publish("canary", self.sent))?;
        read_frame(&mut self.stream)?;
        let took = started.elapsed();
        read_frame(&mut self.publisher)?;
        Ok(took)
    }

    /// Sorted latencies of so many publications, one after the other.
    pub(crate) fn probes(&mut self, count: usize, mut between: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(count);
        for _ in 0..count {
            latencies.push(self.probe()?);
            between()?;
        }
        latencies.sort_unstable();
        Ok(latencies)
    }
}

/// What the next text frame says; pings are answered on the way.
pub(crate) fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>> {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                stream.read_exact(&mut len)?;
                usize::from(u16::from_be_bytes(len))
            }
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload)?;
        match head[0] & 0xF {
            frames::TEXT => return Ok(payload),
            frames::PING => stream.write_all(&frames::pong(&payload))?,
            _ => bail!("the healthy subscriber was told to go: {:?}", String::from_utf8_lossy(&payload)),
        }
    }
}

pub(crate) fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Memory of the kernel's TCP buffers of this machine, in bytes.
fn kernel_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context("sockstat has no line TCP")?;
    let pages: u64 = line.rsplit(' ').next().context("sockstat names no memory")?.parse()?;
    Ok(pages * 4096)
}

/// Subscribers that read nothing, on one topic.
struct Stuck {
    poll: Poll,
    streams: Vec<Option<mio::net::TcpStream>>,
}

impl Stuck {
    /// Opens so many, one after the other in each of the topics.
    fn connect(address: SocketAddr, count: usize, topics: &[String]) -> Result<Self> {
        let mut stuck = Self { poll: Poll::new()?, streams: Vec::with_capacity(count) };
        for (place, topic) in (0..count).zip(topics.iter().cycle()) {
            // As little as the kernel lets a client hold, so that it is the node that holds the rest.
            let stream = open_small(address, topic, Some(4096)).with_context(|| format!("stuck subscriber {place} of {count}"))?;
            stream.set_nonblocking(true)?;
            stuck.streams.push(Some(mio::net::TcpStream::from_std(stream)));
        }
        Ok(stuck)
    }

    /// Waits until the node has given every one of them up.
    fn wait_for_the_end(&mut self) -> Result<Duration> {
        let started = Instant::now();
        for (place, stream) in self.streams.iter_mut().enumerate() {
            if let Some(stream) = stream {
                // What is written ends where the connection has: that the node is gone shows without reading.
                self.poll.registry().register(stream, Token(place), Interest::WRITABLE)?;
            }
        }
        let mut events = Events::with_capacity(1024);
        let mut left = self.streams.len();
        while left > 0 {
            ensure!(started.elapsed() < PATIENCE, "{left} stuck subscribers are still there");
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                let is_over = event.is_error() || event.is_read_closed() || event.is_write_closed();
                if is_over && self.streams[event.token().0].take().is_some() {
                    left -= 1;
                }
            }
        }
        Ok(started.elapsed())
    }
}

/// What stuck subscribers of one busy topic cost, or of as many topics with their own publications.
pub(crate) fn stuck(start: impl Fn() -> Result<Server>, count: usize, topics: usize, rounds: usize, goals: &mut Goals) -> Result<()> {
    let published = HOT_MESSAGES * HOT_LEN / 1024;
    println!("\n# {count} subscribers that take nothing, on topics: {topics}, while {published} KiB are published to each\n");
    let topics: Vec<String> = (0..topics).map(|number| format!("hot{number}")).collect();
    // One write for all topics: the server reads the next while it answers the last.
    let burst: Vec<u8> = topics.iter().flat_map(|topic| frames::publish_long(topic, HOT_LEN)).collect();
    println!("| resident before | highest | grown | kernel buffers | all gone after | healthy p99 idle | beside it | more |");
    println!("|---|---|---|---|---|---|---|---|");
    let (mut growth, mut until_gone, mut longer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let server = start()?;
        let mut canary = Canary::connect(server.address)?;
        let idle = p99(&canary.probes(PROBES, || {
            std::thread::sleep(PROBE_INTERVAL);
            Ok(())
        })?);
        let mut stuck = Stuck::connect(server.address, count, &topics)?;
        let (before, kernel_before) = (server.rss_bytes()?, kernel_bytes()?);
        let (mut highest, mut kernel) = (before, kernel_before);
        let mut hot = open_small(server.address, "", None)?;
        let mut published = 0;
        let busy = canary.probes(PROBES, || {
            if published < HOT_MESSAGES {
                published += 1;
                publish_to_all(&mut hot, &burst, topics.len())?;
            } else {
                std::thread::sleep(PROBE_INTERVAL);
            }
            highest = highest.max(server.rss_bytes()?);
            kernel = kernel.max(kernel_bytes()?);
            Ok(())
        })?;
        let gone = stuck.wait_for_the_end()?;
        let grown = highest.saturating_sub(before);
        let busy = p99(&busy);
        println!(
            "| {} MiB | {} MiB | **{} MiB** | {} MiB | {:.1} s | {:.2} ms | {:.2} ms | **{:.2} ms** |",
            before >> 20,
            highest >> 20,
            grown >> 20,
            kernel.saturating_sub(kernel_before) >> 20,
            gone.as_secs_f64(),
            millis(idle),
            millis(busy),
            millis(busy.saturating_sub(idle)),
        );
        growth.push(grown as f64 / f64::from(1 << 20));
        until_gone.push(gone.as_secs_f64());
        longer.push(millis(busy.saturating_sub(idle)));
    }
    println!();
    goals.at_most("growth", "MiB", growth, if topics.len() > 1 { GROWN_MAX_BOUND } else { GROWN_MAX });
    goals.at_most("all gone after", "s", until_gone, GONE_MAX);
    goals.at_most("a healthy one's p99 more", "ms", longer, MORE_MAX);
    Ok(())
}

/// Writes a burst, and reads its answers meanwhile: a server whose answers nobody reads reads no more itself.
fn publish_to_all(stream: &mut TcpStream, burst: &[u8], answers: usize) -> Result<()> {
    let mut writing = stream.try_clone()?;
    thread::scope(|scope| {
        let writer = scope.spawn(move || writing.write_all(burst));
        for _ in 0..answers {
            read_frame(stream)?;
        }
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        Ok(())
    })
}

/// Publications that everybody missed.
pub(crate) const MISSED: usize = 50;
/// Threads that bring the crowd back.
const RETURNING: usize = 4;

/// How long it takes until everybody is back after the death of a node, each with what it missed.
pub(crate) fn storm(start: impl Fn() -> Result<Server>, count: usize, rounds: usize, goals: &mut Goals) -> Result<()> {
    println!("\n# {count} subscribers that come back at once, each with {MISSED} publications that it missed\n");
    println!("| all back after | healthy p50 | p99 | highest |");
    println!("|---|---|---|---|");
    let (mut until_back, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let server = start()?;
        let address = server.address;
        let mut publisher = open_small(address, "", None)?;
        let mut publish = |count: usize| -> Result<()> {
            for number in 1..=count {
                publisher.write_all(&frames::publish("kept:storm", number as u64))?;
                read_frame(&mut publisher)?;
            }
            Ok(())
        };
        publish(1)?;
        let since = format!("kept:storm?since={}", position(address)?);
        publish(MISSED)?;
        let mut canary = Canary::connect(address)?;
        let started = Instant::now();
        let returning: Vec<_> = (0..RETURNING)
            .map(|_| {
                let since = since.clone();
                std::thread::spawn(move || -> Result<Vec<TcpStream>> { (0..count / RETURNING).map(|_| resume(address, &since)).collect() })
            })
            .collect();
        let mut latencies = Vec::new();
        while returning.iter().any(|thread| !thread.is_finished()) {
            latencies.push(canary.probe()?);
            std::thread::sleep(PROBE_INTERVAL);
        }
        let mut back = Vec::new();
        for thread in returning {
            back.push(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        let took = started.elapsed();
        latencies.sort_unstable();
        let highest = latencies.last().copied().unwrap_or_default();
        println!(
            "| **{:.2} s** | {:.2} ms | **{:.2} ms** | {:.2} ms |",
            took.as_secs_f64(),
            millis(latencies[latencies.len() / 2]),
            millis(p99(&latencies)),
            millis(highest)
        );
        until_back.push(took.as_secs_f64());
        waits.push(millis(p99(&latencies)));
    }
    println!();
    goals.at_most("all back after", "s", until_back, BACK_MAX);
    goals.at_most("a healthy one's p99", "ms", waits, STORM_MAX);
    Ok(())
}

/// Where the topic stands.
fn position(address: SocketAddr) -> Result<String> {
    let (mut stream, mut heard) = open_reading(address, "kept:storm?format=envelope")?;
    loop {
        let text = String::from_utf8_lossy(&heard);
        if let Some((_, rest)) = text.split_once("\"position\":\"") {
            return Ok(rest.split('"').next().unwrap_or_default().to_owned());
        }
        let mut part = [0; 1024];
        let len = stream.read(&mut part)?;
        ensure!(len > 0, "disconnected after {text:?}");
        heard.extend(&part[..len]);
    }
}

/// Comes back, and reads what was missed.
fn resume(address: SocketAddr, since: &str) -> Result<TcpStream> {
    let (mut stream, mut heard) = open_reading(address, since)?;
    let mut missed = 0;
    loop {
        while let Some(frame) = frames::first(&heard) {
            if frame.opcode == frames::TEXT {
                missed += 1;
                frames::check(frame.payload, missed as u64)?;
            }
            heard.drain(..frame.len);
        }
        if missed == MISSED {
            return Ok(stream);
        }
        let mut part = [0; 16 * 1024];
        let len = stream.read(&mut part)?;
        ensure!(len > 0, "disconnected after {missed} of {MISSED}");
        heard.extend(&part[..len]);
    }
}

/// What a subscriber notices of a crowd in another topic.
pub(crate) fn crowd(start: impl Fn() -> Result<Server>, count: usize, rounds: usize, goals: &mut Goals) -> Result<()> {
    /// Messages to the crowd: ten a second.
    const INTERVAL: Duration = Duration::from_millis(100);

    println!("\n# {count} subscribers at 10 messages a second, and one of a topic of its own\n");
    println!("| healthy p50 | p99 | highest |");
    println!("|---|---|---|");
    let mut waits = Vec::new();
    for _ in 0..rounds {
        let server = start()?;
        let mut crowd = Subscribers::connect(server.address, Peer::Broker { topic: "bench" }, count)?;
        let address = server.address;
        // The crowd reads on a thread of its own, on the load's core; the probes wait for nobody but the server.
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let readers = std::thread::spawn(move || -> Result<()> {
            let mut publisher = Publisher::connect(address, Peer::Broker { topic: "bench" })?;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let started = Instant::now();
                publisher.publish(&mut crowd, 1, 1)?;
                crowd.idle(INTERVAL.saturating_sub(started.elapsed()))?;
            }
            Ok(())
        });
        let mut canary = Canary::connect(address)?;
        let latencies = canary.probes(PROBES, || {
            std::thread::sleep(PROBE_INTERVAL);
            Ok(())
        })?;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        readers.join().map_err(|_| anyhow::anyhow!("the crowd panicked"))??;
        let highest = latencies.last().copied().unwrap_or_default();
        println!(
            "| {:.2} ms | **{:.2} ms** | {:.2} ms |",
            millis(latencies[latencies.len() / 2]),
            millis(p99(&latencies)),
            millis(highest)
        );
        waits.push(millis(p99(&latencies)));
    }
    println!();
    goals.at_most("a healthy one's p99", "ms", waits, CROWD_MAX);
    Ok(())
}
