//! Redis itself: is it there, how is it configured, may this user do what a node needs?

use std::time::Duration;

use broker::RedisBackplane;
use broker_redis::Severity as Found;

use super::{Finding, Severity, cures};
use crate::config::Config;

/// How long Redis may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks whether it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

pub(super) async fn examine(config: &Config, findings: &mut Vec<Finding>) {
    let options = match config.backplane.redis() {
        Ok(Some(options)) => options,
        Ok(None) => {
            let finding = Finding::skipped("redis", "no Redis was looked at: the configuration that doctor was given names none");
            findings.push(
                finding.cure("where the nodes have one, start doctor with what they were started with: --config FILE, or --redis URL"),
            );
            return;
        }
        Err(error) => {
            findings.push(Finding::error("redis", format!("{error:#}")).cure("broker check says more"));
            return;
        }
    };
    let redis = match RedisBackplane::connect(options) {
        Ok(redis) => redis,
        Err(error) => {
            findings.push(Finding::error("redis", format!("backplane.prefix: {error}")).cure("correct backplane.prefix, on every node"));
            return;
        }
    };
    wait(&redis).await;
    let health = redis.health();
    for trouble in &health.troubles {
        findings.push(Finding::error("redis", trouble.clone()).cure(cures::of(trouble)));
    }
    let found = redis.check().await;
    if found.is_empty() && health.troubles.is_empty() {
        findings.push(Finding::fine("redis", "Redis is there, and configured as it should be"));
    }
    // What keeps a link from its server has been told, with its own cure.
    let is_told = |what: &str| {
        let why = what.split_once(" cannot be used: ").map_or(what, |(_, why)| why);
        health.troubles.iter().any(|trouble| trouble.contains(why))
    };
    for finding in found.into_iter().filter(|finding| !is_told(&finding.what)) {
        let severity = match finding.severity {
            Found::Note => Severity::Note,
            Found::Warning => Severity::Warning,
            Found::Error => Severity::Error,
        };
        findings.push(Finding::new("redis", severity, finding.what).cure(finding.cure));
    }
}

/// Waits until all links are connected, or it takes too long.
async fn wait(redis: &RedisBackplane) {
    let connected = async {
        while !redis.health().troubles.is_empty() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    // What is missing then is told.
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, connected).await;
}
