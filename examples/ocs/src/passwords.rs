//! Passwords, hashed with argon2. Few at a time: each costs memory and a core on purpose.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

/// Most hashes that are computed at the same time.
const AT_ONCE: usize = 2;

/// How passwords are hashed. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Passwords {
    params: Params,
    places: Arc<Semaphore>,
    /// Looked at where there is no such user, so that an answer takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    pub(crate) fn new(are_cheap: bool) -> anyhow::Result<Self> {
        let params = if are_cheap { Params::new(8, 1, 1, None)? } else { Params::default() };
        let mut passwords = Self { params, places: Arc::new(Semaphore::new(AT_ONCE)), nobody: "".into() };
        passwords.nobody = passwords.hash("nobody")?.into();
        Ok(passwords)
    }

    /// Blocks.
    pub(crate) fn hash(&self, password: &str) -> anyhow::Result<String> {
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone());
        Ok(argon.hash_password(password.as_bytes()).map_err(|error| anyhow::anyhow!("a password was not hashed: {error}"))?.to_string())
    }

    /// Whether the password is the one of this hash; `None`: there is no such user, and it is not.
    pub(crate) async fn are_right(&self, password: String, hash: Option<String>) -> bool {
        let Ok(_place) = self.places.acquire().await else { return false };
        let nobody = Arc::clone(&self.nobody);
        let looking = tokio::task::spawn_blocking(move || {
            let is_somebody = hash.is_some();
            let hash = hash.unwrap_or_else(|| nobody.to_string());
            let Ok(hash) = PasswordHash::new(&hash) else { return false };
            Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && is_somebody
        });
        looking.await.unwrap_or(false)
    }
}
