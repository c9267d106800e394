//! Public keys in PEM. What a key accepts lives above.

use jsonwebtoken::{DecodingKey, crypto::rust_crypto::DEFAULT_PROVIDER};

use super::{InvalidKey, Key};

/// Longest text that is looked at, in bytes: several times that of the largest key.
const MAX_LEN: usize = 16 * 1024;

pub(super) fn read(text: &str) -> Result<Key, InvalidKey> {
    let text = text.trim();
    if text.contains("PRIVATE KEY-----") {
        return Err(InvalidKey::Private);
    }
    if !text.starts_with("-----BEGIN ") || text.len() > MAX_LEN {
        return Err(InvalidKey::NoPem);
    }
    if text.starts_with("-----BEGIN CERTIFICATE-----") {
        // A certificate has an end and an issuer that nobody would look at.
        return Err(InvalidKey::NoPem);
    }
    let bytes = text.as_bytes();
    let content = |key: DecodingKey| key.try_get_as_bytes().map(<[u8]>::to_vec).map_err(|_| InvalidKey::Unreadable);
    if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        let parts = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(&content(key)?);
        let (modulus, exponent) = parts.map_err(|_| InvalidKey::Unreadable)?;
        return Key::rsa(&modulus, &exponent);
    }
    if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        return Key::ec(&content(key)?);
    }
    match DecodingKey::from_ed_pem(bytes) {
        Ok(key) => Key::ed(&content(key)?),
        Err(_) => Err(InvalidKey::Kind),
    }
}
