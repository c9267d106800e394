//! The rules of ARCHITECTURE.md that a program can check: what `session/` may name, what the core may depend on, who may depend on whom.

use anyhow::Result;

use crate::{process, source, workspace};

/// The crates in the order of ARCHITECTURE.md: each depends only on crates of rows above its own.
const ROWS: &[&[&str]] = &[
    &["broker-core"],
    &["broker-protocol"],
    &["broker-resp"],
    &["broker-auth"],
    &["broker-ws", "broker-http"],
    &["broker-redis", "broker-django"],
    &["broker-client"],
    &["broker"],
    &["broker-server"],
];

/// What the session may not name, and why. It is a pure state machine: time and chance are inputs, effects are outputs.
const NOT_IN_SESSION: &[(&str, &str)] = &[
    ("tokio", "the session has no runtime"),
    ("futures_util", "the session has no runtime"),
    ("async", "the session answers at once; questions leave it as effects"),
    ("Mutex", "the session has one owner, its shard"),
    ("RwLock", "the session has one owner, its shard"),
    ("parking_lot", "the session has one owner, its shard"),
    ("dashmap", "the session has one owner, its shard"),
    ("atomic", "the session has one owner, its shard"),
    ("Instant::now", "time is an input"),
    ("SystemTime", "time is an input"),
    ("unix_ms", "time is an input"),
    ("fastrand", "chance is an input"),
    ("rand", "chance is an input"),
    ("getrandom", "chance is an input"),
    ("thread", "the session has no threads"),
    ("std::net", "the session knows no sockets"),
    ("std::fs", "the session knows no files"),
];

/// Where the clock of the wall may be read, and what for. It may be set at any moment; whatever counts time that passes reads the monotonic one.
const WALL_CLOCK: &[(&str, &str)] = &[
    ("broker/src/outbox/", "rows outlive the process: their age and their claims are told by it"),
    ("broker-auth/src/", "tokens and tickets tell their times by it"),
    ("broker-core/src/hub/asks.rs", "credentials end by it, and are issued by it where nobody says when"),
    ("broker-core/src/hub/orders.rs", "credentials end by it; since when a session is there is shown by it"),
    ("broker-core/src/hub/probing.rs", "the clocks of nodes are compared"),
    ("broker-core/src/publication.rs", "the time of a publication is shown"),
    ("broker-core/src/registry.rs", "revocations compare with the times of tokens"),
    ("broker-core/src/sessions.rs", "credentials are issued by it where nobody says when"),
    ("broker-core/src/subject.rs", "credentials are issued by it where nobody says when"),
    ("broker-http/src/api/call/sessions.rs", "revocations compare with the times of tokens"),
    ("broker-redis/src/checks.rs", "the clock of Redis is compared with this machine's"),
    ("broker-redis/src/entry.rs", "the time of a publication is shown"),
    ("broker-redis/src/nodes/mod.rs", "since when a node runs is shown by it"),
    ("broker-resp/src/outbox.rs", "when a connection ended is shown by it"),
    ("broker-server/src/commands/token.rs", "tokens tell their times by it"),
    ("broker-server/src/credentials.rs", "tokens tell their times by it"),
    ("broker-server/src/doctor/nodes.rs", "the clocks of nodes are compared"),
    ("broker-ws/src/tls/mod.rs", "certificates end by it"),
];

/// What may not be in the dependency tree of `broker-core`, and why.
const NOT_IN_CORE: &[(&str, &str)] = &[
    ("serde_json", "wire formats live in broker-protocol"),
    ("prost", "wire formats live in broker-protocol"),
    ("rmp", "wire formats live in broker-protocol"),
    ("ciborium", "wire formats live in broker-protocol"),
    ("base64", "wire formats live in broker-protocol"),
    ("mio", "sockets live in the transports (tokio's `net` feature brings it)"),
    ("socket2", "sockets live in the transports (tokio's `net` feature brings it)"),
    ("rustls", "sockets live in the transports"),
    ("tungstenite", "WebSocket lives in broker-ws"),
    ("tokio-tungstenite", "WebSocket lives in broker-ws"),
    ("hyper", "HTTP lives in broker-http and broker-ws"),
    ("hyper-util", "HTTP lives in broker-http and broker-ws"),
    ("http-body", "HTTP lives in broker-http and broker-ws"),
    ("axum", "HTTP lives in broker-http and broker-ws"),
    ("tower", "HTTP lives in broker-http and broker-ws"),
    ("tower-service", "HTTP lives in broker-http and broker-ws"),
    ("redis", "Redis lives in broker-redis"),
    ("fred", "Redis lives in broker-redis"),
    ("jsonwebtoken", "tokens live in broker-auth"),
];

/// Every broken rule as a sentence with its place.
pub(crate) fn violations() -> Result<Vec<String>> {
    let mut found = in_session()?;
    let present = workspace::crates()?;
    if present.iter().any(|name| name == "broker-core") {
        found.extend(in_core(&dependencies("broker-core", None)?));
    }
    for name in present.iter().filter(|name| ROWS.iter().flat_map(|row| row.iter()).any(|own| own == name)) {
        found.extend(clocks(name)?);
    }
    for name in present.iter().filter(|name| row(name).is_some()) {
        found.extend(against_the_order(name, &dependencies(name, Some(1))?));
    }
    Ok(found)
}

fn in_session() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in source::files(&workspace::root().join("broker-core/src/session")) {
        if path.ends_with("tests.rs") {
            continue;
        }
        let place = path.strip_prefix(workspace::root()).unwrap_or(&path).display().to_string();
        found.extend(session_text(&place, &source::read(&path)?));
    }
    Ok(found)
}

fn session_text(place: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in source::without_tests(text).lines().enumerate() {
        let code = source::code(line);
        for (word, reason) in NOT_IN_SESSION.iter().filter(|(word, _)| source::names(code, word)) {
            found.push(format!("{place}:{}: the session names `{word}`, but {reason}", number + 1));
        }
    }
    found
}

/// Readings of the clock of the wall in a crate, outside tests.
fn clocks(name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in source::files(&workspace::root().join(name).join("src")) {
        let place = path.strip_prefix(workspace::root()).unwrap_or(&path).display().to_string();
        if !place.ends_with("tests.rs") {
            found.extend(clock_text(&place, &source::read(&path)?));
        }
    }
    Ok(found)
}

fn clock_text(place: &str, text: &str) -> Vec<String> {
    if WALL_CLOCK.iter().any(|(allowed, _)| place.starts_with(allowed)) {
        return Vec::new();
    }
    let code = source::without_tests(text);
    let lines = code.lines().enumerate().filter(|(_, line)| source::names(source::code(line), "SystemTime::now"));
    let told = |(number, _)| {
        format!("{place}:{}: the clock of the wall is read, which may be set at any moment; WALL_CLOCK says where", number + 1)
    };
    lines.map(told).collect()
}

fn in_core(tree: &[String]) -> Vec<String> {
    NOT_IN_CORE
        .iter()
        .filter(|(name, _)| tree.iter().any(|dependency| dependency == name))
        .map(|(name, reason)| {
            format!("broker-core depends on `{name}` (see `cargo tree -p broker-core -e normal -i {name}`), but {reason}")
        })
        .collect()
}

fn against_the_order(name: &str, dependencies: &[String]) -> Vec<String> {
    let own = row(name).unwrap_or(usize::MAX);
    dependencies
        .iter()
        .filter(|dependency| *dependency != name && row(dependency).is_some_and(|row| row >= own))
        .map(|dependency| format!("{name} depends on {dependency}, which does not stand above it in ARCHITECTURE.md"))
        .collect()
}

/// The row of a crate; all examples share the last one.
fn row(name: &str) -> Option<usize> {
    let examples = name.starts_with("examples/").then_some(ROWS.len());
    ROWS.iter().position(|row| row.contains(&name)).or(examples)
}

/// Names of what a crate needs to be built, itself first. Dev-dependencies may go anywhere.
fn dependencies(folder: &str, depth: Option<u32>) -> Result<Vec<String>> {
    let manifest = format!("{folder}/Cargo.toml");
    let depth = depth.map(|depth| depth.to_string());
    let mut arguments =
        vec!["tree", "--quiet", "--manifest-path", &manifest, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    if let Some(depth) = &depth {
        arguments.extend(["--depth", depth]);
    }
    let text = process::output(&mut process::cargo(&arguments))?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_the_session_is_found_with_its_place() {
        let found = session_text("session/mod.rs", "//! Never Instant::now().\nfn f() {\n    let now = Instant::now();\n}\n");
        assert_eq!(found, ["session/mod.rs:3: the session names `Instant::now`, but time is an input"]);
    }

    #[test]
    fn the_clock_of_the_wall_is_found_where_it_is_not_for_credentials_or_for_show() {
        let text = "//! Not SystemTime::now().\nfn f() {\n    SystemTime::now();\n}\n";
        let told = "broker-core/src/hub/rates.rs:3: the clock of the wall is read, which may be set at any moment; WALL_CLOCK says where";
        assert_eq!(clock_text("broker-core/src/hub/rates.rs", text), [told]);
        assert_eq!(clock_text("broker-core/src/subject.rs", text), [""; 0]);
        assert_eq!(clock_text("broker-core/src/hub/rates.rs", &format!("fn f() {{}}\n\n#[cfg(test)]\nmod tests {{\n{text}}}\n")), [""; 0]);
    }

    #[test]
    fn tests_may_start_at_any_moment() {
        assert_eq!(session_text("a.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    let from = Instant::now();\n}\n"), [""; 0]);
    }

    #[test]
    fn instants_and_shared_pointers_are_no_clock_and_no_lock() {
        assert_eq!(session_text("a.rs", "use std::sync::Arc;\nuse std::time::{Duration, Instant};\n"), [""; 0]);
    }

    #[test]
    fn a_crate_may_depend_only_on_rows_above() {
        #[track_caller]
        fn check(name: &str, dependency: &str, allowed: bool) {
            assert_eq!(against_the_order(name, &[dependency.to_owned()]).is_empty(), allowed, "{name} on {dependency}");
        }
        check("broker-ws", "broker-core", true);
        check("broker-ws", "broker-http", false);
        check("broker-core", "broker-protocol", false);
        check("broker-server", "broker", true);
        check("examples/dashboard", "broker", true);
        check("broker-auth", "serde_json", true);
    }

    #[test]
    fn a_wire_format_in_the_core_is_found() {
        assert_eq!(in_core(&["broker-core".to_owned(), "bytes".to_owned()]), [""; 0]);
        assert_eq!(in_core(&["serde_json".to_owned()]).len(), 1);
    }
}
