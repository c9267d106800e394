//! What a command costs to read and a publication to write, with fixed inputs.

use std::{hint::black_box, sync::Arc};

use broker_core::{CloseFrame, FrameKind, FrameWriter, Framing, Inbound, Payload, Position, Protocol, Publication, Publish, Push};
use broker_protocol::{CentrifugeJson, Format, Plain};
use criterion::{Criterion, criterion_group, criterion_main};

const CONNECT: &str = r#"{"connect":{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyaXMxIn0.c2lnbmF0dXJl","name":"js","flag":1},"id":1}"#;
const SUBSCRIBE: &str = r#"{"subscribe":{"channel":"orders:product.7","recover":true,"epoch":"Bx3kAb9z","offset":17,"flag":1},"id":2}"#;
const PUBLISH: &str = r#"{"publish":{"channel":"orders:product.7","data":{"price":7.25,"currency":"EUR","at":1763712000000}},"id":3}"#;
const PONG: &str = "{}";
const PLAIN_SUBSCRIBE: &str = r#"{"broker":"subscribe","id":2,"topic":"orders:product.7","since":"17@Bx3kAb9z"}"#;
const PLAIN_PUBLISH: &str =
    r#"{"broker":"publish","id":3,"topic":"orders:product.7","data":{"price":7.25,"currency":"EUR","at":1763712000000}}"#;
const PLAIN_MESSAGE: &str = r#"{"type":"chat","room":7,"text":"hello there"}"#;

const RAW: Plain = Plain { format: Format::Raw, notices: true, dev: false };
const ENVELOPE: Plain = Plain { format: Format::Envelope, ..RAW };

/// Copies frames, as a transport does behind its header.
#[derive(Debug)]
struct Copy;

impl Framing for Copy {
    fn encoding(&self) -> u8 {
        0
    }

    fn frame(&self, _: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(payload);
    }

    fn close(&self, _: &CloseFrame, _: &mut Vec<u8>) {}
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let cases: [(&str, &dyn Protocol, &str); 7] = [
        ("centrifuge connect", &CentrifugeJson, CONNECT),
        ("centrifuge subscribe", &CentrifugeJson, SUBSCRIBE),
        ("centrifuge publish", &CentrifugeJson, PUBLISH),
        ("centrifuge pong", &CentrifugeJson, PONG),
        ("plain subscribe", &RAW, PLAIN_SUBSCRIBE),
        ("plain publish", &RAW, PLAIN_PUBLISH),
        ("plain message", &RAW, PLAIN_MESSAGE),
    ];
    for (name, protocol, frame) in cases {
        let mut commands = Vec::with_capacity(4);
        group.bench_function(name, |b| {
            b.iter(|| {
                commands.clear();
                protocol.decode(Inbound::Text(black_box(frame)), &mut commands);
                black_box(&commands);
            });
        });
    }
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode publication of 128 B");
    let data = format!(r#"{{"price":7.25,"currency":"EUR","note":"{:x<87}"}}"#, "");
    assert_eq!(data.len(), 128);
    let mut publication = Publication::new("orders:product.7".parse().unwrap(), Publish::new(Payload::json(data)));
    publication.position = Some("123456@Bx3kAb9z".parse::<Position>().unwrap());
    let push = Push::Publication(Arc::new(publication));
    let cases: [(&str, &dyn Protocol); 3] = [("centrifuge", &CentrifugeJson), ("plain raw", &RAW), ("plain envelope", &ENVELOPE)];
    for (name, protocol) in cases {
        let mut out = Vec::with_capacity(1024);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                protocol.encode_push(black_box(&push), &mut FrameWriter::new(&Copy, &mut out));
                black_box(&out);
            });
        });
    }
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
