//! The hook `refresh`: how long do these credentials hold on?

use broker_core::{RefreshRequest, Refusal, RefusalKind, Renewal};
use http::HeaderMap;

use super::{
    ask::{Who, body},
    decided,
    endpoint::Endpoint,
};

// spec: Centrifugo proxies, "RefreshResult". What it says of `info` and `meta` is not taken over: a new identity comes with a new connect.
pub(super) async fn ask(endpoint: &Endpoint, request: RefreshRequest) -> Result<Renewal, Refusal> {
    decided(endpoint, body(&Who::of(&request.subject)), HeaderMap::new(), |result| {
        if result.flag("expired")? {
            return Ok(Err(expired()));
        }
        Ok(Ok(result.moment("expire_at")?.map_or_else(Renewal::forever, Renewal::until)))
    })
    .await
}

fn expired() -> Refusal {
    Refusal::new(RefusalKind::TokenExpired, "the application does not renew these credentials").rule("the refresh hook answered `expired`")
}
