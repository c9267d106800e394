//! JSON Web Keys, alone and in sets. What a key accepts lives above.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{InvalidKey, Key};
use crate::Algorithm;

/// Most keys in a set.
pub(crate) const SET_MAX_LEN: usize = 64;

/// A key as it is written; what it says of certificates (`x5u`, `x5c`) is never looked at.
#[derive(Deserialize)]
struct Written {
    kty: String,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    k: Option<String>,
    #[serde(default)]
    d: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WrittenSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// Reads one key.
pub(super) fn read(json: &str) -> Result<Key, InvalidKey> {
    if !json.trim_start().starts_with('{') {
        return Err(InvalidKey::Jwk { what: "it is no JSON object" });
    }
    let written: Written = serde_json::from_str(json).map_err(|_| InvalidKey::Jwk { what: "it is no JSON object with `kty`" })?;
    if written.kty != "oct" && written.d.is_some() {
        return Err(InvalidKey::Private);
    }
    let is_to_verify = written.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
        && written.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    if !is_to_verify {
        return Err(InvalidKey::Jwk { what: "its `use` or `key_ops` says that it is not for signatures" });
    }
    let mut key = match (&*written.kty, written.crv.as_deref()) {
        ("RSA", _) => Key::rsa(&bytes(written.n, "`n` is missing or no base64url")?, &bytes(written.e, "`e` is missing or no base64url")?)?,
        ("EC", Some("P-256")) => Key::ec(&point(written.x, written.y, 32)?)?,
        ("EC", Some("P-384")) => Key::ec(&point(written.x, written.y, 48)?)?,
        ("OKP", Some("Ed25519")) => Key::ed(&bytes(written.x, "`x` is missing or no base64url")?)?,
        ("oct", _) => Key::secret(bytes(written.k, "`k` is missing or no base64url")?)?,
        _ => return Err(InvalidKey::Kind),
    };
    if let Some(name) = &written.alg {
        // Ed25519 is the newer name of the one algorithm that its keys have.
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        key = key.only(Algorithm::named(name).ok_or(InvalidKey::Jwk { what: "its `alg` is not known" })?)?;
    }
    match &written.kid {
        Some(id) => key.id(id),
        None => Ok(key),
    }
}

/// Reads the keys of a set that verify tokens; others in it are for somebody else and are passed over, shared secrets too: what many can fetch is
/// no secret. `Err`: the text is no set.
pub(crate) fn read_set(json: &[u8]) -> Result<Vec<Key>, &'static str> {
    let set: WrittenSet<'_> = serde_json::from_slice(json).map_err(|_| "the answer is no JSON object with a list `keys`")?;
    if set.keys.len() > SET_MAX_LEN {
        return Err("the answer holds more than 64 keys");
    }
    let keys = set.keys.iter().filter_map(|key| read(key.get()).ok());
    Ok(keys.filter(|key| !Algorithm::HMAC.contains(&key.algorithms()[0])).collect())
}

fn bytes(text: Option<String>, what: &'static str) -> Result<Vec<u8>, InvalidKey> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()).ok_or(InvalidKey::Jwk { what })
}

fn point(x: Option<String>, y: Option<String>, len: usize) -> Result<Vec<u8>, InvalidKey> {
    let what = "`x` or `y` is missing, no base64url, or not as long as the curve asks";
    let (x, y) = (bytes(x, what)?, bytes(y, what)?);
    if x.len() != len || y.len() != len {
        return Err(InvalidKey::Jwk { what });
    }
    Ok([&[4], &*x, &*y].concat())
}
