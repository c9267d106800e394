//! All nodes: does a publish on each reach each other, do their clocks, versions and settings agree?

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Finding, client::Client, cures, reach::Reached};
use crate::{config::Secret, fingerprint::MADE_IN_DEV_MODE};

/// Clocks that differ more than this refuse tokens of each other's backends, and confuse whoever compares logs.
const CLOCKS_MAX_MS: u64 = 1_000;

pub(super) async fn examine(client: &Client, key: Option<&Secret>, reached: &[Reached], findings: &mut Vec<Finding>) {
    let Some(key) = key else {
        let finding = Finding::skipped("pairs", "whether every node hears every other was not looked at: there is no API key");
        findings.push(finding.cure("give --api-key KEY, or set api.key in the configuration"));
        return;
    };
    let answer = match client.api("probe", key).await {
        Ok(answer) if answer.status == 200 && answer.body["result"].is_object() => answer.body["result"].clone(),
        Ok(answer) if answer.status == 401 => {
            let finding = Finding::error("pairs", "the API key is refused");
            findings.push(finding.cure("give the key of the nodes with --api-key, or BROKER_API__KEY; all nodes need the same"));
            return;
        }
        Ok(answer) => {
            let finding =
                Finding::error("pairs", format!("the nodes were not asked: /api/probe answers {} {}", answer.status, answer.body["error"]));
            findings
                .push(finding.cure(
                    "let the proxy in front pass /api on to the broker, with its headers; a node before this version knows no probe",
                ));
            return;
        }
        Err(error) => {
            let finding = Finding::error("pairs", format!("the nodes were not asked: {error:#}"));
            findings.push(finding.cure("a probe takes two seconds: let the proxy in front wait longer; otherwise see the log of the node"));
            return;
        }
    };
    judge(&answer, reached, findings);
}

/// What the answer of the nodes means.
fn judge(answer: &Value, reached: &[Reached], findings: &mut Vec<Finding>) {
    let nodes: Vec<Node> = answer["nodes"].as_array().into_iter().flatten().map(Node::read).collect();
    pairs(&nodes, findings);
    for silent in answer["silent"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Some(why) = silent.strip_prefix("any other node: ") {
            findings.push(Finding::error("pairs", format!("the other nodes could not be asked: {why}")).cure(cures::of(why)));
            continue;
        }
        let finding = Finding::error("pairs", format!("node {silent} is known and does not answer"));
        findings.push(finding.cure("it has ended without a goodbye, hangs, or is cut off from Redis: look at its log; a node that is gone is forgotten after a minute"));
    }
    let unheard = reached.iter().filter(|reached| nodes.iter().all(|node| node.id != reached.id));
    for reached in unheard {
        let finding = Finding::error(
            "pairs",
            format!("node {} answers under this address, and the node that was asked does not know it", reached.id),
        );
        findings.push(finding.cure("give all nodes the same backplane.url and backplane.prefix"));
    }
    if nodes.len() > 1 && nodes.iter().any(|node| !node.is_shared) {
        let names: Vec<&str> = nodes.iter().filter(|node| !node.is_shared).map(|node| node.name.as_str()).collect();
        findings.push(
            Finding::error("pairs", format!("these nodes keep histories of their own: {}", names.join(", "))).cure("set backplane.url"),
        );
    }
    versions(&nodes, findings);
    clocks(&nodes, findings);
    settings(&nodes, findings);
}

struct Node {
    id: String,
    name: String,
    version: String,
    heard: BTreeSet<String>,
    trouble: Option<String>,
    is_shared: bool,
    clock_ms: u64,
    settings: BTreeMap<String, String>,
}

impl Node {
    fn read(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let heard = value["heard"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let settings = value["settings"].as_object().into_iter().flatten();
        Self {
            id: text("uid"),
            name: text("name"),
            version: text("version"),
            heard,
            trouble: value["trouble"].as_str().map(str::to_owned),
            is_shared: value["shared"].as_bool().unwrap_or_default(),
            clock_ms: value["clock_ms"].as_u64().unwrap_or_default(),
            settings: settings.map(|(name, print)| (name.clone(), print.as_str().unwrap_or_default().to_owned())).collect(),
        }
    }
}

fn pairs(nodes: &[Node], findings: &mut Vec<Finding>) {
    let before = findings.len();
    for node in nodes {
        if let Some(trouble) = &node.trouble {
            let finding = Finding::error("pairs", format!("node {} could not publish a probe: {trouble}", node.name));
            findings.push(finding.cure(cures::of(trouble)));
        }
    }
    for from in nodes.iter().filter(|from| from.trouble.is_none()) {
        for to in nodes.iter().filter(|to| !to.heard.contains(&from.id)) {
            let finding = if from.id == to.id {
                Finding::error("pairs", format!("node {} does not hear what itself publishes", from.name))
            } else {
                Finding::error("pairs", format!("what node {} publishes is not heard on node {}", from.name, to.name))
            };
            findings.push(finding.cure("their backplane.prefix or database differ, or the bus of the second one is deaf: see its /ready"));
        }
    }
    if findings.len() == before {
        let message = match nodes {
            [] => return,
            [one] => format!("there is one node, {}", one.name),
            nodes => format!("{} nodes, and each hears what each publishes: {} ways", nodes.len(), nodes.len() * nodes.len()),
        };
        findings.push(Finding::fine("pairs", message));
    }
}

fn versions(nodes: &[Node], findings: &mut Vec<Finding>) {
    let versions: BTreeSet<&str> = nodes.iter().map(|node| node.version.as_str()).collect();
    if versions.len() > 1 {
        let list: Vec<String> = nodes.iter().map(|node| format!("{} {}", node.name, node.version)).collect();
        let finding = Finding::warning("version", format!("the nodes have different versions: {}", list.join(", ")));
        findings.push(finding.cure("bring all to the newest, one after the other"));
    }
}

fn clocks(nodes: &[Node], findings: &mut Vec<Finding>) {
    let clock = |node: &&Node| node.clock_ms;
    let (Some(slow), Some(fast)) = (nodes.iter().min_by_key(clock), nodes.iter().max_by_key(clock)) else { return };
    let apart = fast.clock_ms - slow.clock_ms;
    if apart > CLOCKS_MAX_MS {
        let message = format!("the clock of node {} is {:.1} s before that of node {}", fast.name, apart as f64 / 1_000.0, slow.name);
        findings.push(
            Finding::warning("clock", message)
                .cure("run a time service (chrony, systemd-timesyncd) on every machine: tokens end by these clocks"),
        );
    }
    let own = broker_core::unix_ms(std::time::SystemTime::now());
    if slow.clock_ms > own + CLOCKS_MAX_MS * 10 || fast.clock_ms + CLOCKS_MAX_MS * 10 < own {
        let finding = Finding::warning("clock", "the clocks of the nodes differ from that of this machine by more than 10 s");
        findings.push(
            finding.cure(
                "run a time service (chrony, systemd-timesyncd) on every machine; if it is this one's that is wrong, nothing is lost",
            ),
        );
    }
}

fn settings(nodes: &[Node], findings: &mut Vec<Finding>) {
    let names: BTreeSet<&String> = nodes.iter().flat_map(|node| node.settings.keys()).collect();
    let mut differs = false;
    for name in names {
        let mut by_print: BTreeMap<Option<&String>, Vec<&str>> = BTreeMap::new();
        for node in nodes {
            by_print.entry(node.settings.get(name)).or_default().push(&node.name);
        }
        if by_print.len() > 1 {
            differs = true;
            let sides: Vec<String> = by_print.values().map(|nodes| nodes.join(", ")).collect();
            let message = format!("the nodes have different settings of {name}: {}", sides.join(" against "));
            findings.push(if name == MADE_IN_DEV_MODE {
                Finding::warning(
                    "settings",
                    "each node in dev mode has made a secret of its own: a token that one of them takes, another one refuses",
                )
                .cure("where tokens are used, start all with the same --token-hmac-secret")
            } else {
                let cure = "give every node the same; a secret that is not set is made at random by each node";
                Finding::error("settings", message).cure(cure)
            });
        }
    }
    if !differs && nodes.len() > 1 {
        findings.push(Finding::fine("settings", "the nodes agree in everything that they must share"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::Severity;

    fn node(id: &str, heard: &[&str], clock_ms: u64, print: &str) -> Value {
        json!({"uid": id, "name": id, "version": "1", "heard": heard, "knows": [], "shared": true, "clock_ms": clock_ms, "settings": {"default": print}})
    }

    #[track_caller]
    fn check(nodes: &[Value], silent: &[&str], expected: &[(&str, Severity)]) {
        let mut findings = Vec::new();
        judge(&json!({"nodes": nodes, "silent": silent}), &[], &mut findings);
        let found: Vec<_> = findings.iter().map(|finding| (finding.check, finding.severity)).collect();
        assert_eq!(found, expected, "{findings:?}");
    }

    #[test]
    fn each_way_that_is_broken_is_told() {
        let now = broker_core::unix_ms(std::time::SystemTime::now());
        let whole = [node("a", &["a", "b"], now, "x"), node("b", &["a", "b"], now, "x")];
        check(&whole, &[], &[("pairs", Severity::Fine), ("settings", Severity::Fine)]);
        let deaf = [node("a", &["a", "b"], now, "x"), node("b", &["b"], now, "x")];
        check(&deaf, &[], &[("pairs", Severity::Error), ("settings", Severity::Fine)]);
        check(&[node("a", &["a"], now, "x")], &["b"], &[("pairs", Severity::Fine), ("pairs", Severity::Error)]);
    }

    #[test]
    fn secrets_that_dev_mode_has_made_are_no_error() {
        let now = broker_core::unix_ms(std::time::SystemTime::now());
        let of_dev = |id: &str, print: &str| {
            let mut node = node(id, &["a", "b"], now, "x");
            node["settings"][MADE_IN_DEV_MODE] = json!(print);
            node
        };
        check(&[of_dev("a", "x"), of_dev("b", "y")], &[], &[("pairs", Severity::Fine), ("settings", Severity::Warning)]);
        check(&[of_dev("a", "x"), of_dev("b", "x")], &[], &[("pairs", Severity::Fine), ("settings", Severity::Fine)]);
    }

    #[test]
    fn clocks_and_settings_that_differ_are_told() {
        let now = broker_core::unix_ms(std::time::SystemTime::now());
        let nodes = [node("a", &["a", "b"], now, "x"), node("b", &["a", "b"], now + 1_500, "y")];
        check(&nodes, &[], &[("pairs", Severity::Fine), ("clock", Severity::Warning), ("settings", Severity::Error)]);
    }
}
