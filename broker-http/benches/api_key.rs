//! What refusing a wrong API key costs, wherever the mistake is: equal within the noise (S15). A suite could not tell that from a slow machine.

use std::{future::Future, hint::black_box, pin::pin, task::Context};

use broker_core::Engine;
use broker_http::{Api, ApiKeys, ApiOptions};
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::task::noop_waker_ref;
use http::Request;
use http_body_util::Empty;
use tower_service::Service as _;

const KEY: &str = "a-key-of-the-server-api-0123456789abcdef";

fn refuse(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let _inside = runtime.enter();
    let engine = Engine::builder().build().expect("the defaults hold");
    let mut api = Api::new(engine, ApiOptions::default().keys(ApiKeys::one(KEY).and("another-key-0123456789abcdef")));
    let mut measure = |name: &str, key: String| {
        criterion.bench_function(&format!("api_key/{name}"), |bencher| {
            bencher.iter(|| {
                let request = Request::post("/api/info").header("x-api-key", black_box(key.as_str()));
                let request = request.body(Empty::<bytes::Bytes>::new()).expect("the key can be a header");
                // A wrong key is refused before anything is waited for.
                pin!(api.call(request)).poll(&mut Context::from_waker(noop_waker_ref()))
            });
        });
    };
    let wrong_at = |at: usize| format!("{}X{}", &KEY[..at], &KEY[at + 1..]);
    measure("first_byte_wrong", wrong_at(0));
    measure("middle_byte_wrong", wrong_at(KEY.len() / 2));
    measure("last_byte_wrong", wrong_at(KEY.len() - 1));
    measure("all_bytes_wrong", "X".repeat(KEY.len()));
}

criterion_group!(benches, refuse);
criterion_main!(benches);
