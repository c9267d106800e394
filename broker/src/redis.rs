//! A node's way to the others over Redis: everything that they share, from one connection.

use std::{fmt, sync::Arc};

use broker_redis::{AboutNode, Health, InvalidPrefix, KnownNode, NodeOptions, Options, RedisBackplane, RedisNode};

/// A node among others on the same Redis: its backplane, and what else nodes share. Given to [`Builder::redis`](crate::Builder::redis).
///
/// Redis need not be there yet: it is waited for, [`Redis::health`] tells how it is. Cloning copies pointers.
#[derive(Clone)]
pub struct Redis {
    backplane: RedisBackplane,
    node: RedisNode,
}

impl Redis {
    /// Begins to connect, and to tell the other nodes that this one is there, under a name for people.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn join(options: Options, name: &str) -> Result<Self, InvalidPrefix> {
        Self::join_as(options, AboutNode::new(name, env!("CARGO_PKG_VERSION"), ""))
    }

    /// As [`Redis::join`], and tells more of the node.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn join_as(options: Options, about: AboutNode) -> Result<Self, InvalidPrefix> {
        let backplane = RedisBackplane::connect(options)?;
        let node = backplane.join(about, NodeOptions::default());
        Ok(Self { backplane, node })
    }

    /// How Redis is.
    pub fn health(&self) -> Health {
        self.backplane.health()
    }

    /// The id under which the others know this node.
    pub fn node_id(&self) -> Arc<str> {
        self.node.about().id.clone()
    }

    /// All nodes that are known, this one too.
    pub fn known_nodes(&self) -> Arc<[KnownNode]> {
        self.node.known()
    }

    /// The backplane, for an engine that is put together by hand.
    pub fn backplane(&self) -> &RedisBackplane {
        &self.backplane
    }

    /// Control bus, presence and registry, for an engine that is put together by hand.
    pub fn node(&self) -> &RedisNode {
        &self.node
    }

    /// Says goodbye to the other nodes, when no session is left. [`Broker::drain`](crate::Broker::drain) does it.
    pub async fn leave(&self) {
        self.node.leave().await;
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("node", &self.node.about()).finish_non_exhaustive()
    }
}
