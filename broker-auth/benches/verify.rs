//! What reading one token costs, bound 10 us for HS256; and what deciding a subscribe by its claims costs, bound 1 us.

use std::{
    hint::black_box,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_auth::{Claims, HmacTokens, Key, TokenOptions, Tokens};
use broker_core::{Authorizer as _, ByNamespace, Namespace, SessionId, Subject, Topic, Verb};
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::rust_crypto};

const CAPS: &str = r#"[{"channels":["chat:*","room:*.typing","log:>"],"match":"wildcard","allow":["sub","pub"]},
    {"channels":["news","alerts","orders:7"],"allow":["sub","hst"]},
    {"channels":["spc:product.*","spc:machine.*"],"match":"wildcard","allow":["sub","hst","prs"]}]"#;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_763_712_000)
}

fn claims() -> Claims {
    let claims = Claims::user("ris1").expires_at(now() + Duration::from_secs(600)).issued_at(now()).token_id("7f3");
    claims.info(r#"{"name":"Kim","roles":["ris"]}"#).expect("the info is JSON")
}

fn verify(criterion: &mut Criterion) {
    let tokens = HmacTokens::new([b'k'; 32], TokenOptions::default()).expect("32 bytes are enough");
    let token = tokens.create(&claims());
    criterion.bench_function("verify/hs256", |bencher| bencher.iter(|| tokens.verify(black_box(&token), now())));
    let rich = claims().group("ocs_ris").group("admins").channel("news").capabilities(CAPS).expect("the capabilities are JSON");
    let rich = tokens.create(&rich);
    criterion.bench_function("verify/hs256_rich", |bencher| bencher.iter(|| tokens.verify(black_box(&rich), now())));
    let mut forged = token.clone();
    forged.replace_range(forged.len() - 4.., "AAAA");
    criterion.bench_function("verify/bad_signature", |bencher| bencher.iter(|| tokens.verify(black_box(&forged), now())));
}

fn verify_key_pairs(criterion: &mut Criterion) {
    let rsa = EncodingKey::from_rsa_pem(include_bytes!("../tests/keys/rsa.private.pem")).expect("the key of the tests");
    let p256 = EncodingKey::from_ec_pem(include_bytes!("../tests/keys/p256.private.pem")).expect("the key of the tests");
    for (name, algorithm, private, public) in [
        ("rs256", Algorithm::RS256, rsa, include_str!("../tests/keys/rsa.pem")),
        ("es256", Algorithm::ES256, p256, include_str!("../tests/keys/p256.pem")),
    ] {
        let header = format!(r#"{{"alg":"{}"}}"#, name.to_uppercase());
        let claims = r#"{"sub":"ris1","exp":1763712600,"iat":1763712000,"jti":"7f3"}"#;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signer = (rust_crypto::DEFAULT_PROVIDER.signer_factory)(&algorithm, &private).expect("the key is for it");
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signer.sign(signed.as_bytes())));
        let tokens = Tokens::new(TokenOptions::default()).key(Key::public_pem(public).expect("the key of the tests"));
        assert!(tokens.verify_now(&token, now()).is_ok());
        criterion.bench_function(&format!("verify/{name}"), |bencher| bencher.iter(|| tokens.verify_now(black_box(&token), now())));
    }
}

fn decide(criterion: &mut Criterion) {
    let tokens = HmacTokens::new([b'k'; 32], TokenOptions::default()).expect("32 bytes are enough");
    let token = tokens.create(&claims().capabilities(CAPS).expect("the capabilities are JSON"));
    let subject = Subject::new(SessionId::from_random(1), &tokens.verify(&token, now()).expect("the token is good"));
    let namespace = Namespace::default();
    for (name, topic) in [("first", "chat:1"), ("last", "spc:machine.12"), ("none", "spc:order.12.x")] {
        let topic: Topic = topic.parse().expect("a legal name");
        criterion.bench_function(&format!("decide/caps_{name}"), |bencher| {
            bencher.iter(|| ByNamespace.decide(black_box(&subject), Verb::Subscribe, black_box(&topic), &namespace));
        });
    }
}

criterion_group!(benches, verify, verify_key_pairs, decide);
criterion_main!(benches);
