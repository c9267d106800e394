//! Tokens signed with one shared secret: reading and making them. What the claims mean does not live here.

use std::{fmt, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_core::{Identity, Refusal};
use jsonwebtoken::EncodingKey;

use crate::{Algorithm, Claims, Key, SubscriptionClaims, TokenOptions, Tokens, WeakSecret, key::PROVIDER, secret};

/// The header of every token that is made here.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Reads and makes tokens that are signed with one shared secret; those it makes are signed with HS256.
///
/// The general reader, for key pairs and several keys, is [`Tokens`].
pub struct HmacTokens {
    verifier: Tokens,
    signing: EncodingKey,
}

impl HmacTokens {
    /// Takes a secret of at least 32 bytes; it reads what [`Key::secret`] accepts.
    pub fn new(secret: impl AsRef<[u8]>, options: TokenOptions) -> Result<Self, WeakSecret> {
        let secret = secret.as_ref();
        secret::check(secret)?;
        let key = Key::secret(secret).expect("the secret was checked");
        Ok(Self { verifier: Tokens::new(options).key(key), signing: EncodingKey::from_secret(secret) })
    }

    /// Who the token says its bearer is, if it was signed with the secret and holds at `now`; see [`Tokens::verify`].
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        self.verifier.verify_now(token, now)
    }

    /// The reader alone.
    pub fn verifier(&self) -> &Tokens {
        &self.verifier
    }

    /// A signed token that says this.
    pub fn create(&self, claims: &Claims) -> String {
        self.sign(&claims.to_json())
    }

    /// A signed token that lets its user subscribe to one topic.
    pub fn create_for_subscription(&self, claims: &SubscriptionClaims) -> String {
        self.sign(&claims.to_json())
    }

    fn sign(&self, claims: &[u8]) -> String {
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signer = (PROVIDER.signer_factory)(&Algorithm::Hs256.of_crate(), &self.signing).expect("the key was made from a shared secret");
        let signature = signer.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

impl fmt::Debug for HmacTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HmacTokens").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}
