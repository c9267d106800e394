//! Is the broker there, is it ready, and which nodes answer under the address?

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::Value;

use super::{Finding, TRIES, client::Client, cures};

/// A node that answered.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) id: String,
    /// How many nodes it knows, itself too.
    pub(super) knows: u64,
}

/// The nodes that answered, each once.
pub(super) async fn examine(client: &Client, findings: &mut Vec<Finding>) -> Vec<Reached> {
    let base = client.base();
    match client.get("/health").await {
        Ok(answer) if answer.status == 200 && answer.body["status"] == "ok" => {
            findings.push(Finding::fine("reach", format!("a broker answers at {base}")));
        }
        Ok(answer) => {
            let finding = Finding::error("reach", format!("{base}/health answers {} and is no broker's", answer.status));
            findings.push(finding.cure(
                "name the address under which clients reach the broker; a proxy in front must pass /health, /ready, /ws and /api on",
            ));
            return Vec::new();
        }
        Err(error) => {
            let finding = Finding::error("reach", format!("nobody answers at {base}: {error:#}"));
            findings.push(finding.cure("start the broker, or name its address: broker doctor http://127.0.0.1:8000"));
            return Vec::new();
        }
    }
    let answers = join_all((0..TRIES).map(|_| client.get("/ready"))).await;
    let mut nodes: BTreeMap<String, (u64, Vec<String>)> = BTreeMap::new();
    for answer in answers.into_iter().flatten() {
        let Some(id) = answer.body["node"].as_str() else { continue };
        let problems = answer.body["problems"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        nodes.insert(id.to_owned(), (answer.body["nodes"].as_u64().unwrap_or(1), problems));
    }
    if nodes.is_empty() {
        let finding = Finding::error("ready", format!("{base}/ready names no node"));
        findings.push(finding.cure("let the proxy in front pass /ready on to the broker"));
    }
    for (id, (_, problems)) in &nodes {
        if problems.is_empty() {
            findings.push(Finding::fine("ready", format!("node {id} is ready")));
        }
        for problem in problems {
            findings.push(Finding::error("ready", format!("node {id} is not ready: {problem}")).cure(cures::of(problem)));
        }
    }
    let reached: Vec<Reached> = nodes.into_iter().map(|(id, (knows, _))| Reached { id, knows }).collect();
    findings.extend(strangers(&reached));
    reached
}

/// Nodes behind one address that know nothing of each other.
fn strangers(reached: &[Reached]) -> Option<Finding> {
    let strange: Vec<&str> = reached.iter().filter(|node| node.knows < reached.len() as u64).map(|node| node.id.as_str()).collect();
    if reached.len() < 2 {
        return None;
    }
    if strange.is_empty() {
        return Some(Finding::fine("nodes", format!("{} nodes answer under this address, and know each other", reached.len())));
    }
    let message = format!(
        "{} nodes answer under this address, and {} of them know fewer ({}): what is published on one is not heard on another, and who comes back to another one \
         is told of a gap",
        reached.len(),
        strange.len(),
        strange.join(", ")
    );
    let cure = "give all nodes the same backplane.url and backplane.prefix; with kind = \"memory\" there may be only one node";
    Some(Finding::error("nodes", message).cure(cure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn found(nodes: &[(&str, u64)]) -> Option<Severity> {
        let reached: Vec<_> = nodes.iter().map(|(id, knows)| Reached { id: (*id).to_owned(), knows: *knows }).collect();
        strangers(&reached).map(|finding| finding.severity)
    }

    #[test]
    fn nodes_with_a_memory_of_their_own_behind_one_balancer_are_found() {
        assert_eq!(found(&[("a", 1)]), None);
        assert_eq!(found(&[("a", 1), ("b", 1)]), Some(Severity::Error));
        assert_eq!(found(&[("a", 2), ("b", 2), ("c", 1)]), Some(Severity::Error));
        assert_eq!(found(&[("a", 3), ("b", 3)]), Some(Severity::Fine));
    }
}
