//! Do the names that the configuration and the address name lead anywhere? Whether somebody is there is looked at elsewhere.

use std::{collections::BTreeSet, net::IpAddr};

use tokio::{net::lookup_host, time::timeout};

use super::{Finding, TIMEOUT};
use crate::config::Config;

const CURE: &str =
    "correct the name, or the name service of this machine (/etc/resolv.conf, /etc/hosts); in a container, its network must know the name";

/// Looks names up: that of the broker, and those of its Redis.
pub(super) async fn examine(config: &Config, url: &str, findings: &mut Vec<Finding>) {
    let mut names = BTreeSet::new();
    names.extend(url.parse::<http::Uri>().ok().and_then(|url| url.host().map(str::to_owned)));
    if let Ok(Some(redis)) = config.backplane.redis() {
        names.extend(redis.servers.hosts().into_iter().map(str::to_owned));
    }
    for name in names.iter().filter(|name| name.trim_matches(['[', ']']).parse::<IpAddr>().is_err()) {
        findings.push(look_up(name).await);
    }
}

async fn look_up(name: &str) -> Finding {
    let wrong = |why: &dyn std::fmt::Display| Finding::error("dns", format!("{name} cannot be looked up: {why}")).cure(CURE);
    match timeout(TIMEOUT, lookup_host((name, 0))).await {
        Err(_) => wrong(&format_args!("no answer within {} s", TIMEOUT.as_secs())),
        Ok(Err(error)) => wrong(&error),
        Ok(Ok(addresses)) => {
            let addresses: BTreeSet<String> = addresses.map(|address| address.ip().to_string()).collect();
            match addresses.len() {
                0 => wrong(&"it has no address"),
                _ => Finding::fine("dns", format!("{name} is {}", addresses.into_iter().collect::<Vec<_>>().join(", "))),
            }
        }
    }
}
