//! Bearer tokens that end: of viewers of the stock socket, and of the bridge at the exchange. How a session follows its token lives in `live`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{Json, http::header};
use broker::{Identity, Refusal, RefusalKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

/// Signs tokens and reads them.
#[derive(Clone)]
pub struct Tokens {
    sign: EncodingKey,
    read: DecodingKey,
    life: Duration,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is none of ours.
    #[error("the token is not one of ours")]
    Invalid,
}

/// What whoever asks for a token gets.
#[derive(Serialize)]
pub struct Issued {
    token: String,
    expires_in: u64,
}

impl Tokens {
    /// Tokens that hold for `life`, signed with this secret of at least 32 bytes.
    pub fn new(secret: &[u8], life: Duration) -> Self {
        Self { sign: EncodingKey::from_secret(secret), read: DecodingKey::from_secret(secret), life }
    }

    /// A secret that nobody can guess.
    pub fn fresh_secret() -> anyhow::Result<[u8; 32]> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        Ok(secret)
    }

    /// A token of this user.
    pub fn issue(&self, user: &str) -> Issued {
        let ends_at = SystemTime::now() + self.life;
        let claims = Claims { sub: user.to_owned(), exp: ends_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign).expect("a text and a number can be signed");
        Issued { token, expires_in: self.life.as_secs() }
    }

    /// Whose token it is, and until when.
    pub fn identity(&self, token: &str) -> Result<Identity, TokenError> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.read, &validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            _ => TokenError::Invalid,
        })?;
        Ok(Identity::user(claims.claims.sub).expires_at(UNIX_EPOCH + Duration::from_secs(claims.claims.exp)))
    }
}

impl Tokens {
    /// Who brings this token, or how they are refused.
    pub fn identify(&self, token: Option<&str>) -> Result<Identity, Refusal> {
        let Some(token) = token else { return Err(Refusal::unauthorized("this socket needs a bearer token")) };
        self.identity(token).map_err(|error| match error {
            TokenError::Expired => Refusal::new(RefusalKind::TokenExpired, error.to_string()),
            TokenError::Invalid => Refusal::unauthorized(error.to_string()),
        })
    }
}

impl Issued {
    /// As an answer that nobody keeps.
    pub fn answer(self) -> ([(header::HeaderName, &'static str); 1], Json<Self>) {
        ([(header::CACHE_CONTROL, "no-store")], Json(self))
    }

    /// The token itself, and nothing else.
    pub fn into_token(self) -> String {
        self.token
    }
}

/// A secret as a key that can be written down: hexadecimal digits.
pub fn key(secret: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    secret.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| char::from(DIGITS[usize::from(half)])).collect()
}
