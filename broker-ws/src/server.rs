//! A server without a framework: accepts TCP connections and serves HTTP/1.1 on them, within limits. It knows no routes.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

#[cfg(feature = "tls")]
use crate::Tls;
use crate::{
    Gate, Line, Pending, WsLimits,
    door::{REFUSALS_MAX, Refused, refuse},
    line::Lined,
    seats::{Seat, Seats},
    socket_outlet::configure,
};

/// The longest head of a request, in bytes, and the size of hyper's buffer.
const HEAD_MAX: usize = 16 * 1024;

/// Pauses after an accept that failed for want of files or memory.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a listener is served.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    limits: Arc<WsLimits>,
    gate: Option<Arc<Gate>>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl ServerOptions {
    /// Within these limits, in the clear, for whoever comes.
    pub fn new(limits: Arc<WsLimits>) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Lets in only whom this gate admits.
    pub fn gate(mut self, gate: Arc<Gate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Speaks TLS with this certificate, which is read again when its files change.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<Option<Tls>>) -> Self {
        self.tls = tls.into();
        self
    }

    /// Watches over the certificate for as long as it is polled.
    async fn watch(&self) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.watch().await;
        }
        std::future::pending::<()>().await;
    }
}

impl From<Arc<WsLimits>> for ServerOptions {
    fn from(limits: Arc<WsLimits>) -> Self {
        Self::new(limits)
    }
}

/// Where the peer of a connection stands in a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Stands in the extensions of a request that came over TLS.
#[derive(Clone, Copy, Debug)]
pub struct OverTls;

/// Accepts connections until `stop` is ready, and serves them with `service`; returns when the last HTTP answer is out.
///
/// Upgraded connections live on by themselves. Never returns because of an error: where files or memory are short it waits and tries again.
/// Dropping the future stops accepting; what was accepted is told to end after its answer.
pub async fn serve<S, B>(listener: TcpListener, service: S, options: impl Into<ServerOptions>, stop: impl Future<Output = ()>)
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let options = options.into();
    let (ending, end) = watch::channel(());
    tokio::select! {
        () = accept(listener, service, &options, end) => unreachable!("accepting never ends by itself"),
        () = options.watch() => unreachable!("a certificate is watched for ever"),
        () = stop => {}
    }
    // The watch goes out with `ending` told; it is closed once the last connection has dropped its receiver.
    ending.send_replace(());
    ending.closed().await;
}

/// Never returns. Cancel-safe: a connection is either not accepted or has a task of its own.
async fn accept<S, B>(listener: TcpListener, service: S, options: &ServerOptions, end: watch::Receiver<()>)
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (seats, refusals) = (Seats::new(options.limits.connections_max), Seats::new(REFUSALS_MAX));
    let mut pauses = Pauses::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                pauses = Pauses::default();
                match let_in(&seats, options, peer) {
                    Ok((seat, pending)) => {
                        let line = Line::default();
                        let brought = Brought { seat, pending: Arc::new(Mutex::new(pending)), peer, line, is_over_tls: false };
                        let service = WithBrought { service: service.clone(), brought };
                        tokio::spawn(serve_one(stream, service, options.clone(), refusals.clone(), end.clone()));
                    }
                    Err(why) => tell(stream, why, options, &refusals),
                }
            }
            Err(error) => {
                let Some(pause) = pauses.after(&error) else { continue };
                tracing::warn!(%error, ?pause, "cannot accept connections");
                sleep(pause).await;
            }
        }
    }
}

fn let_in(seats: &Seats, options: &ServerOptions, peer: SocketAddr) -> Result<(Seat, Option<Pending>), Refused> {
    let pending = options.gate.as_ref().map(|gate| gate.enter(peer)).transpose().map_err(Refused::NotAdmitted)?;
    Ok((seats.take().ok_or(Refused::Full)?, pending))
}

/// Refuses a connection in words, where it can read them: before a TLS handshake, which costs more than a connection, it cannot.
fn tell(stream: TcpStream, why: Refused, options: &ServerOptions, refusals: &Seats) {
    #[cfg(feature = "tls")]
    let is_readable = options.tls.is_none();
    #[cfg(not(feature = "tls"))]
    let (is_readable, _) = (true, options);
    if let Some(refusal) = refusals.take().filter(|_| is_readable) {
        tokio::spawn(refuse(stream, why, refusal));
    }
}

/// Serves one connection: its TLS handshake, where there is one, and its requests.
async fn serve_one<S, B>(stream: TcpStream, service: WithBrought<S>, options: ServerOptions, refusals: Seats, mut end: watch::Receiver<()>)
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // A connection that says nothing costs no buffer of hyper's.
    tokio::select! {
        readable = timeout(options.limits.handshake_timeout, stream.readable()) => if !matches!(readable, Ok(Ok(()))) { return },
        _ = end.changed() => return,
    }
    configure(&stream, &options.limits);
    #[cfg(feature = "tls")]
    if let Some(tls) = &options.tls {
        let mut service = service;
        service.brought.is_over_tls = true;
        let shaken = tokio::select! {
            shaken = tls.shake(stream, &options.limits) => shaken,
            _ = end.changed() => return,
        };
        match shaken {
            Ok(stream) => serve_http(stream, service, &options.limits, end).await,
            Err(crate::tls::NoHandshake::PlainHttp(stream)) => {
                if let Some(refusal) = refusals.take() {
                    refuse(stream, Refused::NotTls, refusal).await;
                }
            }
            Err(crate::tls::NoHandshake::Failed(error)) => tracing::debug!(peer = %service.brought.peer, %error, "no TLS handshake"),
        }
        return;
    }
    drop(refusals);
    serve_http(stream, service, &options.limits, end).await;
}

async fn serve_http<Io, S, B>(io: Io, service: WithBrought<S>, limits: &WsLimits, mut end: watch::Receiver<()>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(Lined::new(io, service.brought.line.clone(), limits.unacknowledged_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(HEAD_MAX)
        .serve_connection(io, hyper_util::service::TowerToHyperService::new(service))
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

/// What a connection brings to each of its requests.
#[derive(Clone)]
struct Brought {
    seat: Seat,
    /// Goes with the first request: whoever has asked something is no longer silent.
    pending: Arc<Mutex<Option<Pending>>>,
    peer: SocketAddr,
    line: Line,
    is_over_tls: bool,
}

/// Hands what a connection brings to each of its requests.
#[derive(Clone)]
struct WithBrought<S> {
    service: S,
    brought: Brought,
}

impl<S: tower_service::Service<Request<Incoming>>> tower_service::Service<Request<Incoming>> for WithBrought<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        let Brought { seat, pending, peer, line, is_over_tls } = &self.brought;
        let extensions = request.extensions_mut();
        extensions.insert(seat.clone());
        extensions.insert(Peer(*peer));
        extensions.insert(line.clone());
        if let Some(pending) = pending.lock().take() {
            extensions.insert(pending);
        }
        if *is_over_tls {
            extensions.insert(OverTls);
        }
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
