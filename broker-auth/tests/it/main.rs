//! Behaviour of connection tokens, through the public API.

mod bad_tokens;
mod good_tokens;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use broker_auth::{HmacTokens, TokenOptions};
use jsonwebtoken::{Algorithm, EncodingKey};

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
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}
