//! What it costs to read one message of a client: our reader beside a context of tungstenite that is made per read event.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    time::Instant,
};

use broker_ws::{Reader, WsLimits};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read one message");
    for len in [20_usize, 128, 1_024, 16_000] {
        let frame = masked_text(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("reader", len), |bencher| {
            let (mut reader, limits, now, mut scratch) = (Reader::default(), WsLimits::default(), Instant::now(), frame.clone());
            bencher.iter(|| {
                // What recv does: the bytes are new in the scratch buffer.
                scratch.copy_from_slice(&frame);
                reader
                    .read(&mut scratch, &limits, now, &mut |event| {
                        black_box(event);
                    })
                    .expect("the frame is legal");
            });
        });
        group.bench_function(BenchmarkId::new("tungstenite context per event", len), |bencher| {
            let config = WebSocketConfig::default().read_buffer_size(len + 14).write_buffer_size(0).max_write_buffer_size(1024);
            let mut scratch = frame.clone();
            bencher.iter(|| {
                scratch.copy_from_slice(&frame);
                let mut context = WebSocketContext::new(Role::Server, Some(config));
                black_box(context.read(&mut Slice(&scratch)).expect("the frame is legal"));
            });
        });
    }
}

/// Reads from a slice; has no end, only nothing more for the moment.
struct Slice<'a>(&'a [u8]);

impl Read for Slice<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buf) }
    }
}

impl Write for Slice<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn masked_text(len: usize) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![0x81];
    if len < 126 {
        frame.push(0x80 | len as u8);
    } else {
        frame.push(0xfe);
        frame.extend((len as u16).to_be_bytes());
    }
    frame.extend(MASK);
    frame.extend((0..len).map(|at| b'x' ^ MASK[at % 4]));
    frame
}

criterion_group!(benches, reading);
criterion_main!(benches);
