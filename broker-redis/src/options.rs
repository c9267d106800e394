//! How the broker uses Redis: where it is, and the bounds. Reading a URL lives in `url`.

use std::time::Duration;

use broker_resp::{Address, Target};

/// Where Redis is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Servers {
    /// One server that is always the primary.
    Standalone(Target),
    /// Sentinels that know which server is the primary. Their user needs `+sentinel|get-master-addr-by-name +sentinel|master +subscribe` and the channel
    /// `&+switch-master`; the servers' user needs `+role` beside what a single server asks of it.
    Sentinel {
        /// The sentinels, with their own user and password.
        sentinels: Vec<Target>,
        /// The name under which they watch the primary.
        primary: String,
        /// How to speak to the primary; its address comes from the sentinels.
        server: Target,
    },
    /// Nodes of a cluster, from which the others are learnt; user, password and TLS of the first one are used for all. Redis 7.0 or later: topics use
    /// sharded channels. The user needs `+cluster|slots +ssubscribe +sunsubscribe +spublish +asking` beside what a single server asks of it.
    Cluster(Vec<Target>),
}

impl Servers {
    /// The names and addresses by which they were named, each once; none for a Unix socket. Others may be learnt from them.
    pub fn hosts(&self) -> Vec<&str> {
        let targets = match self {
            Self::Standalone(target) => std::slice::from_ref(target),
            Self::Sentinel { sentinels, .. } => sentinels,
            Self::Cluster(nodes) => nodes,
        };
        let mut hosts = Vec::new();
        for target in targets {
            if let Address::Tcp { host, .. } = &target.address
                && !hosts.contains(&host.as_str())
            {
                hosts.push(host.as_str());
            }
        }
        hosts
    }

    /// Trusts these certificates, where TLS is spoken, in place of those that the system trusts.
    #[cfg(feature = "tls")]
    pub fn trusting(self, ca: &Ca) -> Self {
        let dress = |mut target: Target| {
            target.tls = target.tls.map(|_| ca.0.clone());
            target
        };
        let all = |targets: Vec<Target>| targets.into_iter().map(dress).collect::<Vec<_>>();
        match self {
            Self::Standalone(target) => Self::Standalone(dress(target)),
            Self::Sentinel { sentinels, primary, server } => Self::Sentinel { sentinels: all(sentinels), primary, server: dress(server) },
            Self::Cluster(nodes) => Self::Cluster(all(nodes)),
        }
    }
}

/// Certificates that sign those of the servers.
#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
pub struct Ca(broker_resp::Tls);

/// The certificates are no PEM, or there are none.
#[cfg(feature = "tls")]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCa(String);

#[cfg(feature = "tls")]
impl Ca {
    /// Takes one or more certificates, PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidCa> {
        broker_resp::Tls::trusting(pem, None).map(Self).map_err(|error| InvalidCa(error.to_string()))
    }
}

/// How the broker uses Redis.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where Redis is.
    pub servers: Servers,
    /// Begins every name in Redis: 1 to 64 letters, digits, `-`, `_`, `.` and `:`. Brokers with different prefixes know nothing of each other. Default: `broker`.
    pub prefix: String,
    /// How long a publish may take, all its tries together; at most 25 s. Default: 2 s.
    pub publish_timeout: Duration,
    /// How long a read may take. Default: 2 s.
    pub read_timeout: Duration,
    /// Bytes of publishes that may wait for Redis; what comes on top fails at once. Default: 64 MiB.
    pub publish_queue_max: usize,
    /// Redis writes every change to its disk before it answers (`appendfsync always`), and is never replaced by a replica: its restart is no loss. Default: no.
    pub durable: bool,
    /// While Redis is gone, what is published to topics without history reaches the listeners of this node. Default: no, it fails.
    pub local_when_down: bool,
    /// Most versions of keys that are remembered of one topic. Default: 10,000.
    pub versions_max: usize,
}

impl Options {
    /// Everything by default.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            prefix: "broker".to_owned(),
            publish_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(2),
            publish_queue_max: 64 << 20,
            durable: false,
            local_when_down: false,
            versions_max: 10_000,
        }
    }
}

/// How links behave. A server that is back is found at once: a try costs it little, and nobody gets anything meanwhile.
pub(crate) fn of_links() -> broker_resp::Options {
    let mut options = broker_resp::Options::default();
    options.backoff_max = Duration::from_millis(200);
    options
}
