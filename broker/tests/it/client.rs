//! A client of the tests over tokio-tungstenite, and the servers it talks to.

use std::{net::SocketAddr, time::Duration};

use broker::{Broker, Builder};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

/// Long enough for a loaded machine; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// A WebSocket that fails the test instead of waiting for ever.
pub(crate) struct Client<S = TcpStream> {
    socket: WebSocketStream<S>,
}

impl Client {
    /// Opens `path` at a server, with headers beside the usual ones.
    pub(crate) async fn open(addr: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let stream = TcpStream::connect(addr).await?;
        Self::over(stream, &format!("ws://{addr}{path}"), headers).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Makes the handshake over any pipe.
    pub(crate) async fn over(pipe: S, url: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let opening = timeout(PATIENCE, client_async(request, pipe));
        let (socket, _) = opening.await.expect("the handshake is answered")?;
        Ok(Self { socket })
    }

    /// A WebSocket whose handshake is done.
    pub(crate) async fn upgraded(pipe: S) -> Self {
        let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
        Self { socket: WebSocketStream::from_raw_socket(pipe, role, None).await }
    }

    /// The pipe under the WebSocket.
    #[cfg(any(feature = "tls", target_os = "linux"))]
    pub(crate) fn pipe(&self) -> &S {
        self.socket.get_ref()
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn send_message(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message).await
    }

    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.socket.next()).await.expect("a frame comes")
    }

    /// The next text frame; pings are left out.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a text frame was expected, not {other:?}"),
            }
        }
    }

    pub(crate) async fn json(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The code that the server closes with; frames before it are thrown away.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a close frame was expected, not {other:?}"),
            }
        }
    }
}

/// A broker behind `Broker::serve`.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) addr: SocketAddr,
    pub(crate) task: JoinHandle<()>,
}

impl Server {
    /// Where anyone may do anything.
    pub(crate) async fn dev() -> Self {
        Self::start(Broker::builder().dev()).await
    }

    pub(crate) async fn start(builder: Builder) -> Self {
        let broker = builder.build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = broker.clone();
        let task = tokio::spawn(async move { serving.serve(listener).await });
        Self { broker, addr, task }
    }

    /// As if the listener could be reached from other machines: pages of this one are nothing special then.
    pub(crate) async fn beyond_loopback(builder: Builder) -> Self {
        let broker = builder.build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (service, limits) = (broker.service(), std::sync::Arc::new(broker::WsLimits::default()));
        let task = tokio::spawn(broker_ws::serve(listener, service, limits, std::future::pending()));
        Self { broker, addr, task }
    }

    pub(crate) async fn open(&self, path: &str) -> Client {
        Client::open(self.addr, path, &[]).await.unwrap()
    }

    /// Sends bytes over a new connection and gives everything that comes back until the server closes.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset counts as the end.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Status and error word of a refused handshake.
#[track_caller]
pub(crate) fn refused<S>(result: Result<Client<S>, Error>) -> (u16, Value) {
    match result.err() {
        Some(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), serde_json::from_slice(&body).unwrap_or_default())
        }
        other => panic!("an HTTP answer was expected, not {other:?}"),
    }
}
