//! The service that turns requests into connections: routing, origins, refusals. Pipes live in `broker-ws` and `broker-http`, sessions in the
//! engine.

mod body;
mod cors;
mod credentials;
mod events;
mod foreign;
mod opening;
pub(crate) mod origin;
mod plain;
mod query;
pub(crate) mod refusals;
pub(crate) mod routes;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use broker_core::{Head, Refusal, RefusalKind};
use broker_ws::{Handshake, OverTls, Peer, Pending as Place, Upgrade};
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, HeaderName, UPGRADE},
    request::Parts,
};

pub use body::ResponseBody;
pub(crate) use opening::{Opened, Refused, Way, open};
pub(crate) use refusals::as_frames;

use crate::{
    Broker,
    service::{origin::Verdict, refusals::as_http},
};

/// What a browser remembers of the stream that it had.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How the peer of a request is found in its extensions.
pub(crate) type PeerFrom = Arc<dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync>;

/// Serves WebSockets and server-sent events as a [`tower_service::Service`]: for axum's `nest_service`, for hyper, for everything that speaks tower.
///
/// | path | speaks |
/// |---|---|
/// | `/connection/websocket` | the Centrifuge protocol, for its SDKs |
/// | `/ws/{topic}`, `/ws?topic=..` | the plain protocol, for a bare `new WebSocket(url)` |
/// | `/sse/{topic}`, `/sse?topic=..` | the plain protocol as server-sent events, for `new EventSource(url)` |
/// | the builder's [`Route`](crate::Route)s | the plain protocol, either way |
///
/// Every other request is answered with a status and a hint. Never fails; always ready; cloning copies a pointer.
#[derive(Clone)]
pub struct BrokerService {
    broker: Broker,
    listens_on_loopback: bool,
}

impl BrokerService {
    pub(crate) fn new(broker: Broker) -> Self {
        Self { broker, listens_on_loopback: false }
    }

    /// Lets pages from this machine in, because nobody else can reach the listener.
    pub fn on_loopback(mut self) -> Self {
        self.listens_on_loopback = true;
        self
    }

    /// Whether pages of this origin may connect: for other services beside this one, which follow the same list.
    ///
    /// Beyond loopback, pages of the host that a request goes to may connect too; only the request tells which that is.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.broker.shared.origins.lets_in(origin, self.listens_on_loopback)
    }

    /// Answers at once where that is possible; only connections whose topics must be live first are waited for.
    fn answer<B>(&self, mut request: Request<B>) -> Answer {
        let shared = &self.broker.shared;
        let is_over_tls = request.extensions().get::<OverTls>().is_some();
        let verdict = shared.origins.judge(request.headers(), self.listens_on_loopback, is_over_tls);
        if verdict == Verdict::Foreign {
            return Answer::Now(refusals::foreign_origin());
        }
        if self.speaks_events(&request) {
            return self.answer_with_events(request, verdict);
        }
        let handshake = match Handshake::of(&request) {
            Ok(handshake) => handshake,
            // A path that nobody knows is the greater mistake.
            Err(error) => {
                let known = opening::target(&shared.routes, request.uri().path(), request.uri().query().unwrap_or_default());
                let mut response = match known {
                    Err(refusal) if opening::is_unknown_route(&refusal) => as_http(&refusal, shared.dev),
                    _ => error.response().map(ResponseBody::from),
                };
                // This one is read by scripts: no page's WebSocket asks so.
                cors::mark(&mut response, request.headers(), verdict);
                return Answer::Now(response);
            }
        };
        let upgrade = Upgrade::of(&mut request);
        let (mut parts, _) = request.into_parts();
        let place = parts.extensions.remove::<Place>();
        let head = head(parts, shared.peer_from.as_ref());
        let is_page = verdict.is_page();
        Answer::Later(Box::new(Pending { broker: self.broker.clone(), handshake, upgrade, head, place, is_page }))
    }
}

impl BrokerService {
    /// Whether a request is for server-sent events: by its path, or at a route that speaks both by what the client accepts.
    fn speaks_events<B>(&self, request: &Request<B>) -> bool {
        let path = request.uri().path();
        let asks = !request.headers().contains_key(UPGRADE) && broker_http::is_sse_asked_for(request.headers());
        routes::is_of_events(path) || asks && self.broker.shared.routes.is_added(path)
    }

    fn answer_with_events<B>(&self, request: Request<B>, verdict: Verdict) -> Answer {
        let shared = &self.broker.shared;
        let (mut parts, _) = request.into_parts();
        if parts.method != Method::GET {
            let mut response = if parts.method == Method::OPTIONS {
                broker_http::sse_preflight(verdict.is_page())
            } else {
                let refusal = Refusal::bad_request("a stream of events is a GET");
                let mut response = as_http(&refusal, shared.dev);
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, OPTIONS"));
                response
            };
            cors::mark(&mut response, &parts.headers, verdict);
            return Answer::Now(response);
        }
        if parts.headers.contains_key(UPGRADE) {
            let refusal = Refusal::bad_request("this address speaks server-sent events, not WebSocket");
            let mut response = as_http(&refusal.hint("for a WebSocket use /ws in place of /sse"), shared.dev);
            cors::mark(&mut response, &parts.headers, verdict);
            return Answer::Now(response);
        }
        // As text whatever its bytes are: who brings an id must not be served as one who brings none.
        let last_event_id = parts.headers.get(LAST_EVENT_ID).map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        let place = parts.extensions.remove::<Place>();
        let line = parts.extensions.get::<broker_ws::Line>().cloned();
        let headers = origin::only_origin(&parts.headers);
        let head = head(parts, shared.peer_from.as_ref());
        Answer::Events(Box::new(PendingEvents { broker: self.broker.clone(), head, place, last_event_id, line, headers, verdict }))
    }
}

impl fmt::Debug for BrokerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerService").finish_non_exhaustive()
    }
}

impl<B> tower_service::Service<Request<B>> for BrokerService {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.answer(request) {
            Answer::Now(response) => Box::pin(std::future::ready(Ok(response))),
            Answer::Later(pending) => Box::pin(async { Ok(pending.answer().await) }),
            Answer::Events(pending) => Box::pin(async { Ok(pending.answer().await) }),
        }
    }
}

enum Answer {
    Now(Response<ResponseBody>),
    Later(Box<Pending>),
    Events(Box<PendingEvents>),
}

/// A request for server-sent events.
struct PendingEvents {
    broker: Broker,
    head: Head,
    place: Option<Place>,
    last_event_id: Option<String>,
    line: Option<broker_ws::Line>,
    /// What the answer's headers depend on.
    headers: HeaderMap,
    verdict: Verdict,
}

impl PendingEvents {
    /// Refusals are statuses: a stream that ends at once would be asked for again and again.
    async fn answer(self) -> Response<ResponseBody> {
        let Self { broker, head, place, last_event_id, line, headers, verdict } = self;
        let shared = &broker.shared;
        let mut response = match open(shared, head, place, Way::Events { last_event_id }).await {
            Ok(Opened { connection, topics, .. }) => {
                let line = line.map(|line| Arc::new(KernelLine(line)) as Arc<dyn broker_http::Line>);
                let body = broker_http::sse_body(connection, &topics, shared.limits.queue_max, line);
                broker_http::sse_response(ResponseBody::from(body))
            }
            Err(Refused { refusal, .. }) => as_http(&refusal, shared.dev),
        };
        cors::mark(&mut response, &headers, verdict);
        response
    }
}

/// The line between a body and the kernel, where the listener is ours.
#[derive(Debug)]
struct KernelLine(broker_ws::Line);

impl broker_http::Line for KernelLine {
    fn hand_over(&self) {
        self.0.hand_over();
    }

    fn cut(&self) -> bool {
        self.0.cut()
    }

    fn sever(&self) {
        self.0.sever();
    }
}

/// A request for a WebSocket that an allowed page or a program made.
struct Pending {
    broker: Broker,
    handshake: Handshake,
    upgrade: Upgrade,
    head: Head,
    /// Where the listener has a gate.
    place: Option<Place>,
    /// A script in a page cannot read the answer to a refused handshake.
    is_page: bool,
}

impl Pending {
    async fn answer(self) -> Response<ResponseBody> {
        let Self { broker, handshake, upgrade, head, place, is_page } = self;
        let limits = Arc::clone(&broker.shared.limits);
        match open(&broker.shared, head, place, Way::WebSocket).await {
            Ok(Opened { connection, protocol, subprotocol, .. }) => {
                upgrade.serve(connection, protocol, limits);
                handshake.accept(subprotocol).map(|()| ResponseBody::default())
            }
            // A balancer in front asks another node where it reads a status that says so: that helps a page more than to know why.
            Err(Refused { refusal, .. }) if broker.is_draining() && refusal.kind == RefusalKind::Unavailable => {
                as_http(&refusal, broker.shared.dev)
            }
            Err(Refused { refusal, protocol, subprotocol }) if is_page => {
                upgrade.refuse(as_frames(refusal, &*protocol), limits);
                handshake.accept(subprotocol).map(|()| ResponseBody::default())
            }
            Err(Refused { refusal, .. }) => as_http(&refusal, broker.shared.dev),
        }
    }
}

/// What hooks see of a request; credentials are taken out of the query when it is read.
fn head(parts: Parts, peer_from: Option<&PeerFrom>) -> Head {
    let mut head = Head::new(parts.uri.path());
    parts.uri.query().unwrap_or_default().clone_into(&mut head.query);
    head.headers =
        parts.headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))).collect();
    let known = parts.extensions.get::<Peer>().map(|peer| peer.0);
    head.peer = known.or_else(|| peer_from.and_then(|find| find(&parts.extensions)));
    head.original = Some(Arc::new(parts));
    head
}
