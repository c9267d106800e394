//! What a node shares with the others besides publications, put together.

use std::sync::Arc;

use broker_core::Backplane;

use crate::{
    RedisBackplane,
    control::RedisControl,
    nodes::{AboutNode, KnownNode, NodeOptions, Nodes, Standing},
    presence::RedisPresence,
    registry::RedisRegistry,
};

/// A node among others: control bus, presence and registry on the same Redis as its backplane. The engine is given all of them, and the id.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use broker_core::Engine;
/// use broker_redis::{AboutNode, NodeOptions, Options, RedisBackplane};
///
/// # async fn program() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = RedisBackplane::connect(Options::new("redis://127.0.0.1:6379".parse()?))?;
/// let node = redis.join(AboutNode::new("eu-1", "1.0.0", ""), NodeOptions::default());
/// let engine = Engine::builder()
///     .node_id(node.about().id.clone())
///     .backplane(Arc::new(redis))
///     .control(node.control())
///     .presence(node.presence())
///     .registry(node.registry())
///     .build()?;
/// # Ok(())
/// # }
/// ```
///
/// Cloning copies pointers.
#[derive(Clone)]
pub struct RedisNode {
    nodes: Nodes,
    control: Arc<RedisControl>,
    presence: Arc<RedisPresence>,
    registry: Arc<RedisRegistry>,
}

impl RedisBackplane {
    /// Becomes a node among others: they hear of it as soon as Redis is reached. Once for each backplane.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn join(&self, about: AboutNode, options: NodeOptions) -> RedisNode {
        let (servers, keys, timeout) = (&self.inner.servers, &self.inner.calls.keys, self.inner.options.read_timeout);
        let nodes = Nodes::open(about, servers.clone(), keys, options);
        let registry = Arc::new(RedisRegistry::new(servers.clone(), keys.clone(), timeout));
        let presence = Arc::new(RedisPresence::open(servers.clone(), keys.clone(), nodes.clone(), timeout));
        presence.announce_through(Arc::new(self.clone()) as Arc<dyn Backplane>);
        let control = Arc::new(RedisControl::open(servers.clone(), self.inner.bus.clone(), nodes.clone(), registry.clone()));
        RedisNode { nodes, control, presence, registry }
    }
}

impl RedisNode {
    /// This node, as it is known to others.
    pub fn about(&self) -> &AboutNode {
        self.nodes.about()
    }

    /// All nodes that are known, this one too; those that are lost for as long as [`NodeOptions::lost_for`] says.
    pub fn known(&self) -> Arc<[KnownNode]> {
        self.nodes.view().nodes
    }

    /// Whether the others know this node.
    pub fn standing(&self) -> Standing {
        self.nodes.view().standing
    }

    /// Whether this node is a part of the whole again: it holds its lease, and has done every revocation that it did not hear of.
    pub fn is_back(&self) -> bool {
        self.standing() == Standing::Here && self.control.has_caught_up()
    }

    /// What is wrong, in words; `None`: nothing.
    pub fn trouble(&self) -> Option<String> {
        self.nodes.view().trouble.map(|why| why.to_string())
    }

    /// Questions to all nodes.
    pub fn control(&self) -> Arc<RedisControl> {
        self.control.clone()
    }

    /// Who listens, on all nodes.
    pub fn presence(&self) -> Arc<RedisPresence> {
        self.presence.clone()
    }

    /// What the server has said of users and tokens.
    pub fn registry(&self) -> Arc<RedisRegistry> {
        self.registry.clone()
    }

    /// Says goodbye, when no session is left: nobody waits for this node any more. What fails of it, the end of the lease makes good.
    pub async fn leave(&self) {
        if let Err(failure) = self.nodes.goodbye().await {
            tracing::warn!(%failure, "this node could not say goodbye, the others will count it as lost");
        }
    }
}
