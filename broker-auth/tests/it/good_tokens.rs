//! Tokens that are accepted, and what they say.

use std::time::Duration;

use broker_auth::{Claims, HmacTokens, TokenOptions};
use broker_core::{Identity, RefusalKind};

use super::{HEADER, NOW, SECRET, at, signed, tokens};

#[track_caller]
fn accepted(claims: &str) -> Identity {
    tokens().verify(&signed(HEADER, claims), at(NOW)).unwrap()
}

#[test]
fn a_token_says_user_info_and_end() {
    let identity = accepted(r#"{"sub":"ris1","exp":1763712600,"iat":1763711000,"info":{"name": "Kim",  "n":1.0e0}}"#);
    assert_eq!(identity.user.as_str(), "ris1");
    assert_eq!(identity.expires_at, Some(at(NOW + 600)));
    assert_eq!(identity.info.unwrap(), &br#"{"name": "Kim",  "n":1.0e0}"#[..], "byte for byte as it was signed");
    assert_eq!(identity.rule, "hs256 token");
}

#[test]
fn a_token_without_sub_is_an_anonymous_users() {
    for claims in ["{}", r#"{"sub":""}"#, r#"{"exp":1763712600,"unknown":[1,{}]}"#] {
        assert!(accepted(claims).user.is_anonymous(), "{claims}");
    }
    assert_eq!(accepted("{}").expires_at, None);
}

#[test]
fn info_is_kept_as_it_was_written_and_b64info_wins() {
    assert_eq!(accepted("{\"info\":{\"a\":\n1}}").info.unwrap(), "{\"a\":\n1}");
    assert_eq!(accepted(r#"{"info":1,"b64info":"eyJhIjoyfQ=="}"#).info.unwrap(), r#"{"a":2}"#);
    assert_eq!(accepted(r#"{"info":null}"#).info, None);
}

#[test]
fn what_the_header_says_of_keys_is_ignored() {
    let header = r#"{"alg":"HS256","kid":"../../dev/null","jku":"http://evil/","x5u":"http://evil/","jwk":{"kty":"oct","k":"AA"}}"#;
    assert_eq!(tokens().verify(&signed(header, r#"{"sub":"a"}"#), at(NOW)).unwrap().user.as_str(), "a");
}

#[test]
fn a_token_ends_at_the_second_of_exp_plus_leeway() {
    let claims = format!(r#"{{"exp":{NOW}}}"#);
    let token = signed(HEADER, claims);
    let check = |leeway: u64, now: u64, holds: bool| {
        let tokens = HmacTokens::new(SECRET, TokenOptions::default().leeway(Duration::from_secs(leeway))).unwrap();
        let kind = tokens.verify(&token, at(now)).map(|identity| identity.expires_at).map_err(|refusal| refusal.kind);
        let expected = if holds { Ok(Some(at(NOW + leeway))) } else { Err(RefusalKind::TokenExpired) };
        assert_eq!(kind, expected, "leeway {leeway}, now {now}");
    };
    check(0, NOW - 1, true);
    check(0, NOW, false);
    check(0, NOW + 1, false);
    check(10, NOW + 9, true);
    check(10, NOW + 10, false);
}

#[test]
fn a_token_holds_from_the_second_of_nbf_minus_leeway() {
    let token = signed(HEADER, format!(r#"{{"nbf":{NOW}}}"#));
    let check = |leeway: u64, now: u64, holds: bool| {
        let tokens = HmacTokens::new(SECRET, TokenOptions::default().leeway(Duration::from_secs(leeway))).unwrap();
        assert_eq!(tokens.verify(&token, at(now)).is_ok(), holds, "leeway {leeway}, now {now}");
    };
    check(0, NOW, true);
    check(0, NOW - 1, false);
    check(10, NOW - 10, true);
    check(10, NOW - 11, false);
}

#[test]
fn fractions_of_seconds_count() {
    let token = signed(HEADER, format!(r#"{{"exp":{NOW}.5}}"#));
    assert!(tokens().verify(&token, at(NOW) + Duration::from_millis(499)).is_ok());
    assert!(tokens().verify(&token, at(NOW) + Duration::from_millis(500)).is_err());
}

#[test]
fn what_is_created_reads_back() {
    let claims = Claims::user("ris1").expires_at(at(NOW + 60)).issued_at(at(NOW)).not_before(at(NOW)).info(r#"["x"]"#).unwrap();
    let identity = tokens().verify(&tokens().create(&claims), at(NOW)).unwrap();
    assert_eq!((identity.user.as_str(), identity.expires_at), ("ris1", Some(at(NOW + 60))));
    assert_eq!(identity.info.unwrap(), r#"["x"]"#);
    assert!(Claims::user("x").info("{").is_err());
}
