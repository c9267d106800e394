//! Tickets: short texts for a URL that stand for claims, once. Where they are kept is the registry's business.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_core::{Identity, Refusal, Registry, Unavailable};

use crate::{
    Claims,
    claims::{self, Checks},
};

/// How long a ticket holds.
const HOLDS: Duration = Duration::from_secs(30);

/// Random bytes of a ticket.
const LEN: usize = 32;

/// Makes and redeems tickets: what stands in a URL in place of a token, which logs and histories would keep. A ticket holds for 30 s, opens one
/// connection, and is worth nothing afterwards.
#[derive(Clone)]
pub struct Tickets {
    registry: Arc<dyn Registry>,
}

/// Why no ticket was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The claims would be refused in a token as well.
    #[error("{0}")]
    Claims(#[source] Refusal),
    /// The registry did not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl Tickets {
    /// Tickets that this registry keeps.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry }
    }

    /// How long a ticket holds: 30 s.
    pub fn hold(&self) -> Duration {
        HOLDS
    }

    /// A ticket that stands for these claims: 43 bytes of base64url. Claims that do not say when they were made, were made now.
    ///
    /// Not cancel-safe: a ticket may be kept that nobody knows; it goes after its time.
    pub async fn create(&self, claims: &Claims) -> Result<String, TicketError> {
        let mut claims = claims.clone();
        claims.issued_at.get_or_insert_with(SystemTime::now);
        let content = claims.to_json();
        claims::read(&content, &checks(SystemTime::now())).map_err(TicketError::Claims)?;
        let mut random = [0; LEN];
        getrandom::fill(&mut random).map_err(|_| TicketError::Random)?;
        let ticket = URL_SAFE_NO_PAD.encode(random);
        self.registry.put_ticket(&ticket, content.into(), HOLDS).await?;
        Ok(ticket)
    }

    /// Who the bearer of the ticket is; the second to ask is refused.
    ///
    /// Not cancel-safe: a ticket may be used up without an answer.
    pub async fn redeem(&self, ticket: &str) -> Result<Identity, Refusal> {
        let refused = || {
            Refusal::unauthorized("the ticket is not known: it was used, or is older than 30 s")
                .hint("ask the application for a new ticket for each connection")
        };
        // What cannot be a ticket does not bother the registry.
        if URL_SAFE_NO_PAD.decode(ticket).map_or(0, |bytes| bytes.len()) != LEN {
            return Err(refused());
        }
        let taken = self.registry.take_ticket(ticket).await;
        let content = taken.map_err(|error| Refusal::unavailable("the tickets cannot be read").rule(error.to_string()))?;
        let identity = claims::read(&content.ok_or_else(refused)?, &checks(SystemTime::now()))?;
        Ok(identity.rule("ticket"))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// The server itself made the ticket: no issuer and no audience to check.
fn checks(now: SystemTime) -> Checks<'static> {
    Checks { now, leeway: Duration::ZERO, issuer: None, audience: &[], user_claim: "sub", section: "ticket" }
}
