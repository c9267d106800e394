//! Who makes the tickets that the server API gives out. How they are made and taken does not live here.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use broker_core::Refusal;
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Makes tickets: asked with the claims as a JSON object, in the words of a token, it answers with a ticket that opens one connection.
///
/// ```
/// use broker_http::{ApiOptions, TicketMaker};
///
/// let tickets = TicketMaker::new(|claims: bytes::Bytes| async move { Ok(format!("a-ticket-for-{}-bytes", claims.len())) });
/// let options = ApiOptions::default().tickets(tickets);
/// ```
#[derive(Clone)]
pub struct TicketMaker {
    make: Arc<dyn Fn(Bytes) -> BoxFuture<'static, Result<String, Refusal>> + Send + Sync>,
    holds: Option<Duration>,
}

impl TicketMaker {
    /// What makes a ticket of claims, or refuses them. Its future may be dropped before its end, when the request is.
    pub fn new<F, R>(make: F) -> Self
    where
        F: Fn(Bytes) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, Refusal>> + Send + 'static,
    {
        Self { make: Arc::new(move |claims| Box::pin(make(claims))), holds: None }
    }

    /// Sets how long a ticket can be used, which the answer tells. Keeping to it is the maker's business.
    pub fn holds(mut self, time: Duration) -> Self {
        self.holds = Some(time);
        self
    }

    pub(crate) fn make(&self, claims: Bytes) -> BoxFuture<'static, Result<String, Refusal>> {
        (self.make)(claims)
    }

    pub(crate) fn time(&self) -> Option<Duration> {
        self.holds
    }
}

impl fmt::Debug for TicketMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketMaker").field("holds", &self.holds).finish_non_exhaustive()
    }
}
