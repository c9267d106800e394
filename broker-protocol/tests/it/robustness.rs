//! Properties of every input: no panic, at least one command, commands that read back, answers that are whole JSON.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::{CommandId, Epoch, Inbound, Payload, Position, Protocol, Push, Refusal, Reply, Request, Subscribed};
use broker_protocol::{CentrifugeJson, Format, Plain};
use proptest::{collection::vec, prelude::*};

use crate::support::{decode, decoded, publication, push, reply, subscribed};

const PROTOCOLS: [&dyn Protocol; 3] = [
    &CentrifugeJson,
    &Plain { format: Format::Raw, notices: true, dev: false },
    &Plain { format: Format::Envelope, notices: false, dev: true },
];

/// Decodes both ways, and answers what was decoded.
fn try_everything(bytes: &[u8]) {
    for protocol in PROTOCOLS {
        let mut commands = decode(protocol, Inbound::Binary(bytes));
        assert!(!commands.is_empty());
        if let Ok(text) = std::str::from_utf8(bytes) {
            let of_text = decode(protocol, Inbound::Text(text));
            assert!(!of_text.is_empty());
            commands.extend(of_text);
        }
        for command in commands {
            let answer = match command.request {
                Request::Mistake(refusal) => {
                    assert!(refusal.at.is_none_or(|at| at <= bytes.len()), "{refusal:?}");
                    refusal
                }
                Request::Unreadable(reason) => {
                    assert!(protocol.close_frame(&reason).reason.len() <= 123);
                    continue;
                }
                _ => Refusal::unavailable("tested"),
            };
            for frame in reply(protocol, &command.id, &Reply::Refused(answer)).lines() {
                let value: serde_json::Value = serde_json::from_str(frame).expect("an error is JSON");
                assert!(value.is_object());
            }
        }
    }
}

/// Words of both protocols and what breaks them.
const WORDS: [&str; 48] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\n",
    " ",
    "null",
    "true",
    "-1",
    "0",
    "1",
    "17",
    "1e999",
    "\"id\"",
    "\"id\":1,",
    "\"id\":\"a\",",
    "\"broker\":",
    "{\"broker\":\"subscribe\",",
    "\"publish\"",
    "\"subscribe\"",
    "\"channel\":\"a\"",
    "\"topic\":\"a\"",
    "\"data\":",
    "\"recover\":",
    "\"since\":\"1@e\"",
    "\"offset\":",
    "\"epoch\":",
    "\"connect\":{}",
    "\"history\":{",
    "\"limit\":",
    "\"token\":",
    "\\ud800",
    "\\u0000",
    "\u{0}",
    "é",
    "\u{1f980}",
    "ping",
    "{}",
    "\"send\":{",
    "\"rpc\":",
    "\"connect\":{\"subs\":{",
    "\"sub_refresh\":{",
    "\"rate\":",
    "\"broker\":\"authenticate\",",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_become_commands(bytes in vec(any::<u8>(), 0..200)) {
        try_everything(&bytes);
    }

    #[test]
    fn any_words_become_commands(words in vec(0..WORDS.len(), 0..40)) {
        let text: String = words.into_iter().map(|word| WORDS[word]).collect();
        try_everything(text.as_bytes());
    }

    #[test]
    fn a_changed_byte_is_survived(at in 0_usize..130, byte in any::<u8>()) {
        let mut frame = br#"{"id":7,"subscribe":{"channel":"a:b","recover":true,"offset":17,"epoch":"Bx3k","flag":1}}
{"id":8,"publish":{"channel":"a","data":"\u00e9"}}"#.to_vec();
        frame[at] = byte;
        try_everything(&frame);
    }

    #[test]
    fn a_changed_byte_in_what_is_resumed_is_survived(at in 0_usize..150, byte in any::<u8>()) {
        let mut frame = br#"{"id":1,"connect":{"token":"t","subs":{"group:a":{"recover":true,"epoch":"Bx3k","offset":17},"user:\u0061":{"recover":true}}}}
{"id":2,"sub_refresh":{"channel":"a","token":"t"}}"#.to_vec();
        frame[at] = byte;
        try_everything(&frame);
    }

    #[test]
    fn published_json_comes_through_as_it_was_written(words in vec(0..WORDS.len(), 0..12)) {
        let text: String = words.into_iter().map(|word| WORDS[word]).filter(|word| *word != "\n").collect();
        let Ok(json) = serde_json::from_str::<&serde_json::value::RawValue>(&text) else { return Ok(()) };
        let frame = format!(r#"{{"id":7,"publish":{{"channel":"a","data":{text}}}}}"#);
        let commands = decode(&CentrifugeJson, Inbound::Text(&frame));
        let Request::Publish { data, .. } = &commands[0].request else { panic!("{commands:?}") };
        prop_assert_eq!(&data.bytes()[..], json.get().as_bytes());
    }

    #[test]
    fn positions_that_were_told_can_be_resumed_from(offset in 1_u64.., random in any::<u64>()) {
        let position = Position { offset, epoch: Epoch::from_random(random) };
        let told = Reply::Subscribed(Box::new(Subscribed { position: Some(position), recoverable: true, ..subscribed("a") }));
        let value = |protocol: &dyn Protocol| -> serde_json::Value {
            serde_json::from_str(&reply(protocol, &CommandId::Number(1), &told)).expect("an answer is JSON")
        };

        let result = &value(&CentrifugeJson)["subscribe"];
        let frame = format!(
            r#"{{"id":2,"subscribe":{{"channel":"a","recover":true,"offset":{},"epoch":{}}}}}"#,
            result["offset"], result["epoch"]
        );
        prop_assert_eq!(decoded(&CentrifugeJson, &frame), format!("#2 subscribe a since={position}"));

        let frame = format!(r#"{{"broker":"subscribe","id":2,"topic":"a","since":{}}}"#, value(&PLAIN)["position"]);
        prop_assert_eq!(decoded(&PLAIN, &frame), format!("#2 subscribe a since={position} join_leave=true"));
    }

    #[test]
    fn published_text_and_bytes_come_back(text in any::<String>(), bytes in vec(any::<u8>(), 0..40)) {
        let told = |protocol: &dyn Protocol, data: Payload| -> serde_json::Value {
            let frame = push(protocol, &Push::Publication(Arc::new(publication("a", data, None))));
            serde_json::from_str(&frame).expect("a publication is JSON")
        };
        let base64 = STANDARD.encode(&bytes);
        let centrifuge = |data| told(&CentrifugeJson, data)["push"]["pub"]["data"].clone();
        prop_assert_eq!(centrifuge(Payload::text(text.clone())), text.clone());
        prop_assert_eq!(centrifuge(Payload::binary(bytes.clone())), base64.clone());
        prop_assert_eq!(told(PROTOCOLS[2], Payload::text(text.clone()))["data"].clone(), text);
        prop_assert_eq!(told(PROTOCOLS[2], Payload::binary(bytes))["b64data"].clone(), base64);
    }

    #[test]
    fn ids_of_the_plain_protocol_are_echoed_byte_for_byte(number in any::<f64>(), text in any::<String>(), whole in any::<u64>()) {
        let number = if number.is_finite() { number.to_string() } else { "7".to_owned() };
        for id in [number, serde_json::to_string(&text).unwrap(), whole.to_string()] {
            let frame = format!(r#"{{"broker":"ping","id":{id}}}"#);
            let command = decode(&PLAIN, Inbound::Text(&frame)).remove(0);
            prop_assert_eq!(reply(&PLAIN, &command.id, &Reply::Pong { bare: false }), format!("{{\"broker\":\"pong\",\"id\":{id}}}\n"));
        }
    }

    #[test]
    fn half_a_command_is_answered_once_its_id_is_whole(cut in 1_usize..54) {
        let whole = r#"{"id":12,"publish":{"channel":"a:b","data":{"x":[1]}}}"#;
        let half = &whole[..cut];
        let expected = if cut > r#"{"id":12"#.len() { "#12 mistake" } else { "- unreadable" };
        prop_assert!(decoded(&CentrifugeJson, half).starts_with(expected), "{half}: {}", decoded(&CentrifugeJson, half));
    }
}

const PLAIN: Plain = Plain { format: Format::Raw, notices: true, dev: false };

#[test]
fn commands_without_an_id_get_no_centrifuge_answer() {
    for id in [CommandId::None, CommandId::Verbatim("\"x\"".into())] {
        assert_eq!(reply(&CentrifugeJson, &id, &Reply::Refused(Refusal::bad_request("x"))), "");
    }
}
