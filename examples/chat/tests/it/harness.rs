//! A chat on a free port with a database of its own, people who are logged in, and sockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use broker::{Broker, MemoryRegistry};
use chat::{Parts, people::Hardness};
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kit::App;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest, handshake::client::Response},
};
use tower::ServiceExt;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Enough for a test.
pub(crate) const HARDNESS: Hardness = Hardness { memory_kib: 8, passes: 1 };

pub(crate) struct Chat {
    router: Router,
    address: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Chat {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let parts =
            Parts { data: folder.path(), builder: Broker::builder(), registry: Arc::new(MemoryRegistry::new()), hardness: HARDNESS };
        let App { broker, router, .. } = chat::open(parts).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = router.clone().fallback_service(broker.service().on_loopback());
        tokio::spawn(async move { axum::serve(listener, served).await });
        Self { router, address, folder }
    }

    /// What one request is answered.
    pub(crate) async fn answer(&self, request: Request<Body>) -> http::Response<Body> {
        timeout(PATIENCE, self.router.clone().oneshot(request)).await.unwrap().unwrap()
    }

    /// One request as whoever has this token; status and body.
    pub(crate) async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Value) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let response = self.answer(request).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn sign_up(&self, name: &str) -> User<'_> {
        let (status, body) = self.call(Method::POST, "/api/signup", None, json!({ "name": name, "password": "correct horse" })).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        User { chat: self, id: text(&body["user"]["id"]), token: text(&body["token"]) }
    }

    /// Opens `/ws/chat?..`; a refused handshake is its status and error.
    pub(crate) async fn open(&self, query: &str) -> Result<Socket, (u16, Value)> {
        self.open_from(query, None).await
    }

    /// As a page of this origin would.
    pub(crate) async fn open_from(&self, query: &str, origin: Option<&str>) -> Result<Socket, (u16, Value)> {
        let mut request = format!("ws://{}/ws/chat?{query}", self.address).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        match timeout(PATIENCE, connect_async(request)).await.unwrap() {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tungstenite::Error::Http(response)) => Err(refused(&response)),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn refused(response: &Response) -> (u16, Value) {
    let body = response.body().as_deref().unwrap_or_default();
    (response.status().as_u16(), serde_json::from_slice::<Value>(body).unwrap_or_default()["error"].clone())
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Somebody who is logged in.
pub(crate) struct User<'a> {
    chat: &'a Chat,
    pub(crate) id: String,
    pub(crate) token: String,
}

impl User<'_> {
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.chat.call(Method::GET, path, Some(&self.token), Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.chat.call(Method::POST, path, Some(&self.token), body).await
    }

    /// Makes a session; its id and the code of its share link.
    pub(crate) async fn create(&self, title: &str) -> (String, String) {
        let (status, body) = self.post("/api/sessions", json!({ "title": title })).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        (text(&body["id"]), text(&body["invite"]))
    }

    pub(crate) async fn join(&self, invite: &str) {
        let (status, body) = self.post(&format!("/api/invites/{invite}"), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// Says something over REST; the id of the message.
    pub(crate) async fn say(&self, session: &str, content: &str) -> i64 {
        let (status, body) = self.post(&format!("/api/sessions/{session}/messages"), json!({ "content": content })).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["message"]["id"].as_i64().unwrap()
    }

    /// What the database has, in its order.
    pub(crate) async fn stored(&self, session: &str) -> Vec<String> {
        let (_, body) = self.get(&format!("/api/sessions/{session}/messages?after=0")).await;
        body["messages"].as_array().unwrap().iter().map(|message| text(&message["content"])).collect()
    }

    /// A socket to the session, past the history that comes first.
    pub(crate) async fn listen(&self, session: &str) -> Socket {
        let mut socket = self.chat.open(&format!("sessionId={session}&token={}", self.token)).await.unwrap();
        assert_eq!(socket.next().await["type"], "history");
        socket
    }
}

pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// The next frame, as JSON.
    pub(crate) async fn next(&mut self) -> Value {
        match self.next_or_close().await {
            Ok(frame) => frame,
            Err(close) => panic!("closed with {close:?}"),
        }
    }

    /// The next frame, or code and reason of the close.
    pub(crate) async fn next_or_close(&mut self) -> Result<Value, (u16, String)> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a frame in time") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map_or((0, String::new()), |frame| (frame.code.into(), frame.reason.to_string())));
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next frame of this type; others are passed over.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind || frame["broker"] == kind {
                return frame;
            }
        }
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Says something as a frame.
    pub(crate) async fn say(&mut self, content: &str) {
        self.send(json!({ "type": "message", "content": content })).await;
    }
}
