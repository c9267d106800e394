//! What the engine's own work costs: fan-out, publishing with history, subscribing. Sockets and codecs are not in it: bytes are swallowed.
//!
//! Everything runs on one thread, so a figure is processor time: from the call until the last member has its frame.

use std::{fmt, hint::black_box, io, sync::Arc, time::Duration};

use broker_core::{
    CloseFrame, CloseReason, Command, CommandId, Connect, Connection, Engine, EngineBuilder, FrameKind, FrameWriter, Framing, Head,
    Identity, Inbound, Namespace, Opening, Outlet, Payload, Protocol, Publish, Push, Rate, Reply, Request, Start, Subscribe, Topic, Verb,
};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

/// Idempotency keys in one engine.
const KEYS_MAX: u64 = 100_000;
/// The length of what is published, in bytes.
const PAYLOAD_LEN: usize = 128;

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for members in [1_usize, 100, 10_000] {
        let bench = Bench::new();
        let topic: Topic = "live:1".parse().expect("a topic");
        let _connections: Vec<_> = (0..members).map(|_| bench.connect(std::slice::from_ref(&topic))).collect();
        group.throughput(Throughput::Elements(members as u64));
        group.bench_function(BenchmarkId::new("one", members), |bencher| bencher.iter(|| bench.publish_and_deliver(&topic, 1, members)));
        group.throughput(Throughput::Elements(16 * members as u64));
        group.bench_function(BenchmarkId::new("burst_of_16", members), |bencher| {
            bencher.iter(|| bench.publish_and_deliver(&topic, 16, members));
        });
    }
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    let bench = Bench::new();
    for (name, topic) in [("without_history", "live:1"), ("with_history_of_300", "kept:1")] {
        let topic: Topic = topic.parse().expect("a topic");
        group.bench_function(name, |bencher| bencher.iter(|| bench.publish_and_deliver(&topic, 1, 0)));
    }
    let topic: Topic = "kept:1".parse().expect("a topic");
    let mut bench = Bench::new();
    let mut number = 0_u64;
    group.bench_function("with_idempotency_key", |bencher| {
        bencher.iter(|| {
            number += 1;
            if number.is_multiple_of(KEYS_MAX) {
                // None is forgotten within the time of the bench: without end, they would fill the memory.
                bench = Bench::new();
            }
            let publish = Publish::new(bench.payload.clone()).idempotency_key(number.to_string());
            bench.runtime.block_on(bench.engine.publish(&topic, publish)).expect("the memory backplane takes everything")
        });
    });
    group.finish();
}

fn subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscribe_and_unsubscribe");
    for (name, topic) in [("without_history", "live:1"), ("with_history_of_300", "kept:1")] {
        let bench = Bench::new();
        let topic: Topic = topic.parse().expect("a topic");
        // Somebody else listens, so that the topic lives on.
        let _other = bench.connect(std::slice::from_ref(&topic));
        let connection = bench.connect(&[]);
        group.bench_function(name, |bencher| bencher.iter(|| bench.subscribe_and_unsubscribe(&connection, &topic)));
    }
    group.finish();
}

/// A session's way through the hub: a command that it answers by itself.
fn command(criterion: &mut Criterion) {
    let bench = Bench::new();
    let connection = bench.connect(&[]);
    criterion.bench_function("command/ping", |bencher| {
        bencher.iter(|| bench.ask(&connection, Request::Ping { bare: true }));
    });
}

struct Bench {
    runtime: Runtime,
    engine: Engine,
    payload: Payload,
}

impl Bench {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let engine = runtime.block_on(async { engine().build() }).expect("the defaults are right");
        Self { runtime, engine, payload: Payload::json("1".repeat(PAYLOAD_LEN)) }
    }

    /// Opens a connection that listens to these topics.
    fn connect(&self, topics: &[Topic]) -> Connection {
        let opening = Opening {
            protocol: Arc::new(Verbatim),
            framing: Arc::new(Verbatim),
            outlet: Some(Box::new(Swallow)),
            head: Head::new("/"),
            transport: "bench",
            start: Start::AtOnce { connect: Connect::default(), subscriptions: topics.iter().cloned().map(Subscribe::new).collect() },
        };
        let mut connection = self.engine.open(opening).expect("there is room");
        self.runtime.block_on(connection.opened()).expect("everybody may listen");
        connection
    }

    /// Publishes, and waits until every member has everything.
    fn publish_and_deliver(&self, topic: &Topic, publications: usize, members: usize) {
        let wanted = self.engine.stats().deliveries.value() + (publications * members) as u64;
        self.runtime.block_on(async {
            for _ in 0..publications {
                let published = self.engine.publish(topic, Publish::new(self.payload.clone())).await;
                black_box(published.expect("the memory backplane takes everything"));
            }
            while self.engine.stats().deliveries.value() < wanted {
                tokio::task::yield_now().await;
            }
        });
    }

    fn subscribe_and_unsubscribe(&self, connection: &Connection, topic: &Topic) {
        self.ask(connection, Request::Subscribe(Subscribe::new(topic.clone())));
        self.ask(connection, Request::Unsubscribe { topic: topic.clone() });
    }

    /// Posts a command, and waits until its answer is written.
    fn ask(&self, connection: &Connection, request: Request) {
        let wanted = self.engine.stats().writes.value() + 1;
        connection.post(vec![Command { id: CommandId::Number(1), request }], 32);
        self.runtime.block_on(async {
            while self.engine.stats().writes.value() < wanted {
                tokio::task::yield_now().await;
            }
        });
    }
}

fn engine() -> EngineBuilder {
    Engine::builder()
        .with_settings(|settings| {
            settings.shards = 1;
            // Counted as in earnest, and never over.
            let rate = Some(Rate::per_second(u32::MAX));
            let of_session = &mut settings.rates.session;
            (of_session.commands, of_session.subscribes, of_session.bytes, of_session.errors) = (rate, rate, rate, rate);
        })
        .namespace("live", Namespace::default().allow(Verb::Subscribe).allow_anonymous())
        .namespace("kept", Namespace::default().history(300, Duration::from_secs(600)).allow(Verb::Subscribe).allow_anonymous())
        .on_connect(|_| async { Ok(Identity::anonymous()) })
}

/// A way out that takes everything and keeps nothing.
struct Swallow;

impl Outlet for Swallow {
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize> {
        Ok(black_box(chunks).iter().map(Bytes::len).sum())
    }

    fn finish(&mut self) {}
}

/// The least of a protocol: publications as they are, answers as one byte, a header of four bytes.
struct Verbatim;

impl fmt::Debug for Verbatim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verbatim")
    }
}

impl Protocol for Verbatim {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn encoding(&self) -> u8 {
        200
    }

    fn decode(&self, _message: Inbound<'_>, _commands: &mut Vec<Command>) {}

    fn encode_reply(&self, _id: &CommandId, _reply: &Reply, out: &mut FrameWriter<'_>) {
        out.text(b"1");
    }

    fn encode_push(&self, push: &Push, out: &mut FrameWriter<'_>) {
        if let Push::Publication(publication) = push {
            out.text(publication.data.bytes());
        }
    }

    fn close_frame(&self, _reason: &CloseReason) -> CloseFrame {
        CloseFrame { code: 1000, reason: "".into() }
    }
}

impl Framing for Verbatim {
    fn encoding(&self) -> u8 {
        200
    }

    fn frame(&self, _kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(payload);
    }

    fn close(&self, _frame: &CloseFrame, _out: &mut Vec<u8>) {}
}

criterion_group!(benches, fan_out, publish, subscribe, command);
criterion_main!(benches);
