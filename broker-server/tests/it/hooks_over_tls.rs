//! Addresses with `https`: whose certificates are believed, and what is told where none can be.

use std::{fs, sync::Arc};

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::{
    application::{Application, Talk},
    serving::Running,
    support::{broker, text},
};

/// An application at `localhost` whose certificate nobody knows but the file beside it.
async fn application() -> (Application, TempDir, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("roots.pem");
    fs::write(&file, made.cert.pem()).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let application = Application::behind(listener, Some(tls), |_| json!({"result": {"user": "kim"}}));
    let file = file.to_str().unwrap().to_owned();
    (application, directory, file)
}

fn config(application: &Application) -> String {
    let url = format!("https://localhost:{}/connect", application.address.port());
    format!("[hooks.connect]\nurl = \"{url}\"\n[[routes]]\npath = \"/ws/app\"\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_is_asked_over_tls_by_who_trusts_its_certificate_and_by_nobody_else() {
    let (application, _directory, roots) = application().await;
    let server = Running::start_with(&config(&application), &[], &[("SSL_CERT_FILE", &roots)]);
    let mut client = Talk::open(server.listen, "/ws/app?format=envelope", &[]).await;
    assert_eq!(client.hear().await["user"], "kim");
    assert_eq!(application.called("/connect").len(), 1);

    let (other, _directory, _) = self::application().await;
    let server = Running::start_with(&config(&other), &[], &[("SSL_CERT_FILE", &roots)]);
    let refused = server.upgrade("/ws/app");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(other.called("/connect").is_empty(), "the application was told something before its certificate was looked at");
    assert!(server.log().contains("invalid peer certificate"), "{}", server.log());
}

#[tokio::test]
async fn without_any_root_certificate_the_start_says_how_to_get_some() {
    let (application, directory, _) = application().await;
    let keys = "[client.token.jwks.main]\nurl = \"https://id.example.com/jwks\"\n".to_owned();
    for (config, place) in [(config(&application), "hooks with https addresses"), (keys, "client.token.jwks.main")] {
        fs::write(directory.path().join("broker.toml"), config).unwrap();
        let arguments = ["--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"];
        let output = broker(directory.path(), &arguments, &[("SSL_CERT_FILE", "none.pem")]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        for part in [place, "root certificates cannot be read", "none.pem", "install ca-certificates", "SSL_CERT_FILE"] {
            assert!(told.contains(part), "{part} is missing in\n{told}");
        }
    }
}
