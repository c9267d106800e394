//! The server API as a service: who may ask, what is asked, and the answer. Sockets and routes do not live here.

mod answer;
mod call;
mod json;
mod key;
mod method;
mod pattern;
mod run;
mod ticket;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_core::{Engine, Refusal, RefusalKind};
use http::{Method as Verb, Request, Response, StatusCode, header::ALLOW};
use http_body::Body;
use tower_service::Service;
use tracing::debug;

use self::{call::Call, json::Value, method::Method, run::Means};
pub use self::{key::ApiKeys, method::METHODS, ticket::TicketMaker};
use crate::{
    Origins,
    body::{self, ReadFailed, ResponseBody},
    cors,
    failure::Failure,
};

/// How the server API is served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ApiOptions {
    /// Who may ask. Default: nobody.
    pub keys: ApiKeys,
    /// Pages of which other origins may read answers. Default: none.
    pub origins: Origins,
    /// The longest body of a request, in bytes. Default: 1 MiB.
    pub body_max_bytes: usize,
    /// Time for the body of a request to arrive. Default: 10 s.
    pub body_timeout: Duration,
    /// Whether an answer says which setting would allow what was refused. Default: no, only the log does.
    pub dev: bool,
    /// Who makes the tickets of the method `ticket`. Default: nobody, it is refused.
    pub tickets: Option<TicketMaker>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            keys: ApiKeys::none(),
            origins: Origins::none(),
            body_max_bytes: 1024 * 1024,
            body_timeout: Duration::from_secs(10),
            dev: false,
            tickets: None,
        }
    }
}

impl ApiOptions {
    /// Sets who may ask.
    pub fn keys(mut self, keys: ApiKeys) -> Self {
        self.keys = keys;
        self
    }

    /// Sets pages of which other origins may read answers.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets the longest body of a request, in bytes.
    pub fn body_max_bytes(mut self, bytes: usize) -> Self {
        self.body_max_bytes = bytes;
        self
    }

    /// Lets answers say which setting would allow what was refused.
    pub fn dev(mut self, dev: bool) -> Self {
        self.dev = dev;
        self
    }

    /// Sets who makes tickets.
    pub fn tickets(mut self, tickets: TicketMaker) -> Self {
        self.tickets = Some(tickets);
        self
    }

    /// Sets the time for the body of a request to arrive.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }
}

/// The server API: `POST /api/<method>`, for backends in any language.
///
/// Shapes are those of Centrifugo's HTTP API, so that its published clients work unmodified. The method is what follows `/api/` in the path, or
/// the whole path where a router has taken `/api` away. Always ready. Dropping an answer's future leaves open whether a publish happened.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    engine: Engine,
    options: ApiOptions,
}

impl Api {
    /// Serves this engine.
    pub fn new(engine: Engine, options: ApiOptions) -> Self {
        Self(Arc::new(Shared { engine, options }))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Api
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: fmt::Display + Send,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move { Ok(shared.respond(request).await) })
    }
}

impl Shared {
    async fn respond<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body,
        B::Error: fmt::Display,
    {
        let origin = self.options.origins.allowed(request.headers());
        if request.method() == Verb::OPTIONS {
            return cors::preflight(request.headers(), origin);
        }
        let mut response = match self.answer(request).await {
            Ok(body) => body::json(StatusCode::OK, body),
            Err(failure) => {
                let refusal = failure.refusal();
                debug!(kind = ?refusal.kind, message = %refusal.message, rule = refusal.rule.as_deref(), "server api request refused");
                failure.into_response(self.options.dev)
            }
        };
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, cors::METHODS);
        }
        cors::mark(&mut response, origin);
        response
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Vec<u8>, Failure>
    where
        B: Body,
        B::Error: fmt::Display,
    {
        // The key comes first: who has none learns nothing else.
        self.options.keys.check(request.headers()).map_err(|refusal| Failure::transport(StatusCode::UNAUTHORIZED, refusal))?;
        let method =
            Method::named(method_name(request.uri().path())).map_err(|refusal| Failure::transport(StatusCode::NOT_FOUND, refusal))?;
        if request.method() != Verb::POST {
            let refusal = Refusal::bad_request(format!("{} is asked with POST", method.name()));
            return Err(Failure::transport(StatusCode::METHOD_NOT_ALLOWED, refusal));
        }
        let body = self.read_body(request.into_body()).await?;
        let call = read_call(method, &body)?;
        let means = Means { engine: &self.engine, tickets: self.options.tickets.as_ref(), dev: self.options.dev };
        Ok(run::run(means, call).await?.into_body(method))
    }

    async fn read_body<B>(&self, body: B) -> Result<bytes::Bytes, Failure>
    where
        B: Body,
        B::Error: fmt::Display,
    {
        let max = self.options.body_max_bytes;
        let mut body = pin!(body);
        match tokio::time::timeout(self.options.body_timeout, body::read(body.as_mut(), max)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(ReadFailed::TooLarge)) => {
                // The answer is the same whether all of it came in time.
                let _ = tokio::time::timeout(self.options.body_timeout, body::discard(body)).await;
                let refusal = Refusal::new(RefusalKind::LimitExceeded, format!("the body has more than {max} bytes"));
                Err(Failure::transport(StatusCode::PAYLOAD_TOO_LARGE, refusal.rule("longer than api.body_max")))
            }
            Ok(Err(ReadFailed::Broken(error))) => {
                Err(Failure::transport(StatusCode::BAD_REQUEST, Refusal::bad_request(format!("the body broke off: {error}"))))
            }
            Err(_) => {
                let refusal = Refusal::bad_request(format!("the body did not arrive within {:?}", self.options.body_timeout));
                Err(Failure::transport(StatusCode::REQUEST_TIMEOUT, refusal))
            }
        }
    }
}

/// What the body asks of the method.
fn read_call(method: Method, body: &[u8]) -> Result<Call, Failure> {
    let value = Value::whole(body)
        .map_err(|error| Failure::transport(StatusCode::BAD_REQUEST, Refusal::bad_request(error.message).at(error.at)))?;
    value.check_depth()?;
    Ok(Call::read(method, &value)?)
}

/// The method of a path: `/api/publish`, or `/publish` where a router took `/api` away; with or without a slash at the end.
fn method_name(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    match path.strip_prefix("api") {
        Some("") => "",
        Some(rest) => rest.strip_prefix('/').unwrap_or(path),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_is_the_end_of_the_path() {
        let check = |path: &str, expected: &str| assert_eq!(method_name(path), expected, "{path}");
        check("/api/publish", "publish");
        check("/api/publish/", "publish");
        check("/publish", "publish");
        check("/api", "");
        check("/api/", "");
        check("/", "");
        check("/apis", "apis");
        check("/api//publish", "/publish");
    }
}
