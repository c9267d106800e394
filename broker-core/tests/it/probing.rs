//! Nodes look at the ways between them, and say what keeps them from being ready.

use std::time::Duration;

use broker_core::Engine;

#[tokio::test(start_paused = true)]
async fn a_node_alone_hears_itself_and_nothing_is_left_of_the_look() {
    let engine = Engine::builder().shared_settings(vec![("default".into(), "abc".into())]).build().unwrap();
    let probes = engine.probe_nodes(Duration::from_secs(1)).await;
    let [probe] = probes.nodes.as_slice() else { panic!("{probes:?}") };
    assert_eq!((&probe.heard[..], probe.trouble.as_deref(), probe.is_shared), (&[engine.node_id()][..], None, false));
    assert_eq!(probe.settings, [("default".into(), "abc".into())]);
    assert!(probes.broken_ways().is_empty() && probes.silent.is_empty());
    assert!(engine.topics().await.is_empty());
    let again = engine.probe_nodes(Duration::from_secs(1)).await;
    assert_eq!(again.nodes[0].heard, [engine.node_id()]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_drains_says_so_and_knows_itself() {
    let engine = Engine::builder().build().unwrap();
    assert!(engine.troubles().is_empty());
    assert_eq!(engine.known_nodes(), [engine.node_id()]);
    engine.drain(Duration::ZERO).await;
    assert_eq!(engine.troubles(), ["the node is draining"]);
}
