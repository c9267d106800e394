//! The HTTP client of hooks: one POST, one bounded answer, connections kept. When calls are made does not live here.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use super::failure::CallFailed;

/// How long a connection is kept without a call.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Posts JSON. Cloning shares the connections. Follows no redirect and asks no proxy.
#[derive(Clone, Debug)]
pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// Keeps at most so many idle connections to a host. `with_tls` reads the certificates that this machine trusts.
    pub(super) fn new(idle_max: usize, with_tls: bool) -> io::Result<Self> {
        let roots = if with_tls { trusted()? } else { RootCertStore::empty() };
        let provider = aws_lc_rs::default_provider().into();
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(connector);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(idle_max);
        Ok(Self { inner: builder.build(connector) })
    }

    /// Posts JSON and reads the answer. Cancel-safe: the connection of a call that is dropped is closed.
    pub(super) async fn post(&self, uri: Uri, headers: HeaderMap, body: Vec<u8>, answer_max_bytes: usize) -> Result<Bytes, CallFailed> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
        request.headers_mut().insert(header::ACCEPT, json);
        let answer = self.inner.request(request).await.map_err(|error| CallFailed::Transport(chain(&error)))?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::NOT_MODIFIED => return Err(CallFailed::Status(StatusCode::NOT_MODIFIED)),
            status if status.is_redirection() => return Err(CallFailed::Redirect(status)),
            status => return Err(CallFailed::Status(status)),
        }
        match Limited::new(answer.into_body(), answer_max_bytes).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(CallFailed::TooLarge { max_bytes: answer_max_bytes }),
            Err(error) => Err(CallFailed::Transport(chain(&*error))),
        }
    }
}

/// The certificates that this machine trusts.
fn trusted() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match found.errors.into_iter().next() {
        _ if added > 0 => Ok(roots),
        Some(error) => Err(io::Error::other(error)),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "this machine trusts no certificate; SSL_CERT_FILE names a file of them")),
    }
}

/// An error with what caused it: the last one says what the system said.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
