//! What the binary answers on its two listeners: paths to services. What the services do lives in `broker` and `broker-http`.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use broker::{Broker, BrokerService, Redis, ResponseBody};
use broker_auth::HttpHooks;
use broker_http::{Api, Health, Ready, Script};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tower_service::Service;

use crate::{COMMIT, VERSION, metrics, pages::Pages};

type Answer = Response<ResponseBody>;
type Answering = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

/// The listener for clients and backends: sockets, `/api`, `/broker.js`, `/health`, `/ready`, and in dev mode the page.
#[derive(Clone)]
pub struct Public {
    sockets: BrokerService,
    api: Api,
    ready: Ready,
    script: Script,
    pages: Option<Arc<Pages>>,
}

impl Public {
    /// Serves a broker; `pages` is the dev page.
    pub fn new(broker: &Broker, sockets: BrokerService, api: Api, script: Script, pages: Option<Pages>) -> Self {
        Self { sockets, api, ready: Ready::new(broker.engine().clone()), script, pages: pages.map(Arc::new) }
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Public").finish_non_exhaustive()
    }
}

impl Service<Request<Incoming>> for Public {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        let path = request.uri().path();
        if let Some(page) = self.pages.as_ref().and_then(|pages| pages.answer(request.method(), path, request.headers())) {
            return Box::pin(ready(Ok(page.map(ResponseBody::from))));
        }
        match path.trim_end_matches('/') {
            "/health" => watched(&mut Health, request),
            "/ready" => watched(&mut self.ready, request),
            "/broker.js" | "/broker.d.ts" => watched(&mut self.script, request),
            path if path == "/api" || path.starts_with("/api/") => watched(&mut self.api, request),
            _ => self.sockets.call(request),
        }
    }
}

/// The listener for operators: `/metrics`, `/health`, `/ready`.
#[derive(Clone)]
pub struct Internal {
    broker: Broker,
    hooks: Option<HttpHooks>,
    redis: Option<Redis>,
    ready: Ready,
    started_at: Instant,
}

impl Internal {
    /// Serves the numbers of a broker, its hooks, and its Redis.
    pub fn new(broker: Broker, hooks: Option<HttpHooks>, redis: Option<Redis>) -> Self {
        let ready = Ready::new(broker.engine().clone());
        Self { broker, hooks, redis, ready, started_at: Instant::now() }
    }

    fn metrics(&self) -> Answer {
        let hooks = self.hooks.as_ref().map(HttpHooks::counts).unwrap_or_default();
        let snapshot = metrics::Snapshot::of(self.broker.stats(), self.started_at.elapsed())
            .with_gate(&self.broker.gate())
            .with_hooks(hooks)
            .with_troubles(self.broker.engine().troubles().len())
            .with_redis(self.redis.as_ref().map(Redis::health))
            .with_kept(self.broker.kept());
        let text = metrics::render(snapshot, VERSION, COMMIT);
        let mut answer = Response::new(Bytes::from(text).into());
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

impl fmt::Debug for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Internal").finish_non_exhaustive()
    }
}

impl Service<Request<Incoming>> for Internal {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path().trim_end_matches('/') {
            "/health" => watched(&mut Health, request),
            "/ready" => watched(&mut self.ready, request),
            "/metrics" if is_read => Box::pin(ready(Ok(self.metrics()))),
            "/metrics" => Box::pin(ready(Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n")))),
            _ => Box::pin(ready(Ok(plain(
                StatusCode::NOT_FOUND,
                "this listener has /metrics, /health and /ready; clients connect to the other one\n",
            )))),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Bytes::from_static(text.as_bytes()).into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Asks a service of `broker-http`.
fn watched<S>(service: &mut S, request: Request<Incoming>) -> Answering
where
    S: Service<Request<Incoming>, Response = Response<broker_http::ResponseBody>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let answering = service.call(request);
    Box::pin(async { Ok(answering.await?.map(|body| body.as_bytes().clone().into())) })
}
