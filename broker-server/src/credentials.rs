//! Who a client of the binary is: the bearer of a token or a ticket, or nobody in particular where that is allowed.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker::{ConnectRequest, Identity, Refusal, RefusalKind};
use broker_auth::{Claims, HmacTokens, TicketError, Tickets, Tokens};
use broker_http::TicketMaker;
use bytes::Bytes;

/// How long a token lives that dev mode hands out.
const TRIAL: Duration = Duration::from_secs(24 * 3600);

/// Says who clients are. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Keys of connection tokens.
    pub tokens: Arc<Tokens>,
    /// Tickets of this node's registry.
    pub tickets: Tickets,
    /// Whether a client may come without credentials.
    pub anonymous: bool,
}

impl Credentials {
    /// The hook that says who a client is. Credentials that are there must hold, also where none are needed.
    pub fn identify(self) -> impl Fn(ConnectRequest) -> Identifying + Send + Sync + 'static {
        let anonymous = self.anonymous;
        self.identify_or(move |_| ready(if anonymous { Ok(Identity::anonymous()) } else { Err(no_credentials()) }))
    }

    /// The same; the application says who a client without credentials is, and a client with a token where there is no key to verify it.
    pub fn identify_or<H, A>(self, ask: H) -> impl Fn(ConnectRequest) -> Identifying + Send + Sync + 'static
    where
        H: Fn(ConnectRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Identity, Refusal>> + Send + 'static,
    {
        let is_given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
        move |request| {
            if is_given(request.connect.token.as_deref()) && !self.tokens.is_empty() {
                let tokens = self.tokens.clone();
                return Box::pin(async move { tokens.verify(&request.connect.token.unwrap_or_default(), SystemTime::now()).await });
            }
            if is_given(request.connect.ticket.as_deref()) {
                let tickets = self.tickets.clone();
                return Box::pin(async move { tickets.redeem(&request.connect.ticket.unwrap_or_default()).await });
            }
            Box::pin(ask(request))
        }
    }
}

fn no_credentials() -> Refusal {
    Refusal::unauthorized("connecting needs a token")
        .hint("ask your backend for a token and send it with the connect")
        .rule("client.anonymous is false")
}

/// Makes the tickets that the server API gives out.
pub fn ticket_maker(tickets: Tickets) -> TicketMaker {
    let holds = tickets.hold();
    let make = move |claims: Bytes| {
        let tickets = tickets.clone();
        async move {
            tickets.create_from_json(&claims).await.map_err(|error| match error {
                // The backend's request is wrong, its credentials are not.
                TicketError::Claims(mut refusal) => {
                    refusal.kind = RefusalKind::BadRequest;
                    refusal
                }
                other => Refusal::unavailable("no ticket could be made").rule(other.to_string()),
            })
        }
    };
    TicketMaker::new(make).holds(holds)
}

/// The answer of the hook.
pub type Identifying = Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send>>;

/// A token to try the broker with.
pub fn trial_token(tokens: &HmacTokens) -> String {
    let now = SystemTime::now();
    tokens.create(&Claims::user("dev").issued_at(now).expires_at(now + TRIAL))
}
