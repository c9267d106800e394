//! What a command costs in the session's state machine alone: no hub, no codec, every question answered at once.

use std::{hint::black_box, time::Duration};

use broker_core::{Command, CommandId, Namespace, Namespaces, Payload, Request, Subscribe, Topic, Verb, testing::LoneSession};
use criterion::{Criterion, criterion_group, criterion_main};

fn handle_command(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handle_command");
    let news = topic("open:news");
    let mut session = LoneSession::connected(namespaces());
    group.bench_function("ping", |bencher| bencher.iter(|| ask(&mut session, Request::Ping { bare: true }, 1)));

    let mut session = LoneSession::connected(namespaces());
    group.bench_function("subscribe_and_unsubscribe", |bencher| {
        bencher.iter(|| {
            ask(&mut session, Request::Subscribe(Subscribe::new(news.clone())), 1);
            ask(&mut session, Request::Unsubscribe { topic: news.clone() }, 1);
        });
    });

    // The same among as many subscriptions as a session may have.
    let mut session = LoneSession::connected(namespaces());
    for number in 1..128 {
        ask(&mut session, Request::Subscribe(Subscribe::new(topic(&format!("open:{number}")))), 1);
    }
    group.bench_function("subscribe_and_unsubscribe_beside_127", |bencher| {
        bencher.iter(|| {
            ask(&mut session, Request::Subscribe(Subscribe::new(news.clone())), 1);
            ask(&mut session, Request::Unsubscribe { topic: news.clone() }, 1);
        });
    });

    let mut session = LoneSession::connected(namespaces());
    let data = Payload::json("1".repeat(128));
    let publish =
        |topic: &Topic| Request::Publish { topic: topic.clone(), data: data.clone(), key: None, idempotency_key: None, removed: false };
    group.bench_function("publish", |bencher| bencher.iter(|| ask(&mut session, publish(&news), 1)));

    let closed = topic("closed:news");
    group.bench_function("publish_refused", |bencher| bencher.iter(|| ask(&mut session, publish(&closed), 1)));
    group.finish();
}

fn handle_timeout(criterion: &mut Criterion) {
    let mut session = LoneSession::connected(namespaces());
    criterion.bench_function("handle_timeout/nothing_due", |bencher| bencher.iter(|| black_box(session.wait(Duration::ZERO))));
}

fn ask(session: &mut LoneSession, request: Request, told: usize) {
    assert_eq!(session.handle(black_box(Command { id: CommandId::Number(7), request })), told);
}

fn topic(name: &str) -> Topic {
    name.parse().expect("a topic")
}

fn namespaces() -> Namespaces {
    let mut namespaces = Namespaces::new();
    namespaces.set("open", Namespace::default().allow(Verb::Subscribe).allow(Verb::Publish).allow_anonymous());
    namespaces.set("closed", Namespace::default());
    namespaces
}

criterion_group!(benches, handle_command, handle_timeout);
criterion_main!(benches);
