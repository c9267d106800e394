//! Behaviour of connection tokens, through the public API.

mod bad_tokens;
mod claims;
mod good_tokens;
mod hostile;
mod inspecting;
mod jwks;
#[cfg(feature = "jwks")]
mod jwks_over_http;
mod keys;
mod subscriptions;
mod tickets;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use broker_auth::{HmacTokens, TokenOptions};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::rust_crypto};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const NOW: u64 = 1_763_712_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn tokens() -> HmacTokens {
    HmacTokens::new(SECRET, TokenOptions::default()).unwrap()
}

/// A token with exactly this header and these claims, signed with HS256 whatever the header says.
fn signed(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    signed_with(SECRET.as_bytes(), header, claims)
}

fn signed_with(secret: &[u8], header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    signed_by(Algorithm::HS256, &EncodingKey::from_secret(secret), header, claims)
}

/// A token with exactly this header and these claims, whatever they say.
fn signed_by(algorithm: Algorithm, key: &EncodingKey, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signer = (rust_crypto::DEFAULT_PROVIDER.signer_factory)(&algorithm, key).unwrap();
    let signature = signer.try_sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64.encode(signature))
}

/// A pair of keys of the directory `tests/keys`; they are for tests and sign nothing else.
struct Pair {
    private: EncodingKey,
    public: &'static str,
}

impl Pair {
    fn rsa() -> Self {
        let private = EncodingKey::from_rsa_pem(include_bytes!("../keys/rsa.private.pem")).unwrap();
        Self { private, public: include_str!("../keys/rsa.pem") }
    }

    fn p256() -> Self {
        let private = EncodingKey::from_ec_pem(include_bytes!("../keys/p256.private.pem")).unwrap();
        Self { private, public: include_str!("../keys/p256.pem") }
    }

    fn p384() -> Self {
        let private = EncodingKey::from_ec_pem(include_bytes!("../keys/p384.private.pem")).unwrap();
        Self { private, public: include_str!("../keys/p384.pem") }
    }

    fn ed25519() -> Self {
        let private = EncodingKey::from_ed_pem(include_bytes!("../keys/ed25519.private.pem")).unwrap();
        Self { private, public: include_str!("../keys/ed25519.pem") }
    }

    fn sign(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        signed_by(algorithm, &self.private, header, claims)
    }
}
