use std::{net::SocketAddr, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use kit::balancer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A node that answers with its name, and is ready or not.
async fn node(name: &'static str, ready: StatusCode) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async move || name)).route("/ready", get(async move || ready));
    (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

async fn balancer(nodes: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(balancer::serve(listener, nodes));
    address
}

/// Who answers a connection of its own; nothing: nobody does.
async fn who(balancer: SocketAddr) -> String {
    let mut stream = TcpStream::connect(balancer).await.unwrap();
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    let mut answer = String::new();
    let _ = (asked, stream.read_to_string(&mut answer).await);
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}

/// Asks until the last answers were these; the bound only ends a test that fails.
async fn settles_on(balancer: SocketAddr, expected: [&str; 4]) {
    let settled = async {
        let mut last = Vec::new();
        while last.len() < 4 || last[last.len() - 4..] != expected {
            last.push(who(balancer).await);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap_or_else(|_| panic!("never {expected:?}"));
}

#[tokio::test]
async fn connections_go_round_and_a_node_that_has_gone_is_passed_over() {
    let (first, _serving) = node("one", StatusCode::OK).await;
    let (second, ends) = node("two", StatusCode::OK).await;
    let balancer = balancer(vec![first, second]).await;
    settles_on(balancer, ["one", "two", "one", "two"]).await;
    ends.abort();
    settles_on(balancer, ["one", "one", "one", "one"]).await;
}

#[tokio::test]
async fn a_node_that_is_not_ready_gets_no_connections() {
    let (first, _one) = node("one", StatusCode::SERVICE_UNAVAILABLE).await;
    let (second, _two) = node("two", StatusCode::OK).await;
    settles_on(balancer(vec![first, second]).await, ["two", "two", "two", "two"]).await;
}
