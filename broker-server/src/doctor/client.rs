//! Requests to a broker, each over a connection of its own: a balancer sends them where it likes.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{handshake::client::generate_key, protocol::Role};

use super::{TIMEOUT, socket::Socket};
use crate::config::Secret;

/// Longest answer.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// Asks one broker.
pub(super) struct Client {
    base: String,
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Null where it is no JSON.
    pub(super) body: Value,
}

/// A WebSocket that was not opened.
pub(super) struct Refused {
    pub(super) status: u16,
    /// `message`, `hint`; null where the answer is no JSON.
    pub(super) error: Value,
}

/// The address for requests, from one as clients have it: `ws://host/ws/news` is `http://host`.
pub(super) fn http_url(url: &str) -> String {
    let url = match url.split_once("://") {
        Some(("ws", rest)) => format!("http://{rest}"),
        Some(("wss", rest)) => format!("https://{rest}"),
        Some(_) => url.to_owned(),
        None => format!("http://{url}"),
    };
    for way in ["/connection/websocket", "/ws", "/sse", "/api"] {
        if let Some(at) = url.find(way).filter(|at| url[at + way.len()..].chars().next().is_none_or(|next| matches!(next, '/' | '?'))) {
            return url[..at].to_owned();
        }
    }
    url.trim_end_matches('/').to_owned()
}

impl Client {
    /// Trusts whom the system trusts, where TLS is spoken.
    pub(super) fn new(base: &str) -> anyhow::Result<Self> {
        let uri: Uri = base.parse().with_context(|| format!("{base} is no address"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            bail!("{base} is no address: write it like http://127.0.0.1:8000 or wss://broker.example.com");
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .context("this machine's root certificates cannot be read")?
            .https_or_http()
            .enable_http1()
            .build();
        let inner = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { base: base.to_owned(), inner })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// One `GET`.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let request = Request::builder().method(Method::GET).uri(format!("{}{path}", self.base)).body(Full::default())?;
        self.send(request).await
    }

    /// One call of the server API.
    pub(super) async fn api(&self, method: &str, key: &Secret) -> anyhow::Result<Answer> {
        let request = Request::builder().method(Method::POST).uri(format!("{}/api/{method}", self.base));
        let request = request.header("X-API-Key", key.expose()).header("Content-Type", "application/json");
        self.send(request.body(Full::from("{}"))?).await
    }

    /// Opens a WebSocket; or how it was refused.
    pub(super) async fn socket(&self, path: &str) -> anyhow::Result<Result<Socket, Refused>> {
        self.open(Request::builder().uri(format!("{}{path}", self.base))).await
    }

    /// Opens a WebSocket with one more header; or how it was refused. No error shows the value.
    pub(super) async fn socket_with(&self, path: &str, name: HeaderName, value: &str) -> anyhow::Result<Result<Socket, Refused>> {
        let value = HeaderValue::from_str(value).map_err(|_| anyhow::anyhow!("it has characters that no header can have"))?;
        self.open(Request::builder().uri(format!("{}{path}", self.base)).header(name, value)).await
    }

    async fn open(&self, request: http::request::Builder) -> anyhow::Result<Result<Socket, Refused>> {
        let request = request.method(Method::GET);
        let request = request.header("Connection", "Upgrade").header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13");
        let request = request.header("Sec-WebSocket-Key", generate_key()).body(Full::default())?;
        let exchange = async {
            let answer = self.inner.request(request).await.map_err(|error| anyhow::anyhow!(causes(&error)))?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                let status = answer.status().as_u16();
                let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await.map(http_body_util::Collected::to_bytes);
                let body: Value = body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
                return Ok(Err(Refused { status, error: body["error"].clone() }));
            }
            let pipe = TokioIo::new(hyper::upgrade::on(answer).await?);
            Ok(Ok(Socket::from_raw_socket(pipe, Role::Client, None).await))
        };
        timeout(TIMEOUT, exchange).await.with_context(|| format!("no answer within {} s", TIMEOUT.as_secs()))?
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let exchange = async {
            let answer = self.inner.request(request).await.map_err(|error| anyhow::anyhow!(causes(&error)))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
            Ok(Answer { status, body: serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null) })
        };
        timeout(TIMEOUT, exchange).await.with_context(|| format!("no answer within {} s", TIMEOUT.as_secs()))?
    }
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_clients_will_do() {
        let check = |url: &str, expected: &str| assert_eq!(http_url(url), expected);
        check("wss://a.example/ws/news?x=1", "https://a.example");
        check("ws://a.example:8000/connection/websocket", "http://a.example:8000");
        check("https://a.example/live/", "https://a.example/live");
        check("127.0.0.1:8000", "http://127.0.0.1:8000");
        check("http://wsa.example/wsx", "http://wsa.example/wsx");
    }
}
