//! The outside of a token: its three parts and its header. Whose signature it bears and what it claims does not live here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_core::Refusal;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::{Algorithm, Key, algorithm, key};

/// A token taken apart; nothing of it is believed yet.
pub(crate) struct Token<'a> {
    /// What the signature is over.
    pub(crate) signed: &'a [u8],
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<Box<str>>,
    /// The claims as JSON.
    pub(crate) claims: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart, and refuses a header that cannot be honoured.
    pub(crate) fn read(token: &'a str, bytes_max: usize, accepted: &[Algorithm], section: &str) -> Result<Self, Refusal> {
        let parts = Parts::split(token, bytes_max, section)?;
        let header = Header::read(&decode("header is", parts.header)?)?;
        let algorithm = header.algorithm(accepted, section)?;
        let signature = decode("signature is", parts.signature)?;
        Ok(Self {
            signed: parts.signed.as_bytes(),
            algorithm,
            key_id: header.key_id()?,
            claims: decode("claims are", parts.claims)?,
            signature,
        })
    }
}

/// The three parts of a token, and the two of them that are signed.
pub(crate) struct Parts<'a> {
    signed: &'a str,
    pub(crate) header: &'a str,
    pub(crate) claims: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn split(token: &'a str, max: usize, section: &str) -> Result<Self, Refusal> {
        if token.is_empty() {
            return Err(Refusal::unauthorized("the token is empty"));
        }
        if token.len() > max {
            return Err(Refusal::unauthorized(format!("the token has {} bytes, at most {max} are allowed", token.len()))
                .rule(format!("longer than {section}.max")));
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

pub(crate) fn decode(part: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::unauthorized(format!("the token's {part} not base64url without padding")))
}

/// The fields of a header that decide something; `jku`, `x5u`, `jwk` and `x5c` do not.
#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    #[serde(default, deserialize_with = "value")]
    pub(crate) kid: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) crit: bool,
}

/// Whether a field is there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A field that is there, `null` too.
fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

impl Header {
    pub(crate) fn read(json: &[u8]) -> Result<Self, Refusal> {
        // An array would be read as the fields in their order.
        let object = Some(json).filter(|json| json.trim_ascii_start().starts_with(b"{"));
        object
            .and_then(|json| serde_json::from_slice(json).ok())
            .ok_or_else(|| Refusal::unauthorized("the token's header is not a JSON object with `alg`"))
    }

    /// The algorithm, if some key is for it.
    // S3, S4: what the token says of its key is never followed; what it declares critical cannot be honoured.
    fn algorithm(&self, accepted: &[Algorithm], section: &str) -> Result<Algorithm, Refusal> {
        let Some(algorithm) = Algorithm::named(&self.alg).filter(|algorithm| accepted.contains(algorithm)) else {
            let only = algorithm::only(accepted);
            return Err(Refusal::unauthorized(match known_algorithm(&self.alg) {
                Some("none") => format!("the token is not signed, {only}"),
                Some(name) => format!("the token is signed with {name}, {only}"),
                None => format!("the token names an unknown algorithm, {only}"),
            })
            .rule(format!("the keys in [{section}] are for no other algorithm")));
        };
        if self.crit {
            return Err(Refusal::unauthorized("the token's header has `crit`: it demands extensions that are not supported"));
        }
        Ok(algorithm)
    }

    fn key_id(self) -> Result<Option<Box<str>>, Refusal> {
        match self.kid {
            None => Ok(None),
            Some(serde_json::Value::String(id)) if key::is_legal_id(&id) => Ok(Some(id.into())),
            Some(_) => {
                let message =
                    format!("the token's header has a `kid` that is not a string of 1 to {} printable ASCII bytes", Key::ID_MAX_LEN);
                Err(Refusal::unauthorized(message))
            }
        }
    }
}

/// The name of a registered algorithm: messages quote no other text of the token.
pub(crate) fn known_algorithm(name: &str) -> Option<&'static str> {
    const OTHERS: [&str; 3] = ["ES512", "ES256K", "none"];
    let ours = Algorithm::HMAC.iter().chain(Algorithm::OF_KEY_PAIRS).map(|algorithm| algorithm.name());
    ours.chain(OTHERS).find(|known| known.eq_ignore_ascii_case(name))
}
