//! The HTTP client of hooks and fetched keys: one request, one bounded answer. What is asked, and when, does not live here.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header::USER_AGENT};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_native_certs::{CertificateResult, load_native_certs};

/// How long a connection is kept without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// This machine trusts no certificate, so no `https` address can be asked.
///
/// Those are looked for where the system keeps them, or in what the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this machine's root certificates cannot be read ({0}); install ca-certificates, or name a file in SSL_CERT_FILE")]
pub struct NoRootCertificates(String);

/// Why there is no answer that could be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ExchangeFailed {
    /// Nobody answered, or not to the end.
    #[error("{0}")]
    Transport(String),
    /// Any status but 2xx, and no redirect.
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is a redirect ({0}), and redirects are not followed")]
    Redirect(StatusCode),
    #[error("the answer is longer than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
}

/// Sends requests over HTTP/1.1, with TLS or without. Follows no redirect and asks no proxy. Cloning shares the connections.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// Keeps at most so many idle connections to a host. `with_tls` reads the certificates that this machine trusts; without it no `https` address
    /// is believed.
    pub(crate) fn new(idle_max: usize, with_tls: bool) -> Result<Self, NoRootCertificates> {
        let roots = if with_tls { trusted(load_native_certs())? } else { RootCertStore::empty() };
        // One provider for everything; the process may have installed another one as its default.
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
        let config = config.with_safe_default_protocol_versions().expect("this provider has what TLS 1.2 and 1.3 need");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(connector);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(idle_max);
        Ok(Self { inner: builder.build(connector) })
    }

    /// Sends the request and reads the answer. Gives up never: deadlines are the caller's.
    ///
    /// Cancel-safe: the connection of a request that is dropped is closed.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>, answer_max_bytes: usize) -> Result<Bytes, ExchangeFailed> {
        let broker = HeaderValue::from_static(concat!("broker/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(broker);
        let answer = self.inner.request(request).await.map_err(|error| ExchangeFailed::Transport(chain(&error)))?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::NOT_MODIFIED => return Err(ExchangeFailed::Status(StatusCode::NOT_MODIFIED)),
            status if status.is_redirection() => return Err(ExchangeFailed::Redirect(status)),
            status => return Err(ExchangeFailed::Status(status)),
        }
        match Limited::new(answer.into_body(), answer_max_bytes).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ExchangeFailed::TooLarge { max_bytes: answer_max_bytes }),
            Err(error) => Err(ExchangeFailed::Transport(format!("the answer broke off: {}", chain(&*error)))),
        }
    }
}

/// The certificates that this machine trusts. One that cannot be read is no reason to do without the others.
fn trusted(found: CertificateResult) -> Result<RootCertStore, NoRootCertificates> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match found.errors.first() {
        _ if added > 0 => Ok(roots),
        Some(error) => Err(NoRootCertificates(chain(error))),
        None => Err(NoRootCertificates("there are none".to_owned())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Caused {
        text: &'static str,
        #[source]
        cause: Option<Box<Caused>>,
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_none_of_them_twice() {
        let caused = |text, cause: Option<Caused>| Caused { text, cause: cause.map(Box::new) };
        let refused = || caused("connection refused", None);
        assert_eq!(chain(&caused("client error", Some(caused("connect", Some(refused()))))), "client error: connect: connection refused");
        assert_eq!(chain(&caused("connect: connection refused", Some(refused()))), "connect: connection refused");
    }

    #[test]
    fn a_machine_without_roots_is_told_how_to_get_some() {
        let refused = trusted(CertificateResult::default()).unwrap_err().to_string();
        for part in ["there are none", "install ca-certificates", "SSL_CERT_FILE"] {
            assert!(refused.contains(part), "{part} is missing in {refused}");
        }
    }
}
