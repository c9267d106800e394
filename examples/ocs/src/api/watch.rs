//! What an operator sees: the outbox, Redis, the nodes, and what became of each notice.

use std::{collections::HashSet, time::Duration};

use axum::{Json, extract::State};
use broker::Target;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Caller, Ocs};
use crate::{
    api::refused::Refused,
    database::now_ms,
    notices::{self, Live},
};

/// How long the other nodes are waited for. An operator looks when something is broken.
const NODES_TIMEOUT: Duration = Duration::from_millis(800);
/// Most sessions that are asked for.
const SESSIONS_MAX: usize = 10_000;

pub(super) async fn delivery(State(ocs): State<Ocs>, caller: Caller) -> Result<Json<Value>, Refused> {
    caller.with_menu("delivery")?;
    let (sessions, nodes) = tokio::join!(sessions(&ocs), timeout(NODES_TIMEOUT, ocs.0.broker.info()));
    // Behind the others, which may take their time: the figures are of the same moment as the notices.
    let outbox = ocs.0.outbox.status().await?;
    let redis = ocs.0.redis.as_ref().map(|redis| redis.health().troubles);
    let nodes = nodes.unwrap_or_default();
    let known = ocs.0.broker.engine().known_nodes().len();
    let nodes: Vec<Value> = nodes.iter().map(|node| json!({"name": node.name, "sessions": node.sessions, "users": node.users})).collect();
    let oldest_ms = outbox.counts.oldest_staged_at.and_then(|at| at.elapsed().ok()).map(|age| age.as_millis() as u64);
    let live = Live { sessions, trouble: outbox.trouble.clone() };
    let deliveries = ocs.0.database.read(move |transaction| notices::deliveries(transaction, &live)).await?;
    Ok(Json(json!({
        "now_ms": now_ms(),
        "outbox": {
            "pending": outbox.counts.pending, "oldest_ms": oldest_ms, "refused": outbox.counts.refused, "trouble": outbox.trouble,
            "perhaps_doubled": outbox.perhaps_doubled,
        },
        "redis": redis,
        "nodes": nodes,
        "nodes_known": known,
        "notices": deliveries,
    })))
}

/// Who is connected anywhere, by the groups that notices go to; `None`: not every node answered.
async fn sessions(ocs: &Ocs) -> Option<HashSet<String>> {
    let users = ocs.0.database.read(crate::users::all).await.ok()?;
    let users = users.into_iter().take(Target::SET_MAX_LEN - 1).map(|user| Target::user(user.id));
    let everybody = ocs.0.broker.sessions(Target::any(users));
    let reports = timeout(NODES_TIMEOUT, everybody.list(SESSIONS_MAX)).await.ok()?.ok()?;
    Some(reports.into_iter().map(|report| report.session.to_string()).collect())
}

/// Tries again what the broker refused.
pub(super) async fn retry(State(ocs): State<Ocs>, caller: Caller) -> Result<Json<Value>, Refused> {
    caller.with_menu("delivery")?;
    Ok(Json(json!({"retried": ocs.0.outbox.retry(None).await?})))
}
