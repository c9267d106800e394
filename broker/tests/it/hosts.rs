//! The same smoke test in every host: connect, subscribe, publish, receive.

use std::{convert::Infallible, net::SocketAddr};

use axum::Router;
use broker::{Broker, Connect, Head, Payload, Publish, Script};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use crate::{
    client::{Client, Server},
    events_client::Events,
};

#[tokio::test]
async fn without_a_framework() {
    let server = Server::dev().await;
    smoke(&server.broker, server.addr, "").await;
}

#[tokio::test]
async fn inside_axum_under_a_prefix() {
    let broker = Broker::builder().dev().build().unwrap();
    let app = Router::new().nest_service("/live", broker.service());
    let (listener, addr) = bound().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    smoke(&broker, addr, "/live").await;
}

#[tokio::test]
async fn the_client_for_browsers_beside_the_sockets() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let broker = Broker::builder().dev().build().unwrap();
    let app = Router::new().nest_service("/live", broker.service()).route_service("/live/broker.js", Script::new());
    let (listener, addr) = bound().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET /live/broker.js HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-type: text/javascript"), "{answer}");
    assert!(answer.contains("export const connect"), "{answer}");
    smoke(&broker, addr, "/live").await;
}

#[tokio::test]
async fn inside_plain_hyper() {
    let broker = Broker::builder().dev().build().unwrap();
    let (listener, addr) = bound().await;
    let service = broker.service();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
        }
    });
    smoke(&broker, addr, "").await;
}

#[tokio::test]
async fn inside_hyper_over_a_pipe_that_is_no_tcp_socket() {
    let broker = Broker::builder().dev().build().unwrap();
    let service = TowerToHyperService::new(broker.service());
    let serve = |io| {
        let service = service.clone();
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            builder.serve_connection_with_upgrades(TokioIo::new(io), service).await.unwrap();
        });
    };
    let (io, pipe) = tokio::io::duplex(1_000);
    serve(io);
    let plain = Client::over(pipe, "ws://broker.test/ws/news?format=envelope", &[]).await.unwrap();
    let (io, pipe) = tokio::io::duplex(1_000);
    serve(io);
    let centrifuge = Client::over(pipe, "ws://broker.test/connection/websocket", &[]).await.unwrap();
    converse(&broker, plain, centrifuge).await;
}

#[tokio::test]
async fn streams_of_events_in_every_host() {
    let broker = Broker::builder().dev().build().unwrap();
    let (listener, addr) = bound().await;
    let app = Router::new().nest_service("/live", broker.service());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut in_axum = Events::open(addr, "/live/sse/news", &[]).await;
    let (io, pipe) = tokio::io::duplex(1_000);
    let service = TowerToHyperService::new(broker.service());
    tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(io), service).await });
    let mut over_a_pipe = Events::over(pipe, "/sse/news", &[]).await;
    broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json("1"))).await.unwrap();
    assert_eq!((in_axum.data().await, over_a_pipe.data().await), ("1".to_owned(), "1".to_owned()));
    // There is no listener of ours to break them off: they end in good order.
    let ends = async { while in_axum.next().await.is_some() {} };
    tokio::join!(broker.drain(std::time::Duration::from_secs(20)), ends, async { while over_a_pipe.next().await.is_some() {} });
}

#[tokio::test]
async fn over_pipes_that_are_upgraded_already() {
    let broker = Broker::builder().dev().build().unwrap();
    let open = async |path: &str, query: &str| {
        let (io, pipe) = tokio::io::duplex(1_000);
        let mut head = Head::new(path);
        query.clone_into(&mut head.query);
        broker.accept(io, head).await.unwrap();
        Client::upgraded(pipe).await
    };
    let plain = open("/ws/news", "format=envelope").await;
    let centrifuge = open("/connection/websocket", "").await;
    converse(&broker, plain, centrifuge).await;
}

#[tokio::test]
async fn over_a_tcp_socket_that_is_upgraded_already() {
    let broker = Broker::builder().dev().build().unwrap();
    let (listener, addr) = bound().await;
    let pipe = tokio::net::TcpStream::connect(addr).await.unwrap();
    broker.accept(listener.accept().await.unwrap().0, Head::new("/ws/news")).await.unwrap();
    let mut client = Client::upgraded(pipe).await;
    broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json("1"))).await.unwrap();
    assert_eq!(client.text().await, "1");
}

#[tokio::test]
async fn without_a_socket() {
    let broker = Broker::builder().dev().build().unwrap();
    let mut client = broker.connect_local(Connect::default()).await.unwrap();
    client.subscribe("news").await.unwrap();
    let position = broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json(r#"{"n":1}"#))).await.unwrap().position;
    client.publish("news", r#"{"n":2}"#).await.unwrap();
    let first = client.next_publication().await.unwrap();
    assert_eq!((first.topic.as_str(), first.data.as_str(), first.position), ("news", r#"{"n":1}"#, position));
    assert_eq!(client.next_publication().await.unwrap().data, r#"{"n":2}"#);
    client.unsubscribe("news").await.unwrap();
    assert_eq!(client.subscribe("a b").await.unwrap_err().word, "bad_request");
}

#[tokio::test]
async fn a_service_needs_a_body_of_no_particular_type() {
    use tower::ServiceExt;
    let broker = Broker::builder().dev().build().unwrap();
    let request = http::Request::get("/ws/news").body("any body").unwrap();
    let response = broker.service().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
    assert_eq!(response.status(), 426);
}

async fn smoke(broker: &Broker, addr: SocketAddr, prefix: &str) {
    let plain = Client::open(addr, &format!("{prefix}/ws/news/?format=envelope"), &[]).await.unwrap();
    let centrifuge = Client::open(addr, &format!("{prefix}/connection/websocket"), &[]).await.unwrap();
    converse(broker, plain, centrifuge).await;
}

/// A client of each protocol listens to `news`; the host publishes, then each of them.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(broker: &Broker, mut plain: Client<S>, mut centrifuge: Client<S>) {
    assert_eq!(plain.json().await["broker"], "connected");
    assert_eq!(plain.json().await["broker"], "subscribed");
    centrifuge.send(r#"{"id":1,"connect":{}}"#).await;
    assert!(centrifuge.json().await["connect"]["client"].is_string());
    centrifuge.send(r#"{"id":2,"subscribe":{"channel":"news"}}"#).await;
    assert!(centrifuge.json().await["subscribe"].is_object());

    broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json(r#"{"n":1}"#))).await.unwrap();
    assert_eq!(publication(&mut plain).await, r#"{"n":1}"#);
    assert_eq!(push(&mut centrifuge).await, r#"{"n":1}"#);

    plain.send(r#"{"broker":"publish","id":9,"topic":"news","data":{"n":2}}"#).await;
    assert_eq!(push(&mut centrifuge).await, r#"{"n":2}"#);
    assert_eq!(publication(&mut plain).await, r#"{"n":2}"#);

    centrifuge.send(r#"{"id":3,"publish":{"channel":"news","data":{"n":3}}}"#).await;
    assert_eq!(publication(&mut plain).await, r#"{"n":3}"#);
    assert_eq!(push(&mut centrifuge).await, r#"{"n":3}"#);
}

/// The data of the next publication; answers and joins are left out.
async fn publication<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) -> String {
    loop {
        let frame = client.json().await;
        if frame["broker"] == "publication" {
            return frame["data"].to_string();
        }
    }
}

async fn push<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) -> String {
    loop {
        for line in client.text().await.lines() {
            let frame: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(data) = frame["push"]["pub"].get("data") {
                return data.to_string();
            }
        }
    }
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}
