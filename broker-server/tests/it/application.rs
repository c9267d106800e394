//! An application behind the real binary: answers hooks over a real socket and remembers what it was asked; and clients of both protocols.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

/// How long anything is waited for.
pub(crate) const IN_TIME: Duration = Duration::from_secs(10);

/// A call of a hook: its path, headers and body.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    calls: watch::Receiver<Vec<Call>>,
}

impl Application {
    pub(crate) async fn start(answer: impl Fn(&Call) -> Value + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    /// Answers whoever comes to this listener.
    pub(crate) fn listen(listener: TcpListener, answer: impl Fn(&Call) -> Value + Send + Sync + 'static) -> Self {
        Self::behind(listener, None, answer)
    }

    /// The same, for those who speak TLS with it.
    pub(crate) fn behind(listener: TcpListener, tls: Option<TlsAcceptor>, answer: impl Fn(&Call) -> Value + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        let (calls, seen) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, calls, tls) = (answer.clone(), calls.clone(), tls.clone());
                let service = service_fn(move |request| serve(request, answer.clone(), calls.clone()));
                // Who hangs up, or does not trust the certificate, is no failure of the application.
                tokio::spawn(async move {
                    let http = http1::Builder::new();
                    match tls {
                        None => http.serve_connection(TokioIo::new(stream), service).await.ok(),
                        Some(tls) => http.serve_connection(TokioIo::new(tls.accept(stream).await.ok()?), service).await.ok(),
                    }
                });
            }
        });
        Self { address, calls: seen }
    }

    /// The calls of this path so far.
    pub(crate) fn called(&self, path: &str) -> Vec<Call> {
        self.calls.borrow().iter().filter(|call| call.path == path).cloned().collect()
    }

    /// Waits for so many calls of this path.
    pub(crate) async fn calls(&self, path: &str, times: usize) -> Vec<Call> {
        let enough = |calls: &Vec<Call>| calls.iter().filter(|call| call.path == path).count() >= times;
        let mut calls = self.calls.clone();
        let waited = timeout(IN_TIME, calls.wait_for(enough)).await;
        assert!(waited.is_ok(), "{path} was not called {times} times: {:?}", self.called(path));
        drop(waited);
        self.called(path)
    }

    /// The configuration that has these hooks ask this application.
    pub(crate) fn hooks(&self, hooks: &[&str]) -> String {
        hooks_at(self.address, hooks)
    }
}

/// The configuration of these hooks, each at the path of its name. A machine that is busy with other tests gets the time it needs.
pub(crate) fn hooks_at(address: SocketAddr, hooks: &[&str]) -> String {
    let section = |hook: &&str| format!("[hooks.{hook}]\nurl = \"http://{address}/{hook}\"\ntimeout = \"10s\"\n");
    hooks.iter().map(section).collect::<Vec<_>>().concat()
}

async fn serve(
    request: Request<Incoming>,
    answer: Arc<impl Fn(&Call) -> Value>,
    calls: watch::Sender<Vec<Call>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    let call = Call { path: head.uri.path().to_owned(), headers: head.headers, body };
    let answer = Response::new(Full::from(answer(&call).to_string()));
    calls.send_modify(|calls| calls.push(call));
    Ok(answer)
}

/// A moment so many seconds from now, as hooks write it.
pub(crate) fn in_seconds(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

/// A client that talks JSON over a WebSocket, in either protocol.
pub(crate) struct Talk {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What came in one frame with what was heard last.
    heard: VecDeque<Value>,
}

impl Talk {
    /// Opens a socket at this path.
    pub(crate) async fn open(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let (socket, _) = timeout(IN_TIME, connect_async(request)).await.unwrap().unwrap();
        Self { socket, heard: VecDeque::new() }
    }

    /// Opens a socket of the Centrifuge protocol and connects with these fields; the answer comes along.
    pub(crate) async fn centrifuge(address: SocketAddr, connect: Value) -> (Self, Value) {
        let mut talk = Self::open(address, "/connection/websocket", &[]).await;
        talk.say(serde_json::json!({"id": 1, "connect": connect})).await;
        let answer = talk.hear().await;
        (talk, answer)
    }

    /// Opens a socket of the plain protocol in the envelope format.
    pub(crate) async fn plain(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut talk = Self::open(address, &format!("{path}?format=envelope"), headers).await;
        assert_eq!(talk.hear().await["broker"], "connected");
        talk
    }

    pub(crate) async fn say(&mut self, value: Value) {
        self.socket.send(Message::text(value.to_string())).await.unwrap();
    }

    /// The next thing that is said, pings aside.
    pub(crate) async fn hear(&mut self) -> Value {
        loop {
            while let Some(value) = self.heard.pop_front() {
                if value != serde_json::json!({}) {
                    return value;
                }
            }
            match self.frame().await {
                Message::Text(text) => self.heard.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap())),
                Message::Close(frame) => panic!("the socket was closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// What is said next that this holds for.
    pub(crate) async fn hear_where(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let value = self.hear().await;
            if holds(&value) {
                return value;
            }
        }
    }

    /// Says this, and gives the answer: what comes next that has its `id`.
    pub(crate) async fn ask(&mut self, value: Value) -> Value {
        let id = value["id"].clone();
        self.say(value).await;
        self.hear_where(|answer| answer["id"] == id).await
    }

    /// The code and reason with which the server closes, whatever it says before.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(Some(frame)) = self.frame().await {
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }

    pub(crate) async fn close(mut self, code: u16) {
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).await.unwrap();
    }

    async fn frame(&mut self) -> Message {
        timeout(IN_TIME, self.socket.next()).await.expect("something is said in time").expect("the socket is open").unwrap()
    }
}
