//! An application around the broker, for the end-to-end suites: everything is open, and the method `echo` answers its argument.
//!
//! Listens on a free port, prints it as the server does, and ends with exit code 0 when it is told to.

use std::time::Duration;

use broker::{Broker, Refusal, RefusalKind};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let broker = Broker::builder()
        .dev()
        .on_rpc(|call| async move {
            match call.method.as_str() {
                "echo" => Ok(call.data),
                other => Err(Refusal::new(RefusalKind::UnknownAction, format!("there is no method {other}"))),
            }
        })
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listen http://{}", listener.local_addr()?);
    let mut end = signal(SignalKind::terminate())?;
    tokio::select! {
        () = broker.serve(listener) => {}
        _ = end.recv() => broker.drain(Duration::from_secs(1)).await,
    }
    Ok(())
}
