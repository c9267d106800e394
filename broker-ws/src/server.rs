//! A server without a framework: accepts TCP connections and serves HTTP/1.1 on them, within limits. It knows no routes.

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    WsLimits,
    seats::{Seat, Seats},
};

/// The longest head of a request, in bytes, and the size of hyper's buffer.
const HEAD_MAX: usize = 16 * 1024;

/// Pauses after an accept that failed for want of files or memory.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Most refusals that are told at a time; beyond them connections are dropped without a word.
const REFUSALS_MAX: usize = 64;

/// What a connection over the bound is told.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: application/json\r\nContent-Length: 95\r\n\r\n\
    {\"error\":{\"code\":100,\"error\":\"unavailable\",\"message\":\"this node has no room for connections\"}}\n";

/// Accepts connections until `stop` is ready, and serves them with `service`; returns when the last HTTP answer is out.
///
/// Upgraded connections live on by themselves. Never returns because of an error: where files or memory are short it waits and tries again.
/// Dropping the future stops accepting; what was accepted is told to end after its answer.
pub async fn serve<S, B>(listener: TcpListener, service: S, limits: Arc<WsLimits>, stop: impl Future<Output = ()>)
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (seats, refusals) = (Seats::new(limits.connections_max), Seats::new(REFUSALS_MAX));
    let (ending, end) = watch::channel(());
    let mut stop = pin!(stop);
    let mut pauses = Pauses::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                pauses = Pauses::default();
                if let Some(seat) = seats.take() {
                    let service = WithSeat { service: service.clone(), seat, peer };
                    tokio::spawn(serve_one(stream, service, Arc::clone(&limits), end.clone()));
                } else if let Some(refusal) = refusals.take() {
                    tokio::spawn(refuse(stream, refusal));
                }
            }
            Err(error) => {
                let Some(pause) = pauses.after(&error) else { continue };
                tracing::warn!(%error, ?pause, "cannot accept connections");
                tokio::select! {
                    () = sleep(pause) => {}
                    () = &mut stop => break,
                }
            }
        }
    }
    drop((listener, end));
    // The watch goes out with `ending` dropped; it is closed once the last connection has dropped its receiver.
    ending.send_replace(());
    ending.closed().await;
}

/// Where the peer of a connection stands in a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub std::net::SocketAddr);

async fn serve_one<S, B>(stream: TcpStream, service: WithSeat<S>, limits: Arc<WsLimits>, mut end: watch::Receiver<()>)
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // A connection that says nothing costs no buffer of hyper's.
    tokio::select! {
        readable = timeout(limits.handshake_timeout, stream.readable()) => if !matches!(readable, Ok(Ok(()))) { return },
        _ = end.changed() => return,
    }
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), hyper_util::service::TowerToHyperService::new(service))
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        _ = end.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// Tells one connection that there is no room, without reading what it wants.
async fn refuse(mut stream: TcpStream, _refusal: Seat) {
    let telling = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await?;
        // What the client sent must be read, else the kernel answers with a reset that overtakes the refusal.
        let mut thrown_away = [0; 512];
        while stream.read(&mut thrown_away).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(PAUSE_MAX, telling).await;
}

/// How long to wait after an accept that failed for want of files or memory: longer each time.
#[derive(Debug)]
struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: PAUSE_MIN }
    }
}

impl Pauses {
    /// `None`: the accept failed because of the connection that was to be accepted, and the next one may be well.
    fn after(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind as Kind;
        if matches!(error.kind(), Kind::ConnectionRefused | Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted) {
            return None;
        }
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        Some(pause)
    }
}

/// Hands the seat and the peer of a connection to each of its requests.
#[derive(Clone)]
struct WithSeat<S> {
    service: S,
    seat: Seat,
    peer: std::net::SocketAddr,
}

impl<S: tower_service::Service<Request<Incoming>>> tower_service::Service<Request<Incoming>> for WithSeat<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(self.seat.clone());
        request.extensions_mut().insert(Peer(self.peer));
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_files_the_server_waits_longer_each_time_up_to_a_second() {
        // The number of "no more files for this process".
        let no_files = io::Error::from_raw_os_error(24);
        let mut pauses = Pauses::default();
        let waits: Vec<u128> = (0..9).filter_map(|_| pauses.after(&no_files)).map(|pause| pause.as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        assert_eq!(pauses.after(&io::ErrorKind::ConnectionAborted.into()), None);
    }
}
