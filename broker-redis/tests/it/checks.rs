//! What an operator is told of the servers' configuration and the user's rights.

use broker_redis::{Finding, Options, RedisBackplane, Servers, Severity};
use broker_resp::{Command, Target, testing::Server};

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
