//! The real binary over TLS: clients, versions, a certificate that changes while it serves.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{serving::Running, support::text};

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_published_over_https_reaches_wss() {
    let certificate = Certificate::new();
    let server = certificate.serve("");
    let mut client = certificate.open(server.listen, "/ws/news").await;
    let published = certificate.publish(server.listen, "{\"n\":1}").await;
    assert!(published.starts_with("HTTP/1.1 200"), "{published}");
    assert_eq!(next(&mut client).await, "{\"n\":1}");
    for line in ["listen     https://127.0.0.1:", "page       https://127.0.0.1:", "socket     wss://127.0.0.1:", "curl https://127.0.0.1:"]
    {
        assert!(server.started.contains(line), "{line} is missing in\n{}", server.started);
    }
    assert!(server.started.contains(" more days; read again when it changes\n"), "{}", server.started);
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_and_connections_stay() {
    let certificate = Certificate::new();
    let server = certificate.serve("");
    let mut old = certificate.open(server.listen, "/ws/news").await;
    let new = Certificate::new();
    fs::write(certificate.file("cert.pem"), new.certificate.pem()).unwrap();
    // Half of a pair changes nothing.
    let since = Instant::now();
    while !server.log().contains("is not that of the first certificate") {
        assert!(certificate.connect(server.listen).await.is_ok(), "the one before stays");
        assert!(since.elapsed() < PATIENCE, "the mistake is not told");
    }
    fs::write(certificate.file("key.pem"), new.key.serialize_pem()).unwrap();
    while new.connect(server.listen).await.is_err() {
        assert!(since.elapsed() < PATIENCE, "the new one is not shown");
    }
    assert!(certificate.connect(server.listen).await.is_err());
    assert_eq!(server.log().matches("the new TLS certificate is not used").count(), 1, "{}", server.log());
    assert!(new.publish(server.listen, "2").await.starts_with("HTTP/1.1 200"));
    assert_eq!(next(&mut old).await, "2");
}

#[test]
fn only_tls_1_2_and_1_3_are_spoken() {
    let Ok(version) = Command::new("openssl").arg("version").output() else {
        eprintln!("SKIPPED: only_tls_1_2_and_1_3_are_spoken needs the program openssl");
        return;
    };
    let version = text(&version.stdout);
    let certificate = Certificate::new();
    let server = certificate.serve("");
    let shake = |protocol: &str| {
        // Without this level the client itself would refuse what is old.
        let level = ["-cipher", "ALL:@SECLEVEL=0"];
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &server.listen.to_string(), "-servername", "localhost", protocol])
            .args(if protocol == "-tls1_3" { &[][..] } else { &level[..] })
            .args(["-verify_return_error", "-CAfile"])
            .arg(certificate.file("cert.pem"))
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    for protocol in ["-tls1_2", "-tls1_3"] {
        let (is_accepted, said) = shake(protocol);
        assert!(is_accepted && said.contains("Verify return code: 0 (ok)"), "{version}{protocol}: {said}");
    }
    for protocol in ["-tls1", "-tls1_1"] {
        let (is_accepted, said) = shake(protocol);
        if said.contains("nknown option") || said.contains("no protocols available") {
            eprintln!("SKIPPED: {version} speaks no {protocol}");
            continue;
        }
        // The number shows that the server refused, and not the client.
        assert!(!is_accepted && said.contains("SSL alert number "), "{version}{protocol}: {said}");
    }
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_is_logged_by_its_own_address() {
    let certificate = Certificate::new();
    let server = certificate.serve("[client]\ntrusted_proxies = [\"127.0.0.1\"]\n");
    let stream = certificate.connect(server.listen).await.unwrap();
    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request("wss://localhost/ws/news").unwrap();
    request.headers_mut().insert("x-forwarded-for", "6.6.6.6, 203.0.113.7".parse().unwrap());
    let _client = client_async(request, stream).await.unwrap();
    // The line is written before the handshake is answered.
    let log = server.log();
    assert!(log.contains("\"peer\":\"203.0.113.7:0\"") && !log.contains("6.6.6.6"), "{log}");
}

/// A certificate in files, and clients that trust it.
struct Certificate {
    directory: TempDir,
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let made = Self { directory: TempDir::new().unwrap(), certificate: made.cert, key: made.signing_key };
        fs::write(made.file("cert.pem"), made.certificate.pem()).unwrap();
        fs::write(made.file("key.pem"), made.key.serialize_pem()).unwrap();
        made
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A broker in dev mode that shows it.
    fn serve(&self, config: &str) -> Running {
        let (cert, key) = (self.file("cert.pem"), self.file("key.pem"));
        Running::start(config, &["--dev", "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()])
    }

    async fn connect(&self, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(addr).await?;
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
    }

    async fn open(&self, addr: SocketAddr, path: &str) -> WebSocketStream<TlsStream<TcpStream>> {
        let stream = self.connect(addr).await.unwrap();
        client_async(format!("wss://localhost{path}"), stream).await.unwrap().0
    }

    async fn publish(&self, addr: SocketAddr, data: &str) -> String {
        let mut stream = self.connect(addr).await.unwrap();
        let body = format!("{{\"channel\":\"news\",\"data\":{data}}}");
        let head = format!(
            "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: dev\r\nConnection: close\r\nContent-Length: {}",
            body.len()
        );
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

async fn next(client: &mut WebSocketStream<TlsStream<TcpStream>>) -> String {
    loop {
        match timeout(PATIENCE, client.next()).await.expect("a frame comes") {
            Some(Ok(Message::Text(text))) => return text.to_string(),
            Some(Ok(Message::Ping(payload))) => client.send(Message::Pong(payload)).await.unwrap(),
            other => panic!("a text frame was expected, not {other:?}"),
        }
    }
}
