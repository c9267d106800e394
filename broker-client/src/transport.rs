//! One WebSocket connection: dialling, writing lines, reading messages. What the lines mean does not live here.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_util::{Sink, SinkExt, StreamExt};
use http::{Uri, header::RETRY_AFTER};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message, Utf8Bytes,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::{ClientConfig, InvalidUrl};

/// Where a Centrifuge server listens, used when the URL has no path.
const DEFAULT_PATH: &str = "/connection/websocket";
const BUFFER_BYTES: usize = 16 * 1024;

/// Where to connect to: a URL that was found good.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    uri: Uri,
    host: String,
    port: u16,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let malformed = || InvalidUrl::Malformed { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        match uri.scheme_str() {
            Some("ws" | "http") => {}
            Some("wss" | "https") => return Err(InvalidUrl::Tls { url: url.to_owned() }),
            _ => return Err(InvalidUrl::Scheme { url: url.to_owned() }),
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path =
            if uri.path() == "/" { format!("{DEFAULT_PATH}{}", &path[path.find('?').unwrap_or(path.len())..]) } else { path.to_owned() };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(80);
        let uri = format!("ws://{authority}{path}").parse().map_err(|_| malformed())?;
        Ok(Self { uri, host, port })
    }
}

/// Why there is no connection.
pub(crate) struct DialError {
    pub(crate) why: String,
    /// The server asked for patience.
    pub(crate) wait_min: Option<Duration>,
}

/// An open connection.
pub(crate) struct Link {
    socket: WebSocketStream<TcpStream>,
    /// Messages that wait for the socket: lines, joined up to `frame_max_bytes`.
    outgoing: VecDeque<String>,
    frame_max_bytes: usize,
    unflushed: bool,
}

/// What a connection has to say.
pub(crate) enum Heard {
    Text(Utf8Bytes),
    /// The server's close frame.
    Closed {
        code: u16,
        reason: String,
    },
    /// The connection broke.
    Broken(String),
}

impl Link {
    /// Connects and upgrades. Not cancel-safe in the sense of resuming: dropping it gives the attempt up.
    pub(crate) async fn dial(address: Address, config: ClientConfig) -> Result<Self, DialError> {
        let attempt = Self::dial_without_timeout(&address, &config);
        match tokio::time::timeout(config.dial_timeout, attempt).await {
            Ok(link) => link,
            Err(_) => Err(DialError { why: format!("no connection within {:?}", config.dial_timeout), wait_min: None }),
        }
    }

    async fn dial_without_timeout(address: &Address, config: &ClientConfig) -> Result<Self, DialError> {
        let io = |error: std::io::Error| DialError { why: format!("{}:{}: {error}", address.host, address.port), wait_min: None };
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        let request = address.uri.clone().into_client_request().map_err(|error| dial_error(&error))?;
        let limits = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(BUFFER_BYTES + 4 * config.frame_max_bytes.max(BUFFER_BYTES))
            .max_message_size(Some(config.message_max_bytes))
            .max_frame_size(Some(config.message_max_bytes));
        let (socket, _) = client_async_with_config(request, stream, Some(limits)).await.map_err(|error| dial_error(&error))?;
        Ok(Self { socket, outgoing: VecDeque::new(), frame_max_bytes: config.frame_max_bytes, unflushed: false })
    }

    /// Queues a line; lines that fit share a message.
    pub(crate) fn write(&mut self, line: String) {
        match self.outgoing.back_mut() {
            Some(last) if last.len() + 1 + line.len() <= self.frame_max_bytes => {
                last.push('\n');
                last.push_str(&line);
            }
            _ => self.outgoing.push_back(line),
        }
    }

    /// Writes what is queued and, when `may_read`, reads. Cancel-safe: all progress is kept in `self`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<Heard> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Heard::Broken(error.to_string()));
        }
        if !may_read {
            return Poll::Pending;
        }
        loop {
            let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Heard::Broken(error.to_string())),
                None => return Poll::Ready(Heard::Broken("the connection ended".to_owned())),
            };
            match message {
                Message::Text(text) => return Poll::Ready(Heard::Text(text)),
                // Some servers send JSON in binary messages.
                Message::Binary(bytes) => {
                    return Poll::Ready(match Utf8Bytes::try_from(bytes) {
                        Ok(text) => Heard::Text(text),
                        Err(_) => Heard::Broken("the server sent binary data".to_owned()),
                    });
                }
                Message::Close(frame) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    return Poll::Ready(Heard::Closed { code, reason });
                }
                // Tungstenite answers pings by itself, with the next write: there may be nothing else to write.
                Message::Ping(_) => {
                    self.unflushed = true;
                    if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                        return Poll::Ready(Heard::Broken(error.to_string()));
                    }
                }
                Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.outgoing.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_ready(cx))?;
            if let Some(message) = self.outgoing.pop_front() {
                Pin::new(&mut self.socket).start_send(Message::text(message))?;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is queued and the close frame, and waits for the server's.
    pub(crate) async fn goodbye(mut self, code: u16, timeout: Duration) {
        let farewell = async {
            for message in std::mem::take(&mut self.outgoing) {
                self.socket.feed(Message::text(message)).await?;
            }
            self.socket.send(Message::Close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::default() }))).await?;
            // The server's close frame is the last thing of interest.
            while let Some(Ok(message)) = self.socket.next().await {
                if message.is_close() {
                    break;
                }
            }
            Ok::<(), Error>(())
        };
        // Whether the server hears it or not, this side is done.
        let _ = tokio::time::timeout(timeout, farewell).await;
    }
}

/// The reason in words, with what the server says about a refused upgrade.
fn dial_error(error: &Error) -> DialError {
    const BODY_MAX: usize = 300;
    let Error::Http(response) = error else {
        return DialError { why: format!("the upgrade failed: {error}"), wait_min: None };
    };
    let body = response.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(&body[..body.len().min(BODY_MAX)]);
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    DialError {
        why: format!("the server refused the upgrade: {} {}", response.status(), body.trim()).trim_end().to_owned(),
        wait_min: retry_after.map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<(&str, &str, u16), &str>) {
        match (Address::parse(url), expected) {
            (Ok(address), Ok((uri, host, port))) => {
                assert_eq!((address.uri.to_string().as_str(), address.host.as_str(), address.port), (uri, host, port), "{url}");
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{url}: {error}"),
            (got, _) => panic!("{url}: {got:?}"),
        }
    }

    #[test]
    fn a_url_without_a_path_means_the_usual_one() {
        check("ws://127.0.0.1:8000", Ok(("ws://127.0.0.1:8000/connection/websocket", "127.0.0.1", 8000)));
        check("http://host/?a=b", Ok(("ws://host/connection/websocket?a=b", "host", 80)));
        check("ws://[::1]:9/x/y?z", Ok(("ws://[::1]:9/x/y?z", "::1", 9)));
        check("wss://host", Err("TLS"));
        check("ftp://host", Err("ws://"));
        check("host:80", Err("ws://"));
        check("no url", Err("is not a URL"));
    }
}
