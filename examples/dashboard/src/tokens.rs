//! Bearer tokens that end: of viewers of the stock socket, and of the bridge at the exchange. How a session follows its token lives in `live`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Json, http::header};
use broker::{Identity, Refusal, RefusalKind};
use broker_auth::{Claims, HmacTokens, TokenOptions};
use serde::Serialize;

/// Signs tokens and reads them.
#[derive(Clone)]
pub struct Tokens {
    tokens: Arc<HmacTokens>,
    life: Duration,
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
    pub fn new(secret: &[u8], life: Duration) -> anyhow::Result<Self> {
        Ok(Self { tokens: Arc::new(HmacTokens::new(secret, TokenOptions::default())?), life })
    }

    /// A secret that nobody can guess.
    pub fn fresh_secret() -> anyhow::Result<[u8; 32]> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        Ok(secret)
    }

    /// A token of this user.
    pub fn issue(&self, user: &str) -> Issued {
        let claims = Claims::user(user).expires_at(SystemTime::now() + self.life);
        Issued { token: self.tokens.create(&claims), expires_in: self.life.as_secs() }
    }

    /// Whose token it is, and until when.
    pub fn identity(&self, token: &str) -> Result<Identity, TokenError> {
        self.tokens.verify(token, SystemTime::now()).map_err(|refusal| match refusal.kind {
            RefusalKind::TokenExpired => TokenError::Expired,
            _ => TokenError::Invalid,
        })
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
