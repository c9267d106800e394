//! Who makes the tickets that the server API gives out. How they are made and taken does not live here.

use std::{fmt, future::Future, sync::Arc};

use broker_core::Refusal;
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Makes tickets: asked with the claims as a JSON object, in the words of a token, it answers with a ticket that opens one connection.
///
/// ```
/// use broker_http::{ApiOptions, Tickets};
///
/// let tickets = Tickets::made_by(|claims: bytes::Bytes| async move { Ok(format!("a-ticket-for-{}-bytes", claims.len())) });
/// let options = ApiOptions::default().tickets(tickets);
/// ```
#[derive(Clone)]
pub struct Tickets(Arc<dyn Fn(Bytes) -> BoxFuture<'static, Result<String, Refusal>> + Send + Sync>);

impl Tickets {
    /// What makes a ticket of claims, or refuses them. Its future may be dropped before its end, when the request is.
    pub fn made_by<F, R>(make: F) -> Self
    where
        F: Fn(Bytes) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, Refusal>> + Send + 'static,
    {
        Self(Arc::new(move |claims| Box::pin(make(claims))))
    }

    pub(crate) fn make(&self, claims: Bytes) -> BoxFuture<'static, Result<String, Refusal>> {
        (self.0)(claims)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}
