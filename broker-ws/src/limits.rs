//! What a WebSocket connection may cost: every bound and deadline of this crate.

use std::time::Duration;

use crate::ConnectRate;

/// Bounds and deadlines of WebSocket connections.
///
/// ```
/// use broker_ws::WsLimits;
///
/// let limits = WsLimits::default().message_max(16 * 1024);
/// assert_eq!(limits.message_max, 16 * 1024);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WsLimits {
    /// The longest message of a client, in bytes, and so the longest frame. Longer ones close with 1009, and nothing of them is kept.
    /// Default: 64 KiB.
    pub message_max: usize,
    /// Most frames of one message. Default: 1,024.
    pub fragments_max: u32,
    /// Most pings and pongs of a client per second. Default: 100.
    pub control_frames_max: u32,
    /// How long a message may take from its first byte to its last. Default: 10 s.
    pub message_timeout: Duration,
    /// How long the request's head may take, and again the upgrade after the answer to it. Default: 5 s.
    pub handshake_timeout: Duration,
    /// How long a connection that ends waits for its peer to end it too. Default: 2 s.
    pub linger_timeout: Duration,
    /// Most bytes between the hub and a pipe that is no TCP socket (TLS, in-memory); the rest waits in the session's backlog.
    /// Default: 64 KiB.
    pub queue_max: usize,
    /// Most TCP connections of a server, before and after the upgrade together; more are answered 503. Default: 100,000.
    pub connections_max: usize,
    /// How often one address may connect; `None`: as often as it likes. Default: 50 a second, 200 at once.
    pub connects_per_address: Option<ConnectRate>,
    /// How often anybody may connect; those beyond it are told when to come back, one after the other. `None`: as often as they like.
    /// Default: 5,000 a second, 20,000 at once.
    pub connects_of_node: Option<ConnectRate>,
    /// Most connections of one address that have not said who they are. Default: 1,000.
    pub pending_max_per_address: usize,
    /// Most connections altogether that have not said who they are. Default: 20,000.
    pub pending_max: usize,
    /// How long a peer may take nothing of an HTTP answer, and how long sent bytes may stay unacknowledged until the kernel gives the connection up,
    /// where it can (Linux). Default: 30 s.
    pub unacknowledged_timeout: Duration,
    /// Silence after which the kernel probes the peer. Default: 60 s.
    pub keepalive_interval: Duration,
}

impl Default for WsLimits {
    fn default() -> Self {
        Self {
            message_max: 64 * 1024,
            fragments_max: 1_024,
            control_frames_max: 100,
            message_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            linger_timeout: Duration::from_secs(2),
            queue_max: 64 * 1024,
            connections_max: 100_000,
            connects_per_address: Some(ConnectRate::per_second(50).burst(200)),
            connects_of_node: Some(ConnectRate::per_second(5_000).burst(20_000)),
            pending_max_per_address: 1_000,
            pending_max: 20_000,
            unacknowledged_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(60),
        }
    }
}

impl WsLimits {
    /// Sets the longest message of a client, in bytes.
    pub fn message_max(mut self, bytes: usize) -> Self {
        self.message_max = bytes;
        self
    }

    /// Sets how long a message may take from its first byte to its last.
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.message_timeout = timeout;
        self
    }

    /// Sets how long the request's head may take, and again the upgrade.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Sets how long a connection that ends waits for its peer.
    pub fn linger_timeout(mut self, timeout: Duration) -> Self {
        self.linger_timeout = timeout;
        self
    }

    /// Sets most bytes between the hub and a pipe that is no TCP socket.
    pub fn queue_max(mut self, bytes: usize) -> Self {
        self.queue_max = bytes;
        self
    }

    /// Sets most TCP connections of a server.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Sets how often one address may connect; `None`: as often as it likes.
    pub fn connects_per_address(mut self, rate: impl Into<Option<ConnectRate>>) -> Self {
        self.connects_per_address = rate.into();
        self
    }

    /// Sets how often anybody may connect; `None`: as often as they like.
    pub fn connects_of_node(mut self, rate: impl Into<Option<ConnectRate>>) -> Self {
        self.connects_of_node = rate.into();
        self
    }

    /// Sets most connections of one address that have not said who they are.
    pub fn pending_max_per_address(mut self, connections: usize) -> Self {
        self.pending_max_per_address = connections;
        self
    }

    /// Sets most connections altogether that have not said who they are.
    pub fn pending_max(mut self, connections: usize) -> Self {
        self.pending_max = connections;
        self
    }

    /// Sets how long a peer may take nothing of an HTTP answer, and how long sent bytes may stay unacknowledged.
    pub fn unacknowledged_timeout(mut self, timeout: Duration) -> Self {
        self.unacknowledged_timeout = timeout;
        self
    }
}
