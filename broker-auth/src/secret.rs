//! Which secrets are too weak to sign with. Signing itself does not live here.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The shortest secret, in bytes: as long as the hash, as RFC 7518 section 3.2 asks of HS256.
const MIN_LEN: usize = 32;

/// Why a text cannot be the secret of tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeakSecret {
    /// The secret has no bytes: anybody could sign.
    #[error("the secret is empty; make one of at least {MIN_LEN} random bytes, for example with `openssl rand -hex 32`")]
    Empty,
    /// The secret could be guessed from one token.
    #[error("the secret has {len} bytes, at least {MIN_LEN} are needed; make one with `openssl rand -hex 32`")]
    TooShort {
        /// Length of the refused secret, in bytes.
        len: usize,
    },
    /// Not a secret but a public key, which everybody may have: with it anybody could sign.
    #[error("the secret is a key of a key pair, not a shared secret; give a public key as `public_key` or `public_key_file`")]
    AsymmetricKey,
}

/// Refuses a secret that does not protect.
pub(crate) fn check(secret: &[u8]) -> Result<(), WeakSecret> {
    match secret.len() {
        0 => Err(WeakSecret::Empty),
        _ if is_asymmetric_key(secret) => Err(WeakSecret::AsymmetricKey),
        len if len < MIN_LEN => Err(WeakSecret::TooShort { len }),
        _ => Ok(()),
    }
}

/// Whether the bytes are a key in PEM, in DER, in DER as base64, or as a JSON Web Key.
// S3: a public key taken as the secret of HS256 lets everybody who knows it sign.
fn is_asymmetric_key(secret: &[u8]) -> bool {
    let text = secret.trim_ascii();
    if text.starts_with(b"-----BEGIN ") || text.starts_with(b"ssh-") || is_der_sequence(secret) {
        return true;
    }
    if text.starts_with(b"{") {
        return serde_json::from_slice::<serde_json::Value>(text).is_ok_and(|key| key.get("kty").is_some());
    }
    let joined: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(joined).is_ok_and(|der| is_der_sequence(&der))
}

/// Whether the bytes are one ASN.1 sequence from the first to the last byte: every key in DER is, random bytes practically never are.
fn is_der_sequence(bytes: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    let [SEQUENCE, len, rest @ ..] = bytes else { return false };
    match (*len, rest) {
        (0x00..=0x7f, rest) => usize::from(*len) == rest.len(),
        (0x81, [len, rest @ ..]) => usize::from(*len) == rest.len(),
        (0x82, [high, low, rest @ ..]) => usize::from(u16::from_be_bytes([*high, *low])) == rest.len(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_at_least_32_bytes() {
        assert_eq!(check(b""), Err(WeakSecret::Empty));
        assert_eq!(check(b"secret"), Err(WeakSecret::TooShort { len: 6 }));
        assert_eq!(check(&[b'x'; 31]), Err(WeakSecret::TooShort { len: 31 }));
        assert_eq!(check(&[b'x'; 32]), Ok(()));
    }

    #[test]
    fn a_public_key_is_no_secret_in_any_encoding() {
        // An RSA-sized SubjectPublicKeyInfo: only its outermost length matters here.
        let mut der = vec![0x30, 0x82, 0x01, 0x22];
        der.extend([7; 0x122]);
        let base64 = STANDARD.encode(&der);
        let lines = base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n");
        for key in [
            der.clone(),
            base64.clone().into_bytes(),
            lines.clone().into_bytes(),
            format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n").into_bytes(),
            format!("\n-----BEGIN RSA PUBLIC KEY-----\n{lines}\n-----END RSA PUBLIC KEY-----").into_bytes(),
            br#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4","e":"AQAB"}"#.to_vec(),
        ] {
            assert_eq!(check(&key), Err(WeakSecret::AsymmetricKey), "{}", String::from_utf8_lossy(&key));
        }
        let mut longer = der;
        longer.push(0);
        assert_eq!(check(&longer), Ok(()), "bytes that only begin like a key are random bytes");
    }
}
