//! Connections whose network is gone without a word. The kernel of the client's side throws away what comes and acknowledges nothing, as a pulled
//! cable does. What a server that nobody answers does about pings is tested with the session.

use std::time::Duration;

use broker::{Broker, Builder, CloseReason, Disconnected, WsLimits};
use serde_json::json;
use socket2::{SockFilter, SockRef};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{client::Server, events::publish, events_client::Events};

/// Far below the minutes after which a kernel gives up by itself, far above the 200 ms after which it sends a segment again.
const UNACKNOWLEDGED: Duration = Duration::from_millis(800);
/// Long enough for a loaded machine; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that pings nobody, so that only the kernel can notice, and whoever has ended there.
async fn server() -> (Server, mpsc::UnboundedReceiver<Disconnected>) {
    let (ended, ends) = mpsc::unbounded_channel();
    let builder: Builder = Broker::builder()
        .dev()
        .settings(|settings| settings.ping_interval = Duration::from_secs(600))
        .limits(WsLimits::default().unacknowledged_timeout(UNACKNOWLEDGED))
        .on_disconnect(move |disconnected| {
            let _ = ended.send(disconnected);
            std::future::ready(())
        });
    (Server::start(builder).await, ends)
}

/// From here on nothing that is sent to this socket arrives, and nobody acknowledges it.
fn black_hole(stream: &TcpStream) {
    /// `BPF_RET | BPF_K`: takes so many bytes of the segment.
    const TAKE: u16 = 0x06;
    SockRef::from(stream).attach_filter(&[SockFilter::new(TAKE, 0, 0, 0)]).unwrap();
}

#[tokio::test]
async fn a_socket_that_acknowledges_nothing_is_given_up_and_one_beside_it_goes_on() {
    let (server, mut ends) = server().await;
    let mut healthy = server.open("/ws/news").await;
    let lost = server.open("/ws/news").await;
    black_hole(lost.pipe());
    publish(&server, "news", json!(1)).await;
    let sent = Instant::now();
    let end = timeout(PATIENCE, ends.recv()).await.expect("the kernel gives it up").unwrap();
    assert!(sent.elapsed() >= UNACKNOWLEDGED / 2, "{:?}", sent.elapsed());
    assert!(matches!(&end.reason, CloseReason::TransportBroke(why) if why.contains("acknowledged nothing")), "{:?}", end.reason);
    publish(&server, "news", json!(2)).await;
    assert_eq!((healthy.text().await, healthy.text().await), ("1".to_owned(), "2".to_owned()));
    assert_eq!(server.broker.stats().connections.value(), 1);
}

#[tokio::test]
async fn a_stream_of_events_that_acknowledges_nothing_is_given_up() {
    let (server, mut ends) = server().await;
    let lost = Events::open(server.addr, "/sse/news", &[]).await;
    black_hole(lost.pipe());
    publish(&server, "news", json!(1)).await;
    let end = timeout(PATIENCE, ends.recv()).await.expect("the kernel gives it up").unwrap();
    assert!(matches!(&end.reason, CloseReason::TransportBroke(_)), "{:?}", end.reason);
}
