//! What people are told of a token.

use broker_auth::{TokenOptions, inspect};

use super::{HEADER, NOW, at, signed};

fn told(header: &str, claims: &str) -> (Vec<String>, Vec<String>) {
    let inspected = inspect(&signed(header, claims), &TokenOptions::default(), at(NOW)).unwrap();
    (inspected.mistakes, inspected.remarks)
}

#[track_caller]
fn check(header: &str, claims: &str, expected: &str) {
    let (mistakes, remarks) = told(header, claims);
    assert!(mistakes.iter().chain(&remarks).any(|line| line.contains(expected)), "{expected} is missing in {mistakes:?}, {remarks:?}");
}

#[test]
fn a_good_token_has_no_mistakes() {
    let claims = format!(r#"{{"sub":"ris1","exp":{},"iat":{NOW},"jti":"1"}}"#, NOW + 600);
    assert_eq!(told(HEADER, &claims), (vec![], vec!["it ends in 10 min".to_owned()]));
}

#[test]
fn why_it_would_be_refused_is_said_in_words() {
    check(HEADER, &format!(r#"{{"exp":{}}}"#, NOW - 5), "the token ended 5 s ago");
    check(HEADER, &format!(r#"{{"nbf":{}}}"#, NOW + 5), "the token holds only in 5 s");
    check(HEADER, r#"{"sub":1}"#, "`sub` must be a string");
    check(r#"{"alg":"none"}"#, "{}", "it is not signed");
    check(r#"{"alg":"ES512"}"#, "{}", "its algorithm ES512 is not supported");
    check(r#"{"alg":"hs256"}"#, "{}", "its algorithm must be written HS256");
    check(r#"{"alg":"x"}"#, "{}", "its algorithm is not known");
    check(r#"{"alg":"HS256","crit":[]}"#, "{}", "its header has `crit`");
    check(r#"{"alg":"HS256","kid":7}"#, "{}", "its `kid` is not a string");
}

#[test]
fn a_token_of_a_subscription_is_looked_at_as_one() {
    assert_eq!(told(HEADER, r#"{"sub":"ris1","channel":"a"}"#).0, Vec::<String>::new());
    check(HEADER, &format!(r#"{{"sub":"ris1","channel":"a","exp":{}}}"#, NOW - 5), "the token ended 5 s ago");
    check(HEADER, r#"{"sub":"ris1","channel":7}"#, "`channel` must be a string");
}

#[test]
fn what_is_seldom_meant_is_said_too() {
    check(HEADER, "{}", "no `sub`: its bearer is anonymous");
    check(HEADER, "{}", "no `exp`: it holds for ever");
    check(HEADER, "{}", "no `iat`");
    check(HEADER, "{}", "no `jti`");
    check(HEADER, r#"{"channel":"a"}"#, "the token of a subscription");
    check(HEADER, r#"{"expire_at":0}"#, "its connections have no end");
    check(HEADER, &format!(r#"{{"exp":{}}}"#, NOW + 100 * 86_400), "more than 90 days");
    check(HEADER, &format!(r#"{{"iat":{}}}"#, NOW + 100), "`iat` is 100 s to come");
}
