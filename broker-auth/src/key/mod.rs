//! Keys that tokens are verified with: what each accepts is fixed by its kind, never by the token. Reading them lives in `pem` and `jwk`.

pub(crate) mod jwk;
mod pem;

use std::fmt;

use jsonwebtoken::{
    DecodingKey,
    crypto::{CryptoProvider, rust_crypto},
};

use crate::{Algorithm, WeakSecret, secret};

/// What verifies: aws-lc where it is there, it is several times as fast for key pairs.
#[cfg(feature = "aws_lc_rs")]
pub(crate) static PROVIDER: &CryptoProvider = &jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
#[cfg(not(feature = "aws_lc_rs"))]
pub(crate) static PROVIDER: &CryptoProvider = &rust_crypto::DEFAULT_PROVIDER;

/// Fewest bits of an RSA modulus, as RFC 7518 section 3.3 asks.
const RSA_BITS_MIN: usize = 2048;

/// Most bits of an RSA modulus: what every provider verifies, and in bounded time.
const RSA_BITS_MAX: usize = 4096;

/// A key that tokens are verified with, and the algorithms that it is for.
///
/// ```
/// use broker_auth::{Algorithm, Key};
///
/// let key = Key::secret("a secret of at least 32 bytes, kept")?;
/// assert_eq!(key.algorithms(), [Algorithm::Hs256]);
/// # Ok::<(), broker_auth::InvalidKey>(())
/// ```
#[derive(Clone)]
pub struct Key {
    verifying: DecodingKey,
    accepted: &'static [Algorithm],
    id: Option<Box<str>>,
}

impl Key {
    /// Longest id, in bytes.
    pub const ID_MAX_LEN: usize = 128;

    /// A shared secret of at least 32 bytes. It is for HS256, from 48 bytes on for HS384 too, from 64 for HS512: no secret is shorter than the hash.
    pub fn secret(secret: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        let secret = secret.as_ref();
        secret::check(secret)?;
        let accepted = match secret.len() {
            ..48 => &Algorithm::HMAC[..1],
            48..64 => &Algorithm::HMAC[..2],
            _ => Algorithm::HMAC,
        };
        Ok(Self { verifying: DecodingKey::from_secret(secret), accepted, id: None })
    }

    /// A public key in PEM: RSA of 2048 to 4096 bits (RS256 to PS512), P-256 (ES256), P-384 (ES384), Ed25519 (EdDSA).
    pub fn public_pem(pem: &str) -> Result<Self, InvalidKey> {
        pem::read(pem)
    }

    /// A JSON Web Key (RFC 7517): a public key, or a shared secret (`oct`). Its `alg` narrows what it accepts, its `kid` is the id.
    pub fn jwk(json: &str) -> Result<Self, InvalidKey> {
        jwk::read(json)
    }

    /// Names the key: tokens that name another one in `kid` are not for it. 1 to 128 bytes of printable ASCII.
    pub fn id(mut self, id: &str) -> Result<Self, InvalidKey> {
        if !is_legal_id(id) {
            return Err(InvalidKey::Id);
        }
        self.id = Some(id.into());
        Ok(self)
    }

    /// Accepts this algorithm alone.
    pub fn only(mut self, algorithm: Algorithm) -> Result<Self, InvalidKey> {
        let at = self.accepted.iter().position(|accepted| *accepted == algorithm).ok_or(InvalidKey::NotFor { algorithm })?;
        self.accepted = &self.accepted[at..=at];
        Ok(self)
    }

    /// What it accepts.
    pub fn algorithms(&self) -> &'static [Algorithm] {
        self.accepted
    }

    /// The id, where it has one.
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether a token that says this of its key may be for this one.
    pub(crate) fn may_verify(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.accepted.contains(&algorithm) && (self.id.is_none() || id.is_none() || self.id.as_deref() == id)
    }

    /// Whether the signature is this key's.
    pub(crate) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &Vec<u8>) -> bool {
        let verifier = (PROVIDER.verifier_factory)(&algorithm.of_crate(), &self.verifying);
        self.accepted.contains(&algorithm) && verifier.is_ok_and(|verifier| verifier.verify(signed, signature).is_ok())
    }

    /// An RSA key from the bytes of its modulus and exponent.
    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, InvalidKey> {
        let trimmed = |bytes: &[u8]| bytes.iter().position(|byte| *byte != 0).map(|at| bytes[at..].to_vec()).unwrap_or_default();
        let (modulus, exponent) = (trimmed(modulus), trimmed(exponent));
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(InvalidKey::RsaBits { bits });
        }
        let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
        if exponent.len() > 4 || !is_odd || exponent == [1] {
            return Err(InvalidKey::Unreadable);
        }
        Ok(Self { verifying: DecodingKey::from_rsa_raw_components(&modulus, &exponent), accepted: Algorithm::RSA, id: None })
    }

    /// A key on a NIST curve from its point: 4, x, y.
    fn ec(point: &[u8]) -> Result<Self, InvalidKey> {
        let accepted: &'static [Algorithm] = match (point.len(), point.first()) {
            (65, Some(4)) => &[Algorithm::Es256],
            (97, Some(4)) => &[Algorithm::Es384],
            _ => return Err(InvalidKey::Kind),
        };
        Self { verifying: DecodingKey::from_ec_der(point), accepted, id: None }.on_its_curve()
    }

    /// A key of Ed25519.
    fn ed(public: &[u8]) -> Result<Self, InvalidKey> {
        if public.len() != 32 {
            return Err(InvalidKey::Kind);
        }
        Self { verifying: DecodingKey::from_ed_der(public), accepted: &[Algorithm::EdDsa], id: None }.on_its_curve()
    }

    /// Refuses a point that is not on the curve; this provider looks when the verifier is made.
    fn on_its_curve(self) -> Result<Self, InvalidKey> {
        let verifier = (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&self.accepted[0].of_crate(), &self.verifying);
        verifier.map(drop).map_err(|_| InvalidKey::Unreadable)?;
        Ok(self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("accepted", &self.accepted).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether a text can name a key: 1 to 128 bytes of printable ASCII.
// S4: the name is compared and nothing else; no path, address or query is ever made of it.
pub(crate) fn is_legal_id(id: &str) -> bool {
    (1..=Key::ID_MAX_LEN).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Why a text cannot be a key of tokens. No text of the key is quoted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The secret does not protect.
    #[error(transparent)]
    Secret(#[from] WeakSecret),
    /// Whoever has it can sign: the broker needs the public key only.
    #[error("this is a private key; give the broker the public one: `openssl pkey -in private.pem -pubout`")]
    Private,
    /// It is neither PEM nor a JSON Web Key.
    #[error("this is not a public key in PEM, which begins with `-----BEGIN PUBLIC KEY-----`")]
    NoPem,
    /// It is none of the kinds that are known.
    #[error("this kind of key is not known; RSA, P-256, P-384 and Ed25519 are")]
    Kind,
    /// The bytes are damaged.
    #[error("the key cannot be read; export it again with `openssl pkey -in private.pem -pubout`")]
    Unreadable,
    /// An RSA key that could be broken, or that takes too long to verify with.
    #[error("the RSA key has {bits} bits, {RSA_BITS_MIN} to {RSA_BITS_MAX} are needed; make one with `openssl genrsa 2048`")]
    RsaBits {
        /// Bits of its modulus.
        bits: usize,
    },
    /// A JSON Web Key without what its kind needs.
    #[error("this is not a JSON Web Key: {what}")]
    Jwk {
        /// What is missing or wrong.
        what: &'static str,
    },
    /// The key is for another algorithm.
    #[error("the key is not for {algorithm}")]
    NotFor {
        /// What was asked of it.
        algorithm: Algorithm,
    },
    /// The id is none.
    #[error("a key's id has 1 to {} bytes of printable ASCII", Key::ID_MAX_LEN)]
    Id,
}
