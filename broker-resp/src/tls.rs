//! TLS of a link: whom it trusts and what it shows. The rest of a connection lives in `connect`.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::ConnectError;

/// Whom a link trusts, and the certificate that it shows where the server wants one. Cloning copies a pointer.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

/// Why there is no [`Tls`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificates to trust are no PEM, or there are none.
    #[error("the certificates to trust cannot be read: {0}")]
    Roots(String),
    /// The own certificate or its key is no PEM, or they do not belong together.
    #[error("the own certificate or its key cannot be used: {0}")]
    Identity(String),
    /// The name is no DNS name and no IP address.
    #[error("{0:?} is no name that a certificate can have")]
    ServerName(String),
}

/// A certificate chain, the own one first, and its key, both PEM. Debug output shows neither.
pub struct ClientIdentity<'a> {
    /// The chain.
    pub certificate: &'a [u8],
    /// The key.
    pub key: &'a [u8],
}

impl Tls {
    /// Trusts whom the system trusts. Blocks while its certificates are read.
    pub fn system(identity: Option<ClientIdentity<'_>>) -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(found.certs).0 == 0 {
            return Err(TlsError::Roots("the system has none".to_owned()));
        }
        Self::new(roots, identity)
    }

    /// Trusts only these certificates, PEM.
    pub fn trusting(certificates: &[u8], identity: Option<ClientIdentity<'_>>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(certificates) {
            let certificate = certificate.map_err(|error| TlsError::Roots(error.to_string()))?;
            roots.add(certificate).map_err(|error| TlsError::Roots(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(TlsError::Roots("there is no certificate in them".to_owned()));
        }
        Self::new(roots, identity)
    }

    /// Expects a certificate for this name, whatever the address is.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))?;
        self.server_name = Some(name);
        Ok(self)
    }

    fn new(roots: RootCertStore, identity: Option<ClientIdentity<'_>>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Roots(error.to_string()))?
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(ClientIdentity { certificate, key }) => {
                let unusable = |error: &dyn fmt::Display| TlsError::Identity(error.to_string());
                let chain: Vec<_> =
                    CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|error| unusable(&error))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(&error))?;
                config.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
            }
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name: None })
    }

    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, ConnectError> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|error| ConnectError::Tls(error.to_string()))?,
        };
        self.connector.connect(name, stream).await.map_err(|error| {
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
            // What is no record of TLS at all.
            let is_other = matches!(cause, Some(rustls::Error::InvalidMessage(_)));
            if is_other { crate::connect::not_tls() } else { ConnectError::Tls(error.to_string()) }
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl fmt::Debug for ClientIdentity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity")
    }
}
