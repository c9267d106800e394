//! What a client may be told: credentials, names, times and bounds.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{Payload, Since};

/// How a client connects, waits and gives up. The defaults suit a service on the same continent.
///
/// ```
/// use std::time::Duration;
/// use broker_client::{ClientConfig, Tokens};
///
/// let config = ClientConfig::default().name("stock-bridge").tokens(Tokens::fixed("eyJh...")).backoff(Duration::from_millis(200), Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Credentials; `None`: anonymous.
    pub tokens: Option<Tokens>,
    /// What the client calls itself, for the server's log. Default: `rust`.
    pub name: String,
    /// The application's own data for the server's connect hook.
    pub data: Option<Payload>,
    /// The first wait before a reconnect is chance between 0 and this. Default: 500 ms.
    pub backoff_min: Duration,
    /// The wait's upper end doubles with each failure up to this. Default: 20 s.
    pub backoff_max: Duration,
    /// Time for name look-up, TCP, upgrade. Default: 5 s.
    pub dial_timeout: Duration,
    /// Time for the answer to one command, waiting for a connection included. Default: 10 s.
    pub call_timeout: Duration,
    /// Time for the application to find a token. Default: 30 s.
    pub token_timeout: Duration,
    /// Silence beyond the server's announced ping interval after which the connection is given up. Default: 10 s.
    pub silence_max: Duration,
    /// Longest frame that is sent; the server's limit. Default: 64 KiB.
    pub frame_max_bytes: usize,
    /// Longest message that is read. Default: 16 MiB.
    pub message_max_bytes: usize,
    /// Most calls without an answer; the next waits for its turn. Default: 1,024.
    pub calls_max: usize,
    /// How long a subscription whose queue is full may hold up the socket before its publications are dropped, and
    /// the loss is told as a [`Gap`](crate::Gap). Default: 5 s; keep it below `silence_max`.
    pub stall_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            tokens: None,
            name: "rust".to_owned(),
            data: None,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(20),
            dial_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            token_timeout: Duration::from_secs(30),
            silence_max: Duration::from_secs(10),
            frame_max_bytes: 64 * 1024,
            message_max_bytes: 16 * 1024 * 1024,
            calls_max: 1024,
            stall_timeout: Duration::from_secs(5),
        }
    }
}

impl ClientConfig {
    /// Sets the credentials.
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Sets what the client calls itself.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the data for the server's connect hook.
    pub fn data(mut self, data: Payload) -> Self {
        self.data = Some(data);
        self
    }

    /// Sets the bounds of the wait before a reconnect.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        (self.backoff_min, self.backoff_max) = (min, max.max(min));
        self
    }

    /// Sets the time for the answer to one command.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }
}

/// How one topic is listened to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscribeConfig {
    /// Where the first subscribe resumes from. Default: nothing, only what comes.
    pub since: Option<Since>,
    /// Whether a new connection resumes from the last position. Default: true.
    pub recover: bool,
    /// Whether to be told who comes and goes. Default: false.
    pub join_leave: bool,
    /// Credentials for this topic, where it asks for its own; those that are fetched are renewed before they end.
    pub tokens: Option<Tokens>,
    /// The application's own data for the server's subscribe hook.
    pub data: Option<Payload>,
    /// Events that wait for the application before the socket is held up. Default: 1,024; at least 1. The queue may
    /// grow to twice this while answers to commands are awaited.
    pub queue_max: usize,
    /// The same in bytes of payload. Default: 4 MiB.
    pub queue_max_bytes: usize,
}

impl Default for SubscribeConfig {
    fn default() -> Self {
        Self { since: None, recover: true, join_leave: false, tokens: None, data: None, queue_max: 1024, queue_max_bytes: 4 * 1024 * 1024 }
    }
}

impl SubscribeConfig {
    /// Sets where the first subscribe resumes from.
    pub fn since(mut self, since: Since) -> Self {
        self.since = Some(since);
        self
    }

    /// Sets whether a new connection resumes from the last position.
    pub fn recover(mut self, recover: bool) -> Self {
        self.recover = recover;
        self
    }

    /// Asks to be told who comes and goes.
    pub fn join_leave(mut self) -> Self {
        self.join_leave = true;
        self
    }

    /// Sets the credentials for this topic.
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Sets the data for the server's subscribe hook.
    pub fn data(mut self, data: Payload) -> Self {
        self.data = Some(data);
        self
    }

    /// Sets how many events wait for the application.
    pub fn queue_max(mut self, queue_max: usize) -> Self {
        self.queue_max = queue_max.max(1);
        self
    }
}

type FetchFuture = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;

/// Where tokens come from: one that never changes, or a function that finds a fresh one.
///
/// ```
/// use broker_client::{TokenError, Tokens};
///
/// let tokens = Tokens::fetch(|| async { std::fs::read_to_string("token").map_err(|error| TokenError::Unavailable(error.to_string())) });
/// ```
#[derive(Clone)]
pub struct Tokens(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(Arc<str>),
    Fetch(Arc<dyn Fn() -> FetchFuture + Send + Sync>),
}

impl Tokens {
    /// Always this token. When the server refuses it, the client closes: trying it again cannot help.
    pub fn fixed(token: impl Into<Arc<str>>) -> Self {
        Self(Kind::Fixed(token.into()))
    }

    /// Asks this function for a token when one is needed: before the first connect, when the server refuses the last
    /// one, and before it ends. The future is dropped after [`ClientConfig::token_timeout`].
    pub fn fetch<F, Fut>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        Self(Kind::Fetch(Arc::new(move || Box::pin(fetch()))))
    }

    pub(crate) fn fixed_token(&self) -> Option<&Arc<str>> {
        match &self.0 {
            Kind::Fixed(token) => Some(token),
            Kind::Fetch(_) => None,
        }
    }

    pub(crate) fn start(&self) -> FetchFuture {
        match &self.0 {
            Kind::Fixed(token) => Box::pin(std::future::ready(Ok(token.to_string()))),
            Kind::Fetch(fetch) => fetch(),
        }
    }
}

impl fmt::Debug for Tokens {
    /// Tokens are secrets: none is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Fixed(_) => "Tokens::fixed",
            Kind::Fetch(_) => "Tokens::fetch",
        })
    }
}

/// Why the application has no token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// Nobody is logged in, or may be: the client closes.
    #[error("the application has no token for this client")]
    Refused,
    /// The token could not be had this time: the client tries again.
    #[error("the token could not be fetched: {0}")]
    Unavailable(String),
}
