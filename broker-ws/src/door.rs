//! What a connection is told that is not let in, before its request is read.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{NotAdmitted, seats::Seat};

/// Most refusals that are told at a time; beyond them connections are dropped without a word.
pub(crate) const REFUSALS_MAX: usize = 64;

/// How long a refusal may take.
const TELLING_MAX: Duration = Duration::from_secs(1);

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// There is no seat.
    Full,
    /// The gate does not let it in.
    NotAdmitted(NotAdmitted),
    /// It speaks plain HTTP where TLS is spoken.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "there is no listener that speaks TLS"))]
    NotTls,
}

impl Refused {
    /// The whole answer.
    fn answer(self) -> String {
        let (status, code, word, message, retry_after) = match self {
            Self::Full => {
                (UNAVAILABLE, 100, "unavailable", "this node has no room for connections".to_owned(), Some(Duration::from_secs(5)))
            }
            Self::NotAdmitted(why @ NotAdmitted::Crowded) => (UNAVAILABLE, 100, "unavailable", why.to_string(), Some(why.retry_after())),
            Self::NotAdmitted(why) => ("429 Too Many Requests", 111, "too_many_requests", why.to_string(), Some(why.retry_after())),
            Self::NotTls => ("400 Bad Request", 107, "bad_request", "this port speaks TLS: use https:// or wss://".to_owned(), None),
        };
        let told = retry_after.map_or_else(String::new, |after| format!(r#","retry_after_ms":{}"#, after.as_millis()));
        let body = format!("{{\"error\":{{\"code\":{code},\"error\":\"{word}\",\"message\":\"{message}\"{told}}}}}\n");
        let header = retry_after.map_or_else(String::new, |after| format!("Retry-After: {}\r\n", after.as_millis().div_ceil(1_000)));
        format!(
            "HTTP/1.1 {status}\r\n{header}Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

const UNAVAILABLE: &str = "503 Service Unavailable";

/// Tells one connection that it is not served, without reading what it wants.
pub(crate) async fn refuse(mut stream: TcpStream, why: Refused, _refusal: Seat) {
    let telling = async {
        stream.write_all(why.answer().as_bytes()).await?;
        stream.shutdown().await?;
        // What the client sent must be read, else the kernel answers with a reset that overtakes the refusal.
        let mut thrown_away = [0; 512];
        while stream.read(&mut thrown_away).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(TELLING_MAX, telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_is_and_when_to_come_back() {
        let answer = Refused::NotAdmitted(NotAdmitted::TooFast { retry_after: Duration::from_millis(1_500) }).answer();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("Retry-After: 2\r\n"), "{head}");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        assert_eq!(
            body,
            "{\"error\":{\"code\":111,\"error\":\"too_many_requests\",\"message\":\"too many connects from this address\",\"retry_after_ms\":1500}}\n"
        );
        assert!(Refused::NotAdmitted(NotAdmitted::Crowded).answer().starts_with("HTTP/1.1 503 "));
    }
}
