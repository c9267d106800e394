//! What it costs to read what a server says: our decoder beside `redis-protocol`, each as it is used on a connection.

use std::hint::black_box;

use broker_resp::{Decoder, Frame, Push};
use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use redis_protocol::resp3::decode::complete::decode_bytes_mut;

/// Frames that come with one read.
const FRAMES: usize = 64;

fn push(payload_len: usize) -> Vec<u8> {
    let payload = "x".repeat(payload_len);
    format!(">3\r\n$8\r\nsmessage\r\n$21\r\nbroker:{{news:general}}\r\n${payload_len}\r\n{payload}\r\n").into_bytes()
}

fn list(entries: usize) -> Vec<u8> {
    let entry = format!("$128\r\n{}\r\n", "x".repeat(128));
    format!("*{entries}\r\n{}", entry.repeat(entries)).into_bytes()
}

/// Everything at once in one buffer.
fn together(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read 64 frames of one read");
    for (name, frame) in
        [("integer", b":1\r\n".to_vec()), ("push of 128 B", push(128)), ("push of 1 KiB", push(1024)), ("list of 100", list(100))]
    {
        let bytes = frame.repeat(FRAMES);
        group.throughput(Throughput::Elements(FRAMES as u64));
        group.bench_function(BenchmarkId::new("ours", name), |bencher| {
            let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::with_capacity(2 * bytes.len()));
            bencher.iter(|| {
                buffer.reserve(bytes.len());
                buffer.extend_from_slice(&bytes);
                while !buffer.is_empty() {
                    match decoder.next(&mut buffer) {
                        Ok(Some(Frame::Push(Push::Message { channel, payload, .. }))) => drop(black_box((channel, payload))),
                        other => drop(black_box(other.expect("the bytes are RESP").expect("the bytes are whole"))),
                    }
                }
            });
        });
        group.bench_function(BenchmarkId::new("redis-protocol", name), |bencher| {
            let mut buffer = BytesMut::with_capacity(2 * bytes.len());
            bencher.iter(|| {
                buffer.reserve(bytes.len());
                buffer.extend_from_slice(&bytes);
                while !buffer.is_empty() {
                    drop(black_box(decode_bytes_mut(&mut buffer).expect("the bytes are RESP").expect("the bytes are whole")));
                }
            });
        });
    }
}

/// One large answer in reads of 16 KiB.
fn in_pieces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read a list of 20,000 in pieces of 16 KiB");
    group.sample_size(10);
    let bytes = list(20_000);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
            for piece in bytes.chunks(16 * 1024) {
                buffer.extend_from_slice(piece);
                drop(black_box(decoder.next(&mut buffer).expect("the bytes are RESP")));
            }
            assert!(buffer.is_empty());
        });
    });
    group.bench_function("redis-protocol", |bencher| {
        bencher.iter(|| {
            let mut buffer = BytesMut::new();
            for piece in bytes.chunks(16 * 1024) {
                buffer.extend_from_slice(piece);
                drop(black_box(decode_bytes_mut(&mut buffer).expect("the bytes are RESP")));
            }
            assert!(buffer.is_empty());
        });
    });
}

criterion_group!(benches, together, in_pieces);
criterion_main!(benches);
