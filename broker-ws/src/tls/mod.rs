//! TLS for a listener: the certificate that is shown, its handshakes, and its replacement while connections live. Reading files lives in `files`.

mod files;
mod watch;

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::TcpStream,
    time::{error::Elapsed, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use self::files::TlsError;
use self::files::{Files, Pair};
use crate::{WsLimits, socket_outlet::configure};

/// A certificate that ends this soon is worth a word.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// A certificate with its key, for [`serve`](crate::serve) and whatever is built on it. Cloning copies a pointer.
///
/// TLS 1.2 and 1.3 with the suites that rustls holds safe, HTTP/1.1 by ALPN, sessions resumed by tickets.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    files: Option<Arc<Files>>,
}

/// What clients are shown; connections keep what they were shown.
struct Shown(ArcSwap<Pair>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

/// What is worth a word about a certificate that works.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsCaution {
    /// Its time is over: browsers refuse it.
    #[error("the certificate has expired")]
    Expired,
    /// Its time has not come: browsers refuse it.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// It ends within two weeks.
    #[error("the certificate expires within {days} days")]
    ExpiresSoon {
        /// Days that are left, begun ones included.
        days: u64,
    },
}

/// Why a connection has no TLS.
#[derive(Debug)]
pub(crate) enum NoHandshake {
    /// It speaks plain HTTP.
    PlainHttp(TcpStream),
    /// It broke off, speaks no TLS, or was too slow.
    Failed(io::Error),
}

impl From<io::Error> for NoHandshake {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Elapsed> for NoHandshake {
    fn from(_: Elapsed) -> Self {
        Self::Failed(io::ErrorKind::TimedOut.into())
    }
}

impl Tls {
    /// Reads a certificate chain, the server's own certificate first, and its key, both PEM. Blocks while the files are read.
    ///
    /// A server reads them again every few seconds. Where the new ones cannot be used, those before stay and the log says why.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let files = Files { certificate: certificate.into(), key: key.into() };
        let pair = files.read()?.parse(&provider())?;
        Self::new(pair, Some(files))
    }

    /// Takes a certificate chain, the server's own certificate first, and its key, both PEM.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::new(files::Texts::given(certificate, key).parse(&provider())?, None)
    }

    fn new(pair: Pair, files: Option<Files>) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown(ArcSwap::from_pointee(pair)));
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(TlsError::library)?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::clone(&shown) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Whoever comes back needs no second full handshake, however many come back at once.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::library)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), shown, files: files.map(Arc::new) })
    }

    /// Reads the files again at once, and says whether they held something new. New connections are shown that; others stay as they are.
    /// Blocks while the files are read.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.files else { return Ok(false) };
        let texts = files.read()?;
        if texts.print() == self.shown.0.load().print {
            return Ok(false);
        }
        self.shown.0.store(Arc::new(texts.parse(&provider())?));
        Ok(true)
    }

    /// How long the certificate is still valid; `None`: it is not.
    pub fn time_left(&self) -> Option<Duration> {
        let pair = self.shown.0.load();
        let now = SystemTime::now();
        pair.until.duration_since(now).ok().filter(|_| pair.from <= now)
    }

    /// What is worth a word about the certificate.
    pub fn caution(&self) -> Option<TlsCaution> {
        let pair = self.shown.0.load();
        let now = SystemTime::now();
        if now < pair.from {
            return Some(TlsCaution::NotYetValid);
        }
        match pair.until.duration_since(now) {
            Err(_) => Some(TlsCaution::Expired),
            Ok(left) if left <= SOON => Some(TlsCaution::ExpiresSoon { days: left.as_secs().div_ceil(24 * 3600) }),
            Ok(_) => None,
        }
    }

    /// Makes the handshake of a connection that has something to read.
    pub(crate) async fn shake(&self, stream: TcpStream, limits: &WsLimits) -> Result<TlsStream<TcpStream>, NoHandshake> {
        let shaking = async {
            let mut first = [0];
            stream.peek(&mut first).await?;
            // A TLS handshake begins with byte 22, a request with a letter.
            if first[0].is_ascii_uppercase() {
                return Err(NoHandshake::PlainHttp(stream));
            }
            configure(&stream, limits);
            Ok(self.acceptor.accept(stream).await?)
        };
        timeout(limits.handshake_timeout, shaking).await?
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
