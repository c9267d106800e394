//! From two PEM files to a certificate that can be shown, or what is wrong with them and how to put it right.

use std::{
    fmt::Display,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use rustls::{
    Error, InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject},
    },
    sign::CertifiedKey,
};

/// Most bytes of a file; a chain has a few kilobytes.
const FILE_MAX: u64 = 1 << 20;

/// Why a certificate and its key cannot be used. The text names the file and the mistake, [`TlsError::hint`] the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /** The file. */
        file: PathBuf,
        /** What the system said. */
        error: io::Error,
    },
    /// A file has more than 1 MiB.
    #[error("{} has more than 1 MiB", file.display())]
    TooLarge {
        /** The file. */
        file: PathBuf,
    },
    /// A file is not PEM.
    #[error("{} is not PEM", file.display())]
    NotPem {
        /** The file. */
        file: PathBuf,
    },
    /// A file is PEM and holds no certificate.
    #[error("{} holds no certificate", file.display())]
    NoCertificate {
        /** The file. */
        file: PathBuf,
    },
    /// A file is PEM and holds no private key.
    #[error("{} holds no private key", file.display())]
    NoKey {
        /** The file. */
        file: PathBuf,
    },
    /// The key is protected by a passphrase.
    #[error("the key in {} needs a passphrase", file.display())]
    EncryptedKey {
        /** The file. */
        file: PathBuf,
    },
    /// The certificate cannot be understood.
    #[error("the certificate in {} cannot be used: {why}", file.display())]
    BadCertificate {
        /** The file. */
        file: PathBuf,
        /** What is wrong with it. */
        why: String,
    },
    /// The key cannot be understood, or is of a kind that is not used.
    #[error("the key in {} cannot be used: {why}", file.display())]
    BadKey {
        /** The file. */
        file: PathBuf,
        /** What is wrong with it. */
        why: String,
    },
    /// The key is not that of the certificate.
    #[error("the key in {} is not that of the first certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /** The file of the certificate. */
        certificate: PathBuf,
        /** The file of the key. */
        key: PathBuf,
    },
    /// The TLS library does not work here.
    #[error("the TLS library does not work here: {why}")]
    Library {
        /** What it said. */
        why: String,
    },
}

impl TlsError {
    pub(super) fn library(error: Error) -> Self {
        Self::Library { why: error.to_string() }
    }

    /// The file to blame, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Unreadable { file, .. }
            | Self::TooLarge { file }
            | Self::NotPem { file }
            | Self::NoCertificate { file }
            | Self::NoKey { file }
            | Self::EncryptedKey { file }
            | Self::BadCertificate { file, .. }
            | Self::BadKey { file, .. } => Some(file),
            Self::Mismatch { .. } | Self::Library { .. } => None,
        }
    }

    /// How to put it right.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { error, .. } => match error.kind() {
                io::ErrorKind::NotFound => "see that the path is right; relative paths begin where the process was started",
                io::ErrorKind::PermissionDenied => "the user that the process runs as must be able to read it",
                _ => "the process must be able to read it",
            },
            Self::TooLarge { .. } => "name the file of the certificate chain, which has a few kilobytes",
            Self::NotPem { .. } => {
                "PEM is text that begins with -----BEGIN; from DER: openssl x509 -inform der -in FILE -out FILE.pem (a key: openssl pkey)"
            }
            Self::NoCertificate { .. } => "name the file with -----BEGIN CERTIFICATE-----; perhaps certificate and key are swapped",
            Self::NoKey { .. } => "name the file with -----BEGIN PRIVATE KEY-----; perhaps certificate and key are swapped",
            Self::EncryptedKey { .. } => "take the passphrase away: openssl pkey -in FILE -out FILE.clear, readable for this user only",
            Self::BadCertificate { .. } => "ask for a new certificate, or see it with: openssl x509 -in FILE -noout -text",
            Self::BadKey { .. } => "use an RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519 key",
            Self::Mismatch { .. } => {
                "name the key that the certificate was asked for with; in a chain the server's own certificate comes first"
            }
            Self::Library { .. } => "this is a fault of the build, not of the files",
        }
    }
}

/// Where certificate and key stand.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Files {
    pub(super) fn read(&self) -> Result<Texts, TlsError> {
        let (certificate, key) = (read(&self.certificate)?, read(&self.key)?);
        let names = (self.certificate.clone(), self.key.clone());
        Ok(Texts { certificate, key, names })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(FILE_MAX + 1).read_to_end(&mut text));
    match read {
        Err(error) => Err(TlsError::Unreadable { file: file.to_owned(), error }),
        Ok(len) if len as u64 > FILE_MAX => Err(TlsError::TooLarge { file: file.to_owned() }),
        Ok(_) => Ok(text),
    }
}

/// What the two files hold.
pub(super) struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// How errors call them.
    names: (PathBuf, PathBuf),
}

/// A certificate that can be shown.
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
    /// Of the texts that it comes from.
    pub(super) print: u64,
}

impl Texts {
    pub(super) fn given(certificate: &[u8], key: &[u8]) -> Self {
        Self { certificate: certificate.to_vec(), key: key.to_vec(), names: ("the given certificate".into(), "the given key".into()) }
    }

    /// Differs where the texts do. Means nothing to another process.
    pub(super) fn print(&self) -> u64 {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        HASHER.hash_one((&self.certificate, &self.key))
    }

    pub(super) fn parse(&self, provider: &CryptoProvider) -> Result<Pair, TlsError> {
        let (certificate, key) = &self.names;
        let chain = chain(&self.certificate, certificate)?;
        let secret = private_key(&self.key, key)?;
        let bad_certificate = |why: &dyn Display| TlsError::BadCertificate { file: certificate.clone(), why: why.to_string() };
        let (_, own) = x509_parser::parse_x509_certificate(&chain[0]).map_err(|error| bad_certificate(&error))?;
        let time = |timestamp: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(timestamp.max(0) as u64);
        let (from, until) = (time(own.validity().not_before.timestamp()), time(own.validity().not_after.timestamp()));
        let secret = provider.key_provider.load_private_key(secret);
        let secret = secret.map_err(|error| TlsError::BadKey { file: key.clone(), why: error.to_string() })?;
        let pair = CertifiedKey::new(chain, secret);
        match pair.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(TlsError::Mismatch { certificate: certificate.clone(), key: key.clone() }),
            Err(error) => return Err(bad_certificate(&error)),
        }
        Ok(Pair { key: Arc::new(pair), from, until, print: self.print() })
    }
}

fn chain(text: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(text).collect();
    let file = file.to_owned();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) if holds(text, "-----BEGIN") => Err(TlsError::NoCertificate { file }),
        Ok(_) => Err(TlsError::NotPem { file }),
        Err(error) => Err(TlsError::BadCertificate { file, why: error.to_string() }),
    }
}

fn private_key(text: &[u8], file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let found = PrivateKeyDer::from_pem_slice(text);
    let file = file.to_owned();
    if holds(text, "-----BEGIN ENCRYPTED PRIVATE KEY") || holds(text, "Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::EncryptedKey { file });
    }
    match found {
        Ok(key) => Ok(key),
        Err(PemError::NoItemsFound) if holds(text, "-----BEGIN") => Err(TlsError::NoKey { file }),
        Err(PemError::NoItemsFound) => Err(TlsError::NotPem { file }),
        // What a parser says of a key's bytes may hold some of them.
        Err(_) => Err(TlsError::BadKey { file, why: "its PEM is damaged".to_owned() }),
    }
}

fn holds(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|part| part == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;

    use super::*;

    #[test]
    fn each_mistake_is_named_with_its_file_and_its_cure() {
        let (one, other) = (made(), made());
        let (cert, key) = (one.0.as_bytes(), one.1.as_bytes());
        check(cert, key, None);
        check(b"\x30\x82\x01\x0a", key, Some("the given certificate is not PEM"));
        check(b"", key, Some("the given certificate is not PEM"));
        check(key, key, Some("the given certificate holds no certificate"));
        check(cert, b"nothing", Some("the given key is not PEM"));
        check(cert, cert, Some("the given key holds no private key"));
        check(cert, other.1.as_bytes(), Some("the key in the given key is not that of the first certificate in the given certificate"));
        let chain = [other.0.as_bytes(), cert].concat();
        check(&chain, key, Some("the key in the given key is not that of the first certificate in the given certificate"));
        check(&[cert, other.0.as_bytes()].concat(), key, None);
        let encrypted = one.1.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        check(cert, encrypted.as_bytes(), Some("the key in the given key needs a passphrase"));
        let damaged = one.1.replacen("MIG", "!!!", 1);
        check(cert, damaged.as_bytes(), Some("the key in the given key cannot be used: its PEM is damaged"));
        let cut = one.0.replacen("MII", "MIA", 1);
        assert!(matches!(parse(cut.as_bytes(), key), Err(TlsError::BadCertificate { .. })));
        assert!(matches!(Files { certificate: "nowhere.pem".into(), key: "x".into() }.read(), Err(TlsError::Unreadable { .. })));
    }

    #[track_caller]
    fn check(certificate: &[u8], key: &[u8], expected: Option<&str>) {
        let error = parse(certificate, key).err();
        assert_eq!(error.as_ref().map(ToString::to_string).as_deref(), expected);
        assert!(error.is_none_or(|error| !error.hint().is_empty()));
    }

    fn parse(certificate: &[u8], key: &[u8]) -> Result<Pair, TlsError> {
        Texts::given(certificate, key).parse(&aws_lc_rs::default_provider())
    }

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }
}
