//! Plain: frames of clients and the commands that they are.

use broker_core::{Inbound, Request};
use broker_protocol::{Plain, holds_reserved_key};

use crate::support::{decode, decoded, shown};

#[track_caller]
fn check(frame: &str, expected: &str) {
    assert_eq!(decoded(&Plain::default(), frame), expected, "{frame}");
}

#[test]
fn commands_are_objects_with_the_key_broker() {
    check(
        r#"{"broker":"subscribe","id":1,"topic":"orders","since":"17@Bx3k","rate":null,"future":4}"#,
        "#1 subscribe orders since=17@Bx3k join_leave=true",
    );
    check(r#"{"broker":"subscribe","id":1,"topic":"orders","since":"0"}"#, "#1 subscribe orders since=beginning join_leave=true");
    check(r#"{"broker":"subscribe","id":1,"topic":"orders","since":0}"#, "#1 subscribe orders since=beginning join_leave=true");
    check(r#"{"broker":"subscribe","id":1,"topic":"orders","since":null}"#, "#1 subscribe orders join_leave=true");
    check(r#"{"broker":"unsubscribe","id":2,"topic":"orders"}"#, "#2 unsubscribe orders");
    check(
        r#"{"broker":"publish","id":3,"topic":"chat:1","data":{"a": 1},"key":"o7","idempotency_key":"i-1"}"#,
        r#"#3 publish chat:1 json:{\"a\": 1} key=o7 idempotency_key=i-1"#,
    );
    check(
        r#"{"broker":"history","id":4,"topic":"chat:1","since":"3@e","limit":50,"reverse":true}"#,
        "#4 history chat:1 since=3@e limit=50 reverse=true",
    );
    check(r#"{"broker":"history","id":4,"topic":"chat:1"}"#, "#4 history chat:1 limit=all");
    check(r#"{"broker":"history","id":4,"topic":"chat:1","limit":0}"#, "#4 history chat:1");
    check(r#"{"broker":"presence","id":5,"topic":"chat:1"}"#, "#5 presence chat:1");
    check(r#"{"broker":"authenticate","id":6,"token":"a.b.c"}"#, "#6 refresh a.b.c");
    check(r#"{"broker":"call","id":7,"method":"sum","data":[1,2]}"#, r#"#7 call "sum" json:[1,2]"#);
    check(r#"{"broker":"call","id":7,"method":"now"}"#, r#"#7 call "now" json:null"#);
    check(r#"{"broker":"ping","id":8}"#, "#8 ping bare=false");
}

#[test]
fn the_key_may_stand_anywhere_at_the_top_level() {
    check(r#" { "topic":"a", "id":1, "broker":"presence" } "#, "#1 presence a");
    check(r#"{"\u0062roker":"presence","id":1,"topic":"a"}"#, "#1 presence a");
    check("{\n  \"broker\": \"publish\",\n  \"topic\": \"a\",\n  \"data\": {\n\"x\":1}\n}", r#"# publish a json:{\n\"x\":1}"#);
}

#[test]
fn ids_are_numbers_or_strings_and_echoed_as_given() {
    check(r#"{"broker":"presence","topic":"a"}"#, "# presence a");
    check(r#"{"broker":"presence","id":0,"topic":"a"}"#, "#0 presence a");
    check(r#"{"broker":"presence","id":-1.50e3,"topic":"a"}"#, "#-1.50e3 presence a");
    check(r#"{"broker":"presence","id":"a\"\u00e9","topic":"a"}"#, r#"#"a\"\u00e9" presence a"#);
    check(r#"{"broker":"presence","id":null,"topic":"a"}"#, "# mistake bad_request: id must be a number or a string, not null at=26");
    check(r#"{"broker":"presence","id":[1],"topic":"a"}"#, "# mistake bad_request: id must be a number or a string, not an array at=26");
    check(r#"{"broker":"presence","id":true}"#, "# mistake bad_request: id must be a number or a string, not a boolean at=26");
}

#[test]
fn the_text_ping_is_a_ping() {
    check("ping", "- ping bare=true");
    check("ping\n", r"- message text:ping\n");
    check(r#""ping""#, r#"- message json:\"ping\""#);
}

#[test]
fn whatever_is_not_for_the_broker_goes_to_the_application() {
    check("hello", "- message text:hello");
    check("", "- message text:");
    check("  ", "- message text:  ");
    check(r#"{"type":"chat","id":7,"id":8}"#, r#"- message json:{\"type\":\"chat\",\"id\":7,\"id\":8}"#);
    check(r#" {"message":{"broker":1}} "#, r#"- message json:{\"message\":{\"broker\":1}}"#);
    check("[1, 2]", "- message json:[1, 2]");
    check("17", "- message json:17");
    check("{}", "- message json:{}");
    check("{broken", "- message text:{broken");
    check("{\"a\tb\":1}", r#"- message text:{\"a\tb\":1}"#);
    check(r#"{"type":"chat","broker":"#, r#"- message text:{\"type\":\"chat\",\"broker\":"#);
    let commands = decode(&Plain::default(), Inbound::Binary(b"{\"broker\":\"ping\"}\xff"));
    assert_eq!(commands.iter().map(shown).collect::<Vec<_>>(), [r#"- message binary:{\"broker\":\"ping\"}\xff"#]);
}

#[test]
fn malformed_commands_are_told_where() {
    check(r#"{"broker":"publish","id":3,"topic":"a","data":}"#, "#3 mistake bad_request: malformed JSON: expected value at=46");
    check(r#"{"broker":"publish","id":"x","#, r#"#"x" mistake bad_request: malformed JSON: EOF while parsing a value at=29"#);
    check(r#"{"broker":"sub"#, "# mistake bad_request: malformed JSON: EOF while parsing a string at=14");
    check("{\"broker\":\"publish\",\n\"id\":3,\n \"data\":tru}", "#3 mistake bad_request: malformed JSON: expected ident at=40");
    check(r#"{"broker":"presence","id":3,"topic":"a"} x"#, "#3 mistake bad_request: malformed JSON: trailing characters at=41");
}

#[test]
fn actions_that_do_not_exist_are_named() {
    check(r#"{"broker":"subscrib","id":1}"#, r#"#1 mistake unknown_action: there is no action "subscrib""#);
    check(r#"{"broker":"","id":1}"#, r#"#1 mistake unknown_action: there is no action """#);
    check(r#"{"broker":7,"id":1}"#, "#1 mistake bad_request: broker must be a string, not a number at=10");
    check(r#"{"broker":null,"id":1}"#, "#1 mistake bad_request: broker must be a string, not null at=10");
    let commands = decode(&Plain::default(), Inbound::Text(r#"{"broker":"x"}"#));
    let Request::Mistake(refusal) = &commands[0].request else { panic!("no mistake: {commands:?}") };
    assert_eq!(refusal.hint.as_deref(), Some("one of subscribe, unsubscribe, publish, history, presence, authenticate, call, ping"));
}

#[test]
fn positions_and_keys_are_checked() {
    check(
        r#"{"broker":"subscribe","id":1,"topic":"a","since":"17"}"#,
        "#1 mistake bad_request: since is no position: a position has the form offset@epoch, as it was received at=49",
    );
    let long = "k".repeat(256);
    check(
        &format!(r#"{{"broker":"publish","id":1,"topic":"a","data":1,"idempotency_key":"{long}"}}"#),
        "#1 mistake bad_request: idempotency_key has 256 bytes, at most 255 are allowed at=66",
    );
}

#[test]
fn a_subscribe_may_choose_by_tags_and_set_a_rate() {
    check(
        r#"{"broker":"subscribe","id":1,"topic":"a","rate":4,"filter":{"key":"k","cmp":"eq","val":"v"}}"#,
        r#"#1 subscribe a join_leave=true selection=Selection { filter: Some(Filter(Test { key: "k", test: Is("v") })), pace: Some(250ms) }"#,
    );
    let rate = "rate must be a number of updates per second, at most 1000 at=48";
    for bad in ["0", "-1", "1001", "\"4\"", "[]"] {
        check(&format!(r#"{{"broker":"subscribe","id":1,"topic":"a","rate":{bad}}}"#), &format!("#1 mistake bad_request: {rate}"));
    }
    check(
        r#"{"broker":"subscribe","id":1,"topic":"a","filter":"x"}"#,
        "#1 mistake bad_request: filter is no filter: an object with key, cmp and val or vals, or with op and nodes, all of them text at=50",
    );
    check(
        r#"{"broker":"subscribe","id":1,"topic":"a","filter":{"key":"k","cmp":"like"}}"#,
        "#1 mistake bad_request: filter is no filter: a filter compares by eq, neq, in, nin, ex, nex, sw, ew, ct, lt, lte, gt or gte, not by \"like\" at=50",
    );
}

#[test]
fn a_removal_needs_no_data() {
    check(r#"{"broker":"publish","id":1,"topic":"a","key":"o7","removed":true}"#, "#1 publish a json: key=o7 removed=true");
    check(r#"{"broker":"publish","id":1,"topic":"a","key":"o7","removed":true,"data":null}"#, "#1 publish a json:null key=o7 removed=true");
    check(r#"{"broker":"publish","id":1,"topic":"a","key":"o7"}"#, "#1 mistake bad_request: data is missing");
}

#[test]
fn the_reserved_key_cannot_be_published() {
    check(
        r#"{"broker":"publish","id":1,"topic":"a","data":{"x":1,"broker":"gap"}}"#,
        "#1 mistake bad_request: data has the key \"broker\" at its top level, which is reserved at=46",
    );
    check(r#"{"broker":"publish","id":1,"topic":"a","data":{"x":{"broker":1}}}"#, r#"#1 publish a json:{\"x\":{\"broker\":1}}"#);
    check(r#"{"broker":"publish","id":1,"topic":"a","data":"broker"}"#, r#"#1 publish a json:\"broker\""#);
}

#[test]
fn the_reserved_key_is_found_however_it_is_written() {
    for json in [
        r#"{"broker":1}"#,
        r#"  { "a":[{}], "broker" : null}"#,
        r#"{"\u0062\u0072oker":1}"#,
        r#"{"\ud800":"\udfff","broker":1}"#,
        r#"{"a":1e999,"broker":1}"#,
    ] {
        assert!(holds_reserved_key(json.as_bytes()), "{json}");
    }
    for json in [
        "",
        "{}",
        "broker",
        r#""broker""#,
        r#"["broker"]"#,
        r#"[{"broker":1}]"#,
        r#"{"a":"broker"}"#,
        r#"{"a":{"broker":1}}"#,
        r#"{"Broker":1}"#,
        r#"{"broker ":1}"#,
        r#"{"\\u0062roker":1}"#,
        r#"{"broker":"#,
    ] {
        assert!(!holds_reserved_key(json.as_bytes()), "{json}");
    }
    assert!(!holds_reserved_key(b"{\"broker\":1,\"\xff\":1}"));
}
