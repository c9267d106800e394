//! What an operator is told of the servers' configuration and the user's rights.

use broker_core::{Backplane, Topic};
use broker_redis::{Finding, Options, RedisBackplane, Servers, Severity};
use broker_resp::{Command, Target, testing::Server};

use crate::world::until;

async fn check(target: Target, durable: bool) -> Vec<Finding> {
    let mut options = Options::new(Servers::Standalone(target));
    options.durable = durable;
    RedisBackplane::connect(options).expect("a legal prefix").check().await
}

fn is_told(findings: &[Finding], severity: Severity, word: &str) -> bool {
    findings.iter().any(|finding| finding.severity == severity && finding.what.contains(word) && !finding.cure.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_weighed_and_rights_are_tried() {
    let server = Server::start().await;
    let findings = check(server.target(), false).await;
    assert!(is_told(&findings, Severity::Note, "repl-backlog-ttl"), "{findings:#?}");
    assert!(is_told(&findings, Severity::Warning, "cuts off a node"), "{findings:#?}");
    assert!(!findings.iter().any(|finding| finding.severity == Severity::Error), "{findings:#?}");
    let findings = check(server.target(), true).await;
    assert!(
        is_told(&findings, Severity::Error, "appendonly no") && is_told(&findings, Severity::Error, "appendfsync everysec"),
        "{findings:#?}"
    );

    let cures = [
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory", "100000000"),
        ("repl-backlog-ttl", "0"),
        ("client-output-buffer-limit", "pubsub 256mb 64mb 60"),
    ];
    for (name, value) in cures {
        server.call(&Command::new("CONFIG").arg("SET").args([name, value])).await;
    }
    let findings = check(server.target(), false).await;
    assert!(findings.len() == 1 && is_told(&findings, Severity::Warning, "maxmemory-policy allkeys-lru"), "{findings:#?}");

    let user = |rights: &[&str]| Command::new("ACL").arg("SETUSER").args(["app", "reset", "on", ">secret"]).args(rights);
    let target = || server.target().user("app", "secret");
    server.call(&user(&["~broker:*", "&broker:*", "+@all"])).await;
    assert_eq!(check(target(), false).await.len(), 1);
    server.call(&user(&["~broker:*", "&broker:*", "+@all", "-info", "-config"])).await;
    let findings = check(target(), false).await;
    assert!(is_told(&findings, Severity::Error, "INFO") && is_told(&findings, Severity::Note, "cannot be read"), "{findings:#?}");
    server.call(&user(&["~broker:*", "&other:*", "+@all"])).await;
    let findings = check(target(), false).await;
    assert!(is_told(&findings, Severity::Error, "send messages"), "{findings:#?}");
    server.call(&user(&["~other:*", "&broker:*", "+@all"])).await;
    let findings = check(target(), false).await;
    assert!(is_told(&findings, Severity::Error, "run scripts"), "{findings:#?}");
    let findings = check(server.target().user("app", "wrong"), false).await;
    assert!(is_told(&findings, Severity::Error, "cannot be used"), "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_told_and_made_good() {
    let server = Server::start().await;
    let rights = |rights: &[&str]| Command::new("ACL").arg("SETUSER").args(["app", "on", ">secret", "~*", "+@all"]).args(rights);
    server.call(&rights(&["&other:*"])).await;
    let target = server.target().user("app", "secret");
    let redis = RedisBackplane::connect(Options::new(Servers::Standalone(target))).expect("a legal prefix");
    let topic: Topic = "t:1".parse().expect("a legal topic");
    until("the bus is connected", || redis.health().links.iter().any(|(name, state)| name == "bus" && state.is_connected())).await;
    let refused = redis.interest(&[(topic.clone(), true)]).await.expect_err("the user may not");
    assert!(refused.to_string().contains("NOPERM"), "{refused}");
    assert!(redis.health().troubles.iter().any(|trouble| trouble.contains("does not let this node hear")));
    server.call(&rights(&["&*"])).await;
    // Nobody asks again: it is wanted still.
    until("it is heard", || redis.health().troubles.is_empty()).await;
    let heard = server.call(&Command::new("PUBSUB").arg("CHANNELS").arg("broker:{t:1}")).await;
    assert_eq!(heard.values().map(<[_]>::len), Some(1));
}
