//! Sentinels: what every backplane must do, and what it notices of a primary that is replaced, or of sentinels that go.

use std::{sync::Arc, time::Duration};

use broker_core::{GapReason, Topic, testing::backplane_suite};
use broker_redis::Servers;
use broker_resp::{
    Command, Target,
    testing::{Proxy, Sentinels, Server},
};
use tokio::time::Instant;

use crate::{
    load::Load,
    world::{LONG, backplane_on, until},
};

/// Each sentinel behind a proxy.
async fn proxies(running: &Sentinels) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for address in running.addresses() {
        proxies.push(Proxy::start(address).await);
    }
    proxies
}

fn servers(proxies: &[Proxy]) -> Servers {
    Servers::Sentinel {
        sentinels: proxies.iter().map(Proxy::target).collect(),
        primary: Sentinels::NAME.to_owned(),
        server: Target::tcp("localhost", 0).user("app", "secret"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_replaced_is_followed() {
    let mut running = Sentinels::start(1).await;
    for server in &running.servers {
        server.call(&Command::new("ACL").arg("SETUSER").args(["app", "on", ">secret", "~*", "&*", "+@all"])).await;
    }
    let proxies = proxies(&running).await;
    let redis = backplane_on(servers(&proxies)).await;
    backplane_suite(Arc::new(redis.clone())).await;

    // Without sentinels it goes on with the primary that is known, and says so.
    for proxy in &proxies {
        proxy.refuse(true);
        proxy.cut();
    }
    let topics: Vec<Topic> = ["t:1", "t:2"].map(|name| name.parse().expect("a legal topic")).into();
    until("it is told", || redis.health().troubles.iter().any(|trouble| trouble.contains("no sentinel answers"))).await;
    for proxy in &proxies {
        proxy.cure();
    }
    until("they are back", || redis.health().troubles.is_empty()).await;

    let load = Load::start(&servers(&proxies), &topics).await;
    running.servers[0].kill();
    load.goes_on().await;
    until_links(&running.servers[1], 3).await;
    for outcome in load.end().await {
        assert!(outcome.longest < Duration::from_secs(15), "published again after {:?}", outcome.longest);
        assert!(outcome.gaps.contains(&GapReason::Epoch), "{}", outcome.topic);
        assert!(outcome.kept.is_sorted(), "{}", outcome.topic);
    }
}

/// Waits until so many nodes hear a server.
pub(crate) async fn until_links(server: &Server, count: usize) {
    let begun = Instant::now();
    loop {
        let list = server.call(&Command::new("CLIENT").arg("LIST")).await;
        let links = list.text().unwrap_or_default().lines().filter(|line| line.contains("name=broker-bus ")).count();
        if links == count {
            return;
        }
        assert!(begun.elapsed() < LONG, "{links} nodes hear the server");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
