//! `[backplane]`: what carries publications between nodes, and how Redis is used where it does.

use std::{fs, path::PathBuf, time::Duration};

use broker::{RedisOptions, RedisServers};
use broker_redis::Ca;

use super::{
    field::{Complaint, choice, count, duration, file, redis_url, size, switch, text},
    redis_url::RedisUrl,
    visit::Visitor,
};

/// What carries publications between nodes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backplane {
    /// Which one. Default: [`BackplaneKind::Redis`] where a URL is set, otherwise [`BackplaneKind::Memory`].
    pub kind: BackplaneKind,
    /// Where Redis is.
    pub url: Option<RedisUrl>,
    /// Begins every name in Redis. Default: `broker`.
    pub prefix: Option<String>,
    /// Certificates that sign those of the servers, PEM. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// Time to take a publish. 100 ms to 5 min. Default: 10 s.
    pub publish_timeout: Duration,
    /// Time for everything else. 100 ms to 5 min. Default: 5 s.
    pub timeout: Duration,
    /// How long Redis may take to take a publish. Default: 2 s.
    pub write_timeout: Duration,
    /// How long Redis may take to read. Default: 2 s.
    pub read_timeout: Duration,
    /// Bytes of publishes that may wait for Redis. Default: 64 MiB.
    pub publish_queue_max: usize,
    /// Whether Redis loses nothing when it restarts. Default: no.
    pub durable: bool,
    /// Whether topics without history go on within the node while Redis is gone. Default: no.
    pub local_when_down: bool,
    /// Most versions of keys that are remembered of one topic. Default: 10,000.
    pub versions_max: usize,
}

/// The backplanes there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum BackplaneKind {
    /// One node, history in its memory: a restart is a new epoch.
    #[default]
    Memory,
    /// Many nodes, history in Redis.
    Redis,
}

impl Default for Backplane {
    fn default() -> Self {
        let redis = RedisOptions::new(RedisServers::Cluster(Vec::new()));
        Self {
            kind: BackplaneKind::default(),
            url: None,
            prefix: Some(redis.prefix),
            ca: None,
            publish_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            write_timeout: redis.publish_timeout,
            read_timeout: redis.read_timeout,
            publish_queue_max: redis.publish_queue_max,
            durable: redis.durable,
            local_when_down: redis.local_when_down,
            versions_max: redis.versions_max,
        }
    }
}

impl Backplane {
    /// How Redis is used; `None`: it is not.
    ///
    /// # Errors
    /// The certificates cannot be read; the message names the setting.
    pub fn redis(&self) -> anyhow::Result<Option<RedisOptions>> {
        use anyhow::Context as _;
        let Some(url) = self.url.as_ref().filter(|_| self.kind == BackplaneKind::Redis) else { return Ok(None) };
        let mut servers = url.servers().context("backplane.url cannot be used")?;
        if let Some(file) = &self.ca {
            servers = servers.trusting(&ca(file)?);
        }
        let mut redis = RedisOptions::new(servers);
        if let Some(prefix) = &self.prefix {
            redis.prefix.clone_from(prefix);
        }
        // Redis says better than the engine what took too long.
        redis.publish_timeout = self.write_timeout.min(self.publish_timeout);
        redis.read_timeout = self.read_timeout.min(self.timeout);
        redis.publish_queue_max = self.publish_queue_max;
        redis.durable = self.durable;
        redis.local_when_down = self.local_when_down;
        redis.versions_max = self.versions_max;
        Ok(Some(redis))
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        let about = "What carries publications between nodes and keeps history. With a url, any number of nodes act as one; all of them need the same settings of \
                     namespaces, tokens and this section.";
        visitor.section("backplane", about, &mut |keys| {
            keys.key(
                "kind",
                "\"memory\": one node, history ends with the process. \"redis\": many nodes, history in Redis or Valkey; a url alone means it.",
                &mut choice(&mut self.kind, &[("memory", BackplaneKind::Memory), ("redis", BackplaneKind::Redis)], &[]),
            );
            let times = Duration::from_millis(100)..=Duration::from_secs(300);
            keys.key(
                "publish_timeout",
                "Time that a publish may take; then the publisher is told to try again.",
                &mut duration(&mut self.publish_timeout, times.clone()),
            );
            keys.key(
                "timeout",
                "Time that everything else may take, presence included; then it has failed, and is repeated or refused for now.",
                &mut duration(&mut self.timeout, times),
            );
            keys.key(
                "url",
                "Where Redis is: redis://[user[:password]@]host[:port][/database], rediss:// with TLS, unix:///path, \
                 redis+sentinel://host,host/name, redis+cluster://host,host.",
                &mut redis_url(&mut self.url),
            );
            keys.key(
                "prefix",
                "Begins every name in Redis. Brokers with different prefixes know nothing of each other.",
                &mut text(&mut self.prefix, "1 to 64 letters, digits, `-`, `_`, `.` and `:`", "broker", prefix),
            );
            keys.key(
                "ca",
                "Certificates that sign those of the servers, where the system does not know them: for rediss://.",
                &mut file(&mut self.ca, "/etc/broker/redis-ca.pem"),
            );
            self.visit_bounds(keys);
        });
    }

    fn visit_bounds(&mut self, keys: &mut dyn Visitor) {
        let timeouts = Duration::from_millis(50)..=Duration::from_secs(20);
        keys.key(
            "write_timeout",
            "How long Redis may take to take a publish, all tries together; then the publish has failed.",
            &mut duration(&mut self.write_timeout, timeouts.clone()),
        );
        keys.key(
            "read_timeout",
            "How long Redis may take to read a history, a state or who is present; then it has failed.",
            &mut duration(&mut self.read_timeout, timeouts),
        );
        keys.key(
            "publish_queue_max",
            "Most bytes of publishes that wait for Redis; what comes on top fails at once.",
            &mut size(&mut self.publish_queue_max, 1 << 20..=1 << 34),
        );
        keys.key(
            "durable",
            "Whether Redis loses nothing when it restarts: then a restart is no gap. It must write every change to its disk before it answers \
             (appendonly yes, appendfsync always), and must never be replaced by a replica.",
            &mut switch(&mut self.durable),
        );
        keys.key(
            "local_when_down",
            "Whether publishes to topics without history reach the subscribers of this node while Redis is gone; otherwise they fail.",
            &mut switch(&mut self.local_when_down),
        );
        keys.key(
            "versions_max",
            "Most versions of keys that are remembered of one topic; a publish with a new one beyond is refused.",
            &mut count(&mut self.versions_max, 1..=1_000_000),
        );
    }
}

/// The certificates of a file.
///
/// # Errors
/// It cannot be read, or holds none.
pub(super) fn ca(file: &std::path::Path) -> anyhow::Result<Ca> {
    use anyhow::Context as _;
    let pem = fs::read(file).with_context(|| format!("backplane.ca: {} cannot be read", file.display()))?;
    Ca::from_pem(&pem).with_context(|| format!("backplane.ca: {} cannot be used", file.display()))
}

fn prefix(text: &str) -> Result<String, Complaint> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    match text {
        "" => Err(("this is empty".to_owned(), Some("remove the key to use \"broker\"".to_owned()))),
        text if text.len() > 64 => Err((format!("this has {} bytes", text.len()), None)),
        text => match text.chars().find(|letter| !u8::try_from(*letter).is_ok_and(legal)) {
            Some(letter) => Err((format!("`{letter}` cannot be in it"), None)),
            None => Ok(text.to_owned()),
        },
    }
}
