//! What clients of the suites may call: an echo, and acts of the server on the session that calls.

use std::sync::{Arc, OnceLock};

use broker::{Broker, CallRequest, Payload, Publish, Refusal, RefusalKind, Target};
use serde::Deserialize;
use tokio::sync::Notify;

/// What `disconnect` takes.
#[derive(Deserialize)]
struct Disconnect {
    code: u16,
    reason: String,
}

/// Answers one call.
pub(crate) async fn answer(host: Arc<OnceLock<Broker>>, released: Arc<Notify>, call: CallRequest) -> Result<Payload, Refusal> {
    let broker = host.get().ok_or_else(|| Refusal::unavailable("the application starts"))?;
    let caller = broker.sessions(Target::Session(call.subject.session));
    let acted = match call.method.as_str() {
        "echo" => return Ok(call.data),
        "release" => {
            released.notify_one();
            return Ok(call.data);
        }
        "send" => caller.send(Publish::new(call.data)).await.map(|sent| sent.sessions),
        "disconnect" => {
            let Disconnect { code, reason } = read(&call.data)?;
            caller.disconnect(code, reason).await
        }
        "join" => broker.join_group(&read::<String>(&call.data)?, &Target::Session(call.subject.session)).await,
        "leave" => broker.leave_group(&read::<String>(&call.data)?, &Target::Session(call.subject.session)).await,
        other => return Err(Refusal::new(RefusalKind::UnknownAction, format!("there is no method {other}"))),
    };
    acted.map(|sessions| Payload::json(sessions.to_string())).map_err(broker::ControlError::into_refusal)
}

fn read<T: for<'de> Deserialize<'de>>(data: &Payload) -> Result<T, Refusal> {
    serde_json::from_slice(data.bytes()).map_err(|error| Refusal::bad_request(format!("the argument cannot be read: {error}")))
}
