//! What reading one token costs: bound 10 us.

use std::{
    hint::black_box,
    time::{Duration, UNIX_EPOCH},
};

use broker_auth::{Claims, HmacTokens, TokenOptions};
use criterion::{Criterion, criterion_group, criterion_main};

fn verify(criterion: &mut Criterion) {
    let tokens = HmacTokens::new([b'k'; 32], TokenOptions::default()).expect("32 bytes are enough");
    let now = UNIX_EPOCH + Duration::from_secs(1_763_712_000);
    let claims = Claims::user("ris1").expires_at(now + Duration::from_secs(600)).info(r#"{"name":"Kim","roles":["ris"]}"#);
    let token = tokens.create(&claims.expect("the info is JSON"));
    criterion.bench_function("verify/hs256", |bencher| bencher.iter(|| tokens.verify(black_box(&token), now)));
    let mut forged = token.clone();
    forged.replace_range(forged.len() - 4.., "AAAA");
    criterion.bench_function("verify/bad_signature", |bencher| bencher.iter(|| tokens.verify(black_box(&forged), now)));
}

criterion_group!(benches, verify);
criterion_main!(benches);
