//! Centrifuge JSON: frames of clients and the commands that they are.

use broker_core::{Command, CommandId, Inbound, Protocol, Push, Reply, Request};
use broker_protocol::{CentrifugeJson, NoProtobuf};

use crate::support::{decode, decoded, push, reply, shown};

#[track_caller]
fn check(frame: &str, expected: &str) {
    assert_eq!(decoded(&CentrifugeJson, frame), expected, "{frame}");
}

#[test]
fn connect_carries_credentials_and_the_clients_name() {
    check(r#"{"id":1,"connect":{}}"#, "#1 connect");
    check(r#"{"connect":{"name":"js"},"id":1}"#, "#1 connect name=js");
    check(
        r#"{"id":1,"connect":{"token":"a.b","data":{"x":1},"name":"js","version":"5.8","flag":1,"headers":{"a":"b"}}}"#,
        r#"#1 connect token=a.b data=json:{\"x\":1} name=js version=5.8"#,
    );
    check(r#"{"id":1,"connect":{"token":"","data":null,"subs":null}}"#, "#1 connect");
}

#[test]
fn connect_carries_where_the_servers_subscriptions_resume_from() {
    check(
        r#"{"id":1,"connect":{"subs":{"group:a":{"recover":true,"epoch":"Bx3k","offset":17},"user:u%20v":{"recover":true}}}}"#,
        "#1 connect group:a=17@Bx3k user:u%20v=beginning",
    );
    check(r#"{"id":1,"connect":{"subs":{}}}"#, "#1 connect");
    check(r#"{"id":1,"connect":{"subs":{"\u0061":{"offset":3,"epoch":"_","recover":true,"future":[]}}}}"#, "#1 connect a=3@_");
    // What does not ask to recover is taken up by the server's own choice, whatever its name.
    check(r#"{"id":1,"connect":{"subs":{"a":{"epoch":"e","offset":17},"no topic":{"recover":false}}}}"#, "#1 connect");
}

#[test]
fn subscriptions_to_resume_that_cannot_be_read_are_named() {
    check(r#"{"id":1,"connect":{"subs":[]}}"#, "#1 mistake bad_request: connect.subs must be an object, not an array at=26");
    check(r#"{"id":1,"connect":{"subs":{"a":7}}}"#, "#1 mistake bad_request: connect.subs must be an object, not a number at=31");
    check(
        r#"{"id":1,"connect":{"subs":{"a":{"recover":1}}}}"#,
        "#1 mistake bad_request: connect.subs.recover must be a boolean, not a number at=42",
    );
    check(
        r#"{"id":1,"connect":{"subs":{"a b":{"recover":true}}}}"#,
        r#"#1 mistake bad_request: connect.subs has "a b", which is no topic: byte 1 of the topic is 0x20; only printable ASCII without spaces is allowed, percent-encode the rest at=33"#,
    );
    check(r#"{"id":1,"connect":{"subs":{"a":{},"\u0061":{}}}}"#, r#"#1 mistake bad_request: connect.subs has "a" twice at=43"#);
    check(r#"{"id":1,"connect":{"subs":{"\ud800":{}}}}"#, "#1 mistake bad_request: malformed JSON: unexpected end of hex escape at=34");
    let subs = |count: usize| {
        let subs: Vec<String> = (0..count).map(|number| format!(r#""a{number}":{{"recover":true}}"#)).collect();
        decoded(&CentrifugeJson, &format!(r#"{{"id":1,"connect":{{"subs":{{{}}}}}}}"#, subs.join(",")))
    };
    assert!(subs(128).ends_with("a127=beginning"), "{}", subs(128));
    assert_eq!(subs(129), "#1 mistake limit_exceeded: connect.subs has more than 128 entries at=26");
}

#[test]
fn subscribe_carries_where_to_resume_from() {
    check(r#"{"id":2,"subscribe":{"channel":"news","flag":1}}"#, "#2 subscribe news");
    check(r#"{"id":2,"subscribe":{"channel":"news","recover":true,"offset":17,"epoch":"Bx3k"}}"#, "#2 subscribe news since=17@Bx3k");
    check(r#"{"id":2,"subscribe":{"channel":"news","recover":true,"epoch":"Bx3k"}}"#, "#2 subscribe news since=0@Bx3k");
    check(r#"{"id":2,"subscribe":{"channel":"news","recover":true}}"#, "#2 subscribe news since=beginning");
    check(r#"{"id":2,"subscribe":{"channel":"news","recover":true,"offset":0,"epoch":""}}"#, "#2 subscribe news since=beginning");
    check(r#"{"id":2,"subscribe":{"channel":"news","recover":false,"offset":17,"epoch":"Bx3k"}}"#, "#2 subscribe news");
}

#[test]
fn a_position_that_is_none_of_ours_is_one_that_never_recovers() {
    check(r#"{"id":2,"subscribe":{"channel":"news","recover":true,"offset":17}}"#, "#2 subscribe news since=17@_");
    check(r#"{"id":2,"subscribe":{"channel":"news","recover":true,"offset":17,"epoch":"not one"}}"#, "#2 subscribe news since=17@_");
    check(
        r#"{"id":2,"subscribe":{"channel":"news","recover":true,"offset":1,"epoch":"longer-than-ours-ever"}}"#,
        "#2 subscribe news since=1@_",
    );
}

#[test]
fn subscribe_knows_its_flags_and_ignores_others() {
    check(r#"{"id":2,"subscribe":{"channel":"news","flag":2}}"#, "#2 subscribe news refuse_unrecovered=true");
    check(r#"{"id":2,"subscribe":{"channel":"news","flag":1027}}"#, "#2 subscribe news refuse_unrecovered=true");
    check(
        r#"{"id":2,"subscribe":{"channel":"news","join_leave":true,"token":"t","data":[1],"delta":"fossil","positioned":true,"recoverable":true}}"#,
        "#2 subscribe news join_leave=true token=t data=json:[1]",
    );
    check(r#"{"id":2,"subscribe":{"channel":"news","type":0,"tf":null}}"#, "#2 subscribe news");
    check(
        r#"{"id":2,"subscribe":{"channel":"news","type":2}}"#,
        "#2 mistake not_available: subscribe.type other than 0, a stream, and 1, a map, is not available at=45",
    );
    check(r#"{"id":2,"subscribe":{"channel":"a","type":1,"phase":2,"limit":9}}"#, "#2 subscribe a refuse_unrecovered=true keyed=true");
    check(
        r#"{"id":2,"subscribe":{"channel":"a","type":1,"phase":1,"recover":true,"offset":3,"epoch":"e"}}"#,
        "#2 subscribe a since=3@e refuse_unrecovered=true keyed=true",
    );
    check(
        r#"{"id":2,"subscribe":{"channel":"news","tf":{"op":"eq"}}}"#,
        "#2 mistake bad_request: subscribe.tf is no filter: a filter knows the operators \"and\", \"or\" and \"not\", not \"eq\" at=43",
    );
}

#[test]
fn the_other_commands_are_read() {
    check(r#"{"id":3,"unsubscribe":{"channel":"news"}}"#, "#3 unsubscribe news");
    check(r#"{"id":3,"publish":{"channel":"news","data":{"a": [1, 2]}}}"#, r#"#3 publish news json:{\"a\": [1, 2]}"#);
    check(r#"{"id":3,"publish":{"channel":"news","data":null}}"#, "#3 publish news json:null");
    check(r#"{"id":3,"publish":{"channel":"a","type":1,"key":"o7","data":1}}"#, "#3 publish a json:1 key=o7");
    check(r#"{"id":3,"publish":{"channel":"a","type":1,"key":"o7","removed":true}}"#, "#3 publish a json: key=o7 removed=true");
    check(r#"{"id":3,"publish":{"channel":"a","key":"","data":1}}"#, "#3 publish a json:1");
    check(r#"{"id":3,"presence":{"channel":"news"}}"#, "#3 presence news");
    check(r#"{"id":3,"presence_stats":{"channel":"news"}}"#, "#3 presence_stats news");
    check(r#"{"id":3,"history":{"channel":"news"}}"#, "#3 history news");
    check(
        r#"{"id":3,"history":{"channel":"news","limit":10,"since":{"offset":5,"epoch":"e"},"reverse":true}}"#,
        "#3 history news since=5@e limit=10 reverse=true",
    );
    check(r#"{"id":3,"history":{"channel":"news","limit":-1,"since":{}}}"#, "#3 history news since=beginning limit=all");
    check(r#"{"id":3,"rpc":{"method":"sum","data":[1,2]}}"#, r#"#3 call "sum" json:[1,2]"#);
    check(r#"{"id":3,"rpc":{}}"#, r#"#3 call "" json:null"#);
    check(r#"{"send":{"data":"hi"}}"#, r#"- message json:\"hi\""#);
    check(r#"{"id":0,"send":{}}"#, "- message json:null");
    check(r#"{"id":4,"send":{"data":1}}"#, "#4 message json:1");
    check(r#"{"id":3,"refresh":{"token":"t"}}"#, "#3 refresh t");
    check(r#"{"id":3,"sub_refresh":{"channel":"news","token":"t"}}"#, "#3 sub_refresh news t");
    check("{}", "- pong");
    check(" { } ", "- pong");
}

#[test]
fn what_the_client_may_not_ask_is_answered() {
    check(r#"{"id":3,"ping":{}}"#, "#3 mistake bad_request: ping is no command of clients");
    check(r#"{"id":3,"refresh":{"token":""}}"#, "#3 mistake bad_request: refresh.token is empty at=27");
    check(r#"{"id":3,"sub_refresh":{"channel":"a","token":""}}"#, "#3 mistake bad_request: sub_refresh.token is empty at=45");
    check(r#"{"id":3,"sub_refresh":{"channel":"a"}}"#, "#3 mistake bad_request: sub_refresh.token is missing");
    check(r#"{"id":3,"sub_refresh":{"token":"t"}}"#, "#3 mistake bad_request: sub_refresh.channel is missing");
    check(r#"{"id":3}"#, "#3 mistake unknown_action: the command asks for nothing");
    check(r#"{"id":3,"subscribe":null}"#, "#3 mistake unknown_action: the command asks for nothing");
    check(r#"{"id":3,"subscirbe":{"channel":"a"}}"#, r#"#3 mistake unknown_action: there is no command "subscirbe""#);
}

#[test]
fn of_two_requests_the_first_in_the_references_order_counts() {
    check(r#"{"id":3,"publish":{"channel":"a","data":1},"subscribe":{"channel":"a"}}"#, "#3 subscribe a");
    check(r#"{"id":3,"send":{},"unsubscribe":{"channel":"a"},"subscribe":null}"#, "#3 unsubscribe a");
}

#[test]
fn a_frame_holds_many_commands() {
    check("{}\n{}", "- pong\n- pong");
    check("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n", "#1 connect\n#2 subscribe a");
    check("{\"id\":1,\"connect\":{}}\r\n\n  \n{}\n", "#1 connect\n- pong");
}

#[test]
fn a_bad_command_does_not_spoil_the_others_of_its_frame() {
    check(
        "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"publish\":{\"channel\":\"a\",\"data\":}}\n{\"id\":3,\"presence\":{\"channel\":\"a\"}}",
        "#1 connect\n#2 mistake bad_request: malformed JSON: expected value at=62\n#3 presence a",
    );
    check("{\"id\":\"x\"}\n{}", "- unreadable: id must be a whole number that is not negative, not a string (byte 6)\n- pong");
}

#[test]
fn binary_frames_may_carry_json() {
    let commands = decode(&CentrifugeJson, Inbound::Binary(b"{\"id\":1,\"connect\":{}}\n{}"));
    assert_eq!(commands.iter().map(shown).collect::<Vec<_>>(), ["#1 connect", "- pong"]);
}

#[test]
fn bytes_that_are_no_utf8_spoil_only_their_own_command() {
    let frame = b"{}\n{\"id\":2,\"publish\":{\"channel\":\"a\",\"data\":\"\xff\"}}\n\xc0\n{\"publish\":\"\xe2\x82\",\"id\":7}\n{}";
    let commands = decode(&CentrifugeJson, Inbound::Binary(frame));
    assert_eq!(
        commands.iter().map(shown).collect::<Vec<_>>(),
        [
            "- pong",
            "#2 mistake bad_request: the command is not UTF-8 at=44",
            "- unreadable: the command is not UTF-8 (byte 49)",
            "#7 mistake bad_request: the command is not UTF-8 at=63",
            "- pong",
        ]
    );
}

#[test]
fn unknown_fields_are_ignored_and_payloads_stay_as_they_were_written() {
    check(
        r#"{"id":3,"publish":{"channel":"a","data":{"s":"\ud800","n":1e999,"t":"\u00e9"},"future":{"x":[]}},"more":"\ud83d"}"#,
        r#"#3 publish a json:{\"s\":\"\\ud800\",\"n\":1e999,\"t\":\"\\u00e9\"}"#,
    );
    check(r#"{"\ud800":1,"id":3,"presence":{"channel":"\u0061"}}"#, "#3 presence a");
}

#[test]
fn ids_are_whole_numbers_above_0() {
    check(r#"{"id":4294967296,"presence":{"channel":"a"}}"#, "#4294967296 presence a");
    check(r#"{"id":18446744073709551615,"presence":{"channel":"a"}}"#, "#18446744073709551615 presence a");
    check(
        r#"{"id":18446744073709551616,"presence":{"channel":"a"}}"#,
        "- unreadable: id must be a whole number that is not negative of at most 64 bits (byte 6)",
    );
    check(r#"{"id":0,"presence":{"channel":"a"}}"#, "- unreadable: id must be greater than 0 (byte 6)");
    check(r#"{"presence":{"channel":"a"}}"#, "- unreadable: the command has no id");
    check(r#"{"id":null,"presence":{"channel":"a"}}"#, "- unreadable: the command has no id");
    check(r#"{"id":1.5,"connect":{}}"#, "- unreadable: id must be a whole number that is not negative of at most 64 bits (byte 6)");
}

#[test]
fn protobuf_is_told_that_json_is_spoken() {
    let commands = decode(&NoProtobuf, Inbound::Binary(b"\x04\x08\x01\x22\x00"));
    let [Command { id: CommandId::None, request: Request::Unreadable(reason) }] = &commands[..] else { panic!("{commands:?}") };
    let close = NoProtobuf.close_frame(reason);
    assert_eq!((close.code, &*close.reason), (3506, "inappropriate protocol: JSON is spoken here, and nothing else"));
    assert_eq!(reply(&NoProtobuf, &CommandId::Number(1), &Reply::Pong { bare: false }), "");
    assert_eq!(push(&NoProtobuf, &Push::Ping), "");
}
