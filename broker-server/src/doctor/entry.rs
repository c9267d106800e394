//! Who is let in: a page of an origin, and whoever shows a token? Both are asked of the broker itself, over the way that clients take.

use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, ORIGIN};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{
    Finding, TIMEOUT,
    client::{Client, Refused},
    socket::{BARE_PATH, Socket},
};

/// Whether pages of this origin may connect.
pub(super) async fn origin(client: &Client, origin: &str, findings: &mut Vec<Finding>) {
    findings.push(match client.socket_with(BARE_PATH, ORIGIN, origin).await {
        Ok(Ok(_)) => Finding::fine("origin", format!("pages of {origin} are let in")),
        Ok(Err(Refused { status: 403, .. })) => Finding::error("origin", format!("pages of {origin} are not let in")).cure(format!(
            "add it to client.allowed_origins on every node: [\"{origin}\"]; a page's origin is scheme, host and port as the browser shows them, without a path"
        )),
        Ok(Err(refused)) => Finding::skipped("origin", format!("whether pages of {origin} are let in was not seen: the answer is {}", refused.status)),
        Err(error) => Finding::skipped("origin", format!("whether pages of {origin} are let in was not seen: {error:#}")),
    });
}

/// Whether this token is taken, and for whom.
pub(super) async fn token(client: &Client, token: &str, findings: &mut Vec<Finding>) {
    if token.is_empty() {
        let finding = Finding::error("token", "the token to look at is empty: a broker takes it for none at all");
        return findings.push(finding.cure("see that the variable that --token or BROKER_TOKEN comes from is set"));
    }
    findings.push(match client.socket_with("/ws?format=envelope", AUTHORIZATION, &format!("Bearer {token}")).await {
        Ok(Ok(socket)) => match timeout(TIMEOUT, first(socket)).await {
            Ok(Some(frame)) if frame["broker"] == "connected" => {
                let user = frame["user"].as_str().filter(|user| !user.is_empty());
                Finding::fine(
                    "token",
                    format!("the token is taken: {}", user.map_or_else(|| "it names no user".to_owned(), |user| format!("user {user}"))),
                )
            }
            Ok(Some(frame)) => refused(&frame),
            _ => Finding::error("token", "the connection ended, or said nothing, before the token was answered")
                .cure("see the log of the node"),
        },
        Ok(Err(Refused { status: 401 | 403, error })) => refused(&error),
        Ok(Err(refused)) => {
            let why = refused.error["message"].as_str().map(|why| format!(", {why}")).unwrap_or_default();
            Finding::skipped("token", format!("whether the token is taken was not seen: the answer is {}{why}", refused.status))
        }
        Err(error) => Finding::skipped("token", format!("whether the token is taken was not seen: {error:#}")),
    });
}

/// The first frame of a session; `None`: there was none.
async fn first(mut socket: Socket) -> Option<Value> {
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
    None
}

/// What a refusal says: why, and what helps.
fn refused(error: &Value) -> Finding {
    let message = error["message"].as_str().or_else(|| error["reason"].as_str()).unwrap_or("the broker does not say why");
    let finding = Finding::error("token", format!("the token is not taken: {message}"));
    let hint = error["hint"].as_str().map(|hint| format!("{hint}; ")).unwrap_or_default();
    finding.cure(format!(
        "{hint}broker token verify TOKEN, with the configuration of the nodes, says more; so does the log of the node, with the setting that decides"
    ))
}
