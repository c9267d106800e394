//! Keys that are fetched from their issuer and kept: one flight at a time, seldom, and old keys outlive an outage. How bytes are fetched lives in `http`.

#[cfg(feature = "jwks")]
pub(crate) mod http;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use broker_core::Refusal;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{Algorithm, Key, key::jwk};

/// Largest answer that is read, in bytes.
pub(crate) const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Least time between two fetches that brought keys.
const REFRESH_MIN: Duration = Duration::from_secs(30);

/// Least time from a fetch that failed to the next one.
const RETRY_MIN: Duration = Duration::from_secs(15);

/// Age from which keys are fetched anew when one is used.
const FRESH: Duration = Duration::from_secs(600);

/// Age at which keys that cannot be fetched anew are given up.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long an id stays unknown that a fetch did not bring.
const UNKNOWN: Duration = Duration::from_secs(60);

/// Most unknown ids that are kept.
const UNKNOWN_MAX: usize = 1024;

/// Where keys are fetched from: an HTTP client, or the application's own way.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// The JSON Web Key Set (RFC 7517, section 5) as it is. Bounded by five seconds from outside; what is longer than 256 KiB is refused.
    async fn fetch(&self) -> Result<Bytes, FetchFailed>;
}

/// Why keys could not be fetched, for the operator.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct FetchFailed(pub String);

/// The keys of one issuer from one address, fetched when they are needed and kept.
///
/// Fetched again after ten minutes, and when a token names a key that is not there; but at most once in 30 s (15 s after a failure), by one flight
/// that nobody's leaving interrupts. An id that a fetch did not bring is refused for a minute without another one. While fetching fails, the old
/// keys hold for 24 hours. Each value has its own keys: two issuers share nothing.
pub struct Jwks {
    source: Arc<dyn KeySource>,
    issuer: Option<Box<str>>,
    name: Box<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Arc<[Key]>,
    fetched_at: Option<Instant>,
    /// No fetch begins before.
    next_at: Option<Instant>,
    /// Ready when the fetch that is under way is over.
    flight: Option<watch::Receiver<()>>,
    failure: Option<FetchFailed>,
    /// Ids that a fetch did not bring, and when they were last looked for.
    unknown: HashMap<Box<str>, Instant>,
}

/// What the keys that are here say about a token.
enum Found {
    Key(Key),
    /// Not here, and a fetch may bring it.
    Missing,
    /// No fetch will bring it.
    Refused(Refusal),
}

impl Jwks {
    /// Keys from this source. `name` is for the log: the address without secrets. `issuer`: the one whose tokens the keys are for; `None`: any.
    pub fn from_source(source: Arc<dyn KeySource>, name: impl Into<Box<str>>, issuer: Option<&str>) -> Self {
        Self { source, issuer: issuer.map(Into::into), name: name.into(), state: Mutex::default() }
    }

    /// Whose tokens the keys are for; `None`: anybody's.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Where the keys come from, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fetches the keys unless they are fresh, and says how many there are. Cancel-safe: the fetch goes on.
    pub async fn refresh(self: &Arc<Self>) -> Result<usize, FetchFailed> {
        if !self.is_fresh() {
            self.fetched().await;
        }
        let state = self.state.lock();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(state.keys.len()),
        }
    }

    /// The key for a token that says this of it.
    pub(crate) async fn key(self: &Arc<Self>, algorithm: Algorithm, id: Option<&str>) -> Result<Key, Refusal> {
        match self.look(algorithm, id) {
            Found::Key(key) => {
                if !self.is_fresh() {
                    // The old key holds meanwhile.
                    self.take_off();
                }
                return Ok(key);
            }
            Found::Refused(refusal) => return Err(refusal),
            Found::Missing => {}
        }
        if !self.fetched().await {
            return Err(self.not_yet());
        }
        match self.look(algorithm, id) {
            Found::Key(key) => Ok(key),
            Found::Refused(refusal) => Err(refusal),
            Found::Missing => Err(self.missed(id)),
        }
    }

    fn look(&self, algorithm: Algorithm, id: Option<&str>) -> Found {
        let state = self.state.lock();
        if state.fetched_at.is_none_or(|at| at.elapsed() >= STALE_MAX) {
            return Found::Missing;
        }
        let mut keys = state.keys.iter().filter(|key| key.algorithms().contains(&algorithm));
        let Some(id) = id else {
            // Without a name each key would have to be tried, at the sender's wish.
            return match (keys.next(), keys.next()) {
                (Some(key), None) => Found::Key(key.clone()),
                (None, _) => Found::Missing,
                (Some(_), Some(_)) => Found::Refused(
                    Refusal::unauthorized("the token does not name its key, and there are several")
                        .hint("put the key's `kid` into the header"),
                ),
            };
        };
        match keys.find(|key| key.key_id() == Some(id)) {
            Some(key) => Found::Key(key.clone()),
            None if state.unknown.get(id).is_some_and(|at| at.elapsed() < UNKNOWN) => Found::Refused(self.unknown_key()),
            None => Found::Missing,
        }
    }

    fn is_fresh(&self) -> bool {
        self.state.lock().fetched_at.is_some_and(|at| at.elapsed() < FRESH)
    }

    /// Waits for a fetch, one that is under way or a new one. False: none may begin yet, or it failed.
    async fn fetched(self: &Arc<Self>) -> bool {
        let Some(mut flight) = self.take_off() else { return false };
        // The sender says nothing, it goes when the fetch is over.
        let _ = flight.changed().await;
        self.state.lock().failure.is_none()
    }

    /// Begins a fetch unless one is under way; `None`: it is too early for another.
    fn take_off(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let mut state = self.state.lock();
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return Some(flight.clone());
        }
        if state.next_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        // Should the source panic, this is what holds.
        state.next_at = Some(Instant::now() + REFRESH_MIN);
        state.failure = Some(FetchFailed("the fetch was broken off".to_owned()));
        let (over, flight) = watch::channel(());
        state.flight = Some(flight.clone());
        let this = Arc::clone(self);
        tokio::spawn(async move {
            this.fetch().await;
            drop(over);
        });
        Some(flight)
    }

    async fn fetch(&self) {
        let answer =
            timeout(FETCH_TIMEOUT, self.source.fetch()).await.unwrap_or_else(|_| Err(FetchFailed("no answer within 5 s".to_owned())));
        let keys = answer.and_then(|bytes| match bytes.len() {
            len if len > ANSWER_MAX_BYTES => Err(FetchFailed(format!("the answer is longer than {ANSWER_MAX_BYTES} bytes"))),
            _ => jwk::read_set(&bytes).map_err(|why| FetchFailed(why.to_owned())),
        });
        let now = Instant::now();
        let mut state = self.state.lock();
        match keys {
            Ok(keys) if keys.is_empty() => self.failed(&mut state, FetchFailed("the answer holds no key that verifies tokens".to_owned())),
            Ok(keys) => {
                if state.failure.take().is_some() || state.keys.len() != keys.len() {
                    tracing::info!(from = %self.name, keys = keys.len(), "keys of tokens were fetched");
                }
                state.keys = keys.into();
                state.fetched_at = Some(now);
                state.next_at = Some(now + REFRESH_MIN);
            }
            Err(failure) => self.failed(&mut state, failure),
        }
    }

    fn failed(&self, state: &mut State, failure: FetchFailed) {
        tracing::warn!(from = %self.name, error = %failure, kept = state.keys.len(), "keys of tokens could not be fetched");
        state.failure = Some(failure);
        state.next_at = Some(Instant::now() + RETRY_MIN);
    }

    /// A fetch did not bring the key.
    fn missed(&self, id: Option<&str>) -> Refusal {
        let mut state = self.state.lock();
        if let Some(id) = id {
            if state.unknown.len() >= UNKNOWN_MAX {
                state.unknown.retain(|_, at| at.elapsed() < UNKNOWN);
            }
            // Beyond the bound ids are looked up again, which the least time between fetches bounds as well.
            if state.unknown.len() < UNKNOWN_MAX {
                state.unknown.insert(id.into(), Instant::now());
            }
        }
        self.unknown_key()
    }

    fn unknown_key(&self) -> Refusal {
        Refusal::unauthorized("the token is signed with a key that its issuer does not publish")
            .rule(format!("{} holds no such key; `kid` or `alg` is another", self.name))
    }

    /// Nothing can be said before another fetch.
    fn not_yet(&self) -> Refusal {
        let state = self.state.lock();
        let wait = state.next_at.map_or(RETRY_MIN, |at| at.saturating_duration_since(Instant::now())).max(Duration::from_secs(1));
        let refusal = Refusal::unavailable(match &state.failure {
            None => "the key of the token is not known yet",
            Some(_) => "the keys of tokens cannot be fetched",
        });
        refusal.retry_after(wait).rule(match &state.failure {
            Some(failure) => format!("{}: {failure}", self.name),
            None => format!("{} was asked less than {} s ago", self.name, REFRESH_MIN.as_secs()),
        })
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("name", &self.name).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
