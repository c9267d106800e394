//! Tokens signed with a shared secret: HS256 and nothing else. What the claims mean does not live here.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_core::{Identity, Refusal};
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER as PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::{Claims, WeakSecret, claims, secret};

/// The header of every token that [`HmacTokens::create`] makes.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// How tokens are read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenOptions {
    /// How far the clocks of the application and the broker may differ, for `exp` and `nbf`. Default: 0 s.
    pub leeway: Duration,
    /// The longest token that is looked at, in bytes. Default: 8 KiB.
    pub token_max_bytes: usize,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self { leeway: Duration::ZERO, token_max_bytes: 8 * 1024 }
    }
}

impl TokenOptions {
    /// Sets how far the clocks may differ.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Sets the longest token that is looked at, in bytes.
    pub fn token_max_bytes(mut self, bytes: usize) -> Self {
        self.token_max_bytes = bytes;
        self
    }
}

/// Reads and makes tokens that are signed with one shared secret by HS256.
///
/// The algorithm is fixed by the key, never chosen by the token: `none`, key pairs and longer hashes are refused, so is a header with `crit`;
/// `kid`, `jku`, `x5u` and `jwk` are ignored.
pub struct HmacTokens {
    verifying: DecodingKey,
    signing: EncodingKey,
    options: TokenOptions,
}

impl HmacTokens {
    /// Takes a secret of at least 32 bytes.
    pub fn new(secret: impl AsRef<[u8]>, options: TokenOptions) -> Result<Self, WeakSecret> {
        let secret = secret.as_ref();
        secret::check(secret)?;
        Ok(Self { verifying: DecodingKey::from_secret(secret), signing: EncodingKey::from_secret(secret), options })
    }

    /// Who the token says its bearer is, if it was signed with the secret and holds at `now`.
    ///
    /// A token without `sub`, or with an empty one, is an anonymous user's. [`Identity::expires_at`] is `exp`: the session's own leeway is the engine's.
    /// Refusals are `Unauthorized` or `TokenExpired`; they say which check failed and quote nothing of the token.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let parts = Parts::split(token, self.options.token_max_bytes)?;
        check_header(&decode("header", parts.header)?)?;
        let signature = decode("signature", parts.signature)?;
        let verifier = (PROVIDER.verifier_factory)(&Algorithm::HS256, &self.verifying)
            .map_err(|_| Refusal::unauthorized("the token cannot be verified here").rule("client.token.hmac_secret is not usable"))?;
        verifier.verify(parts.signed.as_bytes(), &signature).map_err(|_| {
            Refusal::unauthorized("the token's signature does not match")
                .hint("sign with the secret that the server is configured with")
                .rule("client.token.hmac_secret is not the secret that the token was signed with")
        })?;
        claims::read(&decode("claims", parts.claims)?, now, self.options.leeway)
    }

    /// A signed token that says this.
    pub fn create(&self, claims: &Claims) -> String {
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_json(), &mut token);
        let signer = (PROVIDER.signer_factory)(&Algorithm::HS256, &self.signing).expect("the key was made from a shared secret");
        let signature = signer.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

impl fmt::Debug for HmacTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HmacTokens").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The three parts of a token, and the two of them that are signed.
struct Parts<'a> {
    signed: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str, max: usize) -> Result<Self, Refusal> {
        if token.is_empty() {
            return Err(Refusal::unauthorized("the token is empty"));
        }
        if token.len() > max {
            return Err(Refusal::unauthorized(format!("the token has {} bytes, at most {max} are allowed", token.len()))
                .rule("longer than client.token.max"));
        }
        let split = token.rsplit_once('.').and_then(|(signed, signature)| Some((signed, signed.split_once('.')?, signature)));
        match split {
            Some((signed, (header, claims), signature)) if !claims.contains('.') => Ok(Self { signed, header, claims, signature }),
            _ => {
                let parts = token.split('.').count();
                let refusal = Refusal::unauthorized(format!("the token has {parts} parts between dots, a signed token has 3"));
                Err(if token.starts_with("Bearer ") { refusal.hint("send the token alone, without `Bearer`") } else { refusal })
            }
        }
    }
}

fn decode(part: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::unauthorized(format!("the token's {part} is not base64url without padding")))
}

/// The fields of a header that decide something.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// Whether a field is there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Refuses every header but one of HS256.
// S3, S4: what the token says of its key is never followed; what it declares critical cannot be honoured.
fn check_header(json: &[u8]) -> Result<(), Refusal> {
    // An array would be read as the fields in their order.
    let object = Some(json).filter(|json| json.trim_ascii_start().starts_with(b"{"));
    let header: Header = object
        .and_then(|json| serde_json::from_slice(json).ok())
        .ok_or_else(|| Refusal::unauthorized("the token's header is not a JSON object with `alg`"))?;
    if header.alg != "HS256" {
        return Err(Refusal::unauthorized(match known_algorithm(&header.alg) {
            Some("none") => "the token is not signed, only HS256 is accepted".to_owned(),
            Some(name) => format!("the token is signed with {name}, only HS256 is accepted"),
            None => "the token names an unknown algorithm, only HS256 is accepted".to_owned(),
        })
        .rule("client.token.hmac_secret accepts HS256 alone"));
    }
    if header.crit {
        return Err(Refusal::unauthorized("the token's header has `crit`: it demands extensions that are not supported"));
    }
    Ok(())
}

/// The name of a registered algorithm: messages quote no other text of the token.
fn known_algorithm(name: &str) -> Option<&'static str> {
    const KNOWN: [&str; 13] =
        ["HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "none"];
    KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}
