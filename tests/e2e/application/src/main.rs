//! An application around the broker, for the end-to-end suites: everything is open, tokens are plain JSON that say who comes, and a few
//! methods make the server act on the session that calls them.
//!
//! Listens on a free port, prints it as the server does, and ends with exit code 0 when it is told to.

mod methods;
mod tokens;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use broker::{Broker, Namespace, Payload};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Short, so that a suite can wait for an end; long enough for a renewal that is asked for at the last moment.
const EXPIRY_LEEWAY: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Arc::new(OnceLock::<Broker>::new());
    // What the snapshots of `slow` wait for; the method `release` says that it has come.
    let released = Arc::new(Notify::new());
    let broker = Broker::builder()
        .dev()
        // What is open for development leaves out the topics whose members the server decides.
        .namespace("group", Namespace::open())
        .snapshot("slow", {
            let released = Arc::clone(&released);
            move |_| {
                let released = Arc::clone(&released);
                async move {
                    released.notified().await;
                    Ok(Payload::json(&b"\"first\""[..]))
                }
            }
        })
        .settings(|settings| settings.expiry_leeway = EXPIRY_LEEWAY)
        .authorizer(tokens::SubscriptionTokens)
        .on_connect(|request| async move { tokens::identity(request.connect.token.as_deref()) })
        .on_rpc({
            let host = Arc::clone(&host);
            move |call| methods::answer(Arc::clone(&host), Arc::clone(&released), call)
        })
        .build()?;
    let _ = host.set(broker.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listen http://{}", listener.local_addr()?);
    let mut end = signal(SignalKind::terminate())?;
    tokio::select! {
        () = broker.serve(listener) => {}
        _ = end.recv() => broker.drain(Duration::from_secs(1)).await,
    }
    Ok(())
}
