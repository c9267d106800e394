//! What each claim becomes, and what is said about one that is wrong.

use broker_auth::{Claims, HmacTokens, TokenOptions};
use broker_core::{Identity, Refusal, Topic, Verb};

use super::{HEADER, NOW, SECRET, at, signed, tokens};

fn read(claims: &str) -> Result<Identity, Refusal> {
    tokens().verify(&signed(HEADER, claims), at(NOW))
}

#[track_caller]
fn accepted(claims: &str) -> Identity {
    read(claims).unwrap()
}

/// What is said about the claims, after "the token's claim ".
#[track_caller]
fn check(claims: &str, expected: &str) {
    let message = read(claims).unwrap_err().message;
    assert_eq!(message.strip_prefix("the token's claim ").unwrap_or(&message), expected, "{claims}");
}

fn topic(name: &str) -> Topic {
    name.parse().unwrap()
}

#[test]
fn groups_channels_and_subs_become_what_the_server_chooses() {
    let identity = accepted(
        r#"{"sub":"ris1","groups":["ocs_ris","admins","ocs_ris"],"channels":["news","orders:7"],
            "subs":{"news":{"info":{"a":1},"data":[2]},"chat:1":{"b64info":"eyJhIjoyfQ==","b64data":"MQ==","override":{"presence":{"value":true}}}}}"#,
    );
    assert_eq!(*identity.groups, ["ocs_ris".into(), "admins".into()]);
    let topics: Vec<&str> = identity.subscriptions.iter().map(|subscription| subscription.topic.as_str()).collect();
    assert_eq!(topics, ["news", "chat:1", "orders:7"]);
    assert_eq!(identity.subscriptions[0].topic_info.as_deref(), Some(&br#"{"a":1}"#[..]));
    assert_eq!(identity.subscriptions[0].data.as_ref().unwrap().bytes(), "[2]");
    assert_eq!(identity.subscriptions[1].topic_info.as_deref(), Some(&br#"{"a":2}"#[..]));
    assert_eq!(identity.subscriptions[1].data.as_ref().unwrap().bytes(), "1");
}

#[test]
fn caps_allow_what_they_name_and_nothing_else() {
    let identity = accepted(
        r#"{"caps":[{"channels":["chat:*","log:>"],"match":"wildcard","allow":["sub","pub"]},{"channels":["news"],"allow":["hst"]},
            {"channels":["a"],"match":"","allow":[]}]}"#,
    );
    let allows = |verb, name| identity.capabilities.iter().any(|capability| capability.allows(verb, &topic(name)));
    for (verb, name, expected) in [
        (Verb::Subscribe, "chat:1", true),
        (Verb::Publish, "chat:1", true),
        (Verb::History, "chat:1", false),
        (Verb::Subscribe, "chat:1.2", false),
        (Verb::Subscribe, "log:1.2", true),
        (Verb::History, "news", true),
        (Verb::Subscribe, "news", false),
        (Verb::Subscribe, "a", false),
    ] {
        assert_eq!(allows(verb, name), expected, "{verb:?} {name}");
    }
}

#[test]
fn the_rest_is_for_the_broker_and_the_application() {
    let identity = accepted(r#"{"jti":"t1","iat":1763711000,"meta":{"plan":"x"},"tenant":"acme","iss":"me","aud":["a","b"]}"#);
    assert_eq!(identity.token_id.as_deref(), Some("t1"));
    assert_eq!(identity.issued_at, Some(at(1_763_711_000)));
    assert_eq!(identity.meta.unwrap(), r#"{"plan":"x"}"#);
    assert_eq!(identity.tenant.unwrap().as_str(), "acme");
    assert_eq!(accepted("{}").issued_at, Some(at(0)), "no `iat`: no newer than any revocation");
}

#[test]
fn expire_at_says_when_the_connection_ends_and_zero_never() {
    let exp = NOW + 60;
    assert_eq!(accepted(&format!(r#"{{"exp":{exp}}}"#)).expires_at, Some(at(exp)));
    assert_eq!(accepted(&format!(r#"{{"exp":{exp},"expire_at":{}}}"#, NOW + 9000)).expires_at, Some(at(NOW + 9000)));
    assert_eq!(accepted(&format!(r#"{{"exp":{exp},"expire_at":0}}"#)).expires_at, None);
    assert_eq!(read(r#"{"exp":1,"expire_at":0}"#).unwrap_err().message, format!("the token ended {} s ago", NOW - 1));
    assert_eq!(read(&format!(r#"{{"expire_at":{}}}"#, NOW - 2)).unwrap_err().message, "the token ended 2 s ago");
}

#[test]
fn every_wrong_type_is_named_by_its_path() {
    check(r#"{"groups":"ocs"}"#, "`groups` must be a list, it is a string");
    check(r#"{"groups":["a",7]}"#, "`groups[1]` must be a string, it is a number");
    check(
        r#"{"groups":["a b"]}"#,
        "`groups[0]` is no name of a group: byte 7 of the topic is 0x20; only printable ASCII without spaces is allowed, percent-encode the rest",
    );
    check(r#"{"groups":[""]}"#, "`groups[0]` is empty");
    check(r#"{"channels":{}}"#, "`channels` must be a list, it is an object");
    check(r#"{"channels":["a",null]}"#, "`channels[1]` must be a string, it is null");
    check(r#"{"channels":[""]}"#, "`channels[0]` is no name of a topic: the topic is empty");
    check(r#"{"subs":[]}"#, "`subs` must be an object, it is an array");
    check(r#"{"subs":{"a":1}}"#, "`subs[0]` must be an object, it is a number");
    check(
        r#"{"subs":{"a":{},"b*":{}}}"#,
        "`subs[1]` is no name of a topic: byte 1 of the topic is a wildcard; a topic is one name, not a pattern",
    );
    check(r#"{"subs":{"a":{"b64data":"%"}}}"#, "`subs[0].b64data` is not base64 with its standard alphabet and padding");
    check(r#"{"subs":{"a":{"b64info":7}}}"#, "`subs[0].b64info` must be a string, it is a number");
    check(r#"{"subs":{"a":{},"a":{}}}"#, "`subs` must be an object that has each name once");
    check(r#"{"caps":{}}"#, "`caps` must be a list, it is an object");
    check(r#"{"caps":[7]}"#, "`caps[0]` must be an object, it is a number");
    check(r#"{"caps":[{"allow":["sub"]}]}"#, "`caps[0].channels` is missing");
    check(r#"{"caps":[{"channels":["a"]}]}"#, "`caps[0].allow` is missing");
    check(r#"{"caps":[{"channels":["a"],"allow":["read"]}]}"#, "`caps[0].allow[0]` must be `sub`, `pub`, `hst` or `prs`");
    check(
        r#"{"caps":[{"channels":["a"],"allow":["sub"]},{"channels":["a"],"match":"regex","allow":["sub"]}]}"#,
        "`caps[1].match` is `regex`, which is not supported",
    );
    check(
        r#"{"caps":[{"channels":["*:a"],"match":"wildcard","allow":[]}]}"#,
        "`caps[0].channels[0]` is no pattern: byte 0 of the pattern is a wildcard in the namespace, which must be named",
    );
    check(
        r#"{"caps":[{"channels":["a","b*"],"allow":[]}]}"#,
        "`caps[0].channels[1]` is no name of a topic: byte 1 of the topic is a wildcard; a topic is one name, not a pattern",
    );
    check(r#"{"jti":7}"#, "`jti` must be a string, it is a number");
    check(r#"{"iss":7}"#, "`iss` must be a string, it is a number");
    check(r#"{"aud":["a",7]}"#, "`aud[1]` must be a string, it is a number");
    check(r#"{"aud":{}}"#, "`aud` must be a string, it is an object");
    check(r#"{"expire_at":"x"}"#, "`expire_at` must be a number of seconds since 1970, it is a string");
    check(r#"{"tenant":""}"#, "`tenant` is no tenant: a tenant's name has 1 to 64 letters, digits, `-`, `_` or `.`");
    check(r#"{"tenant":7}"#, "`tenant` must be a string, it is a number");
}

#[test]
fn nothing_has_no_bound() {
    let list = |len: usize| (0..len).map(|index| format!("\"g{index}\"")).collect::<Vec<_>>().join(",");
    assert_eq!(accepted(&format!(r#"{{"groups":[{}]}}"#, list(128))).groups.len(), 128);
    check(&format!(r#"{{"groups":[{}]}}"#, list(129)), "`groups` has 129 elements, at most 128 are allowed");
    check(&format!(r#"{{"channels":[{}]}}"#, vec!["\"a\""; 1025].join(",")), "`channels` has 1025 elements, at most 1024 are allowed");
    check(&format!(r#"{{"caps":[{}]}}"#, vec!["1"; 129].join(",")), "`caps` has 129 elements, at most 128 are allowed");
    let channels = vec!["\"a\""; 129].join(",");
    check(
        &format!(r#"{{"caps":[{{"channels":[{channels}],"allow":[]}}]}}"#),
        "`caps[0].channels` has 129 elements, at most 128 are allowed",
    );
    let user = "u".repeat(251);
    check(&format!(r#"{{"sub":"{user}"}}"#), "`sub` is no user that has a topic: the topic has 256 bytes, at most 255 are allowed");
}

#[test]
fn a_token_reaches_into_no_other_tenant() {
    let inside = "is inside a tenant";
    check(r#"{"tenant":"acme","channels":["tenant:other/orders"]}"#, &format!("`channels[0]` {inside}"));
    check(r#"{"subs":{"tenant:other/orders":{}}}"#, &format!("`subs[0]` {inside}"));
    check(r#"{"caps":[{"channels":["tenant:other/orders"],"allow":["sub"]}]}"#, &format!("`caps[0].channels[0]` {inside}"));
    check(r#"{"caps":[{"channels":["tenant:>"],"match":"wildcard","allow":["sub"]}]}"#, &format!("`caps[0].channels[0]` {inside}"));
    let long = "x".repeat(245);
    assert_eq!(accepted(&format!(r#"{{"channels":["{long}"]}}"#)).subscriptions.len(), 1);
    check(
        &format!(r#"{{"tenant":"acme","channels":["{long}"]}}"#),
        "`channels[0]` is no name of a topic: the topic has 257 bytes, at most 255 are allowed",
    );
}

#[test]
fn issuer_and_audience_are_checked_where_they_are_configured() {
    let options = TokenOptions::default().issuer("https://id").audience("broker").audience("live");
    let tokens = HmacTokens::new(SECRET, options).unwrap();
    let verdict =
        |claims: &str| tokens.verify(&signed(HEADER, claims), at(NOW)).map(|_| ()).map_err(|refusal| refusal.message.into_owned());
    assert_eq!(verdict(r#"{"iss":"https://id","aud":"broker"}"#), Ok(()));
    assert_eq!(verdict(r#"{"iss":"https://id","aud":["x","live"]}"#), Ok(()));
    let refused = |claims: &str, expected: &str| assert_eq!(verdict(claims), Err(format!("the token's claim {expected}")), "{claims}");
    refused(r#"{"aud":"broker"}"#, "`iss` is missing");
    refused(r#"{"iss":"https://id/","aud":"broker"}"#, "`iss` is another issuer's");
    refused(r#"{"iss":"https://id"}"#, "`aud` is missing");
    refused(r#"{"iss":"https://id","aud":[]}"#, "`aud` is another audience");
    refused(r#"{"iss":"https://id","aud":["x"]}"#, "`aud` is another audience");
}

#[test]
fn another_claim_may_name_the_user() {
    let tokens = HmacTokens::new(SECRET, TokenOptions::default().user_claim("email")).unwrap();
    let read = |claims: &str| tokens.verify(&signed(HEADER, claims), at(NOW));
    assert_eq!(read(r#"{"sub":"x","email":"kim@example.com"}"#).unwrap().user.as_str(), "kim@example.com");
    assert!(read(r#"{"sub":"x"}"#).unwrap().user.is_anonymous());
    assert_eq!(read(r#"{"email":7}"#).unwrap_err().message, "the token's claim `email` must be a string, it is a number");
    assert!(read(r#"{"email":"a","email":"b"}"#).is_err());
}

#[test]
fn every_claim_that_is_written_reads_back() {
    let claims = Claims::user("ris1")
        .expires_at(at(NOW + 60))
        .issued_at(at(NOW))
        .connection_ends_at(None)
        .token_id("t1")
        .issuer("me")
        .audience("you")
        .tenant("acme")
        .group("g")
        .channel("news");
    let claims = claims.meta("{}").unwrap().capabilities(r#"[{"channels":["a"],"allow":["pub"]}]"#).unwrap();
    let identity = tokens().verify(&tokens().create(&claims.subscriptions(r#"{"b":{}}"#).unwrap()), at(NOW)).unwrap();
    assert_eq!((identity.expires_at, identity.token_id.as_deref()), (None, Some("t1")));
    assert_eq!((identity.groups.len(), identity.subscriptions.len(), identity.capabilities.len()), (1, 2, 1));
    assert_eq!((identity.tenant.unwrap().as_str(), &*identity.meta.unwrap()), ("acme", &b"{}"[..]));
}
