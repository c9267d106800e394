//! Who a client of the binary is: the bearer of a token, or nobody in particular where that is allowed.

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker::{ConnectRequest, Identity, Refusal};
use broker_auth::{Claims, HmacTokens};

/// How long a token lives that dev mode hands out.
const TRIAL: Duration = Duration::from_secs(24 * 3600);

/// The hook that says who a client is. A token that is there must hold, also where none is needed.
pub fn identify(
    tokens: Arc<HmacTokens>,
    anonymous: bool,
) -> impl Fn(ConnectRequest) -> Ready<Result<Identity, Refusal>> + Send + Sync + 'static {
    move |request| {
        ready(match request.connect.token.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => tokens.verify(token, SystemTime::now()),
            None if anonymous => Ok(Identity::anonymous()),
            None => Err(Refusal::unauthorized("connecting needs a token")
                .hint("ask your backend for a token and send it with the connect")
                .rule("client.anonymous is false")),
        })
    }
}

/// A client with a token is its bearer; the application is asked about any other.
pub fn bearer_or_ask<T, H, A>(bearer: T, ask: H) -> impl Fn(ConnectRequest) -> Identifying + Send + Sync + 'static
where
    T: Fn(ConnectRequest) -> Ready<Result<Identity, Refusal>> + Send + Sync + 'static,
    H: Fn(ConnectRequest) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Identity, Refusal>> + Send + 'static,
{
    move |request| {
        if request.connect.token.as_deref().is_some_and(|token| !token.is_empty()) {
            return Box::pin(bearer(request));
        }
        Box::pin(ask(request))
    }
}

/// The answer to who a client is, in its time.
pub type Identifying = Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send>>;

/// A token to try the broker with.
pub fn trial_token(tokens: &HmacTokens) -> String {
    tokens.create(&Claims::user("dev").expires_at(SystemTime::now() + TRIAL))
}
