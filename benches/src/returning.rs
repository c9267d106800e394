//! The death of a node: its clients come to another one, each with the position at which it was cut.

use std::{
    io::{ErrorKind, Read, Write},
    mem,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    frames,
    load::open_small,
    process::Server,
    redis::Redis,
    slow::{Canary, MISSED, PROBE_INTERVAL, millis, p99, read_frame},
};

/// Silence that ends the bench.
const PATIENCE: Duration = Duration::from_secs(20);
/// Publications whose latency is measured before the storm.
const PROBES: usize = 300;

/// A client on its way: it is done when it has everything that it came for.
struct Client {
    stream: Option<TcpStream>,
    asked: bool,
    upgraded: bool,
    heard: Vec<u8>,
    /// Publications that it has.
    received: usize,
    /// What it goes on from.
    position: String,
}

/// Many clients on one thread.
struct Crowd {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    topics: usize,
    scratch: Box<[u8]>,
}

/// What the clients do.
#[derive(Clone, Copy, PartialEq)]
enum Task {
    /// Connect, and learn where the topic stands.
    Begin,
    /// Take one publication.
    Listen,
    /// Connect with the position, and take what was missed.
    Return,
}

impl Crowd {
    fn new(count: usize, topics: usize) -> Result<Self> {
        let client = || Client { stream: None, asked: false, upgraded: false, heard: Vec::new(), received: 0, position: String::new() };
        let clients = (0..count).map(|_| client()).collect();
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(1024), clients, topics, scratch: vec![0; 64 * 1024].into() })
    }

    /// Has all clients do it, so many at a time.
    fn all(&mut self, task: Task, address: SocketAddr, at_a_time: usize) -> Result<Duration> {
        let started = Instant::now();
        let (mut next, mut under_way, mut done) = (0, 0, 0);
        let mut heard_at = started;
        if task == Task::Listen {
            (next, under_way) = (self.clients.len(), self.clients.len());
            // What came before this is in the buffers already.
            for place in 0..next {
                done += usize::from(self.clients[place].take(task)?);
            }
        }
        while done < self.clients.len() {
            while next < self.clients.len() && under_way - done < at_a_time {
                let mut stream = TcpStream::connect(address)?;
                self.poll.registry().register(&mut stream, Token(next), Interest::READABLE | Interest::WRITABLE)?;
                let client = &mut self.clients[next];
                (client.stream, client.asked, client.upgraded, client.received) = (Some(stream), false, false, 0);
                client.heard.clear();
                (next, under_way) = (next + 1, under_way + 1);
            }
            match self.poll.poll(&mut self.events, Some(Duration::from_secs(1))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &self.events {
                let place = event.token().0;
                let client = &mut self.clients[place];
                let path = || match task {
                    Task::Return => format!("kept:storm{}?since={}", place % self.topics, client.position),
                    _ => format!("kept:storm{}?format=envelope", place % self.topics),
                };
                if !client.asked {
                    if !event.is_writable() {
                        continue;
                    }
                    let request = request(address, &path());
                    let stream = client.stream.as_mut().context("it is connecting")?;
                    stream.write_all(request.as_bytes()).with_context(|| format!("client {place}"))?;
                    client.asked = true;
                }
                let was_done = client.is_done(task);
                client.read(&mut self.scratch)?;
                let is_done = client.take(task).with_context(|| format!("client {place}"))?;
                if is_done && !was_done {
                    done += 1;
                    heard_at = Instant::now();
                }
            }
            ensure!(heard_at.elapsed() < PATIENCE, "{} clients wait", self.clients.len() - done);
        }
        Ok(started.elapsed())
    }
}

fn request(address: SocketAddr, path: &str) -> String {
    format!(
        "GET /ws/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

impl Client {
    fn is_done(&self, task: Task) -> bool {
        match task {
            Task::Begin => !self.position.is_empty(),
            Task::Listen => self.received == 1,
            Task::Return => self.received == MISSED,
        }
    }

    fn read(&mut self, scratch: &mut [u8]) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        loop {
            match stream.read(scratch) {
                Ok(0) => bail!("disconnected after {} publications", self.received),
                Ok(len) => self.heard.extend(&scratch[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes what was heard; says whether it is done.
    fn take(&mut self, task: Task) -> Result<bool> {
        if !self.upgraded {
            let Some(end) = self.heard.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
            ensure!(self.heard.starts_with(b"HTTP/1.1 101 "), "refused: {}", String::from_utf8_lossy(&self.heard));
            self.heard.drain(..end + 4);
            self.upgraded = true;
        }
        let mut taken = 0;
        while let Some(frame) = frames::first(&self.heard[taken..]) {
            taken += frame.len;
            match (frame.opcode, task) {
                (frames::TEXT, Task::Return) => {
                    self.received += 1;
                    frames::check(frame.payload, self.received as u64)?;
                }
                (frames::TEXT, _) => {
                    let text = String::from_utf8_lossy(frame.payload);
                    self.received += usize::from(text.starts_with(r#"{"broker":"publication""#));
                    if let Some((_, rest)) = text.split_once(r#""position":""#) {
                        rest.split('"').next().unwrap_or_default().clone_into(&mut self.position);
                    }
                }
                (frames::PING, _) => {
                    let pong = frames::pong(frame.payload);
                    self.stream.as_mut().context("it has a stream")?.write_all(&pong)?;
                }
                _ => bail!("told to go: {:?}", String::from_utf8_lossy(frame.payload)),
            }
        }
        self.heard.drain(..taken);
        ensure!(task != Task::Return || self.received <= MISSED, "more than was missed");
        Ok(self.is_done(task))
    }
}

/// How long it takes until everybody is back, what Redis is asked for it, and what a healthy client of the other node notices.
pub(crate) fn failover(
    node: impl Fn(&Redis) -> Result<Server>,
    count: usize,
    topics: usize,
    at_a_time: usize,
    rounds: usize,
) -> Result<()> {
    println!(
        "\n# {count} clients of a node that is killed, on topics: {topics}, come to another one, {at_a_time} at a time, each with {MISSED} publications that it missed\n"
    );
    println!(
        "| all back after | history reads per topic | SUBSCRIBE per topic | ECHO | looks at tops | healthy p99 idle | p50 beside it | p99 | highest |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for _ in 0..rounds {
        let redis = Redis::start()?;
        let (dying, other) = (node(&redis)?, node(&redis)?);
        let mut crowd = Crowd::new(count, topics)?;
        crowd.all(Task::Begin, dying.address, at_a_time)?;
        let mut publisher = open_small(other.address, "", None)?;
        let mut publish = |numbers: std::ops::RangeInclusive<u64>| -> Result<()> {
            for topic in 0..topics {
                let commands: Vec<u8> = numbers.clone().flat_map(|number| frames::publish(&format!("kept:storm{topic}"), number)).collect();
                publisher.write_all(&commands)?;
                for _ in numbers.clone() {
                    let answer = read_frame(&mut publisher)?;
                    ensure!(answer.starts_with(br#"{"broker":"ok""#), "not published: {}", String::from_utf8_lossy(&answer));
                }
            }
            Ok(())
        };
        publish(0..=0)?;
        crowd.all(Task::Listen, dying.address, at_a_time)?;
        dying.kill()?;
        publish(1..=MISSED as u64)?;
        for client in &mut crowd.clients {
            drop(mem::take(&mut client.stream));
        }
        let mut canary = Canary::connect(other.address)?;
        let idle = p99(&canary.probes(PROBES, || {
            thread::sleep(PROBE_INTERVAL);
            Ok(())
        })?);
        redis.record()?;
        let over = Arc::new(AtomicBool::new(false));
        let probing = thread::spawn({
            let over = over.clone();
            move || -> Result<Vec<Duration>> {
                let mut latencies = Vec::new();
                while !over.load(Relaxed) {
                    latencies.push(canary.probe()?);
                    thread::sleep(PROBE_INTERVAL);
                }
                latencies.sort_unstable();
                Ok(latencies)
            }
        });
        let took = crowd.all(Task::Return, other.address, at_a_time);
        over.store(true, Relaxed);
        let latencies = probing.join().map_err(|_| anyhow::anyhow!("the healthy client panicked"))??;
        let took = took?;
        let asked = redis.recorded()?;
        let count_of = |word: &str| {
            let of_the_storm = |command: &&Vec<String>| command[0] == word && command.iter().any(|part| part.contains("kept:storm"));
            asked.iter().filter(of_the_storm).count()
        };
        let echoes = asked.iter().filter(|command| command[0] == "ECHO").count();
        println!(
            "| **{:.2} s** | **{:.2}** | {:.2} | {echoes} | {:.2} | {:.2} ms | {:.2} ms | **{:.2} ms** | {:.2} ms |",
            took.as_secs_f64(),
            count_of("EVALSHA") as f64 / topics as f64,
            count_of("SUBSCRIBE") as f64 / topics as f64,
            // The script that reads a history asks that once itself.
            count_of("HMGET").saturating_sub(count_of("EVALSHA")) as f64 / topics as f64,
            millis(idle),
            millis(latencies[latencies.len() / 2]),
            millis(p99(&latencies)),
            millis(latencies.last().copied().unwrap_or_default()),
        );
    }
    Ok(())
}
