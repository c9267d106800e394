//! The numbers of the engine: deadlines and bounds.

use std::time::Duration;

use crate::Rates;

/// Deadlines and bounds of the engine. Every default is meant to be right for most.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Time between pings of the server. Default: 25 s.
    pub ping_interval: Duration,
    /// Silence after a ping that ends the connection. Default: 10 s.
    pub pong_timeout: Duration,
    /// Time for a connection to say who it is. Default: 5 s.
    pub connect_timeout: Duration,
    /// Time for one call of a hook. Default: 5 s.
    pub hook_timeout: Duration,
    /// Time for the backplane to take a publish. After it nobody knows whether it was taken: the publisher is told to try again. Default: 10 s.
    pub publish_timeout: Duration,
    /// Time for every other call of the backplane, of presence and of the registry; what takes longer counts as failed. Default: 5 s.
    pub backplane_timeout: Duration,
    /// Most connections of this node. Default: 100,000.
    pub connections_max: usize,
    /// Most subscriptions of one session. Default: 128.
    pub subscriptions_max: usize,
    /// Bytes that may wait for one connection before its namespace's slow-consumer policy acts. Default: 1 MiB.
    pub backlog_max_bytes: usize,
    /// Bytes that may wait for all connections of this node together: publications, each counted once however many wait for it, answers and
    /// signals, with what the lists of them and the allocator need beside them. When all but a sixty-fourth of it is taken,
    /// those that most waits for are closed as slow consumers, and no backlog may pass 64 KiB. Default: 512 MiB.
    pub backlogs_max_bytes: usize,
    /// Time in which a connection must take something of what waits for it; a client that takes nothing is gone. Default: 30 s.
    pub write_timeout: Duration,
    /// Bytes of one topic's publications that may wait for one shard. Default: 4 MiB.
    pub inbox_share_max_bytes: usize,
    /// Most publications in the answer to one history command. Default: 300.
    pub history_limit_max: usize,
    /// Most bytes of publications in the answer to one history command; the first one is given whatever it weighs. Default: 1 MiB.
    pub history_max_bytes: usize,
    /// Bytes that the memory backplane keeps of everything, where none is given; a publish that would be more is refused. Default: 1 GiB.
    pub memory_max_bytes: usize,
    /// Malformed commands of one session within a minute; the next one closes it. Default: 60.
    pub mistakes_per_minute: u32,
    /// Notice before credentials end. Default: 30 s.
    pub expiring_notice: Duration,
    /// Added to the end of credentials. Default: 0.
    pub expiry_leeway: Duration,
    /// How old a snapshot may be that is shared among subscribers. Default: 1 s.
    pub snapshot_max_age: Duration,
    /// How old the last snapshot may be that stands in when the application fails, with what was published since; only while everything since
    /// is kept, which is 256 publications at most. Zero: subscribers are told to try again. Default: 0.
    pub snapshot_stale_max: Duration,
    /// Time a topic stays known after its last listener left. Default: 0.
    pub linger: Duration,
    /// Items that a `subscribe` stream inside the process may hold. Default: 1,024.
    pub stream_max_len: usize,
    /// Number of shards; 0: one per core that the process may use. Default: 0.
    pub shards: usize,
    /// Whether a session without credentials is let in when there is no connect hook. Default: no.
    pub anonymous: bool,
    /// Whether every session of a user listens to the user's topic, `user:` and the id. Default: yes.
    pub user_topics: bool,
    /// How long a user whose connection closed still counts as there for join and leave. Default: 5 s.
    pub leave_delay: Duration,
    /// How long a membership in a group lasts that the server gave to a user. Default: 30 days.
    pub membership_ttl: Duration,
    /// How long a revocation is remembered; longer than any token lives. Default: 30 days.
    pub revocation_ttl: Duration,
    /// Session log lines per second and shard; what is left out is counted. Default: 50.
    pub session_log_lines_per_second: u32,
    /// How often clients may do what costs something. Default: see [`Rates`].
    pub rates: Rates,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            hook_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(10),
            backplane_timeout: Duration::from_secs(5),
            connections_max: 100_000,
            subscriptions_max: 128,
            backlog_max_bytes: 1 << 20,
            backlogs_max_bytes: 512 << 20,
            write_timeout: Duration::from_secs(30),
            inbox_share_max_bytes: 4 << 20,
            history_limit_max: 300,
            history_max_bytes: 1 << 20,
            memory_max_bytes: crate::MemoryBackplane::MEMORY_MAX,
            mistakes_per_minute: 60,
            expiring_notice: Duration::from_secs(30),
            expiry_leeway: Duration::ZERO,
            snapshot_max_age: Duration::from_secs(1),
            snapshot_stale_max: Duration::ZERO,
            linger: Duration::ZERO,
            stream_max_len: 1024,
            shards: 0,
            anonymous: false,
            user_topics: true,
            leave_delay: Duration::from_secs(5),
            membership_ttl: Duration::from_secs(30 * 24 * 3600),
            revocation_ttl: Duration::from_secs(30 * 24 * 3600),
            session_log_lines_per_second: 50,
            rates: Rates::default(),
        }
    }
}
