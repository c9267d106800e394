//! Which pages of other origins may use the server API, and what browsers are told about it.

use std::{fmt, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ALLOW, ORIGIN, VARY,
    },
};

use crate::body::ResponseBody;

/// For the header `Allow`.
pub(crate) const METHODS: HeaderValue = HeaderValue::from_static("POST, OPTIONS");

/// Decides whether pages of an origin may read answers: the same list as for sockets.
///
/// ```
/// use broker_http::Origins;
///
/// let origins = Origins::by(|origin| origin == "https://app.example.com");
/// assert!(origins.allow("https://app.example.com"));
/// assert!(!Origins::none().allow("https://app.example.com"));
/// ```
#[derive(Clone)]
pub struct Origins(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl Origins {
    /// No other origin. The default.
    pub fn none() -> Self {
        Self::by(|_| false)
    }

    /// Every origin of which this holds; it is handed the header as the browser sent it.
    pub fn by(allowed: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(allowed))
    }

    /// Whether pages of this origin may read answers.
    pub fn allow(&self, origin: &str) -> bool {
        (self.0)(origin)
    }

    /// The `Origin` of a request, where it is allowed. Several are none: no browser sends them.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        origin.to_str().is_ok_and(|origin| self.allow(origin)).then(|| origin.clone())
    }
}

impl Default for Origins {
    fn default() -> Self {
        Self::none()
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").finish_non_exhaustive()
    }
}

/// Lets the pages of this origin read the answer. Never with cookies: who asks shows a key.
pub(crate) fn mark(response: &mut Response<ResponseBody>, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    }
}

/// The answer to `OPTIONS`: what may be asked of a method, and to a browser's preflight whether its page may ask.
pub(crate) fn preflight(headers: &HeaderMap, origin: Option<HeaderValue>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    // A foreign page learns nothing but no.
    *response.status_mut() = if headers.contains_key(ORIGIN) && origin.is_none() { StatusCode::FORBIDDEN } else { StatusCode::NO_CONTENT };
    if origin.is_some() {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, X-API-Key, Authorization"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().insert(ALLOW, METHODS);
    }
    mark(&mut response, origin);
    response
}
