//! Where Redis is, as the user wrote it: a text that may hold a password, which nothing here shows.

use std::fmt;

use broker::{InvalidRedisUrl, RedisServers};

use super::secret::Secret;

/// Where Redis is. `Debug` and `Display` mask the password.
#[derive(Clone, Eq, PartialEq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Takes what can be read as servers.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidRedisUrl> {
        text.parse::<RedisServers>().map(|_| Self(text.to_owned()))
    }

    /// The servers. Blocks while the system's certificates are read, where it is `rediss`.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn servers(&self) -> Result<RedisServers, InvalidRedisUrl> {
        self.0.parse()
    }

    /// Whether the servers are spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("rediss")
    }

    /// Whether user and password cross a network in clear text.
    pub(super) fn tells_its_password(&self) -> bool {
        let Some((scheme, rest)) = self.0.split_once("://") else { return false };
        let Some((_, rest)) = rest.rsplit_once('@') else { return false };
        let is_here = |host: &str| ["localhost", "127.", "[::1]"].iter().any(|here| host.starts_with(here));
        !self.is_tls() && scheme != "unix" && !rest.split(',').all(is_here)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match password(&self.0) {
            Some(password) => write!(f, "{}{}{}", &self.0[..password.start], Secret::MASK, &self.0[password.end..]),
            None => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes of an address in which a password stands, or what may be one where the address is not right.
pub(super) fn password(url: &str) -> Option<std::ops::Range<usize>> {
    let start = url.find("://")? + 3;
    let rest = &url[start..];
    // An at sign behind a slash is part of a path, except where Redis is meant: a password may hold a slash.
    let is_redis = url.starts_with("redis");
    let authority = &rest[..rest.find('/').filter(|_| !is_redis || !rest.contains('@')).unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        let from = authority[..at].find(':').map_or(0, |colon| colon + 1);
        return (from < at).then_some(start + from..start + at);
    }
    // `redis://user:password`, its host forgotten, looks like a host with a port that is no number.
    let colon = authority.rfind(':')?;
    let is_port = authority[colon + 1..].bytes().all(|byte| byte.is_ascii_digit());
    (!is_port).then_some(start + colon + 1..start + authority.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let check = |url: &str, shown: &str| assert_eq!(RedisUrl(url.to_owned()).to_string(), shown);
        check("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2");
        check("redis://ann:s3cret@redis", "redis://ann:********@redis");
        check("redis://:s3:cr@t@redis:1", "redis://:********@redis:1");
        check("redis://s3cret@redis", "redis://********@redis");
        check("rediss+cluster://:s3cret@a:1,b:2", "rediss+cluster://:********@a:1,b:2");
        check("redis://[::1]:7000", "redis://[::1]:7000");
        check("redis://ann:s3cret", "redis://ann:********");
        check("redis://:s3/cret@redis/2", "redis://:********@redis/2");
        check("unix:///run/redis.sock", "unix:///run/redis.sock");
    }

    #[test]
    fn a_password_that_leaves_the_machine_in_clear_text_is_noticed() {
        let check = |url: &str, tells: bool| assert_eq!(RedisUrl(url.to_owned()).tells_its_password(), tells, "{url}");
        check("redis://:s3cret@redis.internal", true);
        check("redis://:s3cret@127.0.0.1:6379", false);
        check("rediss://:s3cret@redis.internal", false);
        check("redis://redis.internal", false);
        check("redis+sentinel://:s3cret@localhost,10.0.0.2/main", true);
    }
}
