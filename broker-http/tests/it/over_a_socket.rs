//! The same services behind hyper, over loopback.

use std::convert::Infallible;

use broker_http::{Api, ApiKeys, ApiOptions};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_service::Service;

use super::server::engine;

#[tokio::test]
async fn a_backend_publishes_over_http() {
    let mut client = client(Api::new(engine(), ApiOptions::default().keys(ApiKeys::one("k")))).await;
    for offset in 1..=3 {
        let request = Request::post("/api/publish").header("host", "broker").header("x-api-key", "k");
        let response = client.send_request(request.body(Full::from(r#"{"channel":"chat:1","data":{}}"#)).unwrap()).await.unwrap();
        assert_eq!((response.status(), response.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "application/json"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(format!(r#"{{"result":{{"offset":{offset},"#).as_bytes()), "{body:?}");
    }
}

#[tokio::test]
async fn a_connection_lives_on_after_a_refused_request() {
    let mut client = client(Api::new(engine(), ApiOptions::default().keys(ApiKeys::one("k")))).await;
    for (path, key, body, status) in [
        ("/api/publish", "wrong", "{}", 401),
        ("/api/nope", "k", "{}", 404),
        ("/api/publish", "k", "{", 400),
        ("/api/publish", "k", "{}", 200),
        ("/api/info", "k", "{}", 200),
    ] {
        let request = Request::post(path).header("host", "broker").header("x-api-key", key).body(Full::from(body)).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        response.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_writes_all_of_a_body_that_is_too_large_hears_why() {
    let mut stream = connect(Api::new(engine(), ApiOptions::default().keys(ApiKeys::one("k")).body_max_bytes(100))).await;
    let body = vec![b'x'; 8 << 20];
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nhost: broker\r\nx-api-key: k\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains(r#""error":"limit_exceeded""#), "{answer}");
}

/// A client of one connection to a server of this service.
async fn client(api: Api) -> http1::SendRequest<Full<Bytes>> {
    let (client, connection) = http1::handshake(TokioIo::new(connect(api).await)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A connection to a server of this service.
async fn connect(api: Api) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut api = api.clone();
        async move { Ok::<_, Infallible>(api.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(accepted), service));
    stream
}
