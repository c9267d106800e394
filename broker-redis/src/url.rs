//! Where Redis is, as one text.
//!
//! | text | servers |
//! |---|---|
//! | `redis://[user[:password]@]host[:port][/database]` | one, over TCP; `rediss://` with TLS |
//! | `unix:///path/to/socket` | one, over a Unix socket |
//! | `redis+sentinel://[user[:password]@]host[:port],host[:port].../name[/database]` | the primary that sentinels watch under this name |
//! | `redis+cluster://[user[:password]@]host[:port],host[:port]...` | a cluster, known by some of its nodes |
//!
//! `rediss+sentinel://` and `rediss+cluster://` speak TLS. Users and passwords may be percent-encoded. User and password are those of the servers; those of
//! the sentinels, where they want some, stand behind the name: `?sentinel_user=ann&sentinel_password=secret`.

use std::str::FromStr;

use broker_resp::{Address, Target};

use crate::options::Servers;

/// Redis' port where none is said.
const PORT: u16 = 6379;
/// The sentinels' port where none is said.
const SENTINEL_PORT: u16 = 26379;

/// Why a text does not say where Redis is. No part of it that may be a password is shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// It begins with none of the schemes.
    #[error("it must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")]
    Scheme,
    /// This build speaks no TLS.
    #[error("this build has no TLS: build it with the feature `tls`, or say redis://")]
    NoTls,
    /// The system's certificates cannot be read.
    #[error("TLS: {0}")]
    Tls(String),
    /// There is no host.
    #[error("it names no host")]
    NoHost,
    /// A port is no number.
    #[error("what follows the colon of a host is no port; a password stands before the host: redis://:password@host:6379")]
    Port,
    /// The database is no number.
    #[error("`{0}` is no database, databases are numbers")]
    Database(String),
    /// Sentinels are named, but not what they watch.
    #[error("after the sentinels' addresses comes the name of the primary: redis+sentinel://host:26379/mymaster")]
    NoPrimary,
    /// Something else than the sentinels' user and password stands behind a question mark.
    #[error("behind `?` stand only the sentinels' own sentinel_user and sentinel_password, percent-encoded")]
    Parameter,
    /// A percent sign is followed by no two hexadecimal digits, or the text is no UTF-8.
    #[error("the user or the password is not percent-encoded")]
    Encoding,
}

impl FromStr for Servers {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidUrl::Scheme)?;
        if scheme == "unix" {
            return Ok(Self::Standalone(Target::unix(rest)));
        }
        let (is_tls, kind) = match scheme {
            "redis" => (false, ""),
            "rediss" => (true, ""),
            "redis+sentinel" => (false, "sentinel"),
            "rediss+sentinel" => (true, "sentinel"),
            "redis+cluster" => (false, "cluster"),
            "rediss+cluster" => (true, "cluster"),
            _ => return Err(InvalidUrl::Scheme),
        };
        let (rest, of_sentinels) = if kind == "sentinel" { of_sentinels(rest)? } else { (rest, None) };
        let (credentials, rest) = rest.rsplit_once('@').map_or((None, rest), |(credentials, rest)| (Some(credentials), rest));
        let (hosts, path) = rest.split_once('/').map_or((rest, ""), |(hosts, path)| (hosts, path.trim_end_matches('/')));
        let dress = |target: Target| -> Result<Target, InvalidUrl> { secured(with_credentials(target, credentials)?, is_tls) };
        let targets = |port: u16| hosts.split(',').map(|host| address(host, port).map(Target::at)).collect::<Result<Vec<_>, _>>();
        match kind {
            "sentinel" => {
                let (primary, database) = path.split_once('/').unwrap_or((path, ""));
                if primary.is_empty() {
                    return Err(InvalidUrl::NoPrimary);
                }
                let addresses = targets(SENTINEL_PORT)?;
                let server = dress(addresses[0].clone())?.database(number(database)?);
                let sentinels = addresses.into_iter().map(|target| secured(authorized(target, of_sentinels.as_ref()), is_tls));
                let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
                Ok(Self::Sentinel { sentinels, primary: primary.to_owned(), server })
            }
            "cluster" => Ok(Self::Cluster(targets(PORT)?.into_iter().map(dress).collect::<Result<_, _>>()?)),
            _ => Ok(Self::Standalone(dress(Target::at(address(hosts, PORT)?))?.database(number(path)?))),
        }
    }
}

/// User and password.
type Credentials = (String, String);

/// Takes the sentinels' own user and password from the end of an address.
fn of_sentinels(rest: &str) -> Result<(&str, Option<Credentials>), InvalidUrl> {
    let Some((rest, parameters)) = rest.split_once("?sentinel_") else {
        return if rest.rsplit('/').next().is_some_and(|name| name.contains('?')) { Err(InvalidUrl::Parameter) } else { Ok((rest, None)) };
    };
    let (mut user, mut password) = (String::new(), String::new());
    for parameter in parameters.split('&') {
        match parameter.strip_prefix("sentinel_").unwrap_or(parameter).split_once('=') {
            Some(("user", text)) => user = decoded(text)?,
            Some(("password", text)) => password = decoded(text)?,
            _ => return Err(InvalidUrl::Parameter),
        }
    }
    Ok((rest, Some((user, password))))
}

fn authorized(target: Target, credentials: Option<&Credentials>) -> Target {
    match credentials {
        Some((user, password)) if !user.is_empty() => target.user(user.as_str(), password.as_str()),
        Some((_, password)) if !password.is_empty() => target.password(password.as_str()),
        _ => target,
    }
}

fn number(database: &str) -> Result<u32, InvalidUrl> {
    if database.is_empty() { Ok(0) } else { database.parse().map_err(|_| InvalidUrl::Database(database.to_owned())) }
}

fn address(host: &str, default: u16) -> Result<Address, InvalidUrl> {
    let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(InvalidUrl::NoHost);
    }
    let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| InvalidUrl::Port))?;
    Ok(Address::Tcp { host: host.to_owned(), port })
}

fn with_credentials(target: Target, credentials: Option<&str>) -> Result<Target, InvalidUrl> {
    let Some(credentials) = credentials else { return Ok(target) };
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (user, password) = (decoded(user)?, decoded(password)?);
    Ok(match (user.is_empty(), password.is_empty()) {
        (true, true) => target,
        (true, false) => target.password(password),
        (false, _) => target.user(user, password),
    })
}

/// Takes the percent signs out.
fn decoded(text: &str) -> Result<String, InvalidUrl> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next(), bytes.next()].map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
        let [Some(high), Some(low)] = digits else { return Err(InvalidUrl::Encoding) };
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).map_err(|_| InvalidUrl::Encoding)
}

#[cfg(feature = "tls")]
fn secured(target: Target, is_tls: bool) -> Result<Target, InvalidUrl> {
    if !is_tls {
        return Ok(target);
    }
    let tls = broker_resp::Tls::system(None).map_err(|error| InvalidUrl::Tls(error.to_string()))?;
    Ok(target.tls(tls))
}

#[cfg(not(feature = "tls"))]
fn secured(target: Target, is_tls: bool) -> Result<Target, InvalidUrl> {
    if is_tls { Err(InvalidUrl::NoTls) } else { Ok(target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(url: &str) -> Target {
        match url.parse() {
            Ok(Servers::Standalone(target)) => target,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn one_server() {
        let target = one("redis://ann:p%40ss%3A@redis.internal/2");
        assert_eq!(target.address, Address::Tcp { host: "redis.internal".to_owned(), port: 6379 });
        assert_eq!((target.user.as_deref(), target.password.as_deref(), target.database), (Some("ann"), Some("p@ss:"), 2));
        assert_eq!(one("redis://:secret@[::1]:7000").address, Address::Tcp { host: "::1".to_owned(), port: 7000 });
        assert_eq!(one("redis://:secret@[::1]:7000").password.as_deref(), Some("secret"));
        assert_eq!(one("unix:///run/redis.sock").address, Address::Unix("/run/redis.sock".into()));
    }

    #[test]
    fn many_servers() {
        let Ok(Servers::Sentinel { sentinels, primary, server }) = "redis+sentinel://:pw@a,b:26380/mymaster/1".parse() else {
            panic!("sentinels")
        };
        assert_eq!(sentinels.iter().map(|target| target.address.to_string()).collect::<Vec<_>>(), ["a:26379", "b:26380"]);
        assert_eq!((primary.as_str(), server.password.as_deref(), server.database), ("mymaster", Some("pw"), 1));
        assert!(sentinels.iter().all(|target| target.user.is_none() && target.password.is_none()), "theirs are their own");
        let url = "redis+sentinel://ann:pw@a,b/mymaster/1?sentinel_user=eve&sentinel_password=s%40c";
        let Ok(Servers::Sentinel { sentinels, primary, server }) = url.parse() else { panic!("sentinels") };
        assert_eq!((primary.as_str(), server.user.as_deref(), server.password.as_deref()), ("mymaster", Some("ann"), Some("pw")));
        let own = |target: &Target| (target.user.as_deref(), target.password.as_deref()) == (Some("eve"), Some("s@c"));
        assert!(sentinels.len() == 2 && sentinels.iter().all(own));
        let Ok(Servers::Sentinel { sentinels, .. }) = "redis+sentinel://a/m?sentinel_password=s".parse() else { panic!("sentinels") };
        assert_eq!((sentinels[0].user.as_deref(), sentinels[0].password.as_deref()), (None, Some("s")));
        let Ok(Servers::Cluster(nodes)) = "redis+cluster://a,b:7001".parse() else { panic!("a cluster") };
        assert_eq!(nodes.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |url: &str| url.parse::<Servers>().map(drop).expect_err("a mistake");
        assert_eq!(error("localhost:6379"), InvalidUrl::Scheme);
        assert_eq!(error("http://localhost"), InvalidUrl::Scheme);
        assert_eq!(error("redis://"), InvalidUrl::NoHost);
        assert_eq!(error("redis://a:b"), InvalidUrl::Port);
        assert_eq!(error("redis://a/x"), InvalidUrl::Database("x".to_owned()));
        assert_eq!(error("redis+sentinel://a"), InvalidUrl::NoPrimary);
        assert_eq!(error("redis+sentinel://a/m?sentinel_pass=x"), InvalidUrl::Parameter);
        assert_eq!(error("redis+sentinel://a/m?password=x"), InvalidUrl::Parameter);
        assert_eq!(error("redis://a%zz:b@c"), InvalidUrl::Encoding);
        // Whoever forgot the host.
        for url in ["redis://:secret", "redis://ann:secret", "redis://ann:secret/1", "redis+cluster://ann:secret,b"] {
            assert!(!error(url).to_string().contains("secret"), "{url}");
        }
    }
}
