//! Getting a connection: users, passwords, databases, TLS, Unix sockets, and what is told where it fails.

use std::fs;

use broker_resp::{ClientIdentity, ConnectError, Event, Events, Link, Options, Target, Tls, Value, testing::Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{SOON, command, connected, event, linked, text, words};

/// Waits until a try has failed, and tells why.
async fn refusal(target: Target) -> (ConnectError, Link, Events) {
    let (link, events) = Link::open(target, Options::default());
    loop {
        if let Some(error) = link.state().connect_error {
            return (error, link, events);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_server_tells_of_itself_and_the_database_is_selected() {
    let server = Server::start().await;
    let (link, mut events) = Link::open(server.target().database(7).client_name("node-1"), Options::default());
    let Event::Connected { generation: 1, server: told } = event(&mut events).await else { panic!("no connection first") };
    assert_eq!(told.field("role").and_then(Value::text), Some("master"));
    assert_eq!(told.field("mode").and_then(Value::text), Some("standalone"));
    let client = link.call(&command("CLIENT INFO"), SOON).await.expect("known");
    let client = client.text().expect("text").to_owned();
    assert!(client.contains(" name=node-1 ") && client.contains(" db=7 ") && client.contains(" resp=3"), "{client}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told() {
    let server = Server::start().await;
    let (error, _link, _events) = refusal(server.target().database(99)).await;
    assert!(matches!(error, ConnectError::Database(_)), "{error}");
}

#[tokio::test]
async fn passwords_and_users_are_checked_and_a_cure_is_noticed() {
    let server = Server::start_with(&words("--requirepass secret --user kim on >pass +@all ~* &*")).await;
    let (error, ..) = refusal(server.target()).await;
    assert_eq!(error, ConnectError::NeedsPassword);
    let (error, ..) = refusal(server.target().user("kim", "wrong")).await;
    assert_eq!(error, ConnectError::WrongPassword);
    let (link, _events) = linked(server.target().password("secret"), Options::default()).await;
    let (error, later, mut events) = refusal(server.target().user("lee", "new")).await;
    assert_eq!(error, ConnectError::WrongPassword);
    assert!(later.state().trouble().expect("there is some").contains("the user or the password"));
    link.call(&command("ACL SETUSER lee on >new +@all"), SOON).await.expect("a new user");
    assert_eq!(connected(&mut events).await, 1);
    assert_eq!(later.call(&command("ACL WHOAMI"), SOON).await, Ok(text("lee")));
}

#[tokio::test]
async fn a_user_without_the_needed_rights_is_told_which_they_are() {
    let server = Server::start_with(&words("--user kim on >pass +@all -echo ~* &*")).await;
    let (error, ..) = refusal(server.target().user("kim", "pass")).await;
    assert!(matches!(error, ConnectError::NeedsRights(_)), "{error}");
    assert!(error.to_string().contains("+echo"), "{error}");
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    let server = Server::start_with(&["--unixsocket", "{folder}/socket"]).await;
    let (link, _events) = linked(Target::unix(server.folder().join("socket")), Options::default()).await;
    assert_eq!(link.call(&command("ECHO here"), SOON).await, Ok(text("here")));
}

/// PEM of an authority, and of a certificate with its key that it gave to `localhost`.
struct Papers {
    authority: String,
    certificate: String,
    key: String,
}

impl Papers {
    fn of(authority: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        // Where issuer and subject had one name, the server would hold the certificate for its own issuer.
        params.distinguished_name.push(DnType::CommonName, authority);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Self { authority: issuer.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn identity(&self) -> ClientIdentity<'_> {
        ClientIdentity { certificate: self.certificate.as_bytes(), key: self.key.as_bytes() }
    }
}

#[tokio::test]
async fn tls_is_spoken_and_checked_both_ways() {
    let (papers, others) = (Papers::of("ours"), Papers::of("theirs"));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, cert, key) = (file("ca", &papers.authority), file("cert", &papers.certificate), file("key", &papers.key));
    let server = Server::start_with(&[
        "--port",
        "0",
        "--tls-port",
        "{port}",
        "--tls-ca-cert-file",
        &ca,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
    ])
    .await;
    let target = |authority: &str, identity| {
        let tls = Tls::trusting(authority.as_bytes(), identity).unwrap().server_name("localhost").unwrap();
        server.target().tls(tls)
    };
    let (link, _events) = linked(target(&papers.authority, Some(papers.identity())), Options::default()).await;
    let large = "x".repeat(1 << 20);
    assert_eq!(link.call(&command(&format!("ECHO {large}")), SOON).await, Ok(text(large)));

    let (error, ..) = refusal(target(&others.authority, Some(papers.identity()))).await;
    assert!(matches!(&error, ConnectError::Tls(why) if why.contains("UnknownIssuer")), "{error}");
    let (error, ..) = refusal(target(&papers.authority, None)).await;
    assert!(matches!(error, ConnectError::Broken(_) | ConnectError::Tls(_)), "{error}");
    let elsewhere = Tls::trusting(papers.authority.as_bytes(), Some(papers.identity())).unwrap();
    let (error, ..) = refusal(server.target().tls(elsewhere)).await;
    assert!(matches!(&error, ConnectError::Tls(why) if why.contains("not valid for name")), "{error}");
    let (error, ..) = refusal(server.target()).await;
    assert!(matches!(error, ConnectError::Broken(_) | ConnectError::Protocol(_)), "{error}");

    // A server without TLS waits for the end of a line; no TLS server says so by itself.
    let plain = Server::start().await;
    let (error, ..) = refusal(plain.target().tls(Tls::trusting(papers.authority.as_bytes(), None).unwrap())).await;
    assert!(matches!(&error, ConnectError::Tls(why) if why.contains("something else than TLS")), "{error}");
}
