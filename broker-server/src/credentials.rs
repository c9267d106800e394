//! Who a client of the binary is: the bearer of a token or a ticket, or nobody in particular where that is allowed.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker::{ConnectRequest, Identity, Refusal};
use broker_auth::{Claims, HmacTokens, Tickets, Tokens};

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
        move |request| {
            let this = self.clone();
            Box::pin(async move { this.identity(request).await })
        }
    }

    async fn identity(&self, request: ConnectRequest) -> Result<Identity, Refusal> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(request.connect.token) {
            return self.tokens.verify(&token, SystemTime::now()).await;
        }
        match given(request.connect.ticket) {
            Some(ticket) => self.tickets.redeem(&ticket).await,
            None if self.anonymous => Ok(Identity::anonymous()),
            None => Err(Refusal::unauthorized("connecting needs a token")
                .hint("ask your backend for a token and send it with the connect")
                .rule("client.anonymous is false")),
        }
    }
}

/// The answer of the hook.
pub type Identifying = std::pin::Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send>>;

/// A token to try the broker with.
pub fn trial_token(tokens: &HmacTokens) -> String {
    let now = SystemTime::now();
    tokens.create(&Claims::user("dev").issued_at(now).expires_at(now + TRIAL))
}
