//! Keys over HTTP: which addresses they are fetched from, and one request. When to ask lives above, the client in `http_client`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header::ACCEPT};
use http_body_util::Full;

use super::{ANSWER_MAX_BYTES, FetchFailed, Jwks, KeySource};
use crate::http_client::{ExchangeFailed, HttpClient, NoRootCertificates};

/// Longest address, in bytes.
const URL_MAX_LEN: usize = 2048;

/// Why an address is none that keys are fetched from.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJwksUrl {
    /// It cannot be read.
    #[error("this is no address of HTTP; write it like \"https://id.example.com/.well-known/jwks.json\"")]
    NoUrl,
    /// On the way it could be changed by whoever passes it on.
    #[error("keys are fetched over https; plain http is for this machine alone (127.0.0.1, [::1], localhost)")]
    NotHttps,
    /// It holds a name and a password.
    #[error("a user or password in the address would be written to logs")]
    UserInfo,
    /// It is an https address, and this machine trusts no certificate.
    #[error(transparent)]
    Roots(#[from] NoRootCertificates),
}

impl Jwks {
    /// Keys from this address: https, or http on this machine. Certificates are checked against those that the system trusts, or those in the
    /// file that the variable `SSL_CERT_FILE` names. Redirects are not followed.
    pub fn over_http(url: &str, issuer: Option<&str>) -> Result<Self, InvalidJwksUrl> {
        let source = HttpSource::new(url)?;
        let name = source.shown();
        Ok(Self::from_source(Arc::new(source), name, issuer))
    }

    /// Whether keys could be fetched from this address, without looking at certificates.
    pub fn check_url(url: &str) -> Result<(), InvalidJwksUrl> {
        parse(url).map(drop)
    }
}

struct HttpSource {
    uri: Uri,
    client: HttpClient,
}

impl HttpSource {
    fn new(url: &str) -> Result<Self, InvalidJwksUrl> {
        let uri = parse(url)?;
        // Keys are fetched too seldom to keep a connection for them.
        let client = HttpClient::new(0, uri.scheme_str() == Some("https"))?;
        Ok(Self { uri, client })
    }

    /// The address without its query, which may hold a secret.
    fn shown(&self) -> String {
        let (scheme, authority) =
            (self.uri.scheme_str().unwrap_or_default(), self.uri.authority().map_or("", |authority| authority.as_str()));
        format!("{scheme}://{authority}{}", self.uri.path())
    }
}

#[async_trait]
impl KeySource for HttpSource {
    async fn fetch(&self) -> Result<Bytes, FetchFailed> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        self.client.send(request, ANSWER_MAX_BYTES).await.map_err(|failed| match failed {
            ExchangeFailed::Redirect(_) => FetchFailed(format!("{failed}: name the address that it leads to")),
            failed => FetchFailed(failed.to_string()),
        })
    }
}

fn parse(url: &str) -> Result<Uri, InvalidJwksUrl> {
    let uri: Uri = url.parse().map_err(|_| InvalidJwksUrl::NoUrl)?;
    let (scheme, authority) = (uri.scheme_str().ok_or(InvalidJwksUrl::NoUrl)?, uri.authority().ok_or(InvalidJwksUrl::NoUrl)?);
    if url.len() > URL_MAX_LEN || authority.host().is_empty() {
        return Err(InvalidJwksUrl::NoUrl);
    }
    if authority.as_str().contains('@') {
        return Err(InvalidJwksUrl::UserInfo);
    }
    match scheme {
        "https" => Ok(uri),
        "http" if is_this_machine(authority.host()) => Ok(uri),
        "http" => Err(InvalidJwksUrl::NotHttps),
        _ => Err(InvalidJwksUrl::NoUrl),
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_over_https_or_from_this_machine() {
        for good in [
            "https://id.example.com/jwks",
            "https://id.example.com:8443/",
            "http://127.0.0.1:9/jwks",
            "http://[::1]:9/",
            "http://localhost/",
        ] {
            assert_eq!(Jwks::check_url(good), Ok(()), "{good}");
        }
        for plain in ["http://id.example.com/jwks", "http://10.0.0.1/", "http://127.0.0.1.evil.example/", "http://localhost.evil.example/"]
        {
            assert_eq!(Jwks::check_url(plain), Err(InvalidJwksUrl::NotHttps), "{plain}");
        }
        for none in ["", "jwks.json", "/jwks", "ftp://id.example.com/", "file:///etc/passwd", "https://"] {
            assert_eq!(Jwks::check_url(none), Err(InvalidJwksUrl::NoUrl), "{none}");
        }
        assert_eq!(Jwks::check_url("https://me:secret@id.example.com/"), Err(InvalidJwksUrl::UserInfo));
    }
}
