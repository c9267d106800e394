//! Answers to whoever watches the process: does it run, can it serve. Metrics do not live here.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready as Done, ready},
    sync::Arc,
    task::{Context, Poll},
};

use broker_core::Engine;
use http::{Method, Request, Response, StatusCode, header::ALLOW};
use tower_service::Service;

use crate::body::{ResponseBody, json};

/// `/health`: the process runs. Always 200; never depends on anything else, so that nobody restarts a node because of its backplane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health;

/// `/ready`: the node can serve. 200, or 503 with what is wrong.
#[derive(Clone)]
pub struct Ready {
    problems: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Whose node it is, where that is known.
    engine: Option<Engine>,
}

impl Ready {
    /// Ready as long as the engine does not drain and its backplane works ([`Engine::troubles`]). The answer also names the node and how many it
    /// knows, so that nodes behind one address that know nothing of each other can be told.
    pub fn new(engine: Engine) -> Self {
        let asked = engine.clone();
        Self { engine: Some(engine), ..Self::by(move || asked.troubles()) }
    }

    /// Ready as long as this names nothing that is wrong. Called per request: no I/O, no waiting.
    pub fn by(problems: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { problems: Arc::new(problems), engine: None }
    }

    fn answer(&self) -> Response<ResponseBody> {
        let text = |value: &str| serde_json::to_string(value).expect("a text can always be written to memory");
        let engine = self.engine.as_ref();
        let node = engine.map(|engine| format!(r#","node":{},"nodes":{}"#, text(&engine.node_id()), engine.known_nodes().len()));
        let node = node.unwrap_or_default();
        let problems = (self.problems)();
        if problems.is_empty() {
            return json(StatusCode::OK, format!(r#"{{"status":"ready"{node}}}"#));
        }
        let list = serde_json::to_string(&problems).expect("texts can always be written to memory");
        json(StatusCode::SERVICE_UNAVAILABLE, format!(r#"{{"status":"not ready","problems":{list}{node}}}"#))
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Health {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Done<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(looked_at(request.method(), || json(StatusCode::OK, r#"{"status":"ok"}"#))))
    }
}

impl<B> Service<Request<B>> for Ready {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Done<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(looked_at(request.method(), || self.answer())))
    }
}

fn looked_at(method: &Method, answer: impl FnOnce() -> Response<ResponseBody>) -> Response<ResponseBody> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return answer();
    }
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
    response
}
