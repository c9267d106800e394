//! The way that clients take: does a WebSocket get through whatever stands in front, and is an idle one left alone until the broker pings it?

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{Finding, client::Client};
use crate::config::Secret;

/// A WebSocket that a client of ours has opened.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Longest wait for a ping; the default of `client.ping_interval` is 25 s.
const PING_WAIT_MAX: Duration = Duration::from_secs(75);

/// The path that opens without credentials: who it is, a client says afterwards.
pub(super) const BARE_PATH: &str = "/connection/websocket";

const UPGRADE_CURE: &str = "let the proxy in front pass the upgrade on. nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                            proxy_set_header Connection $connection_upgrade; haproxy: mode http, and no line that takes Upgrade away; \
                            whole files stand in docs/operations/load-balancers.md";

const IDLE_CURE: &str = "let the proxy in front wait longer than client.ping_interval and client.pong_timeout together. nginx: proxy_read_timeout 60s; \
                         haproxy: timeout tunnel 60s, timeout client 60s and timeout server 60s; others call it idle timeout. \
                         Where it cannot be set, make client.ping_interval shorter";

/// What an idle connection came to.
#[derive(Debug, Eq, PartialEq)]
enum Idle {
    /// The broker pinged.
    Pinged { after: Duration },
    /// The broker closed it, and said why.
    Closed { reason: String },
    /// It ended without a word.
    Cut { after: Duration },
    /// Nothing came for as long as this waits.
    Silent,
}

/// Opens a socket; and where there is a key to ask for a ticket with, and time, watches an idle one until its first ping.
pub(super) async fn examine(client: &Client, key: Option<&Secret>, quick: bool, findings: &mut Vec<Finding>) {
    let is_through = match client.socket(BARE_PATH).await {
        Ok(Ok(_)) => {
            findings.push(Finding::fine("upgrade", "a WebSocket gets through"));
            true
        }
        Ok(Err(answer)) => {
            findings.push(refused(answer.status));
            false
        }
        Err(error) => {
            findings.push(Finding::error("upgrade", format!("no WebSocket gets through: {error:#}")).cure(UPGRADE_CURE));
            false
        }
    };
    if quick || !is_through {
        return;
    }
    let Some(key) = key else {
        let finding =
            Finding::skipped("idle", "whether idle connections last until the broker's ping was not looked at: there is no API key");
        findings.push(finding.cure("give --api-key KEY, or set api.key in the configuration"));
        return;
    };
    eprintln!("watching an idle connection until its first ping; --quick leaves this out");
    findings.push(match watch(client, key).await {
        Ok(idle) => judge(&idle),
        Err(error) => {
            Finding::skipped("idle", format!("whether idle connections last until the broker's ping was not looked at: {error:#}"))
        }
    });
}

/// What a status means that is not 101.
fn refused(status: u16) -> Finding {
    match status {
        426 => Finding::error("upgrade", "no WebSocket gets through: the broker saw a plain request, the upgrade was lost on the way")
            .cure(UPGRADE_CURE),
        404 => Finding::error("upgrade", format!("no WebSocket gets through: {BARE_PATH} answers 404"))
            .cure("let the proxy in front pass /connection, /ws and /sse on to the broker, with the path as it is"),
        429 | 503 => Finding::error("upgrade", format!("no WebSocket was opened: the answer is {status}"))
            .cure("the node drains or has too many clients: see its /ready and its log"),
        _ => Finding::error("upgrade", format!("no WebSocket gets through: the answer is {status}")).cure(UPGRADE_CURE),
    }
}

/// Opens a session that asks for nothing, and waits.
async fn watch(client: &Client, key: &Secret) -> anyhow::Result<Idle> {
    let answer = client.api("ticket", key).await?;
    let ticket = answer.body["result"]["ticket"].as_str().with_context(|| format!("/api/ticket answers {}", answer.status))?;
    let socket = client.socket(&format!("/ws?ticket={ticket}")).await?;
    let socket = socket.map_err(|answer| anyhow::anyhow!("/ws answers {}", answer.status))?;
    Ok(idle(socket).await)
}

async fn idle(mut socket: Socket) -> Idle {
    let opened_at = Instant::now();
    let watched = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Ping(_))) => return Idle::Pinged { after: opened_at.elapsed() },
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Idle::Closed { reason: format!("{} {}", u16::from(frame.code), frame.reason) };
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Idle::Cut { after: opened_at.elapsed() },
                Some(Ok(_)) => {}
            }
        }
    };
    timeout(PING_WAIT_MAX, watched).await.unwrap_or(Idle::Silent)
}

fn judge(idle: &Idle) -> Finding {
    match idle {
        Idle::Pinged { after } => {
            Finding::fine("idle", format!("an idle connection lasts until the broker's ping, after {:.1} s", after.as_secs_f32()))
        }
        Idle::Cut { after } => {
            let after = after.as_secs_f32();
            Finding::error("idle", format!("an idle connection was cut after {after:.1} s, before the broker's first ping")).cure(IDLE_CURE)
        }
        Idle::Closed { reason } => Finding::skipped("idle", format!("the broker closed the idle connection: {reason}")),
        Idle::Silent => {
            let waited = PING_WAIT_MAX.as_secs();
            Finding::warning("idle", format!("no ping came to an idle connection within {waited} s")).cure(
                "make client.ping_interval shorter: many proxies give up after 60 s, and who is behind a network that forgets connections hears of it late",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn each_end_of_an_idle_connection_has_its_severity_and_cure() {
        let check = |idle: &Idle, severity: Severity, part: &str| {
            let finding = judge(idle);
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert!(format!("{} {}", finding.message, finding.cure.clone().unwrap_or_default()).contains(part), "{finding:?}");
        };
        check(&Idle::Pinged { after: Duration::from_secs(25) }, Severity::Fine, "25.0 s");
        check(&Idle::Cut { after: Duration::from_millis(9_960) }, Severity::Error, "proxy_read_timeout");
        check(&Idle::Closed { reason: "3001 shutdown".to_owned() }, Severity::Skipped, "3001 shutdown");
        check(&Idle::Silent, Severity::Warning, "ping_interval");
    }

    #[test]
    fn each_refusal_of_an_upgrade_names_its_own_cure() {
        let check = |status: u16, part: &str| assert!(refused(status).cure.is_some_and(|cure| cure.contains(part)), "{status}");
        check(426, "proxy_set_header Upgrade");
        check(404, "/connection");
        check(503, "drains");
        check(400, "proxy_set_header Upgrade");
    }
}
