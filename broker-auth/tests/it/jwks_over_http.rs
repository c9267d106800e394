//! Fetching keys from a real listener.

use std::sync::Arc;

use broker_auth::Jwks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::keys::rsa_jwk;

/// Answers every connection with these bytes, and gives its address.
async fn answering(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&request);
            assert!(text.starts_with("GET /jwks?key=hidden HTTP/1.1\r\n") && text.contains("\r\nhost: 127.0.0.1:"), "{text}");
            // The client may have heard enough.
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/jwks?key=hidden")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_set_is_fetched_and_its_address_shown_without_the_query() {
    let url = answering(ok(&format!(r#"{{"keys":[{},{{"kty":"other"}}]}}"#, rsa_jwk(r#","kid":"a""#)))).await;
    let jwks = Arc::new(Jwks::over_http(&url, None).unwrap());
    assert_eq!(jwks.refresh().await, Ok(1));
    assert!(jwks.name().ends_with("/jwks") && !format!("{jwks:?}").contains("hidden"), "{jwks:?}");
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_that_says_why() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_owned();
    let error = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_owned();
    let long = ok(&" ".repeat(256 * 1024 + 1));
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", "10000\r\n".to_owned() + &" ".repeat(65_536) + "\r\n");
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
    for (answer, expected) in [
        (redirect, "redirects are not followed: name the address"),
        (error, "500"),
        (long, "longer than 262144 bytes"),
        (endless, "broke off"),
        (cut, "broke off"),
        ("no http".to_owned(), ""),
    ] {
        let url = answering(answer).await;
        let failure = Arc::new(Jwks::over_http(&url, None).unwrap()).refresh().await.unwrap_err();
        assert!(failure.0.contains(expected), "{failure}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failure = Arc::new(Jwks::over_http(&format!("http://{nobody}/"), None).unwrap()).refresh().await.unwrap_err();
    assert!(failure.0.to_lowercase().contains("refused"), "{failure}");
}

#[tokio::test]
async fn a_server_whose_tls_cannot_be_trusted_gives_no_keys() {
    // A plain answer to a client that speaks TLS.
    let url = answering_anything("HTTP/1.1 200 OK\r\n\r\n{}").await;
    let failure = Arc::new(Jwks::over_http(&url, None).unwrap()).refresh().await.unwrap_err();
    assert!(!failure.0.is_empty());
}

async fn answering_anything(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    format!("https://{address}/jwks")
}
