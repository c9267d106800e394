//! Who somebody is: passwords, logins, the tokens and tickets that sockets are opened with.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use broker::{Identity, Refusal, Registry};
use broker_auth::{Claims, HmacTokens, Tickets, TokenOptions};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::{
    Refused,
    store::{
        Store,
        accounts::{self, Login, Name, Person},
        random_id,
    },
};

/// How long a token holds; pages renew theirs in time.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// The shortest and the longest password, in characters.
const PASSWORD_LEN: std::ops::RangeInclusive<usize> = 8..=200;
/// Passwords that are hashed at the same time: each takes its memory, and a core.
const HASHES_MAX: usize = 2;

/// Makes accounts, logins, tokens and tickets, and says who has them. Cloning copies a pointer.
#[derive(Clone)]
pub struct People(Arc<Shared>);

struct Shared {
    store: Store,
    tokens: HmacTokens,
    tickets: Tickets,
    hasher: Argon2<'static>,
    /// A hash that no password has, so that an unknown name takes as long as a wrong password.
    decoy: String,
    places: Semaphore,
}

/// How hard passwords are to guess from their hashes: Argon2id, with so much memory and so many passes. Default: what OWASP asks for.
#[derive(Clone, Copy, Debug)]
pub struct Hardness {
    /// Memory, in KiB; at least 8.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for Hardness {
    fn default() -> Self {
        Self { memory_kib: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST }
    }
}

/// A login that has just begun.
#[derive(Debug)]
pub struct Entered {
    /// It.
    pub login: Login,
    /// What the browser's cookie holds; only its hash is kept here.
    pub key: String,
}

impl People {
    /// People of this database. Tickets are kept in the registry, which nodes share.
    pub async fn new(store: &Store, registry: Arc<dyn Registry>, hardness: Hardness) -> anyhow::Result<Self> {
        let secret = store.read(accounts::token_secret).await?;
        let params = Params::new(hardness.memory_kib, hardness.passes, 1, None).map_err(|error| anyhow::anyhow!("argon2: {error}"))?;
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash(&hasher, &random_id::<16>());
        let tokens = HmacTokens::new(secret, TokenOptions::default())?;
        let places = Semaphore::new(HASHES_MAX);
        Ok(Self(Arc::new(Shared { store: store.clone(), tokens, tickets: Tickets::new(registry), hasher, decoy, places })))
    }

    /// Makes an account and logs it in.
    pub async fn sign_up(&self, name: &str, password: String) -> Result<Entered, Refused> {
        let name = Name::parse(name)?;
        if !PASSWORD_LEN.contains(&password.chars().count()) {
            let why = format!("has to have {} to {} characters", PASSWORD_LEN.start(), PASSWORD_LEN.end());
            return Err(Refused::Invalid { what: "the password", why });
        }
        let hashed = self.on_a_core(move |shared| hash(&shared.hasher, &password)).await;
        let person = self.0.store.write(move |transaction| accounts::sign_up(transaction, &name, &hashed)).await?;
        self.enter(person).await
    }

    /// Logs somebody in who has an account.
    pub async fn log_in(&self, name: String, password: String) -> Result<Entered, Refused> {
        let known = self.0.store.read(move |connection| accounts::by_name(connection, &name)).await?;
        let (person, hashed) = known.map_or_else(|| (None, self.0.decoy.clone()), |(person, hashed)| (Some(person), hashed));
        let is_right = self.on_a_core(move |shared| {
            PasswordHash::new(&hashed).is_ok_and(|hashed| shared.hasher.verify_password(password.as_bytes(), &hashed).is_ok())
        });
        match (is_right.await, person) {
            (true, Some(person)) => self.enter(person).await,
            _ => Err(Refused::WrongPassword),
        }
    }

    async fn enter(&self, person: Person) -> Result<Entered, Refused> {
        let key = random_id::<32>();
        let hashed = Sha256::digest(&key);
        let login = self.0.store.write(move |transaction| accounts::log_in(transaction, person, &hashed)).await?;
        Ok(Entered { login, key })
    }

    /// Runs what keeps a core busy, a few at a time.
    async fn on_a_core<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let _place = self.0.places.acquire().await.expect("nobody closes it");
        let shared = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&shared)).await.expect("hashing does not panic")
    }

    /// The login whose key a cookie holds.
    pub async fn by_key(&self, key: &str) -> Result<Login, Refused> {
        let hashed = Sha256::digest(key);
        self.0.store.read(move |connection| accounts::login_by_key(connection, &hashed)).await
    }

    /// The login that a token belongs to, for REST. A token of a login that has ended is refused.
    pub async fn by_token(&self, token: &str) -> Result<Login, Refusal> {
        let identity = self.0.tokens.verify(token, SystemTime::now())?;
        let id = identity.token_id.unwrap_or_default();
        Ok(self.0.store.read(move |connection| accounts::login_by_id(connection, &id)).await?)
    }

    /// Who opens a socket with this token.
    pub fn by_socket_token(&self, token: &str) -> Result<Identity, Refusal> {
        self.0.tokens.verify(token, SystemTime::now())
    }

    /// Who opens a socket with this ticket; nobody the second time.
    pub async fn by_ticket(&self, ticket: &str) -> Result<Identity, Refusal> {
        self.0.tickets.redeem(ticket).await
    }

    /// A token for this login, and when it ends.
    pub fn token(&self, login: &Login) -> (String, SystemTime) {
        let ends_at = SystemTime::now() + TOKEN_LIFE;
        (self.0.tokens.create(&claims(login).expires_at(ends_at)), ends_at)
    }

    /// A ticket for this login, and how long it holds.
    pub async fn ticket(&self, login: &Login) -> Result<(String, Duration), Refusal> {
        let ticket = self.0.tickets.create(&claims(login)).await;
        let ticket = ticket.map_err(|error| Refusal::unavailable("no ticket can be made at the moment").rule(error.to_string()))?;
        Ok((ticket, self.0.tickets.hold()))
    }
}

fn claims(login: &Login) -> Claims {
    Claims::user(&login.person.id).token_id(&login.id).issued_at(SystemTime::now())
}

fn hash(hasher: &Argon2<'_>, password: &str) -> String {
    hasher.hash_password(password.as_bytes()).expect("the parameters were checked, and there are random bytes").to_string()
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People").finish_non_exhaustive()
    }
}
