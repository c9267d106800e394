//! What an operator should know of the servers' configuration and the user's rights, each with its cure. How the links are lives in `health`.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime},
};

use broker_core::{Keep, LogQuery};
use broker_resp::{Address, CallError, Command, Link, Value, Wait};
use futures_util::future::join_all;

use crate::{
    backplane::Inner,
    keys::Group,
    script::HISTORY,
    servers::Lane,
    topology::{Arrangement, Map, Primary},
};

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Good to know.
    Note,
    /// It works, and loses or tells more than it had to.
    Warning,
    /// It does not work, or does not keep what was promised.
    Error,
}

/// Something about the servers that an operator should know.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is so, where, and what follows from it: one sentence.
    pub what: String,
    /// How to put it right.
    pub cure: String,
}

/// How long an answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A reader that falls behind by so much is cut by the server; a burst of publications should fit.
const PUBSUB_MIN_BYTES: u64 = 64 << 20;
/// Clocks may differ so much.
const CLOCKS_MAX: Duration = Duration::from_secs(1);
/// Names that are tried to find one whose slot a primary has: more than enough for a thousand primaries.
const NAMES_MAX: u32 = 20_000;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}; {}", self.what, self.cure)
    }
}

fn finding(severity: Severity, what: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding { severity, what: what.into(), cure: cure.into() }
}

impl Inner {
    /// Names whose slot a primary has; `what` tells them from others. `None`: it has no slot.
    pub(crate) fn names_at(&self, map: &Map, server: &Address, what: &str) -> Option<Group> {
        let mut groups = (0..NAMES_MAX).map(|n| self.calls.keys.group(&format!("{what} {n}")));
        groups.find(|group| map.owner(group.slot()).is_some_and(|owner| owner.address() == server))
    }

    /// Everything, the worst first.
    pub(crate) async fn check(&self) -> Vec<Finding> {
        let topology = self.servers.topology();
        let mut findings = Vec::new();
        if let Some(trouble) = topology.trouble() {
            findings.push(finding(Severity::Error, trouble, "look at the addresses in the URL, and whether the servers run"));
        }
        for trouble in self.bus.troubles() {
            findings.push(finding(
                Severity::Error,
                trouble,
                "give the user `+subscribe +unsubscribe +ssubscribe +sunsubscribe` and the channels `&prefix:*`, or use another server",
            ));
        }
        if self.options.durable && topology.arrangement() != Arrangement::Standalone {
            let what = "durable mode says that no replica ever takes over, and Sentinel and Cluster exist to let one";
            findings.push(finding(Severity::Error, what, "turn durable mode off, or use a single server"));
        }
        let map = topology.map();
        let of_each = join_all(map.primaries().iter().map(|primary| self.check_primary(&map, primary))).await;
        findings.extend(of_each.into_iter().flatten());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }

    async fn check_primary(&self, map: &Map, primary: &Primary) -> Vec<Finding> {
        let (link, server) = (primary.link(Lane::Read), primary.address());
        if link.connected(ASK_TIMEOUT).await.is_none() {
            let why = link.state().trouble().unwrap_or_else(|| "it does not answer".to_owned());
            return vec![finding(
                Severity::Error,
                format!("{server} cannot be used: {why}"),
                "start it, or correct address, user or password",
            )];
        }
        let mut findings = Vec::new();
        match ask(link, &Command::new("INFO")).await {
            Ok(info) => findings.extend(of_info(server, info.text().unwrap_or_default(), self.options.durable, self.servers.is_sharded())),
            Err(error) => findings.push(finding(
                Severity::Error,
                format!("{server} does not let this broker ask for INFO, without which no loss can be noticed: {error}"),
                "give the user the right `+info`",
            )),
        }
        let asked_at = SystemTime::now();
        if let Ok(answer) = ask(link, &Command::new("TIME")).await {
            findings.extend(of_time(server, &answer, asked_at, SystemTime::now()));
        }
        match ask(link, &Command::new("CONFIG").arg("GET").arg("*")).await {
            Ok(answer) => findings.extend(of_config(server, &settings(&answer), self.options.durable)),
            Err(error) => findings.push(finding(
                Severity::Note,
                format!("the settings of {server} cannot be read: {error}"),
                "give the user the right `+config|get`, or look at maxmemory-policy, repl-backlog-ttl and client-output-buffer-limit yourself",
            )),
        }
        if let Some(group) = self.names_at(map, server, "check") {
            findings.extend(self.check_rights(server, &group).await);
        }
        findings
    }

    /// Does what the broker does, under names of its own.
    async fn check_rights(&self, server: &Address, group: &Group) -> Option<Finding> {
        let call = self.calls.history(group, LogQuery::top(), Keep::history(1, Duration::from_secs(60)));
        let script = self.servers.eval(Lane::Read, group, &HISTORY, &call, ASK_TIMEOUT).await;
        let message = self.servers.call(Lane::Publish, group, &self.servers.message(group, ""), ASK_TIMEOUT).await;
        let (what, failure) = match (script, message) {
            (Err(failure), _) => ("run scripts", failure),
            (_, Err(failure)) => ("send messages", failure),
            _ => return None,
        };
        if failure.is_of_a_replica() {
            // Its role has been told.
            return None;
        }
        let cure = format!(
            "give the user `+@scripting +@read +@write +@fast +info +publish +spublish`, the keys `~{0}:*` and the channels `&{0}:*`",
            self.options.prefix
        );
        Some(finding(Severity::Error, format!("{server} does not let this broker {what}: {failure}"), cure))
    }
}

async fn ask(link: &Link, command: &Command) -> Result<Value, CallError> {
    link.call(command, Wait::at_most(ASK_TIMEOUT)).await
}

/// What `INFO` tells.
fn of_info(server: &Address, info: &str, durable: bool, sharded: bool) -> Vec<Finding> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let mut findings = Vec::new();
    let version = field("redis_version").unwrap_or_default();
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok()).unwrap_or(u32::MAX);
    let mut parts = version.split('.');
    let version_number = (number(parts.next()), number(parts.next()));
    if sharded && version_number < (7, 0) {
        let what = format!("{server} has version {version}, and a cluster needs sharded channels, which there are since 7.0");
        findings.push(finding(Severity::Error, what, "use Redis 7.0 or later, or a single server, or Sentinel"));
    } else if version_number < (6, 2) {
        let what = format!("{server} has version {version}, and what the broker asks for is certain since 6.2");
        findings.push(finding(Severity::Error, what, "use Redis 6.2 or later"));
    }
    if field("role").is_some_and(|role| role != "master") {
        let what = format!("{server} is a replica, and nothing can be published there");
        findings.push(finding(Severity::Error, what, "name the primary, or the sentinels, in the URL"));
    }
    if durable {
        let replicas: u32 = field("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or_default();
        if replicas > 0 {
            let what = format!("{server} has replicas, and durable mode says that none of them ever takes over");
            findings.push(finding(Severity::Warning, what, "turn durable mode off where one may, or take care that none does"));
        }
        if field("second_repl_offset").is_some_and(|offset| offset != "-1") {
            let what =
                format!("{server} was a replica once, so durable mode does not hold for it: its restart is told to clients as a loss");
            findings.push(finding(Severity::Warning, what, "restart it once"));
        }
    }
    findings
}

/// How far the server's clock is from this machine's, by what `TIME` told between two looks at the latter.
fn of_time(server: &Address, answer: &Value, asked_at: SystemTime, told_at: SystemTime) -> Option<Finding> {
    let [seconds, micros] = answer.values()? else { return None };
    let part = |value: &Value| value.integer().and_then(|part| u64::try_from(part).ok());
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(part(seconds)?) + Duration::from_micros(part(micros)?);
    let (apart, how) = match (asked_at.duration_since(time), time.duration_since(told_at)) {
        (Ok(behind), _) => (behind, "behind"),
        (_, Ok(before)) => (before, "before"),
        _ => return None,
    };
    (apart > CLOCKS_MAX).then(|| {
        finding(
            Severity::Warning,
            format!("the clock of {server} is {:.1} s {how} that of this machine", apart.as_secs_f64()),
            "run a time service (chrony, systemd-timesyncd) on both: what is kept for a time goes by Redis' clock, tokens by those of the nodes",
        )
    })
}

fn settings(answer: &Value) -> HashMap<String, String> {
    let text = |value: &Value| value.text().map(ToOwned::to_owned);
    match answer {
        Value::Map(pairs) => pairs.iter().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect(),
        other => other.values().unwrap_or_default().chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect(),
    }
}

/// What `CONFIG GET` tells.
fn of_config(server: &Address, settings: &HashMap<String, String>, durable: bool) -> Vec<Finding> {
    let is = |name: &str, value: &str| settings.get(name).is_none_or(|set| set == value);
    let mut findings = Vec::new();
    if !is("maxmemory-policy", "noeviction") {
        let policy = &settings["maxmemory-policy"];
        let (severity, when) =
            if is("maxmemory", "0") { (Severity::Note, "once maxmemory is set") } else { (Severity::Warning, "when memory is short") };
        let what = format!(
            "{server} has maxmemory-policy {policy}: {when}, it forgets histories, which clients are told, and what makes retries harmless, which they are not"
        );
        findings.push(finding(severity, what, "CONFIG SET maxmemory-policy noeviction"));
    }
    if !is("repl-backlog-ttl", "0") {
        let seconds = &settings["repl-backlog-ttl"];
        let what = format!(
            "{server} has repl-backlog-ttl {seconds}: a replica that attaches after so many seconds without one tells all clients of a loss that is none"
        );
        findings.push(finding(Severity::Note, what, "CONFIG SET repl-backlog-ttl 0"));
    }
    if let Some(hard) = settings.get("client-output-buffer-limit").and_then(|limits| pubsub_limit(limits)) {
        let cure = "CONFIG SET client-output-buffer-limit \"pubsub 256mb 64mb 60\"";
        if hard == 0 {
            let what = format!("{server} has no limit for what waits for a reader of channels: one stuck node takes all its memory");
            findings.push(finding(Severity::Warning, what, cure));
        } else if hard < PUBSUB_MIN_BYTES {
            let what =
                format!("{server} cuts off a node that is {hard} bytes behind: a burst does that, and the node then reads all its topics");
            findings.push(finding(Severity::Warning, what, cure));
        }
    }
    for (name, value) in [("appendonly", "yes"), ("appendfsync", "always")].into_iter().filter(|(name, value)| durable && !is(name, value))
    {
        let what = format!("{server} has {name} {}, and durable mode promises that what was answered is on its disk", settings[name]);
        findings.push(finding(Severity::Error, what, format!("CONFIG SET {name} {value}, or turn durable mode off")));
    }
    findings
}

/// The hard limit, in bytes, of `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`.
fn pubsub_limit(limits: &str) -> Option<u64> {
    let mut words = limits.split_ascii_whitespace().skip_while(|word| *word != "pubsub");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &[(&str, &str)], durable: bool) -> Vec<(Severity, String)> {
        let server = Address::Tcp { host: "a".to_owned(), port: 1 };
        let settings = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        of_config(&server, &settings, durable).into_iter().map(|finding| (finding.severity, finding.cure)).collect()
    }

    #[test]
    fn settings_that_lose_are_found() {
        let defaults = [
            ("maxmemory", "0"),
            ("maxmemory-policy", "noeviction"),
            ("repl-backlog-ttl", "0"),
            ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 268435456 67108864 60"),
            ("appendonly", "no"),
            ("appendfsync", "everysec"),
        ];
        assert_eq!(check(&defaults, false), []);
        assert_eq!(check(&defaults, true).iter().map(|(severity, _)| *severity).collect::<Vec<_>>(), [Severity::Error; 2]);
        let one = |name, value| {
            check(&[(name, value), ("maxmemory", "1000000")], false).into_iter().map(|(severity, _)| severity).collect::<Vec<_>>()
        };
        assert_eq!(one("maxmemory-policy", "allkeys-lru"), [Severity::Warning]);
        assert_eq!(one("repl-backlog-ttl", "3600"), [Severity::Note]);
        assert_eq!(one("client-output-buffer-limit", "normal 0 0 0 slave 0 0 0 pubsub 33554432 8388608 60"), [Severity::Warning]);
        assert_eq!(one("client-output-buffer-limit", "normal 0 0 0 slave 0 0 0 pubsub 0 0 0"), [Severity::Warning]);
    }

    #[test]
    fn a_clock_that_goes_wrong_is_told() {
        let server = Address::Tcp { host: "a".to_owned(), port: 1 };
        let at = |ms: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let check = |now_ms: u64, part: Option<&str>| {
            let answer = Value::Array(vec![Value::Bulk("100".into()), Value::Bulk("500000".into())]);
            let found = of_time(&server, &answer, at(now_ms), at(now_ms + 200)).map(|finding| finding.what);
            assert_eq!(found.is_some(), part.is_some(), "{found:?}");
            assert!(part.is_none_or(|part| found.as_deref().is_some_and(|what| what.contains(part))), "{found:?}");
        };
        check(100_400, None);
        check(101_500, None);
        check(99_300, None);
        check(103_000, Some("2.5 s behind"));
        check(98_000, Some("2.3 s before"));
    }

    #[test]
    fn what_info_tells_is_weighed() {
        let server = Address::Tcp { host: "a".to_owned(), port: 1 };
        let found = |info: &str, durable, sharded| {
            of_info(&server, info, durable, sharded).into_iter().map(|finding| finding.severity).collect::<Vec<_>>()
        };
        assert_eq!(found("redis_version:7.0.15\r\nrole:master\r\n", false, true), []);
        assert_eq!(found("redis_version:6.2.7\r\nrole:master\r\n", false, false), []);
        assert_eq!(found("redis_version:6.2.7\r\nrole:master\r\n", false, true), [Severity::Error]);
        assert_eq!(found("redis_version:6.0.16\r\nrole:slave\r\n", false, false), [Severity::Error; 2]);
        let replicated = "redis_version:7.0.15\r\nrole:master\r\nconnected_slaves:1\r\nsecond_repl_offset:-1\r\n";
        assert_eq!((found(replicated, true, false), found(replicated, false, false)), (vec![Severity::Warning], vec![]));
    }
}
