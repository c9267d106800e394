//! A listener that speaks TLS: the same conversation, certificates that change, peers that do not shake hands.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use broker::{Broker, Builder, Payload, Publish, Tls, WsLimits};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, HandshakeKind, RootCertStore, pki_types::CertificateDer},
};

use crate::{
    client::{Client, refused},
    events_client::Events,
};

#[tokio::test]
async fn clients_of_both_protocols_converse_over_tls() {
    let server = Server::start(Broker::builder().dev()).await;
    let mut plain = server.open("/ws/news?format=envelope").await;
    let mut centrifuge = server.open("/connection/websocket").await;
    assert_eq!(plain.json().await["broker"], "connected");
    assert_eq!(plain.json().await["broker"], "subscribed");
    centrifuge.send(r#"{"id":1,"connect":{}}"#).await;
    assert!(centrifuge.json().await["connect"]["client"].is_string());
    centrifuge.send(r#"{"id":2,"publish":{"channel":"news","data":{"n":1}}}"#).await;
    loop {
        let frame = plain.json().await;
        if frame["broker"] == "publication" {
            return assert_eq!(frame["data"]["n"], 1);
        }
    }
}

#[tokio::test]
async fn streams_of_events_come_over_tls_and_end_with_a_revocation() {
    let server = Server::start(
        Broker::builder()
            .on_connect(|_| async { Ok(broker::Identity::user("kim")) })
            .default_namespace(broker::Namespace::default().allow(broker::Verb::Subscribe)),
    )
    .await;
    let mut events = Events::over(connect(server.addr, &[&server.certificate]).await, "/sse/news", &[]).await;
    events.first_id().await;
    let large = format!("\"{}\"", "x".repeat(300_000));
    server.broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json(large.clone()))).await.unwrap();
    assert_eq!(events.data().await, large);
    server.broker.revoke(broker::Revocation::now(broker::Revoked::User("kim".into()))).await.unwrap();
    assert_eq!(events.notice().await["broker"], "closing");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn large_messages_arrive_whole_in_both_directions() {
    let server = Server::start(Broker::builder().dev().settings(|settings| settings.backlog_max_bytes = 8 << 20)).await;
    let mut client = server.open("/ws/news").await;
    let large = |letter: &str| format!("\"{}\"", letter.repeat(1 << 20));
    for letter in ["a", "b"] {
        server.broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json(large(letter)))).await.unwrap();
    }
    assert_eq!((client.text().await, client.text().await), (large("a"), large("b")));
    let data = "x".repeat(60_000);
    client.send(&format!(r#"{{"broker":"publish","id":1,"topic":"news","data":"{data}"}}"#)).await;
    assert!(client.text().await.contains(&data) || client.text().await.contains(&data));
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_those_that_live_stay() {
    let server = Server::start(Broker::builder().dev()).await;
    let mut old = server.open("/ws/news").await;
    let new = made();
    server.files.write(&new);
    assert!(server.tls.reload().unwrap());
    assert!(!server.tls.reload().unwrap(), "nothing changed since");
    let connected = connect(server.addr, &[&server.certificate, &new.0]).await;
    assert_eq!(shown(&connected), new.0.der());
    assert!(try_connect(server.addr, &[&server.certificate]).await.is_err(), "the old one is shown no more");
    server.broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json("1"))).await.unwrap();
    assert_eq!(old.text().await, "1");
}

#[tokio::test]
async fn a_broken_pair_leaves_the_one_before() {
    let server = Server::start(Broker::builder().dev()).await;
    let (other, _) = made();
    fs::write(&server.files.cert, other.pem()).unwrap();
    let error = server.tls.reload().unwrap_err();
    assert!(matches!(error, broker::TlsError::Mismatch { .. }), "{error}");
    fs::write(&server.files.cert, "half a certi").unwrap();
    assert!(matches!(server.tls.reload().unwrap_err(), broker::TlsError::NotPem { .. }));
    fs::remove_file(&server.files.cert).unwrap();
    assert!(matches!(server.tls.reload().unwrap_err(), broker::TlsError::Unreadable { .. }));
    assert_eq!(shown(&connect(server.addr, &[&server.certificate]).await), server.certificate.der());
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut_at_the_deadline() {
    let limits = WsLimits::default().handshake_timeout(Duration::from_millis(50)).connections_max(3);
    let server = Server::start(Broker::builder().dev().limits(limits)).await;
    let mut stuck = Vec::new();
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stuck.push(stream);
    }
    for stream in &mut stuck {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
    // Their seats are free again.
    let mut tries = 0;
    while try_connect(server.addr, &[&server.certificate]).await.is_err() {
        tries += 1;
        assert!(tries < 1_000, "the seats were not free again");
    }
}

#[tokio::test]
async fn a_client_that_forgot_the_s_is_told_so() {
    let server = Server::start(Broker::builder().dev()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /ws/news HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("use https:// or wss://"), "{answer}");
}

#[tokio::test]
async fn whoever_speaks_only_another_protocol_is_refused_in_the_handshake() {
    let server = Server::start(Broker::builder().dev()).await;
    let mut config = client_config(&[&server.certificate]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert!(shake(server.addr, config).await.is_err());
    let mut config = client_config(&[&server.certificate]);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = shake(server.addr, config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn whoever_comes_back_needs_no_full_handshake() {
    let server = Server::start(Broker::builder().dev()).await;
    let config = Arc::new(client_config(&[&server.certificate]));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let stream = TlsConnector::from(Arc::clone(&config)).connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let mut client = Client::over(stream, "wss://localhost/ws/news?format=envelope", &[]).await.unwrap();
        // The ticket comes with the first bytes that are read.
        assert_eq!(client.json().await["broker"], "connected");
        kinds.push(client.pipe().get_ref().1.handshake_kind());
    }
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

#[tokio::test]
async fn pages_in_the_clear_are_foreign_behind_tls() {
    let broker = Broker::builder().anonymous().default_namespace(broker::Namespace::open()).build().unwrap();
    let (certificate, key) = made();
    let tls = Tls::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // As if the listener could be reached from other machines.
    let options = broker_ws::ServerOptions::new(Arc::new(WsLimits::default())).tls(tls);
    tokio::spawn(broker_ws::serve(listener, broker.service(), options, std::future::pending()));
    for (origin, is_let_in) in [("https://localhost", true), ("http://localhost", false), ("https://localhost.evil", false)] {
        for path in ["/ws/news", "/connection/websocket"] {
            let stream = connect(addr, &[&certificate]).await;
            let opened = Client::over(stream, &format!("wss://localhost{path}"), &[("origin", origin)]).await;
            assert_eq!(opened.is_ok(), is_let_in, "{origin} {path}");
            if !is_let_in {
                assert_eq!(refused(opened), (403, serde_json::Value::Null), "{origin} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_over_tls_too() {
    let server = Server::start(Broker::builder().dev().settings(|settings| settings.backlog_max_bytes = 64 << 10)).await;
    let mut client = server.open("/ws/news").await;
    let topic = "news".parse().unwrap();
    let data = format!("\"{}\"", "x".repeat(60_000));
    // More than kernel, TLS and queue hold between them, however they are tuned.
    let mut published = 0;
    while published < 400 {
        // A host that publishes faster than its shards deliver is told so, and goes on.
        published += usize::from(server.broker.publish(&topic, Publish::new(Payload::json(data.clone()))).await.is_ok());
        tokio::task::yield_now().await;
    }
    assert_eq!(client.close_code().await, 3008);
}

#[tokio::test]
async fn a_drain_says_goodbye_over_tls_too() {
    let server = Server::start(Broker::builder().dev()).await;
    let mut client = server.open("/ws/news").await;
    let broker = server.broker.clone();
    tokio::spawn(async move { broker.drain(Duration::from_secs(2)).await });
    assert_eq!(client.close_code().await, 3001);
}

/// A broker behind `Broker::serve_tls`.
struct Server {
    broker: Broker,
    addr: SocketAddr,
    tls: Tls,
    certificate: rcgen::Certificate,
    files: Files,
}

struct Files {
    _directory: TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn write(&self, (certificate, key): &(rcgen::Certificate, rcgen::KeyPair)) {
        fs::write(&self.cert, certificate.pem()).unwrap();
        fs::write(&self.key, key.serialize_pem()).unwrap();
    }
}

impl Server {
    async fn start(builder: Builder) -> Self {
        let directory = TempDir::new().unwrap();
        let files = Files { cert: directory.path().join("cert.pem"), key: directory.path().join("key.pem"), _directory: directory };
        let pair = made();
        files.write(&pair);
        let tls = Tls::from_files(&files.cert, &files.key).unwrap();
        assert!(tls.caution().is_none() && tls.time_left().is_some());
        let broker = builder.build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (serving, shown) = (broker.clone(), tls.clone());
        tokio::spawn(async move { serving.serve_tls(listener, shown).await });
        Self { broker, addr, tls, certificate: pair.0, files }
    }

    async fn open(&self, path: &str) -> Client<TlsStream<TcpStream>> {
        let stream = connect(self.addr, &[&self.certificate]).await;
        Client::over(stream, &format!("wss://localhost{path}"), &[]).await.unwrap()
    }
}

fn made() -> (rcgen::Certificate, rcgen::KeyPair) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert, made.signing_key)
}

async fn connect(addr: SocketAddr, trusted: &[&rcgen::Certificate]) -> TlsStream<TcpStream> {
    try_connect(addr, trusted).await.unwrap()
}

async fn try_connect(addr: SocketAddr, trusted: &[&rcgen::Certificate]) -> std::io::Result<TlsStream<TcpStream>> {
    shake(addr, client_config(trusted)).await
}

async fn shake(addr: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

fn client_config(trusted: &[&rcgen::Certificate]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.der().clone()).unwrap();
    }
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

fn shown(stream: &TlsStream<TcpStream>) -> &CertificateDer<'static> {
    &stream.get_ref().1.peer_certificates().unwrap()[0]
}
