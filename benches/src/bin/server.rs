//! The server of the bench: the facade, embedded in a program that does nothing else. Ends when it is killed.
//!
//! Topics without a namespace keep nothing, like the floor; topics in `kept:` keep a history. Usage: `bench-server [REDIS_URL]`.

use std::time::Duration;

use broker::{Broker, Namespace, Rates, Redis, RedisOptions, Verb};
use tokio::net::TcpListener;

fn main() -> anyhow::Result<()> {
    // One worker for each core that the process may use, as the binary `broker` has it: pinned to one core, one.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(runtime.spawn(async {
        let open = Namespace::default().allow(Verb::Subscribe).allow(Verb::Publish).allow_anonymous();
        let mut builder = Broker::builder();
        if let Some(url) = std::env::args().nth(1) {
            builder = builder.redis(&Redis::join(RedisOptions::new(url.parse()?), "bench")?);
        }
        let broker = builder
            .anonymous()
            .namespace("kept", open.clone().history(300, Duration::from_secs(600)))
            .default_namespace(open)
            // One session publishes for all; what it may is not what is measured.
            .settings(|settings| settings.rates = Rates::OFF)
            .build()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        broker.serve(listener).await;
        Ok(())
    }))?
}
