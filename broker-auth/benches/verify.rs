//! What reading one token costs, goal 10 us for HS256; what redeeming the token of a subscription costs; and what deciding a subscribe costs by
//! what a session's credentials said, goal 1 us.

use std::{
    future::Future as _,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_auth::{Claims, HmacTokens, Key, SubscriptionClaims, SubscriptionTokens, TokenOptions, Tokens};
use broker_core::{Authorizer as _, ByNamespace, Decision, Identity, Namespace, SessionId, Subject, Topic, Verb};
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
    let ed25519 = EncodingKey::from_ed_pem(include_bytes!("../tests/keys/ed25519.private.pem")).expect("the key of the tests");
    for (name, word, algorithm, private, public) in [
        ("rs256", "RS256", Algorithm::RS256, rsa, include_str!("../tests/keys/rsa.pem")),
        ("es256", "ES256", Algorithm::ES256, p256, include_str!("../tests/keys/p256.pem")),
        ("eddsa", "EdDSA", Algorithm::EdDSA, ed25519, include_str!("../tests/keys/ed25519.pem")),
    ] {
        let header = format!(r#"{{"alg":"{word}"}}"#);
        let claims = r#"{"sub":"ris1","exp":1763712600,"iat":1763712000,"jti":"7f3"}"#;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signer = (rust_crypto::DEFAULT_PROVIDER.signer_factory)(&algorithm, &private).expect("the key is for it");
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signer.sign(signed.as_bytes())));
        let tokens = Tokens::new(TokenOptions::default()).key(Key::public_pem(public).expect("the key of the tests"));
        assert!(tokens.verify_now(&token, now()).is_ok());
        criterion.bench_function(&format!("verify/{name}"), |bencher| bencher.iter(|| tokens.verify_now(black_box(&token), now())));
    }
}

fn redeem(criterion: &mut Criterion) {
    let hmac = HmacTokens::new([b'k'; 32], TokenOptions::default()).expect("32 bytes are enough");
    // An authorizer goes by the clock of the system.
    let ends_at = SystemTime::now() + Duration::from_secs(24 * 3600);
    let token = hmac.create_for_subscription(&SubscriptionClaims::new("ris1", "orders:7").expires_at(ends_at));
    let authorizer =
        SubscriptionTokens::new(Arc::new(Tokens::new(TokenOptions::default()).key(Key::secret([b'k'; 32]).expect("32 bytes"))));
    let (subject, topic) = (Subject::new(SessionId::from_random(1), &Identity::user("ris1")), topic("orders:7"));
    // With the keys at hand there is nothing to wait for.
    let redeem = |token: &str| match pin!(authorizer.redeem(&subject, &topic, token)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(answer)) => answer.is_ok(),
        _ => panic!("a token was not looked at, or waited for"),
    };
    assert!(redeem(&token));
    criterion.bench_function("redeem/subscription", |bencher| bencher.iter(|| redeem(black_box(&token))));
}

/// Twenty rights, patterns but for every fourth, of which only the last is for `spc:machine.12`.
fn many() -> String {
    let mut caps: Vec<_> = (0..19)
        .map(|index| match index % 4 {
            0 => format!(r#"{{"channels":["orders:{index}"],"allow":["sub"]}}"#),
            1 => format!(r#"{{"channels":["chat:room{index}.*"],"match":"wildcard","allow":["sub","pub"]}}"#),
            2 => format!(r#"{{"channels":["log:node{index}.>"],"match":"wildcard","allow":["sub","hst"]}}"#),
            _ => format!(r#"{{"channels":["spc:*.part{index}"],"match":"wildcard","allow":["sub"]}}"#),
        })
        .collect();
    caps.push(r#"{"channels":["spc:machine.*"],"match":"wildcard","allow":["sub"]}"#.to_owned());
    format!("[{}]", caps.join(","))
}

fn decide(criterion: &mut Criterion) {
    let tokens = HmacTokens::new([b'k'; 32], TokenOptions::default()).expect("32 bytes are enough");
    let bearer = |caps: &str| {
        let token = tokens.create(&claims().capabilities(caps).expect("the capabilities are JSON"));
        Subject::new(SessionId::from_random(1), &tokens.verify(&token, now()).expect("the token is good"))
    };
    let one = bearer(r#"[{"channels":["orders:7"],"allow":["sub"]}]"#);
    let (few, many, none) = (bearer(CAPS), bearer(&many()), bearer("[]"));
    let (closed, open) = (Namespace::default(), Namespace::default().allow(Verb::Subscribe));
    for (name, subject, topic_name, namespace, is_allowed) in [
        ("one_capability", &one, "orders:7", &closed, true),
        ("several_first", &few, "chat:1", &closed, true),
        ("several_last", &few, "spc:machine.12", &closed, true),
        ("several_none", &few, "spc:order.12.x", &closed, false),
        ("twenty_last", &many, "spc:machine.12", &closed, true),
        ("twenty_none", &many, "spc:order.12.x", &closed, false),
        ("namespace_allows", &none, "orders:7", &open, true),
        ("namespace_refuses", &none, "orders:7", &closed, false),
    ] {
        let topic = topic(topic_name);
        let decide = || ByNamespace.decide(black_box(subject), Verb::Subscribe, black_box(&topic), namespace);
        assert_eq!(matches!(decide(), Decision::Allow), is_allowed, "{name}");
        criterion.bench_function(&format!("decide/{name}"), |bencher| bencher.iter(decide));
    }
}

fn topic(name: &str) -> Topic {
    name.parse().expect("a legal name")
}

criterion_group!(benches, verify, verify_key_pairs, redeem, decide);
criterion_main!(benches);
