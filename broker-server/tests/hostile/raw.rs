//! WebSocket frames that no library would send, byte by byte: each ends its own connection as the protocol asks.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;

/// What is written after the handshake, and how the connection must end.
pub(crate) struct Case {
    pub(crate) what: &'static str,
    bytes: Vec<u8>,
    end: End,
}

/// How a connection ends.
enum End {
    /// The server closes with one of these codes.
    Close(&'static [u16]),
    /// The peer leaves in the middle; the server only has to notice.
    Leave,
}

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A masked frame: first byte, payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65536 => {
            bytes.push(0xfe);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0xff);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame that only announces `len` bytes.
fn announced(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first, 0xff];
    bytes.extend(len.to_be_bytes());
    bytes.extend(MASK);
    bytes
}

/// The cases.
pub(crate) fn cases() -> Vec<Case> {
    const PROTOCOL: &[u16] = &[1002];
    const SIZE: &[u16] = &[1009];
    let close = |what, codes, bytes| Case { what, bytes, end: End::Close(codes) };
    let leave = |what, bytes| Case { what, bytes, end: End::Leave };
    let mut cases = vec![
        close("an unmasked frame", PROTOCOL, vec![0x81, 2, b'{', b'}']),
        close("a reserved bit", PROTOCOL, frame(0xc1, b"{}")),
        close("the second reserved bit", PROTOCOL, frame(0xa1, b"{}")),
        close("a reserved data opcode", PROTOCOL, frame(0x83, b"{}")),
        close("a reserved control opcode", PROTOCOL, frame(0x8b, b"")),
        close("a continuation of nothing", PROTOCOL, frame(0x80, b"{}")),
        close("a message inside a message", PROTOCOL, [frame(0x01, b"{"), frame(0x81, b"}")].concat()),
        close("a ping in fragments", PROTOCOL, frame(0x09, b"")),
        close("a ping of 126 bytes", PROTOCOL, frame(0x89, &[b'x'; 126])),
        close("a close of one byte", PROTOCOL, frame(0x88, b"\x03")),
        close("a close with a code that is none", PROTOCOL, frame(0x88, &999u16.to_be_bytes())),
        close("a close with bad text", &[1002, 1007], frame(0x88, b"\x03\xe8\xff\xff")),
        close("one byte too many", SIZE, frame(0x81, &vec![b' '; 65537])),
        close("one byte too many in fragments", SIZE, [frame(0x01, &vec![b' '; 65536]), frame(0x80, b" ")].concat()),
        close("a gigabyte announced", SIZE, announced(0x82, 1 << 30)),
        close("the largest length there is", &[1009, 1002], announced(0x82, u64::MAX >> 1)),
        close("a length with its first bit set", &[1002, 1009], announced(0x82, u64::MAX)),
        close("text that is no UTF-8 in fragments", &[1007], [frame(0x01, b"\xe2\x82"), frame(0x80, b"\x28")].concat()),
        leave("a head and nothing more", announced(0x81, 100)),
        leave("half a head", vec![0x81]),
        leave("half a mask", vec![0x81, 0x85, 1, 2]),
        leave("half a payload", frame(0x81, b"{\"id\":1}")[..9].to_vec()),
        leave("a message without an end", frame(0x01, b"{\"id\":")),
        leave("a thousand empty fragments", [frame(0x01, b""), frame(0x00, b"").repeat(1000)].concat()),
        leave("a thousand pings", frame(0x89, b"are you there").repeat(1000)),
        leave("nothing at all", Vec::new()),
    ];
    cases.push(leave("a thousand pongs that nobody asked for", frame(0x8a, b"yes").repeat(1000)));
    cases
}

/// Plays a case on a connection of its own.
pub(crate) async fn check(address: &str, path: &str, case: &Case) -> Result<(), String> {
    let mut stream = open(address, path).await?;
    // A server that has closed may reset what it does not read any more.
    let _ = stream.write_all(&case.bytes).await;
    match case.end {
        End::Leave => {
            drop(stream);
            Ok(())
        }
        End::Close(codes) => {
            let code = timeout(PATIENCE, close_code(&mut stream)).await.map_err(|_| "the server did not close".to_owned())??;
            if codes.contains(&code) { Ok(()) } else { Err(format!("closed with {code}, expected one of {codes:?}")) }
        }
    }
}

async fn open(address: &str, path: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.map_err(|_| "no answer to the handshake".to_owned())?;
        head.push(byte.map_err(|error| format!("{error} after {}", head.escape_ascii()))?);
    }
    if head.starts_with(b"HTTP/1.1 101 ") { Ok(stream) } else { Err(head.escape_ascii().to_string()) }
}

/// Reads frames until the close frame; answers its code.
async fn close_code(stream: &mut TcpStream) -> Result<u16, String> {
    loop {
        let head = [read(stream).await?, read(stream).await?];
        let len = match head[1] {
            126 => u16::from_be_bytes([read(stream).await?, read(stream).await?]) as usize,
            127.. => return Err("a frame of more than 64 KiB, or masked".to_owned()),
            len => len as usize,
        };
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).await.map_err(|error| error.to_string())?;
        if head[0] == 0x88 {
            return payload.first_chunk().map(|code| u16::from_be_bytes(*code)).ok_or_else(|| "a close without a code".to_owned());
        }
    }
}

async fn read(stream: &mut TcpStream) -> Result<u8, String> {
    stream.read_u8().await.map_err(|error| format!("the connection ended without a close frame: {error}"))
}
