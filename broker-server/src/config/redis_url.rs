//! Where Redis is, as the user wrote it: a text that may hold a password, which nothing here shows.

use std::{fmt, ops::Range};

use broker::{InvalidRedisUrl, RedisServers};

use super::secret::Secret;

/// What stands before the sentinels' password.
const PARAMETER: &str = "sentinel_password=";

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
        let (rest, of_sentinels) = rest.split_once("?sentinel_").unwrap_or((rest, ""));
        let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        if credentials.is_empty() && of_sentinels.is_empty() {
            return false;
        }
        let is_here = |host: &str| ["localhost", "127.", "[::1]"].iter().any(|here| host.starts_with(here));
        !self.is_tls() && scheme != "unix" && !rest.split(',').all(is_here)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = 0;
        for password in passwords(&self.0) {
            write!(f, "{}{}", &self.0[shown..password.start], Secret::MASK)?;
            shown = password.end;
        }
        f.write_str(&self.0[shown..])
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes of an address in which passwords stand, or what may be one where the address is not right; in their order.
pub(super) fn passwords(url: &str) -> Vec<Range<usize>> {
    let (servers, of_sentinels) = url.split_at(url.find("?sentinel_").unwrap_or(url.len()));
    let own = of_sentinels.find(PARAMETER).map(|at| {
        let from = servers.len() + at + PARAMETER.len();
        from..url[from..].find('&').map_or(url.len(), |end| from + end)
    });
    password(servers).into_iter().chain(own).filter(|range| !range.is_empty()).collect()
}

/// The password of the servers.
fn password(url: &str) -> Option<Range<usize>> {
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
        let of_sentinels = "redis+sentinel://ann:s3cret@a,b/main?sentinel_user=eve&sentinel_password=s3cret";
        check(of_sentinels, "redis+sentinel://ann:********@a,b/main?sentinel_user=eve&sentinel_password=********");
        check(
            "redis+sentinel://a/main?sentinel_password=s3c@r/et&sentinel_user=eve",
            "redis+sentinel://a/main?sentinel_password=********&sentinel_user=eve",
        );
    }

    #[test]
    fn a_password_that_leaves_the_machine_in_clear_text_is_noticed() {
        let check = |url: &str, tells: bool| assert_eq!(RedisUrl(url.to_owned()).tells_its_password(), tells, "{url}");
        check("redis://:s3cret@redis.internal", true);
        check("redis://:s3cret@127.0.0.1:6379", false);
        check("rediss://:s3cret@redis.internal", false);
        check("redis://redis.internal", false);
        check("redis+sentinel://:s3cret@localhost,10.0.0.2/main", true);
        check("redis+sentinel://10.0.0.2/main?sentinel_password=s3cret", true);
        check("redis+sentinel://localhost/main?sentinel_password=s3cret", false);
    }
}
