//! The bench of the whole process: CPU per delivery against a bare `send()` loop, and memory per idle connection.
//!
//! How it measures, and what came out: `docs/benchmarks.md`.

mod chatting;
mod figures;
mod frames;
mod goals;
mod http;
mod load;
mod nodes;
mod process;
mod redis;
mod returning;
mod slow;
mod sockets;
mod watching;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use chatting::Load;
use figures::Round;
use goals::Goals;
use load::{Peer, Publisher, Subscribers};
use process::Server;
use redis::Redis;

const HELP: &str = "\
broker-benches [fanout | idle | stuck | crowd | storm | nodes | failover | topics | examples] [options]          without a word: fanout and idle

  --server PATH        measure this binary `broker` instead of the embedded library
  --events             subscribers over server-sent events in place of WebSockets
  --rounds N           rounds of the fan-out; at least 5 mean something (7)
  --subscribers N      subscribers of the fan-out (1000)
  --messages N         publications of a measurement, one at a time (160); bursts have four times as many
  --topics N           topics of the stuck ones, and of those that a failover brings (1); of a node with many topics (10000)
  --at-a-time N        clients that a failover brings at a time (500)
  --idle N             idle connections, stuck ones, and those that come back (10000); a crowd has half as many
  --clients N          clients of the chat (100), with --each N messages each (1000), spread over --sessions N (1)
  --strict             fails where a goal is missed
";

/// Publications that arrive together in a burst.
const BURST: u64 = 16;

/// Publications after which the other processes' clients answer pings.
const PORTION: u64 = 160;

/// Publications before the first measurement of a process.
const WARM_UP: u64 = 16;

/// Time for a server with many new connections to come to rest.
const SETTLE: Duration = Duration::from_secs(3);

/// What a delivery may cost beside a bare `send()`: one at a time, and in bursts.
const RATIO_MAX: f64 = 1.15;
const RATIO_MAX_BURST: f64 = 0.10;

/// Bytes that an idle connection may cost: a WebSocket, and a stream of events.
const IDLE_MAX: f64 = 4096.0;
const IDLE_MAX_EVENTS: f64 = 8192.0;

/// Topics of a node that has many.
const MANY_TOPICS: usize = 10_000;

/// Topics without and with a history.
const TOPICS: [(&str, &str); 2] = [("bench", "without history"), ("kept:bench", "with a history of 300")];

struct Options {
    fanout: bool,
    idle: bool,
    stuck: bool,
    crowd: bool,
    storm: bool,
    nodes: bool,
    failover: bool,
    many_topics: bool,
    examples: bool,
    chat: Load,
    server: Option<PathBuf>,
    events: bool,
    rounds: usize,
    subscribers: usize,
    messages: u64,
    connections: usize,
    topics: Option<usize>,
    strict: bool,
    at_a_time: usize,
}

impl Options {
    fn peer(&self, topic: &'static str) -> Peer<'static> {
        if self.events { Peer::Events { topic } } else { Peer::Broker { topic } }
    }
}

fn main() -> Result<ExitCode> {
    let Some(options) = options()? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let mut goals = Goals::default();
    process::raise_file_limit((options.connections.max(3 * options.subscribers) + 100) as u64)?;
    process::pin_load()?;
    if options.fanout {
        fanout(&options, &mut goals)?;
    }
    if options.idle {
        idle(&options, &mut goals)?;
    }
    if options.stuck {
        slow::stuck(|| start_server(&options), options.connections, options.topics.unwrap_or(1), options.rounds, &mut goals)?;
    }
    if options.storm {
        slow::storm(|| start_server(&options), options.connections, options.rounds, &mut goals)?;
    }
    if options.crowd {
        slow::crowd(|| start_server(&options), options.connections / 2, options.rounds, &mut goals)?;
    }
    if options.nodes {
        nodes::fanout(start_floor, start_node, options.subscribers, options.messages, options.rounds)?;
    }
    if options.failover {
        returning::failover(start_node, options.connections, options.topics.unwrap_or(1), options.at_a_time, options.rounds)?;
    }
    if options.many_topics {
        nodes::topics(|| start_server(&options), start_node, options.topics.unwrap_or(MANY_TOPICS), options.rounds)?;
    }
    if options.examples {
        examples(&options)?;
    }
    Ok(if options.strict && !goals.are_met() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn options() -> Result<Option<Options>> {
    let mut options = Options {
        fanout: true,
        idle: true,
        stuck: false,
        crowd: false,
        storm: false,
        nodes: false,
        failover: false,
        many_topics: false,
        examples: false,
        chat: Load { clients: 100, each: 1000, sessions: 1 },
        server: None,
        events: false,
        rounds: 7,
        subscribers: 1000,
        messages: 160,
        connections: 10_000,
        topics: None,
        strict: false,
        at_a_time: 500,
    };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "fanout" => options.idle = false,
            "idle" => options.fanout = false,
            "stuck" => (options.fanout, options.idle, options.stuck) = (false, false, true),
            "storm" => (options.fanout, options.idle, options.storm) = (false, false, true),
            "crowd" => (options.fanout, options.idle, options.crowd) = (false, false, true),
            "nodes" => (options.fanout, options.idle, options.nodes) = (false, false, true),
            "failover" => (options.fanout, options.idle, options.failover) = (false, false, true),
            "topics" => (options.fanout, options.idle, options.many_topics) = (false, false, true),
            "examples" => (options.fanout, options.idle, options.examples) = (false, false, true),
            "--clients" => options.chat.clients = value()?.parse()?,
            "--each" => options.chat.each = value()?.parse()?,
            "--sessions" => options.chat.sessions = value()?.parse()?,
            "--server" => options.server = Some(value()?.into()),
            "--events" => options.events = true,
            "--rounds" => options.rounds = value()?.parse()?,
            "--subscribers" => options.subscribers = value()?.parse()?,
            "--messages" => options.messages = value()?.parse()?,
            "--topics" => options.topics = Some(value()?.parse()?),
            "--at-a-time" => options.at_a_time = value()?.parse()?,
            "--idle" => options.connections = value()?.parse()?,
            "--strict" => options.strict = true,
            "--help" => return Ok(None),
            other => bail!("no option {other:?}\n\n{HELP}"),
        }
    }
    ensure!(options.topics.is_none_or(|topics| topics > 0) && options.at_a_time > 0, "at least one topic, one at a time");
    ensure!(options.rounds > 0 && options.messages >= BURST, "at least one round of {BURST} publications");
    Ok(Some(options))
}

/// One process with subscribers and a publisher.
struct Side {
    name: &'static str,
    // The clients go first, so that the process has nothing left to tell them.
    publisher: Publisher<'static>,
    subscribers: Subscribers,
    server: Server,
}

impl Side {
    fn new(name: &'static str, server: Server, peer: Peer<'static>, subscribers: usize) -> Result<Self> {
        let subscribers = Subscribers::connect(server.address, peer, subscribers)?;
        let publisher = Publisher::connect(server.address, peer)?;
        let mut side = Self { name, publisher, subscribers, server };
        side.publish(WARM_UP, 1)?;
        Ok(side)
    }

    /// Publishes, and says what CPU time the process took, in nanoseconds.
    fn publish(&mut self, bursts: u64, size: u64) -> Result<u64> {
        let before = self.server.cpu_ns()?;
        self.publisher.publish(&mut self.subscribers, bursts, size)?;
        Ok(self.server.cpu_ns()? - before)
    }
}

/// Measures one side. The others answer their pings in between, on a machine however slow.
fn measure(sides: &mut [Side], which: usize, bursts: u64, size: u64) -> Result<f64> {
    let mut cpu_ns = 0;
    let mut left = bursts;
    while left > 0 {
        for side in sides.iter_mut() {
            side.subscribers.idle(Duration::from_millis(5))?;
            side.publisher.take_answers()?;
        }
        let portion = left.min(PORTION / size);
        let side = &mut sides[which];
        cpu_ns += side.publish(portion, size).with_context(|| format!("{} in bursts of {size}", side.name))?;
        left -= portion;
    }
    Ok(cpu_ns as f64 / (bursts * size * sides[which].subscribers.len() as u64) as f64)
}

fn fanout(options: &Options, goals: &mut Goals) -> Result<()> {
    let modes = [("one at a time", options.messages, 1), ("bursts of 16", options.messages / BURST * 4, BURST)];
    let mut tables: Vec<(String, Vec<Round>)> = Vec::new();
    for (mode, ..) in modes {
        tables.extend(TOPICS.iter().map(|(_, name)| (format!("{mode}, {name}"), Vec::new())));
    }
    for _ in 0..options.rounds {
        let mut rows = tables.iter_mut();
        let mut sides = vec![Side::new("the floor", start_floor(options.subscribers)?, Peer::Floor, options.subscribers)?];
        for (topic, name) in TOPICS {
            sides.push(Side::new(name, start_server(options)?, options.peer(topic), options.subscribers)?);
        }
        for (_, bursts, size) in modes {
            let mut before = measure(&mut sides, 0, bursts, size)?;
            for server in 1..sides.len() {
                let cpu = measure(&mut sides, server, bursts, size)?;
                let after = measure(&mut sides, 0, bursts, size)?;
                let (_, rounds) = rows.next().expect("there is a table for each mode and topic");
                rounds.push(Round { floor: [before, after], server: cpu });
                before = after;
            }
        }
    }
    println!(
        "# Fan-out: {} subscribers, {} bytes, CPU time per delivery; nothing was lost or out of order",
        options.subscribers,
        frames::PAYLOAD_LEN
    );
    for (name, rounds) in &tables {
        figures::print(name, rounds);
    }
    println!();
    for (at, (name, rounds)) in tables.iter().enumerate() {
        let goal = if at < TOPICS.len() { RATIO_MAX } else { RATIO_MAX_BURST };
        goals.at_most(name, "of a send()", rounds.iter().map(Round::ratio).collect(), goal);
    }
    Ok(())
}

fn idle(options: &Options, goals: &mut Goals) -> Result<()> {
    let server = start_server(options)?;
    let before = server.rss_bytes()?;
    let mut subscribers = Subscribers::connect(server.address, options.peer(TOPICS[0].0), options.connections)?;
    subscribers.idle(SETTLE)?;
    let after = server.rss_bytes()?;
    println!("\n# Idle: {} subscribed connections\n", subscribers.len());
    println!("| resident before | after | per connection |");
    println!("|---|---|---|");
    let each = (after - before) / subscribers.len() as u64;
    println!("| {} KiB | {} KiB | **{each} bytes** |\n", before / 1024, after / 1024);
    let goal = if options.events { IDLE_MAX_EVENTS } else { IDLE_MAX };
    goals.at_most("an idle connection", "bytes", vec![each as f64], goal);
    Ok(())
}

/// The applications of `examples/`, as they are: they fail where anything is lost, doubled or out of order.
fn examples(options: &Options) -> Result<()> {
    let data = tempfile::tempdir()?;
    let data = data.path().to_str().context("the folder for temporary files has a name that is no text")?;
    let on_free_port = ["--listen", "127.0.0.1:0", "--data", data];
    // Passwords are not what is measured.
    let chat = [&on_free_port[..], &["--password-memory", "64"]].concat();
    chatting::run(|| Server::start_example(&sibling("chat")?, &chat), options.chat)?;
    watching::run(|| Server::start_example(&sibling("dashboard")?, &on_free_port), options.subscribers)
}

fn start_floor(subscribers: usize) -> Result<Server> {
    Server::start(&sibling("bench-floor")?, &[&subscribers.to_string(), &frames::FRAME_LEN.to_string()], &[])
}

fn start_server(options: &Options) -> Result<Server> {
    let Some(broker) = &options.server else { return Server::start(&sibling("bench-server")?, &[], &[]) };
    // Dev mode lets everybody in; what it keeps of topics without a namespace is what the floor keeps: nothing.
    Server::start(
        broker,
        &["serve", "--dev", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"],
        &[("BROKER_DEFAULT__HISTORY_SIZE", "0"), ("BROKER_DEFAULT__PRESENCE", "false"), ("BROKER_DEFAULT__JOIN_LEAVE", "false")],
    )
}

fn start_node(redis: &Redis) -> Result<Server> {
    Server::start(&sibling("bench-server")?, &[&redis.url()], &[])
}

/// A program of this crate, which cargo puts beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name(name);
    ensure!(path.is_file(), "{} is missing: cargo build --release --package broker-benches", path.display());
    Ok(path)
}
