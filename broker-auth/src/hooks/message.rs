//! The hook `message`, ours: an application's own frame, and what is to be done about it.

use broker_core::{Action, MessageRequest, Payload, Publish, Refusal};
use http::HeaderMap;
use serde::Serialize;

use super::{
    answer::{Malformed, Object, Verdict, ending, read, refusal},
    ask::{Data, Who, body},
    endpoint::Endpoint,
    publish,
};

/// Most actions in one answer.
const ACTIONS_MAX: usize = 256;

#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    path: &'a str,
    #[serde(flatten)]
    data: Data<'a>,
}

/// Asks what is to be done, in its order.
pub(super) async fn ask(endpoint: &Endpoint, request: MessageRequest) -> Result<Vec<Action>, Refusal> {
    let MessageRequest { subject, data, path, .. } = &request;
    let written = body(&Request { who: Who::of(subject), path, data: Data::of(data) });
    let answered = endpoint.call(written, HeaderMap::new(), |answer| match read(answer)? {
        Verdict::Result(result) => actions(&result).map(Ok),
        Verdict::Error(refusal) => Ok(Err(refusal)),
        Verdict::Disconnect(ending) => Ok(Ok(vec![Action::Close { code: ending.code, reason: ending.reason.into() }])),
    });
    answered.await.map_err(|failed| failed.refusal(endpoint.hook()))?
}

fn actions(result: &Object<'_>) -> Result<Vec<Action>, Malformed> {
    let actions = result.objects("actions")?;
    if actions.len() > ACTIONS_MAX {
        return Err(result.malformed("actions", format!("has {} elements, at most {ACTIONS_MAX} are allowed", actions.len())));
    }
    actions.iter().map(action).collect()
}

fn action(action: &Object<'_>) -> Result<Action, Malformed> {
    const KNOWN: &str = "must hold one of `reply`, `subscribe`, `unsubscribe`, `publish`, `error` and `close`";
    let mut names = action.names();
    let (Some(name), None) = (names.next(), names.next()) else { return Err(action.malformed_itself(KNOWN)) };
    let Some(arguments) = action.object(name)? else { return Err(action.malformed_itself(KNOWN)) };
    let data = || arguments.payload()?.ok_or_else(|| arguments.malformed("data", "is missing"));
    Ok(match name {
        "reply" => Action::Reply(data()?),
        "subscribe" => Action::Subscribe(arguments.topic("channel")?),
        "unsubscribe" => Action::Unsubscribe(arguments.topic("channel")?),
        "publish" => Action::Publish(arguments.topic("channel")?, publication(&arguments, data()?)?),
        "error" => Action::Refuse(refusal(&arguments)?),
        "close" => {
            let ending = ending(&arguments)?;
            Action::Close { code: ending.code, reason: ending.reason.into() }
        }
        _ => return Err(action.malformed_itself(KNOWN)),
    })
}

fn publication(arguments: &Object<'_>, data: Payload) -> Result<Publish, Malformed> {
    let publish = publish::changed(arguments, Publish::new(data))?;
    Ok(match arguments.text("key")? {
        Some(key) => publish.key(key),
        None => publish,
    })
}
