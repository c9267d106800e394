//! One node of the application with a database of its own, and clients of it: REST calls, and sockets as `new WebSocket` opens them.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body, http::Request};
use futures_util::{FutureExt, SinkExt, StreamExt};
use http_body_util::BodyExt;
use kit::{App, Node};
use ocs::Flags;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite};
use tower::ServiceExt;
use tungstenite::Message;

const WAIT: Duration = Duration::from_secs(30);

/// What a call answers: a value, or the status and what the server says of it.
type Answer = Result<Value, (u16, Value)>;

pub(crate) struct Hospital {
    router: Router,
    address: SocketAddr,
    data: tempfile::TempDir,
}

impl Hospital {
    pub(crate) async fn open() -> Self {
        Self::with_logins_of(Duration::from_secs(3600)).await
    }

    pub(crate) async fn with_logins_of(ttl: Duration) -> Self {
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Node { name: "ocs".to_owned(), address, data: data.path().to_owned(), redis: None };
        let flags = Flags { login_ttl: ttl.as_secs(), cheap_passwords: true };
        let App { broker, router, .. } = ocs::app(node, flags).await.unwrap();
        let router = router.fallback_service(broker.service());
        let serving = router.clone().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, serving).await });
        Self { router, address, data }
    }

    async fn call(&self, method: &str, token: &str, path: &str, body: Value) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/ocs/{path}")).header("content-type", "application/json");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() { Ok(value) } else { Err((status.as_u16(), value["error"].clone())) }
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.call("GET", token, path, Value::Null).await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call("POST", token, path, body).await
    }

    pub(crate) async fn patch(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call("PATCH", token, path, body).await
    }

    pub(crate) async fn try_log_in(&self, user: &str, password: &str) -> Answer {
        self.post("", "login/", json!({"user": user, "password": password})).await
    }

    /// Logs in, and gives the token.
    pub(crate) async fn log_in(&self, user: &str) -> String {
        self.log_in_as("", user).await
    }

    /// Logs in where somebody is logged in already.
    pub(crate) async fn log_in_as(&self, before: &str, user: &str) -> String {
        let answer = self.post(before, "login/", json!({"user": user, "password": "demo"})).await.unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }

    /// The database, as another program sees it.
    pub(crate) fn database(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.data.path().join("ocs.sqlite")).unwrap();
        connection.busy_timeout(WAIT).unwrap();
        connection
    }

    fn url(&self, token: &str) -> String {
        format!("ws://{}/ws/ocs/?token={token}", self.address)
    }

    pub(crate) async fn connect(&self, token: &str) -> Socket {
        Socket(connect_async(self.url(token)).await.unwrap().0)
    }

    /// The recipients of the newest notice, once one of them is as expected.
    pub(crate) async fn until(&self, operator: &str, user: &str, is_expected: impl Fn(&Value) -> bool) -> Vec<Value> {
        let look = async {
            loop {
                let report = self.get(operator, "delivery/").await.unwrap();
                let recipients = report["notices"][0]["recipients"].as_array().unwrap().clone();
                if recipients.iter().any(|one| one["user"] == user && is_expected(one)) {
                    return recipients;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT, look).await.expect("the operator never sees it")
    }
}

pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// The status of a handshake that is refused.
    pub(crate) async fn refused(hospital: &Hospital, token: &str) -> u16 {
        match connect_async(hospital.url(token)).await {
            Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
            other => panic!("{other:?}"),
        }
    }

    /// The next frame of text, as JSON.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next frame of the application's own.
    pub(crate) async fn told(&mut self) -> Value {
        loop {
            let frame = self.next().await;
            if frame.get("broker").is_none() {
                return frame;
            }
        }
    }

    /// The code with which the server closes.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.map_or(1005, |frame| frame.code.into());
            }
        }
    }

    async fn message(&mut self) -> Message {
        tokio::time::timeout(WAIT, self.0.next()).await.expect("nothing comes").expect("it is open").unwrap()
    }

    pub(crate) async fn say(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// What was sent before is here, and there is nothing else: the answer to a ping comes behind it.
    pub(crate) async fn has_nothing_more(&mut self) {
        self.0.send(Message::text("ping")).await.unwrap();
        loop {
            match self.message().await {
                Message::Text(text) if text.as_str() == "pong" => break,
                Message::Text(text) => panic!("{text}"),
                _ => {}
            }
        }
        assert!(self.0.next().now_or_never().is_none());
    }
}
