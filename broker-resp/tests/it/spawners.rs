//! The servers and the proxy that other crates' tests stand on.

use broker_resp::{
    CallError, Event, Link, Options, Push, Value,
    testing::{Chances, Cluster, ClusterShape, Fate, Proxy, Sentinels, Server},
};

use crate::{SOON, command, event, linked, patient};

/// The next payloads of messages.
async fn payloads(events: &mut broker_resp::Events, count: usize) -> Vec<String> {
    let mut read = Vec::new();
    while read.len() < count {
        if let Event::Push(Push::Message { payload, .. }) = event(events).await {
            read.push(String::from_utf8(payload.into()).unwrap());
        }
    }
    read
}

#[tokio::test]
async fn a_proxy_drops_doubles_and_withholds_single_pushes() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let (link, mut events) = linked(proxy.target(), Options::default()).await;
    link.send(&[command("SUBSCRIBE news")], SOON).await[0].clone().expect("subscribed");
    proxy.judge_pushes(|push| match push {
        Push::Message { payload, .. } if payload == "lost" => Fate::Drop,
        Push::Message { payload, .. } if payload == "twice" => Fate::Double,
        Push::Message { payload, .. } if payload == "late" => Fate::Withhold,
        _ => Fate::Pass,
    });
    for word in ["one", "lost", "late", "twice", "end"] {
        server.call(&command(&format!("PUBLISH news {word}"))).await;
    }
    assert_eq!(payloads(&mut events, 4).await, ["one", "twice", "twice", "end"]);
    proxy.release();
    assert_eq!(payloads(&mut events, 1).await, ["late"]);
    proxy.pass_pushes();
    server.call(&command("PUBLISH news lost")).await;
    assert_eq!(payloads(&mut events, 1).await, ["lost"]);
}

#[tokio::test]
async fn fates_are_drawn_from_a_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let server = Server::start().await;
        let proxy = Proxy::start(server.address()).await;
        let (link, mut events) = linked(proxy.target(), Options::default()).await;
        link.send(&[command("SUBSCRIBE news")], SOON).await[0].clone().expect("subscribed");
        proxy.draw_fates(Chances { seed: 7, drop: 0.2, double: 0.2, withhold: 0.2 });
        let all: Vec<_> = (0..100).map(|number| command(&format!("PUBLISH news {number}"))).collect();
        let (publisher, _events) = linked(server.target(), Options::default()).await;
        publisher.call_many(&all, SOON).await.into_iter().for_each(|answer| assert_eq!(answer, Ok(Value::Integer(1))));
        // Its answer comes behind the pushes.
        link.call(&command("ECHO behind"), SOON).await.expect("answered");
        proxy.pass_pushes();
        publisher.call(&command("PUBLISH news end"), SOON).await.expect("published");
        let mut read = Vec::new();
        while read.last().is_none_or(|last| last != "end") {
            read.extend(payloads(&mut events, 1).await);
        }
        runs.push(read);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].windows(2).any(|pair| pair[0] == pair[1]), "none was doubled");
    assert!((0..100).any(|number| !runs[0].contains(&number.to_string())), "none was dropped");
}

#[tokio::test]
async fn a_server_keeps_its_data_or_forgets_it() {
    let mut server = Server::start().await;
    server.call(&command("SET kept 1")).await;
    server.shut_down().await;
    server.restart().await;
    assert_eq!(server.call(&command("EXISTS kept")).await, Value::Integer(1));
    server.kill();
    server.forget_data();
    server.restart().await;
    assert_eq!(server.call(&command("EXISTS kept")).await, Value::Integer(0));
}

#[tokio::test]
async fn a_cluster_serves_all_slots_and_fails_over() {
    let mut cluster = Cluster::start(ClusterShape::default()).await;
    let owner = cluster.owner("news").await;
    let other = (owner + 1) % 3;
    let (link, _events) = linked(cluster.servers[other].target(), Options::default()).await;
    let sent = link.send(&[command("SSUBSCRIBE news")], SOON).await;
    assert!(matches!(&sent[0], Err(CallError::Refused(error)) if error.is("MOVED")), "{sent:?}");
    cluster.servers[owner].kill();
    let promoted = cluster.owner_after("news", owner).await;
    assert!(promoted >= 3, "a replica took over");
    let (link, _events) = linked(cluster.servers[promoted].target(), Options::default()).await;
    assert_eq!(link.send(&[command("SSUBSCRIBE news")], SOON).await, [Ok(Value::Null)]);
}

#[tokio::test]
async fn sentinels_tell_the_primary_and_its_successor() {
    let mut running = Sentinels::start(1).await;
    let (link, mut events) = Link::open(broker_resp::Target::at(running.addresses()[0].clone()), Options::default());
    let question = command("SENTINEL GET-MASTER-ADDR-BY-NAME").arg(Sentinels::NAME);
    let port = async || link.call(&question, patient()).await.expect("known").into_values().expect("an address")[1].integer();
    assert_eq!(port().await, Some(i64::from(running.servers[0].port())));
    // Sentinels know no ECHO, and the fence holds nevertheless.
    assert_eq!(link.send(&[command("SUBSCRIBE +switch-master")], SOON).await, [Ok(Value::Null)]);
    running.servers[0].kill();
    let told = payloads(&mut events, 1).await.remove(0);
    assert!(told.ends_with(&format!("127.0.0.1 {}", running.servers[1].port())), "{told}");
    assert_eq!(port().await, Some(i64::from(running.servers[1].port())));
}
