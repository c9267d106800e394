//! The service that turns requests into connections: routing, origins, refusals. Sockets live in `broker-ws`, sessions in the engine.

mod body;
mod cors;
mod credentials;
mod foreign;
mod opening;
pub(crate) mod origin;
mod plain;
mod query;
mod refusals;
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

use broker_core::Head;
use broker_ws::{Handshake, OverTls, Peer, Pending as Place, Upgrade};
use http::{Extensions, Request, Response, request::Parts};

pub use body::ResponseBody;
pub(crate) use opening::{Opened, Refused, open};
pub(crate) use refusals::as_frames;

use crate::{
    Broker,
    service::{origin::Verdict, refusals::as_http},
};

/// How the peer of a request is found in its extensions.
pub(crate) type PeerFrom = Arc<dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync>;

/// Serves WebSockets as a [`tower_service::Service`]: for axum's `nest_service`, for hyper, for everything that speaks tower.
///
/// | path | speaks |
/// |---|---|
/// | `/connection/websocket` | the Centrifuge protocol, for its SDKs |
/// | `/ws/{topic}`, `/ws?topic=..` | the plain protocol, for a bare `new WebSocket(url)` |
/// | the builder's [`Route`](crate::Route)s | the plain protocol |
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
        }
    }
}

enum Answer {
    Now(Response<ResponseBody>),
    Later(Box<Pending>),
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
        match open(&broker.shared, head, place).await {
            Ok(Opened { connection, protocol, subprotocol }) => {
                upgrade.serve(connection, protocol, limits);
                handshake.accept(subprotocol).map(|()| ResponseBody::default())
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
