//! As much of HTTP as the bench of the examples needs: one call for each connection, and the opening of a WebSocket at a path.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One call with a JSON body; the JSON that is answered.
pub(crate) fn call(address: SocketAddr, method: &str, path: &str, token: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{method} {path} has no answer"))?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{method} {path} is answered by {answer:?}"))?;
    ensure!(head.starts_with("HTTP/1.1 2"), "{method} {path} is refused: {body}");
    serde_json::from_str(body).with_context(|| format!("{method} {path} is answered by {body:?}"))
}

/// A WebSocket at this path, with what came behind the answer already. Not blocking.
pub(crate) fn open(address: SocketAddr, path: &str) -> Result<(TcpStream, Vec<u8>)> {
    let mut stream = connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 4096];
        let len = stream.read(&mut part).context("no answer to a handshake")?;
        ensure!(len > 0, "disconnected after {:?}", String::from_utf8_lossy(&answer));
        answer.extend(&part[..len]);
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = answer.split_off(end + 4);
            let said = [&answer[..], &rest].concat();
            ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{path} is refused: {}", String::from_utf8_lossy(&said));
            stream.set_nonblocking(true)?;
            return Ok((stream, rest));
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
