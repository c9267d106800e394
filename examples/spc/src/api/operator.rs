//! What operators look at: statistics, deliveries, connections, rights, metrics.

use std::{fmt::Write as _, time::UNIX_EPOCH};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use broker::{ControlError, Refusal, SessionReport, Target, Topic};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Caller};
use crate::{
    access::{LOGIN_GROUP, PAGE_GROUP, PLAIN_GROUP, Role, Way, identity, needs},
    notice::{ProductId, now_ms},
    refused::Refused,
    spc::Spc,
};

/// Connections that one answer holds at most.
const CONNECTIONS_MAX: usize = 500;

pub(super) async fn statistics(State(spc): State<Spc>, Caller { user, .. }: Caller) -> Answer {
    Ok(Json(json!(spc.store.run(move |transaction| transaction.statistics(&user, now_ms())).await?)))
}

/// At most so many.
#[derive(Deserialize)]
pub(super) struct Limit {
    limit: Option<usize>,
}

/// Who should have got an alert, who did and when, and why not.
pub(super) async fn deliveries(State(spc): State<Spc>, Caller { user, .. }: Caller, Query(Limit { limit }): Query<Limit>) -> Answer {
    let deliveries = spc.store.run(move |transaction| transaction.deliveries(&user, limit.unwrap_or(20).min(100))).await?;
    let waiting = match spc.store.running_outbox() {
        Some(outbox) => outbox.status().await.ok().map(|status| json!({ "pending": status.counts.pending, "trouble": status.trouble })),
        None => None,
    };
    Ok(Json(json!({ "deliveries": deliveries, "outbox": waiting })))
}

/// An admin sees all connections of all nodes, others their own.
pub(super) async fn connections(State(spc): State<Spc>, Caller { user, .. }: Caller) -> Answer {
    let target = if user.role == Role::Admin { everybody()? } else { Target::user(user.id.as_str()) };
    let nodes = spc.broker.info().await;
    let name_of = |id: &str| nodes.iter().find(|node| *node.id == *id).map_or_else(|| id.to_owned(), |node| node.name.to_string());
    let found = spc.broker.sessions(target).list(CONNECTIONS_MAX).await.map_err(ControlError::into_refusal)?;
    let connections: Vec<Value> = found.iter().map(|report| shown(report, &name_of(&report.node))).collect();
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| json!({ "name": &*node.name, "uptime_s": node.uptime.as_secs(), "sessions": node.sessions, "subscriptions": node.subscriptions }))
        .collect();
    Ok(Json(json!({ "nodes": nodes, "connections": connections })))
}

fn everybody() -> Result<Target, Refused> {
    Ok(Target::any([group(PAGE_GROUP)?, group(PLAIN_GROUP)?]))
}

fn group(name: &str) -> Result<Target, Refused> {
    Target::group(name).map_err(|error| Refusal::bad_request(error.to_string()).into())
}

fn shown(report: &SessionReport, node: &str) -> Value {
    let topics: Vec<&str> = report.topics.iter().map(Topic::as_str).filter(|topic| topic.contains(":product.")).collect();
    json!({
        "session": report.session.to_string(),
        "user": report.user.as_str(),
        "since_ms": report.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        "address": report.address.map(|address| address.to_string()),
        "protocol": report.protocol,
        "topics": topics,
        "backlog_bytes": report.backlog_bytes,
        "node": node,
    })
}

pub(super) async fn users(State(spc): State<Spc>, Caller { user, .. }: Caller) -> Answer {
    needs(&user, Role::Admin)?;
    Ok(Json(json!({ "users": spc.store.run(|transaction| transaction.users()).await? })))
}

/// What a user may from here on.
#[derive(Deserialize)]
pub(super) struct Rights {
    role: Role,
    products: Vec<ProductId>,
}

/// Changes rights; they hold on connections that are open before this is answered.
pub(super) async fn set_rights(State(spc): State<Spc>, Caller { user, .. }: Caller, Path(id): Path<String>, body: Bytes) -> Answer {
    needs(&user, Role::Admin)?;
    let Rights { role, products } = serde_json::from_slice(&body).map_err(|error| Refused::value("$", error.to_string()))?;
    if id == user.id && role != Role::Admin {
        return Err(Refused::value("$.role", "would leave you without the right to undo it"));
    }
    let changed = spc.store.run(move |transaction| {
        transaction.user(&id)?.ok_or_else(|| Refused::unknown(format!("there is no user {id}")))?;
        transaction.set_rights(&id, role, &products)?;
        transaction.user(&id)?.ok_or_else(|| Refused::unknown("the user has gone"))
    });
    let changed = changed.await?;
    for session in spc.broker.sessions(Target::user(changed.id.as_str())).list(CONNECTIONS_MAX).await.map_err(ControlError::into_refusal)? {
        follow(&spc, &session).await?;
    }
    Ok(Json(json!(changed)))
}

/// Gives one open session what its user may hear, and takes the rest. It stays a session of its login.
async fn follow(spc: &Spc, session: &SessionReport) -> Result<(), Refused> {
    let way = if session.groups.iter().any(|group| **group == *PLAIN_GROUP) { Way::Notifications } else { Way::Asking };
    let Some(hash) = session.groups.iter().find_map(|group| group.strip_prefix(LOGIN_GROUP)).map(str::to_owned) else { return Ok(()) };
    let known = hash.clone();
    // A login that has ended meanwhile closes its sessions itself.
    let Some(login) = spc.store.run(move |transaction| transaction.login(&known, now_ms())).await? else { return Ok(()) };
    let sessions = spc.broker.sessions(Target::Session(session.session));
    sessions.change_identity(identity(&login, &hash, way)).await.map_err(ControlError::into_refusal)?;
    Ok(())
}

/// Prometheus' text format, for an admin's token.
pub(super) async fn metrics(State(spc): State<Spc>, Caller { user, .. }: Caller) -> Result<Response, Refused> {
    needs(&user, Role::Admin)?;
    let all = spc.store.run(move |transaction| transaction.statistics(&user, now_ms())).await?;
    let outbox = match spc.store.running_outbox() {
        Some(outbox) => outbox.status().await.unwrap_or_default(),
        None => broker::outbox::OutboxStatus::default(),
    };
    let mut text = String::new();
    let mut line = |name: &str, help: &str, kind: &str, values: Vec<(String, f64)>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let levels = ["low", "medium", "high", "critical"];
    let by_level = levels.iter().zip(all.by_level).map(|(level, count)| (format!("{{priority=\"{level}\"}}"), count as f64));
    line("spc_alerts", "Alerts of the last day.", "gauge", by_level.collect());
    line(
        "spc_alerts_acknowledged",
        "Alerts of the last day that were taken care of.",
        "gauge",
        vec![(String::new(), all.acknowledged as f64)],
    );
    let quantiles = [("0.5", all.delivery_p50_ms), ("0.95", all.delivery_p95_ms)];
    let quantiles = quantiles.into_iter().filter_map(|(quantile, ms)| Some((format!("{{quantile=\"{quantile}\"}}"), ms? as f64 / 1000.0)));
    line("spc_delivery_seconds", "Time from stored to shown.", "gauge", quantiles.collect());
    line("spc_outbox_pending", "Publications that wait for the broker.", "gauge", vec![(String::new(), outbox.counts.pending as f64)]);
    line("spc_outbox_published_total", "Publications of this node.", "counter", vec![(String::new(), outbox.published as f64)]);
    line("spc_uptime_seconds", "Time since this node started.", "gauge", vec![(String::new(), spc.started_at.elapsed().as_secs_f64())]);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
