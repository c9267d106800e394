//! Hostile input: what cannot be read is named, with its place, and answered by id where there is one.

use broker_protocol::{CentrifugeJson, Plain};

use crate::support::decoded;

#[track_caller]
fn check(frame: &str, expected: &str) {
    assert_eq!(decoded(&CentrifugeJson, frame), expected, "{frame}");
}

#[track_caller]
fn check_plain(frame: &str, expected: &str) {
    assert_eq!(decoded(&Plain::default(), frame), expected, "{frame}");
}

/// Every field of every command, with what must stand in it and what stands around it.
const CENTRIFUGE_FIELDS: [(&str, &str, &str, &str); 25] = [
    ("connect", "", "an object", ""),
    ("connect", "token", "a string", ""),
    ("connect", "name", "a string", ""),
    ("connect", "version", "a string", ""),
    ("subscribe", "", "an object", ""),
    ("subscribe", "channel", "a string", ""),
    ("subscribe", "token", "a string", r#","channel":"a""#),
    ("subscribe", "recover", "a boolean", r#","channel":"a""#),
    ("subscribe", "epoch", "a string", r#","channel":"a""#),
    ("subscribe", "offset", "a whole number that is not negative", r#","channel":"a""#),
    ("subscribe", "join_leave", "a boolean", r#","channel":"a""#),
    ("subscribe", "flag", "a whole number that is not negative", r#","channel":"a""#),
    ("subscribe", "type", "a whole number", r#","channel":"a""#),
    ("unsubscribe", "channel", "a string", ""),
    ("publish", "", "an object", ""),
    ("publish", "channel", "a string", r#","data":1"#),
    ("presence", "channel", "a string", ""),
    ("presence_stats", "channel", "a string", ""),
    ("history", "channel", "a string", ""),
    ("history", "limit", "a whole number", r#","channel":"a""#),
    ("history", "since", "an object", r#","channel":"a""#),
    ("history", "reverse", "a boolean", r#","channel":"a""#),
    ("rpc", "method", "a string", ""),
    ("send", "", "an object", ""),
    ("refresh", "token", "a string", ""),
];

const VALUES: [(&str, &str); 6] =
    [("\"x\"", "a string"), ("7", "a number"), ("true", "a boolean"), ("[]", "an array"), ("{}", "an object"), ("1.5", "a number")];

#[test]
fn every_wrong_type_of_every_centrifuge_field_is_named() {
    let mut checked = 0;
    for (command, field, expected, rest) in CENTRIFUGE_FIELDS {
        for (value, kind) in VALUES {
            if expected == kind || (expected.starts_with("a whole number") && value == "7") {
                continue;
            }
            let (frame, path) = match field {
                "" => (format!(r#"{{"id":9,"{command}":{value}}}"#), command.to_owned()),
                _ => (format!(r#"{{"id":9,"{command}":{{"{field}":{value}{rest}}}}}"#), format!("{command}.{field}")),
            };
            let at = frame.find(&format!(":{value}")).expect("the value is in the frame") + 1;
            let is = if kind == "a number" && expected.starts_with("a whole number") { " of at most 64 bits" } else { "" };
            let not = if is.is_empty() { format!(", not {kind}") } else { String::new() };
            check(&frame, &format!("#9 mistake bad_request: {path} must be {expected}{is}{not} at={at}"));
            checked += 1;
        }
    }
    assert!(checked > 100);
}

#[test]
fn every_wrong_type_of_every_plain_field_is_named() {
    let fields = [
        ("subscribe", "topic", "a string", ""),
        ("subscribe", "since", "a string", r#","topic":"a""#),
        ("unsubscribe", "topic", "a string", ""),
        ("publish", "topic", "a string", r#","data":1"#),
        ("publish", "key", "a string", r#","data":1,"topic":"a""#),
        ("publish", "idempotency_key", "a string", r#","data":1,"topic":"a""#),
        ("history", "topic", "a string", ""),
        ("history", "since", "a string", r#","topic":"a""#),
        ("history", "limit", "a whole number that is not negative", r#","topic":"a""#),
        ("history", "reverse", "a boolean", r#","topic":"a""#),
        ("presence", "topic", "a string", ""),
        ("authenticate", "token", "a string", ""),
        ("call", "method", "a string", ""),
    ];
    for (action, field, expected, rest) in fields {
        for (value, kind) in VALUES {
            if expected == kind || (expected.starts_with("a whole number") && kind == "a number") {
                continue;
            }
            let frame = format!(r#"{{"broker":"{action}","id":"n9","{field}":{value}{rest}}}"#);
            let at = frame.find(&format!(":{value}")).expect("the value is in the frame") + 1;
            check_plain(&frame, &format!("#\"n9\" mistake bad_request: {field} must be {expected}, not {kind} at={at}"));
        }
    }
}

#[test]
fn every_missing_field_is_named() {
    for command in ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history"] {
        check(&format!(r#"{{"id":9,"{command}":{{}}}}"#), &format!("#9 mistake bad_request: {command}.channel is missing"));
        check(
            &format!(r#"{{"id":9,"{command}":{{"channel":null,"data":1}}}}"#),
            &format!("#9 mistake bad_request: {command}.channel must be a string, not null at={}", 22 + command.len()),
        );
    }
    check(r#"{"id":9,"publish":{"channel":"a"}}"#, "#9 mistake bad_request: publish.data is missing");
    check(r#"{"id":9,"refresh":{}}"#, "#9 mistake bad_request: refresh.token is missing");
    check(r#"{"id":9,"refresh":{"token":""}}"#, "#9 mistake bad_request: refresh.token is empty at=27");
    for action in ["subscribe", "unsubscribe", "publish", "history", "presence"] {
        check_plain(&format!(r#"{{"broker":"{action}","id":9}}"#), "#9 mistake bad_request: topic is missing");
    }
    check_plain(r#"{"broker":"publish","id":9,"topic":"a"}"#, "#9 mistake bad_request: data is missing");
    check_plain(r#"{"broker":"authenticate","id":9}"#, "#9 mistake bad_request: token is missing");
    check_plain(r#"{"broker":"call","id":9}"#, "#9 mistake bad_request: method is missing");
}

#[test]
fn bad_names_of_topics_are_explained() {
    let long = "x".repeat(256);
    for (name, why) in [
        ("", "the topic is empty"),
        (long.as_str(), "the topic has 256 bytes, at most 255 are allowed"),
        ("a b", "byte 1 of the topic is 0x20; only printable ASCII without spaces is allowed, percent-encode the rest"),
        (r"a\n", "byte 1 of the topic is 0x0a; only printable ASCII without spaces is allowed, percent-encode the rest"),
        (r"\u0000", "byte 0 of the topic is 0x00; only printable ASCII without spaces is allowed, percent-encode the rest"),
        ("é", "byte 0 of the topic is 0xc3; only printable ASCII without spaces is allowed, percent-encode the rest"),
        ("a.*", "byte 2 of the topic is a wildcard; a topic is one name, not a pattern"),
    ] {
        check(
            &format!(r#"{{"id":9,"subscribe":{{"channel":"{name}"}}}}"#),
            &format!("#9 mistake bad_request: subscribe.channel is no topic: {why} at=31"),
        );
        check_plain(
            &format!(r#"{{"broker":"subscribe","id":9,"topic":"{name}"}}"#),
            &format!("#9 mistake bad_request: topic is no topic: {why} at=37"),
        );
    }
    check(
        r#"{"id":9,"subscribe":{"channel":"\ud800"}}"#,
        "#9 mistake bad_request: subscribe.channel has an escape that is no character at=31",
    );
}

#[test]
fn malformed_json_is_answered_where_its_id_can_be_read() {
    check(r#"{"id":9,"#, "#9 mistake bad_request: malformed JSON: EOF while parsing a value at=8");
    check(r#"{"id":9,"publish":{"channel":"a","data":tru}}"#, "#9 mistake bad_request: malformed JSON: expected ident at=43");
    check(r#"{"id":9,"publish":{"channel":"a","data":01}}"#, "#9 mistake bad_request: malformed JSON: invalid number at=41");
    check(r#"{"id":9,"publish":{"channel":"a","data":"\x"}}"#, "#9 mistake bad_request: malformed JSON: invalid escape at=42");
    check(r#"{"id":9,"connect":{}} {"id":10}"#, "#9 mistake bad_request: malformed JSON: trailing characters at=22");
    check(r#"{"connect":{},"id":9,}"#, "#9 mistake bad_request: malformed JSON: trailing comma at=21");
    check(r"{'id':9}", "- unreadable: malformed JSON: key must be a string (byte 1)");
}

#[test]
fn what_holds_no_id_ends_a_centrifuge_connection_with_the_reason() {
    check("", "- unreadable: the frame is empty");
    check("\n\n", "- unreadable: the frame is empty");
    check("hello", "- unreadable: malformed JSON: expected value (byte 0)");
    check("[]", "- unreadable: a command must be an object, not an array (byte 0)");
    check("\"ping\"", "- unreadable: a command must be an object, not a string (byte 0)");
    check("7", "- unreadable: a command must be an object, not a number (byte 0)");
    check("null", "- unreadable: a command must be an object, not null (byte 0)");
    check(r#"{"id":9"#, "- unreadable: malformed JSON: EOF while parsing an object (byte 7)");
    check(r#"{"publish":{"id":9,"#, "- unreadable: malformed JSON: EOF while parsing an object (byte 19)");
    check(r#"{"send":7}"#, "- unreadable: send must be an object, not a number (byte 8)");
    check(r#"{"foo":1}"#, "- unreadable: the command has no id");
}

#[test]
fn a_key_that_stands_twice_is_a_mistake() {
    check(r#"{"id":9,"id":10,"connect":{}}"#, "#9 mistake bad_request: the key id stands twice at=13");
    check(r#"{"id":9,"connect":{},"connect":{}}"#, "#9 mistake bad_request: the key connect stands twice at=31");
    check(
        r#"{"id":9,"publish":{"channel":"a","data":1,"channel":"b"}}"#,
        "#9 mistake bad_request: the key publish.channel stands twice at=52",
    );
    check(r#"{"id":9,"presence":{"channel":"a"},"x":1,"x":2}"#, "#9 presence a");
    check_plain(r#"{"broker":"presence","id":9,"topic":"a","topic":"b"}"#, "#9 mistake bad_request: the key topic stands twice at=48");
}

#[test]
fn commands_nest_to_64_levels() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    // The command and its request are two levels; the data has the rest.
    let frame = |levels| format!(r#"{{"id":9,"publish":{{"channel":"a","data":{}}}}}"#, nested(levels));
    check(&frame(62), &format!("#9 publish a json:{}", nested(62)));
    check(&frame(63), "#9 mistake bad_request: the command nests deeper than 64 levels at=102");
    check(&frame(20_000), "#9 mistake bad_request: the command nests deeper than 64 levels at=102");
    check(&"[".repeat(50_000), "- unreadable: the command nests deeper than 64 levels (byte 64)");
    let quoted = format!(r#"{{"id":9,"publish":{{"channel":"a","data":"\"{}"}}}}"#, "[".repeat(1000));
    assert!(decoded(&CentrifugeJson, &quoted).starts_with("#9 publish a"));
    let wide = format!(r#"{{"id":9,"publish":{{"channel":"a","data":[{}1]}}}}"#, "[],".repeat(10_000));
    assert!(decoded(&CentrifugeJson, &wide).starts_with("#9 publish a"));

    check_plain(&nested(65), "- mistake bad_request: the command nests deeper than 64 levels at=64");
    let command = format!(r#"{{"broker":"publish","id":9,"topic":"a","data":{}}}"#, nested(64));
    check_plain(&command, "#9 mistake bad_request: the command nests deeper than 64 levels at=109");
}

#[test]
fn huge_numbers_are_named_or_kept_as_they_are() {
    let digits = "9".repeat(10_000);
    check(
        &format!(r#"{{"id":9,"subscribe":{{"channel":"a","offset":{digits}}}}}"#),
        "#9 mistake bad_request: subscribe.offset must be a whole number that is not negative of at most 64 bits at=44",
    );
    check(
        r#"{"id":9,"subscribe":{"channel":"a","offset":-1}}"#,
        "#9 mistake bad_request: subscribe.offset must be a whole number that is not negative of at most 64 bits at=44",
    );
    check(&format!(r#"{{"id":9,"publish":{{"channel":"a","data":{digits}}}}}"#), &format!("#9 publish a json:{digits}"));
    check(
        r#"{"id":9,"history":{"channel":"a","limit":1e3}}"#,
        "#9 mistake bad_request: history.limit must be a whole number of at most 64 bits at=41",
    );
}

#[test]
fn names_of_unknown_commands_are_cut_and_escaped() {
    let name = "é\u{1b}".repeat(100);
    let shown = "é\\u{1b}".repeat(16);
    check_plain(
        &format!(r#"{{"broker":"{}","id":9}}"#, name.replace('\u{1b}', "\\u001b")),
        &format!("#9 mistake unknown_action: there is no action \"{shown}\""),
    );
}
