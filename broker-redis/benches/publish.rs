//! How many publications with history go through Redis, beside the same script in `redis-benchmark`: ratios within one run.
//!
//! `cargo bench -p broker-redis --bench publish`. Starts a Redis of its own; `redis-benchmark` must be installed beside it.

use std::{process::Stdio, sync::Arc, time::Duration};

use broker_core::{Backplane, Keep, Payload, Publish, Topic};
use broker_redis::{Options, RedisBackplane, Servers};
use broker_resp::testing::Server;
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    task::JoinSet,
    time::Instant,
};

/// Topics of the spread case, as in the design's own measurement.
const TOPICS: usize = 10_000;
/// Bytes of a payload, and calls of a client, or commands of `redis-benchmark`, that are under way at a time.
const CASES: [(usize, usize); 4] = [(128, 64), (128, 16), (1024, 64), (1024, 16)];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const KEEP: Keep = Keep::history(100, Duration::from_secs(600));

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start().await;
    let redis = Arc::new(RedisBackplane::connect(Options::new(Servers::Standalone(server.target())))?);
    while !redis.health().troubles.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (len, depth) in CASES {
        let call = one_call(&server, &redis, len).await?;
        let mut figures: [Vec<f64>; 7] = Default::default();
        for _ in 0..ROUNDS {
            let script = same_script(&server, &call, depth).await?;
            let spread = publish(&redis, len, depth, |n| n % TOPICS).await;
            let one = publish(&redis, len, depth, |_| 0).await;
            let of_round = [script, spread.rate, spread.rate / script, spread.cpu_us, one.rate, one.rate / script, one.cpu_us];
            figures.iter_mut().zip(of_round).for_each(|(figures, figure)| figures.push(figure));
        }
        let [script, spread, spread_ratio, spread_cpu, one, one_ratio, one_cpu] = figures.map(median);
        println!("{len} bytes, {depth} under way, medians of {ROUNDS} rounds:");
        println!("  redis-benchmark, the same script, one publication a call   {script:>9.0} a second");
        println!(
            "  {TOPICS} topics, one publication a call                       {spread:>9.0}   {spread_ratio:.2} of that (goal 0.7), {spread_cpu:.1} us of CPU here for each"
        );
        println!(
            "  one topic, {depth} publishers                                  {one:>9.0}   {one_ratio:.1} of that (goal 5 with 64), {one_cpu:.1} us of CPU here for each"
        );
    }
    Ok(())
}

/// What a publish sends to Redis, as text.
async fn one_call(server: &Server, redis: &RedisBackplane, len: usize) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut monitor = tokio::process::Command::new("redis-cli")
        .args(["-p", &server.port().to_string(), "monitor"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(monitor.stdout.take().ok_or("no output")?).lines();
    lines.next_line().await?;
    let topic: Topic = "t:0".parse()?;
    for _ in 0..2 {
        redis.publish(&topic, payload(len), KEEP).await?;
    }
    while let Some(line) = lines.next_line().await? {
        if let Some(at) = line.find("\"EVALSHA\"") {
            return Ok(line[at..].split("\" \"").map(|part| part.trim_matches('"').to_owned()).collect());
        }
    }
    Err("redis-cli ended".into())
}

/// The same script with the same keys and arguments over 10,000 topics, from `redis-benchmark`.
async fn same_script(server: &Server, call: &[String], depth: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let (last, rest) = call.split_last().ok_or("an empty call")?;
    // Its entry is binary, and no argument of a process: any text of the same length does.
    let entry_len = unescaped_len(last);
    let mut arguments: Vec<String> = rest.iter().map(|part| part.replace("{t:0}", "{t:__rand_int__}")).collect();
    arguments.push("x".repeat(entry_len));
    let output = tokio::process::Command::new("redis-benchmark")
        .args(["-p", &server.port().to_string(), "-c", "1", "-P", &depth.to_string(), "-n", "100000", "-r", &TOPICS.to_string(), "--csv"])
        .args(arguments)
        .output()
        .await?;
    let text = String::from_utf8(output.stdout)?;
    let figure = text.lines().last().and_then(|line| line.rsplit("\",\"").nth(6)).ok_or_else(|| format!("unreadable: {text}"))?;
    Ok(figure.trim_matches('"').parse()?)
}

/// How many bytes a text stands for in which a backslash begins `\x` with two digits, or one letter.
fn unescaped_len(text: &str) -> usize {
    let hex = text.matches("\\x").count();
    text.len() - 3 * hex - (text.matches('\\').count() - hex)
}

/// What came of publishers.
struct Outcome {
    /// Publications a second.
    rate: f64,
    /// CPU of this process for each, in microseconds.
    cpu_us: f64,
}

/// So many publishers, each to the topics that it is told, for a while.
async fn publish(redis: &Arc<RedisBackplane>, len: usize, depth: usize, topic_of: fn(usize) -> usize) -> Outcome {
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut publishers = JoinSet::new();
    for publisher in 0..depth {
        let redis = redis.clone();
        publishers.spawn(async move {
            let mut count = 0_u64;
            while begun.elapsed() < ROUND {
                let number = topic_of(publisher + depth * count as usize);
                let topic: Topic = format!("t:{number}").parse().expect("a legal topic");
                redis.publish(&topic, payload(len), KEEP).await.expect("it is taken");
                count += 1;
            }
            count
        });
    }
    let count: u64 = publishers.join_all().await.into_iter().sum();
    Outcome {
        rate: count as f64 / begun.elapsed().as_secs_f64(),
        cpu_us: cpu_time().saturating_sub(cpu).as_secs_f64() * 1e6 / count as f64,
    }
}

/// What all threads of this process have used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn payload(len: usize) -> Publish {
    Publish::new(Payload::text("x".repeat(len)))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
