//! Redis itself: is it there, how is it configured, may this user do what a node needs?

use std::time::Duration;

use broker::RedisBackplane;
use broker_redis::Severity as Found;

use super::{Finding, Severity};
use crate::config::{BackplaneKind, Config};

/// How long Redis may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks whether it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

pub(super) async fn examine(config: &Config, findings: &mut Vec<Finding>) {
    let options = match config.backplane.redis() {
        Ok(Some(options)) => options,
        Ok(None) => {
            let kind = if config.backplane.kind == BackplaneKind::Redis { "no url" } else { "memory" };
            findings.push(Finding::skipped("redis", format!("the backplane of this configuration is {kind}: there may be only one node")));
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
            findings.push(Finding::error("redis", format!("backplane.prefix: {error}")));
            return;
        }
    };
    wait(&redis).await;
    let health = redis.health();
    for trouble in &health.troubles {
        let finding = Finding::error("redis", trouble.clone());
        findings
            .push(finding.cure("start Redis, or correct backplane.url: its host, port, user and password; see docs/operations/redis.md"));
    }
    let found = redis.check().await;
    if found.is_empty() && health.troubles.is_empty() {
        findings.push(Finding::fine("redis", "Redis is there, and configured as it should be"));
    }
    for finding in found {
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
