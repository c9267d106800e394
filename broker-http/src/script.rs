//! The client for browsers, `broker.js`, ready to be imported. The module itself lives in `assets/`; who it connects to does not live here.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::LazyLock,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS},
};
use tower_service::Service;

use crate::{Origins, body::ResponseBody, cors};

/// Serves `broker.js`, and its types `broker.d.ts`, at any prefix: the last segment of the path tells which is meant.
///
/// The module connects to `ws` beside itself, so it belongs beside the sockets: `/live/broker.js` where they are below `/live`. Browsers keep it
/// and ask each time whether it has changed, so that no page runs an older client than its server.
///
/// ```
/// use broker_http::{Origins, Script};
/// use http::{Request, header};
/// use tower_service::Service;
///
/// # async fn example() {
/// let mut script = Script::new().origins(Origins::by(|origin| origin == "https://app.example.com"));
/// let Ok(module) = script.call(Request::get("/live/broker.js").body(()).unwrap()).await;
/// assert_eq!(module.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    origins: Origins,
}

struct File {
    name: &'static str,
    content_type: HeaderValue,
    body: Bytes,
    tag: HeaderValue,
}

static FILES: LazyLock<[File; 2]> = LazyLock::new(|| {
    [
        File::new("broker.js", "text/javascript; charset=utf-8", include_bytes!("../assets/broker.js")),
        File::new("broker.d.ts", "text/plain; charset=utf-8", include_bytes!("../assets/broker.d.ts")),
    ]
});

impl Script {
    /// For pages of the same origin only: others are not allowed to import it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets pages of these origins import it: the same list as for sockets.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        cors::mark(&mut response, self.origins.allowed(headers));
        let Some(file) = file(path) else {
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if headers.get_all(IF_NONE_MATCH).iter().any(|tags| names(tags, &file.tag)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if *method == Method::GET {
            *response.body_mut() = ResponseBody::of(file.body.clone());
        }
        let headers = response.headers_mut();
        headers.insert(ETAG, file.tag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_TYPE, file.content_type.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

impl<B> Service<Request<B>> for Script {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path(), request.headers())))
    }
}

impl File {
    fn new(name: &'static str, content_type: &'static str, body: &'static [u8]) -> Self {
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", fnv(body))).expect("hexadecimal digits in quotes are a header value");
        Self { name, content_type: HeaderValue::from_static(content_type), body: Bytes::from_static(body), tag }
    }
}

fn file(path: &str) -> Option<&'static File> {
    let name = path.rsplit('/').next()?;
    FILES.iter().find(|file| file.name == name)
}

/// Whether an `If-None-Match` header names the tag, weakly or not.
fn names(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    let Ok(tags) = tags.to_str() else { return false };
    tags.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

/// FNV-1a: tells versions of a file apart, no more is needed.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
