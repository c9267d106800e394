//! CPU of this process per PUBLISH, of 64 tasks on one connection: our link beside the `redis` crate. Needs a `redis-server`; no other load.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use broker_resp::{Command, Link, Options, testing::Server};
use rustix::time::{ClockId, clock_gettime};

const TASKS: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(30);

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let (publishes, rounds) = if quick { (100, 1) } else { (5_000, 5) };
    for threads in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime");
        runtime.block_on(compare(threads, publishes, rounds));
    }
}

async fn compare(threads: usize, publishes: usize, rounds: usize) {
    let server = Server::start().await;
    let (link, _events) = Link::open(server.target(), Options::default());
    link.connected(TIMEOUT).await.expect("connected");
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/?protocol=resp3", server.port())).expect("a client");
    let connection = client.get_multiplexed_async_connection().await.expect("connected");
    let payload = [b'x'; 128];
    println!("{threads} threads, {TASKS} tasks, {publishes} PUBLISH of {} B each", payload.len());
    for round in 1..=rounds {
        let (link, connection) = (link.clone(), connection.clone());
        let ours = measure(publishes, move || {
            let link = link.clone();
            async move {
                let command = Command::new("PUBLISH").arg("broker:{news:general}").arg(payload);
                link.call(&command, TIMEOUT).await.expect("published");
            }
        })
        .await;
        let theirs = measure(publishes, move || {
            let mut connection = connection.clone();
            async move {
                let mut command = redis::cmd("PUBLISH");
                command.arg("broker:{news:general}").arg(&payload[..]);
                let _receivers: i64 = command.query_async(&mut connection).await.expect("published");
            }
        })
        .await;
        println!(
            "round {round}: link {:.3} us CPU, {:.0}/s; redis {:.3} us CPU, {:.0}/s; ratio {:.2}",
            ours.0,
            ours.1,
            theirs.0,
            theirs.1,
            ours.0 / theirs.0
        );
    }
    let counters = link.state().counters;
    println!("{:.1} calls in a write", counters.calls as f64 / counters.writes as f64);
}

/// CPU of each call in microseconds, and calls in a second.
async fn measure<F: Future<Output = ()> + Send + 'static>(
    publishes: usize,
    publish: impl Fn() -> F + Send + Clone + 'static,
) -> (f64, f64) {
    let (cpu, since) = (cpu_time(), Instant::now());
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let publish = publish.clone();
            tokio::spawn(async move {
                for _ in 0..publishes {
                    publish().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("published");
    }
    let calls = (TASKS * publishes) as f64;
    (cpu_time().saturating_sub(cpu).as_secs_f64() * 1e6 / calls, calls / since.elapsed().as_secs_f64())
}

/// What all threads of this process have used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
