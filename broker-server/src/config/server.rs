//! `[server]`: listeners, shutdown, logs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    field::{address, choice, count, duration, optional_count, size},
    tls::TlsFiles,
    visit::Visitor,
};

/// Listeners, shutdown, logs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Server {
    /// Where clients and backends connect. Default: 127.0.0.1:8000.
    pub listen: SocketAddr,
    /// Where metrics are read. Default: 127.0.0.1:8001.
    pub internal_listen: SocketAddr,
    /// Time over which closes are spread at shutdown. Default: 10 s.
    pub drain_timeout: Duration,
    /// Least severity that is logged. Default: [`LogLevel::Info`].
    pub log_level: LogLevel,
    /// How a line of the log looks. Default: [`LogFormat::Auto`].
    pub log_format: LogFormat,
    /// Lines about sessions in a second, for each shard. Default: 50.
    pub session_log_lines: usize,
    /// Shards of the hub; `None`: one per core.
    pub shards: Option<usize>,
    /// Most bytes of everything that the memory backplane keeps. Default: 1 GiB.
    pub memory_max: usize,
    /// `[server.tls]`: the certificate of the listener for clients.
    pub tls: TlsFiles,
}

/// Least severity that is logged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogLevel {
    /// What ended or will end badly.
    Error,
    /// And what somebody should look at.
    Warn,
    /// And each session's beginning and end.
    #[default]
    Info,
    /// And each refusal.
    Debug,
    /// And everything else.
    Trace,
}

impl LogLevel {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 5] =
        [("error", Self::Error), ("warn", Self::Warn), ("info", Self::Info), ("debug", Self::Debug), ("trace", Self::Trace)];
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people, coloured on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8000).into(),
            internal_listen: (Ipv4Addr::LOCALHOST, 8001).into(),
            drain_timeout: Duration::from_secs(10),
            log_level: LogLevel::default(),
            log_format: LogFormat::default(),
            session_log_lines: 50,
            shards: None,
            memory_max: broker_core::MemoryBackplane::MEMORY_MAX,
            tls: TlsFiles::default(),
        }
    }
}

impl Server {
    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.section("server", "Listeners, shutdown, logs.", &mut |keys| {
            keys.key("listen", "Where clients and backends connect. Port 0 takes a free one.", &mut address(&mut self.listen));
            keys.key(
                "internal_listen",
                "Where /metrics is read; keep it from clients. Port 0 takes a free one.",
                &mut address(&mut self.internal_listen),
            );
            keys.key(
                "drain_timeout",
                "Time over which clients are sent away at shutdown.",
                &mut duration(&mut self.drain_timeout, Duration::ZERO..=Duration::from_secs(3600)),
            );
            keys.key("log_level", "Least severity that is logged.", &mut choice(&mut self.log_level, &LogLevel::WORDS, &[]));
            keys.key(
                "log_format",
                "How a line of the log looks. \"auto\": text on a terminal, JSON elsewhere.",
                &mut choice(&mut self.log_format, &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)], &[]),
            );
            keys.key(
                "session_log_lines",
                "Most lines about sessions in a second, for each shard; how many more there would have been is told.",
                &mut count(&mut self.session_log_lines, 0..=1_000_000),
            );
            keys.key("shards", "Shards of the hub; without a number, one per core.", &mut optional_count(&mut self.shards, 1..=256));
            keys.key(
                "memory_max",
                "Most bytes of everything that is kept of all topics; a publish that would be more is refused.",
                &mut size(&mut self.memory_max, 1 << 20..=1 << 40),
            );
            keys.section("tls", "The certificate of `listen`, which then speaks https and wss only. Both or none.", &mut |keys| {
                self.tls.keys(keys);
            });
        });
    }
}
