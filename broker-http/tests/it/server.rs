//! What the tests ask: the service on an engine of its own, with listeners that need no socket.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{
    Announcement, Backplane, CallRequest, Capabilities, CloseFrame, Connect, ConnectRequest, Connection, Engine, EngineBuilder, FrameKind,
    Framing, Head, Identity, Keep, LogPage, LogQuery, MemoryBackplane, Namespace, Opening, Outlet, Payload, Publish, PublishFailed,
    Published, Refusal, RefusalKind, Sink, Start, Subscribe, Topic, Unavailable, Verb,
    testing::{Client, LineProtocol},
};
use broker_http::{Api, ApiKeys, ApiOptions, ResponseBody};
use broker_protocol::Plain;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{Full, StreamBody};
use tokio::sync::mpsc;
use tower_service::Service;

/// The topics of `chat` have history and presence, those of `live` neither. The token of a client is its user, with its groups and its tenant as
/// in `ris1+ocs_ris@acme`; its name is its info. The application can add numbers.
pub(crate) fn engine() -> Engine {
    engine_on(Arc::new(MemoryBackplane::new()))
}

/// The same on another backplane.
pub(crate) fn engine_on(backplane: Arc<dyn Backplane>) -> Engine {
    builder().backplane(backplane).build().unwrap()
}

/// The same, to be changed.
pub(crate) fn builder() -> EngineBuilder {
    let chat = Namespace::default().history(300, Duration::from_secs(600)).presence().allow(Verb::Subscribe);
    Engine::builder()
        .namespace("chat", chat)
        .namespace("live", Namespace::default().allow(Verb::Subscribe))
        .on_connect(|request: ConnectRequest| async move {
            let identity = identity(&request.connect.token.unwrap_or_default());
            Ok(match request.connect.name {
                Some(info) => identity.info(info),
                None => identity,
            })
        })
        .on_rpc(|call: CallRequest| async move {
            match &*call.method {
                "sum" => {
                    let numbers: Vec<i64> = serde_json::from_slice(call.data.bytes())
                        .map_err(|_| Refusal::new(RefusalKind::Application(1001), "sum adds whole numbers"))?;
                    Ok(Payload::json(numbers.iter().sum::<i64>().to_string()))
                }
                "bytes" => Ok(Payload::binary(&[0_u8, 255][..])),
                other => Err(Refusal::new(RefusalKind::UnknownAction, format!("there is no {other}"))),
            }
        })
}

/// `ris1+ocs_ris+ocs_lis@acme`: user, groups, tenant.
fn identity(token: &str) -> Identity {
    let (rest, tenant) = token.split_once('@').map_or((token, None), |(rest, tenant)| (rest, Some(tenant)));
    let identity = rest.split('+').fold(None, |identity: Option<Identity>, part| {
        Some(identity.map_or_else(|| Identity::user(part), |identity| identity.group(part)))
    });
    let identity = identity.unwrap_or_else(Identity::anonymous);
    match tenant {
        Some(tenant) => identity.tenant(tenant.parse().unwrap()),
        None => identity,
    }
}

/// The service, and the engine behind it.
pub(crate) struct Server {
    api: Api,
    engine: Engine,
}

impl Server {
    /// With the key `k`.
    pub(crate) fn start() -> Self {
        Self::with(ApiOptions::default().keys(ApiKeys::one("k")))
    }

    pub(crate) fn with(options: ApiOptions) -> Self {
        Self::on(engine(), options)
    }

    pub(crate) fn on(engine: Engine, options: ApiOptions) -> Self {
        Self { api: Api::new(engine.clone(), options), engine }
    }

    /// Asks and compares, with epochs as `E`, times as 0 and sessions as `S`.
    #[track_caller]
    pub(crate) fn check(&self, method: &str, body: &str, expected: &str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move { assert_eq!(self.ask(method, body).await, expected, "asked at {at}") }
    }

    /// Asks with the key, and gives the body of the answer, which has status 200.
    pub(crate) async fn ask(&self, method: &str, body: &str) -> String {
        let request = Request::post(format!("/api/{method}")).header("x-api-key", "k");
        let answer = self.send(request, body.to_owned()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        fixed(&answer.body)
    }

    /// The epoch of a topic's history.
    pub(crate) async fn epoch(&self, topic: &str) -> String {
        let request = Request::post("/api/history").header("x-api-key", "k");
        let answer = self.send(request, format!(r#"{{"channel":"{topic}"}}"#)).await.body;
        answer.split_once(r#""epoch":""#).and_then(|(_, rest)| rest.split_once('"')).unwrap().0.to_owned()
    }

    pub(crate) async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        self.send_body(request, Full::new(body.into())).await
    }

    /// Sends a body that does not announce its length, ten bytes at a time.
    pub(crate) async fn send_in_pieces(&self, request: http::request::Builder, body: String) -> Answer {
        let pieces: Vec<_> =
            body.as_bytes().chunks(10).map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        self.send_body(request, StreamBody::new(futures_util::stream::iter(pieces))).await
    }

    pub(crate) async fn send_body<B>(&self, request: http::request::Builder, body: B) -> Answer
    where
        B: Body<Error = Infallible> + Send + 'static,
        B::Data: Send,
    {
        let Ok(response) = self.api.clone().call(request.body(body).unwrap()).await;
        Answer::of(response)
    }

    /// Opens a session that shows what it is told as lines.
    pub(crate) async fn client(&self, token: &str) -> Client {
        Client::connect_as(&self.engine, LineProtocol::default(), Some(token)).await
    }

    /// Opens a session that listens to a topic.
    pub(crate) async fn listen(&self, topic: &str, user: &str, info: Option<&str>) -> Listener {
        let (outlet, frames) = mpsc::unbounded_channel();
        let connect = Connect { token: Some(user.to_owned()), name: info.map(str::to_owned), ..Connect::default() };
        let opening = Opening {
            protocol: Arc::new(Plain::default()),
            framing: Arc::new(Bare),
            outlet: Some(Box::new(Pipe(outlet))),
            head: Head::new("/"),
            transport: "test",
            start: Start::AtOnce { connect, subscriptions: vec![Subscribe::new(topic.parse().unwrap())] },
        };
        let mut connection = self.engine.open(opening).unwrap();
        connection.opened().await.unwrap();
        Listener { frames, _connection: connection }
    }
}

/// A session that listens; it ends when this is dropped.
pub(crate) struct Listener {
    frames: mpsc::UnboundedReceiver<String>,
    _connection: Connection,
}

impl Listener {
    /// The next frame.
    pub(crate) async fn next(&mut self) -> String {
        self.frames.recv().await.unwrap()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    headers: http::HeaderMap,
}

impl Answer {
    pub(crate) fn of(response: Response<ResponseBody>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body: String::from_utf8(body.as_bytes().to_vec()).unwrap() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A backplane that takes nothing, or does not say so.
pub(crate) struct Broken;

#[async_trait]
impl Backplane for Broken {
    fn start(&self, _sink: Weak<dyn Sink>) {}

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().history()
    }

    async fn publish(&self, _topic: &Topic, _publish: Publish, _keep: Keep) -> Result<Published, PublishFailed> {
        Err(PublishFailed::Unconfirmed("the link broke".to_owned()))
    }

    async fn announce(&self, _topic: &Topic, _announcement: Announcement) -> Result<(), Unavailable> {
        Err(Unavailable("no link".to_owned()))
    }

    async fn interest(&self, _changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        Err(Unavailable("no link".to_owned()))
    }

    async fn history(&self, _topic: &Topic, _query: LogQuery, _keep: Keep) -> Result<LogPage, Unavailable> {
        Err(Unavailable("no link".to_owned()))
    }

    async fn remove_history(&self, _topic: &Topic) -> Result<(), Unavailable> {
        Err(Unavailable("no link".to_owned()))
    }
}

/// A body that never comes.
pub(crate) struct Stalled;

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// Frames without a header.
#[derive(Debug)]
struct Bare;

impl Framing for Bare {
    fn encoding(&self) -> u8 {
        200
    }

    fn frame(&self, _kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(payload);
    }

    fn close(&self, _frame: &CloseFrame, _out: &mut Vec<u8>) {}
}

/// A way out that is read by the test.
struct Pipe(mpsc::UnboundedSender<String>);

impl Outlet for Pipe {
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize> {
        let whole = chunks.concat();
        let len = whole.len();
        self.0.send(String::from_utf8(whole).unwrap()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(len)
    }

    fn finish(&mut self) {}
}

/// Answers with what differs between runs made equal.
fn fixed(body: &str) -> String {
    let body = replaced(body, r#""epoch":""#, |byte| byte != b'"', "E");
    let body = replaced(&body, r#""time":"#, |byte| byte.is_ascii_digit(), "0");
    let body = replaced(&body, r#""client":""#, |byte| byte != b'"', "S");
    let body = replaced(&body, r#""since":"#, |byte| byte.is_ascii_digit(), "0");
    let body = replaced(&body, r#""node":""#, |byte| byte != b'"', "N");
    // A session as the name of a field: 36 bytes in quotes before an object.
    body.split('"').map(|part| if part.len() == 36 && part.matches('-').count() == 4 { "S" } else { part }).collect::<Vec<_>>().join("\"")
}

fn replaced(body: &str, before: &str, belongs: impl Fn(u8) -> bool, with: &str) -> String {
    let mut parts = body.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|byte: char| byte.is_ascii() && belongs(byte as u8));
        out.extend([before, with, rest]);
    }
    out
}
