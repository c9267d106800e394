//! From a granted upgrade, or any pipe that is upgraded already, to the task that serves it.

use std::{any::Any, io, sync::Arc};

use broker_core::{CloseReason, Connection, Protocol};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{WsLimits, connection::ConnectionTask, line::Lined, pipe::Pipe, queue_outlet, seats::Seat, socket_outlet};

/// The promise of a pipe: it is kept when the 101 has been written.
#[derive(Debug)]
pub struct Upgrade {
    pipe: OnUpgrade,
    seat: Option<Seat>,
}

impl Upgrade {
    /// Takes the promise out of a request that hyper, or a framework above it, is about to answer.
    pub fn of<B>(request: &mut http::Request<B>) -> Self {
        Self { seat: request.extensions_mut().remove::<Seat>(), pipe: hyper::upgrade::on(request) }
    }

    /// Waits for the upgrade in a task of its own, then serves the pipe in another, smaller one.
    ///
    /// Needs a tokio runtime. `connection` is dropped where the upgrade does not happen within [`WsLimits::handshake_timeout`].
    pub fn serve(self, connection: Connection, protocol: Arc<dyn Protocol>, limits: Arc<WsLimits>) {
        tokio::spawn(async move {
            let Some((upgraded, seat)) = self.wait(&limits).await else { return };
            match downcast(upgraded) {
                Ok((stream, read)) => serve_socket(stream, &read, connection, protocol, limits, seat).await,
                Err(upgraded) => serve_pipe(TokioIo::new(upgraded), connection, protocol, limits, seat),
            }
        });
    }

    /// Says goodbye as soon as the upgrade has happened: writes `frames`, which end with a close frame, and ends the connection.
    ///
    /// For refusals that a page's script is to read. Needs a tokio runtime.
    pub fn refuse(self, frames: Bytes, limits: Arc<WsLimits>) {
        tokio::spawn(async move {
            let Some((upgraded, _seat)) = self.wait(&limits).await else { return };
            say_goodbye(TokioIo::new(upgraded), &frames, &limits).await;
        });
    }

    async fn wait(self, limits: &WsLimits) -> Option<(Upgraded, Option<Seat>)> {
        match timeout(limits.handshake_timeout, self.pipe).await {
            Ok(Ok(upgraded)) => return Some((upgraded, self.seat)),
            Ok(Err(error)) => tracing::debug!(%error, "the upgrade did not happen"),
            Err(_) => tracing::debug!("the upgrade did not happen in time"),
        }
        None
    }
}

/// Serves a pipe that is upgraded already, in a task of its own. A TCP socket gets the fast way out.
///
/// Cancel-safe: where the future is dropped, pipe and connection are dropped.
pub async fn serve_io<Io>(io: Io, connection: Connection, protocol: Arc<dyn Protocol>, limits: Arc<WsLimits>)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut io = Some(io);
    // What the type parameter is can only be asked through `Any`.
    let stream = (&mut io as &mut dyn Any).downcast_mut::<Option<TcpStream>>().and_then(Option::take);
    match (stream, io) {
        (Some(stream), _) => serve_socket(stream, &[], connection, protocol, limits, None).await,
        (None, Some(io)) => serve_pipe(io, connection, protocol, limits, None),
        (None, None) => unreachable!("the pipe is taken out only as a socket"),
    }
}

/// Writes the last bytes of a pipe that is upgraded already, and ends it; returns when the peer has ended too, or after
/// [`WsLimits::linger_timeout`].
pub async fn say_goodbye<Io>(mut io: Io, frames: &[u8], limits: &WsLimits)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let saying = async {
        io.write_all(frames).await?;
        io.shutdown().await?;
        // What the client still sends must be read, else the kernel answers with a reset that overtakes the goodbye.
        let mut thrown_away = [0; 512];
        while io.read(&mut thrown_away).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(limits.linger_timeout, saying).await;
}

/// The socket under an upgraded connection, with what hyper had read beyond the request; else the connection as it is.
fn downcast(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    // A connection of our own listener.
    let upgraded = match upgraded.downcast::<TokioIo<Lined<TcpStream>>>() {
        Ok(parts) => return Ok((parts.io.into_inner().into_inner(), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    // Connections of hyper-util's `auto` builder (axum) wrap the socket once more than those of hyper's own.
    match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => upgraded.downcast::<TokioIo<TcpStream>>().map(|parts| (parts.io.into_inner(), parts.read_buf)),
    }
}

async fn serve_socket(
    stream: TcpStream,
    read: &[u8],
    connection: Connection,
    protocol: Arc<dyn Protocol>,
    limits: Arc<WsLimits>,
    seat: Option<Seat>,
) {
    match socket_outlet::split(stream, &limits).await {
        Ok((outlet, pipe)) => {
            connection.attach(Box::new(outlet));
            spawn(ConnectionTask::new(connection, pipe, protocol, limits, seat), read);
        }
        Err(error) => connection.close(CloseReason::TransportBroke(error.to_string().into())),
    }
}

fn serve_pipe<Io>(io: Io, connection: Connection, protocol: Arc<dyn Protocol>, limits: Arc<WsLimits>, seat: Option<Seat>)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (outlet, pipe) = queue_outlet::split(io, limits.queue_max);
    connection.attach(Box::new(outlet));
    spawn(ConnectionTask::new(connection, pipe, protocol, limits, seat), &[]);
}

fn spawn<P: Pipe>(mut task: ConnectionTask<P, Connection>, read: &[u8]) {
    task.feed(read);
    tokio::spawn(task);
}
