//! One node of an example: what it was given, and a broker's builder that fits it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use axum::extract::ConnectInfo;
use broker::{Broker, Builder, Redis, RedisOptions, WsLimits};

/// One node of an example, as [`run`](crate::run()) has prepared it.
#[derive(Debug)]
pub struct Node {
    /// What it is called: `n1` and `n2` among others, otherwise the application's name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The folder for its data, which exists. Nodes of one application have the same.
    pub data: PathBuf,
    /// What it shares with other nodes, where there are any.
    pub redis: Option<Redis>,
}

impl Node {
    pub(crate) fn new(name: &str, address: SocketAddr, data: &Path, redis: Option<&str>) -> anyhow::Result<Self> {
        let redis = redis.map(|url| anyhow::Ok(Redis::join(RedisOptions::new(url.parse()?), name)?)).transpose()?;
        Ok(Self { name: name.to_owned(), address, data: data.to_owned(), redis })
    }

    /// Begins a broker that is this node: with its name, its Redis, and the addresses of clients from axum.
    pub fn builder(&self) -> Builder {
        let builder = Broker::builder()
            .node(&self.name, env!("CARGO_PKG_VERSION"))
            .peer_from(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0));
        let builder = if self.is_on_loopback() {
            // Behind the balancer, and in a demonstration with a thousand tabs, everybody comes from the same address.
            builder.limits(WsLimits::default().connects_per_address(None).pending_max_per_address(20_000))
        } else {
            builder
        };
        match &self.redis {
            Some(redis) => builder.redis(redis),
            None => builder,
        }
    }

    fn is_on_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}
