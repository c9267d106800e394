//! Tokens that are refused, and what is said about each (S3, S4, S5).

use broker_auth::{HmacTokens, TokenOptions};
use broker_core::{Refusal, RefusalKind};

use super::{HEADER, NOW, at, signed, signed_with, tokens};

#[track_caller]
fn refusal(token: &str) -> Refusal {
    let refusal = tokens().verify(token, at(NOW)).unwrap_err();
    for part in token.split('.').filter(|part| part.len() > 8) {
        let said = format!("{refusal:?}");
        assert!(!said.contains(part), "the refusal quotes the token: {said}");
    }
    refusal
}

#[track_caller]
fn check(token: &str, expected: &str) {
    let refusal = refusal(token);
    assert_eq!((refusal.kind, &*refusal.message), (RefusalKind::Unauthorized, expected));
}

#[test]
fn an_algorithm_that_the_key_is_not_for_is_refused() {
    let claims = r#"{"sub":"admin"}"#;
    for none in ["none", "None", "NONE", "nOnE"] {
        let token = signed(format!(r#"{{"alg":"{none}"}}"#), claims);
        check(&token, "the token is not signed, only HS256 is accepted");
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        check(&unsigned, "the token is not signed, only HS256 is accepted");
    }
    for alg in ["RS256", "ES256", "PS512", "EdDSA", "HS384", "HS512"] {
        let expected = format!("the token is signed with {alg}, only HS256 is accepted");
        check(&signed(format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#), claims), &expected);
    }
    check(&signed(r#"{"alg":"HS256 "}"#, claims), "the token names an unknown algorithm, only HS256 is accepted");
    check(&signed(r#"{"alg":"<script>"}"#, claims), "the token names an unknown algorithm, only HS256 is accepted");
}

#[test]
fn a_header_that_cannot_be_honoured_is_refused() {
    let crit = "the token's header has `crit`: it demands extensions that are not supported";
    check(&signed(r#"{"alg":"HS256","crit":["exp"]}"#, "{}"), crit);
    check(&signed(r#"{"alg":"HS256","crit":[]}"#, "{}"), crit);
    check(&signed(r#"{"alg":"HS256","crit":null}"#, "{}"), crit);
    check(&signed(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, "{}"), crit);
    let no_alg = "the token's header is not a JSON object with `alg`";
    for header in [
        "{}",
        "[]",
        r#"["HS256"]"#,
        "",
        "HS256",
        r#"{"alg":256}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        "{\"alg\":\"HS256\"}x",
    ] {
        check(&signed(header, "{}"), no_alg);
    }
}

#[test]
fn a_signature_of_another_secret_or_over_other_claims_is_refused() {
    let claims = r#"{"sub":"ris1"}"#;
    let mismatch = "the token's signature does not match";
    check(&signed_with(b"another secret that is long enough", HEADER, claims), mismatch);
    check(&signed_with(b"", HEADER, claims), mismatch);
    let good = signed(HEADER, claims);
    let (body, signature) = good.rsplit_once('.').unwrap();
    check(&format!("{body}."), mismatch);
    check(&format!("{body}.{}", &signature[..40]), mismatch);
    check(&format!("{body}.{signature}AAAA"), mismatch);
    let admin = signed(HEADER, r#"{"sub":"admin"}"#);
    let (other, _) = admin.rsplit_once('.').unwrap();
    check(&format!("{other}.{signature}"), mismatch);
    let refusal = refusal(&format!("{other}.{signature}"));
    assert!(refusal.rule.unwrap().contains("[client.token]"));
}

#[test]
fn text_that_is_no_token_is_refused_with_what_it_lacks() {
    check("", "the token is empty");
    check("secret", "the token has 1 parts between dots, a signed token has 3");
    check("a.b", "the token has 2 parts between dots, a signed token has 3");
    check("a.b.c.d.e", "the token has 5 parts between dots, a signed token has 3");
    check("..", "the token's header is not a JSON object with `alg`");
    let good = signed(HEADER, "{}");
    check(&format!("{good} "), "the token's signature is not base64url without padding");
    check(&format!("{good}="), "the token's signature is not base64url without padding");
    check(&good.replacen("ey", "e+y", 1), "the token's header is not base64url without padding");
    check(&good.replacen('.', ".\u{e9}", 1), "the token's claims are not base64url without padding");
    let bearer = refusal("Bearer secret");
    assert_eq!(bearer.hint.as_deref(), Some("send the token alone, without `Bearer`"));
}

#[test]
fn a_token_over_the_bound_is_not_looked_at() {
    let token = signed(HEADER, format!(r#"{{"info":"{}"}}"#, "x".repeat(8192)));
    check(&token, &format!("the token has {} bytes, at most 8192 are allowed", token.len()));
    let wider = HmacTokens::new(super::SECRET, TokenOptions::default().token_max_bytes(16 * 1024)).unwrap();
    assert!(wider.verify(&token, at(NOW)).is_ok());
}

#[test]
fn claims_of_the_wrong_shape_are_refused_by_name() {
    for claims in ["", "x", "{", r#"{"sub":}"#] {
        check(&signed(HEADER, claims), "the token's claims are not JSON");
    }
    for claims in ["[]", r#"["admin"]"#, "null", "1", r#"{"sub":"a","sub":"admin"}"#] {
        check(&signed(HEADER, claims), "the token's claims are not an object that has each name once");
    }
    check(&signed(HEADER, b"{\"sub\":\"\xff\"}"), "the token's claims are not JSON");
    check(&signed(HEADER, r#"{"sub":42}"#), "the token's claim `sub` must be a string, it is a number");
    check(&signed(HEADER, r#"{"sub":null}"#), "the token's claim `sub` must be a string, it is null");
    check(&signed(HEADER, r#"{"exp":null}"#), "the token's claim `exp` must be a number of seconds since 1970, it is null");
    check(&signed(HEADER, r#"{"sub":["a"]}"#), "the token's claim `sub` must be a string, it is an array");
    check(&signed(HEADER, r#"{"exp":"1763712600"}"#), "the token's claim `exp` must be a number of seconds since 1970, it is a string");
    check(&signed(HEADER, r#"{"iat":{}}"#), "the token's claim `iat` must be a number of seconds since 1970, it is an object");
    check(&signed(HEADER, r#"{"exp":-1}"#), "the token's claim `exp` lies before 1970");
    check(&signed(HEADER, r#"{"exp":1e308}"#), "the token's claim `exp` lies beyond the year 9999");
    check(&signed(HEADER, r#"{"b64info":"%"}"#), "the token's claim `b64info` is not base64 with its standard alphabet and padding");
    check(&signed(HEADER, r#"{"b64info":"eyI="}"#), "the token's claim `b64info` does not decode to one JSON value");
    let milliseconds = refusal(&signed(HEADER, r#"{"exp":1763712600000}"#));
    assert_eq!(milliseconds.hint.as_deref(), Some("`exp` counts seconds, not milliseconds"));
}

#[test]
fn an_ended_token_is_told_apart_from_a_bad_one() {
    let ended = refusal(&signed(HEADER, format!(r#"{{"sub":"ris1","exp":{}}}"#, NOW - 35)));
    assert_eq!((ended.kind, &*ended.message), (RefusalKind::TokenExpired, "the token ended 35 s ago"));
    assert!(ended.rule.unwrap().contains("client.token.leeway"));
    assert_eq!(refusal(&signed(HEADER, r#"{"exp":0}"#)).kind, RefusalKind::TokenExpired);
    check(&signed(HEADER, format!(r#"{{"nbf":{}}}"#, NOW + 7)), "the token holds only in 7 s");
    let forged = signed_with(b"another secret that is long enough", HEADER, r#"{"exp":1}"#);
    check(&forged, "the token's signature does not match");
}

#[test]
fn hostile_bytes_never_panic() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..10_000 {
        let mut token = signed(HEADER, r#"{"sub":"ris1","exp":1763712600}"#).into_bytes();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let index = random as usize % token.len();
        let byte = (random >> 32) as u8 & 0x7f;
        let changed = token[index] != byte;
        token[index] = byte;
        let verdict = tokens().verify(str::from_utf8(&token).unwrap(), at(NOW));
        assert!(!changed || verdict.is_err(), "a token with one changed byte was accepted");
    }
}
