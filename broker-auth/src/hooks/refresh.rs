//! The hook `refresh`: how long do these credentials hold on?

use broker_core::{RefreshRequest, Refusal, RefusalKind, Renewal};
use http::HeaderMap;

use super::{
    answer::{Verdict, read},
    ask::{Who, body},
    ended,
    endpoint::Endpoint,
};

// spec: Centrifugo proxies, "RefreshResult". What it says of `info` and `meta` is not taken over: a new identity comes with a new connect.
pub(super) async fn ask(endpoint: &Endpoint, request: RefreshRequest) -> Result<Renewal, Refusal> {
    let answered = endpoint.call(body(&Who::of(&request.subject)), HeaderMap::new(), |answer| match read(answer)? {
        Verdict::Result(result) if result.flag("expired")? => Ok(Err(expired())),
        Verdict::Result(result) => Ok(Ok(result.moment("expire_at")?.map_or_else(Renewal::forever, Renewal::until))),
        Verdict::Error(refusal) => Ok(Err(refusal)),
        Verdict::Disconnect(ending) => Ok(Err(ended(ending))),
    });
    answered.await.map_err(|failed| failed.refusal(endpoint.hook()))?
}

fn expired() -> Refusal {
    Refusal::new(RefusalKind::TokenExpired, "the application does not renew these credentials").rule("the refresh hook answered `expired`")
}
