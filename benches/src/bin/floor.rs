//! The floor: the least that a server can do. Every frame that comes on the last of its connections goes to all others, with one `send()` each.
//! A connection is told with `!` that it was accepted.
//!
//! Usage: `bench-floor SUBSCRIBERS FRAME_LEN`. Ends when that last connection ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, ensure};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    let [subscribers, frame_len] = arguments[..] else { anyhow::bail!("usage: bench-floor SUBSCRIBERS FRAME_LEN") };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    let mut all: Vec<TcpStream> = (0..subscribers).map(|_| accept(&listener)).collect::<anyhow::Result<_>>()?;
    let mut publisher = accept(&listener)?;
    publisher.set_nonblocking(false)?;

    let mut buffer = vec![0; 64 * 1024];
    let mut filled = 0;
    loop {
        let read = publisher.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let whole = filled - filled % frame_len;
        for frame in buffer[..whole].chunks_exact(frame_len) {
            for subscriber in &mut all {
                let written = subscriber.write(frame).context("a subscriber does not read")?;
                ensure!(written == frame_len, "a subscriber took a part of a frame only");
            }
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"!")?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
