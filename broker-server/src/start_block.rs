//! What a broker says of itself when it starts: version, configuration, listeners, who may do what, and how to try it.

use std::{fmt, net::SocketAddr, path::PathBuf};

use broker::Tls;
use broker_core::{Namespace, Verb, Verbs};

use crate::{
    VERSION_AND_COMMIT,
    config::{BackplaneKind, Config, Secret},
};

/// Width of the first column.
const NAME_WIDTH: usize = 11;

/// What is said at the start.
#[derive(Debug)]
pub struct StartBlock<'a> {
    /// The settings in force.
    pub config: &'a Config,
    /// The file they come from.
    pub file: Option<PathBuf>,
    /// The address that was bound for clients and backends.
    pub listen: SocketAddr,
    /// The address that was bound for metrics.
    pub internal_listen: SocketAddr,
    /// The certificate that clients are shown, where there is one.
    pub tls: Option<&'a Tls>,
    /// Settings that are secrets made at random for this run, told this once.
    pub made: Vec<(&'static str, &'a Secret)>,
    /// A token to try the broker with.
    pub token: Option<String>,
}

impl fmt::Display for StartBlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.config.is_dev { ", dev mode: anyone who reaches it may subscribe and publish" } else { "" };
        writeln!(f, "Broker {VERSION_AND_COMMIT}{mode}\n")?;
        match &self.file {
            Some(file) => line(f, "config", &file.display().to_string())?,
            None => line(f, "config", "no file, defaults and environment; `broker init` writes one")?,
        }
        line(f, "listen", &format!("{}://{}", self.scheme("http"), reachable(self.listen)))?;
        if let (Some(tls), Some((cert, _))) = (self.tls, self.config.server.tls.pair()) {
            line(f, "tls", &format!("{}, {}; read again when it changes", cert.display(), validity(tls)))?;
        }
        line(f, "internal", &format!("http://{}/metrics", reachable(self.internal_listen)))?;
        line(f, "backplane", &self.backplane())?;
        for (hook, url) in self.config.hooks.urls() {
            line(f, "hook", &format!("{hook}, asked at {url}"))?;
        }
        self.rights(f)?;
        if !self.made.is_empty() {
            writeln!(f, "\nmade for this run, and told this once (set them to keep them)")?;
            for (key, secret) in &self.made {
                writeln!(f, "  {key} = \"{}\"", secret.expose())?;
            }
        }
        if self.config.is_dev {
            self.trial(f)?;
        }
        // The last line: whoever starts a broker from a program reads up to it.
        writeln!(f, "\nready; Ctrl-C ends it in good order")
    }
}

impl StartBlock<'_> {
    /// `http` or `ws`, with an `s` where clients are shown a certificate.
    fn scheme(&self, clear: &str) -> String {
        format!("{clear}{}", if self.tls.is_some() { "s" } else { "" })
    }

    fn backplane(&self) -> String {
        let backplane = &self.config.backplane;
        match (backplane.kind, &backplane.url) {
            (BackplaneKind::Redis, Some(url)) => {
                let prefix = backplane.prefix.as_deref().unwrap_or_default();
                format!("{url}, with the prefix {prefix}: every node with the same two is part of this broker")
            }
            _ => "memory: one node, history ends with the process".to_owned(),
        }
    }

    fn rights(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config;
        let asked = |name: &str| config.asked.named.get(name).map_or(Verbs::NONE, |hooks| hooks.decides);
        let mut rows = vec![("topics without a namespace".to_owned(), &config.default, config.asked.default.decides)];
        rows.extend(config.namespaces.iter().map(|(name, namespace)| (format!("{name}:..."), namespace, asked(name))));
        let open = Namespace::open();
        if config.is_dev {
            rows.push(("any other namespace".to_owned(), &open, Verbs::NONE));
        }
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).min(40);
        writeln!(f, "\nwho may do what")?;
        for (name, namespace, asked) in rows {
            writeln!(f, "  {name:width$}  {}", self.right(&name, namespace, asked))?;
        }
        writeln!(f, "  {:width$}  everything, with the API key", "backends")
    }

    /// What everybody who is connected may do with topics of a namespace; `asked`: what the application decides there.
    fn right(&self, name: &str, namespace: &Namespace, asked: Verbs) -> String {
        let words_of =
            |is_meant: &dyn Fn(Verb) -> bool| -> Vec<&str> { Verb::ALL.into_iter().filter(|verb| is_meant(*verb)).map(plain).collect() };
        let words = words_of(&|verb| namespace.allow.has(verb) && !asked.has(verb));
        let asked = words_of(&|verb| asked.has(verb));
        let mut parts = Vec::new();
        if !words.is_empty() {
            let anonymous = namespace.allow_anonymous && self.config.client.anonymous;
            parts.push(format!("{}, {}", words.join(", "), if anonymous { "with or without a token" } else { "with a token" }));
        }
        if !asked.is_empty() {
            parts.push(format!("{} where the application says so", asked.join(", ")));
        }
        match name {
            _ if !parts.is_empty() => parts.join("; "),
            "group:..." | "user:..." | "session:..." => "what the server decides: who is in it hears it".to_owned(),
            _ => "nothing (hint: add \"sub\" to its `allow`)".to_owned(),
        }
    }

    fn trial(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = reachable(self.listen);
        let is_dev_key = self.config.api.key.as_ref().is_some_and(|key| key.expose() == "dev");
        let key = if is_dev_key { "dev" } else { "$BROKER_API_KEY" };
        writeln!(f, "\ntry it")?;
        let (http, ws) = (self.scheme("http"), self.scheme("ws"));
        line(f, "page", &format!("{http}://{address}/"))?;
        line(f, "socket", &format!("{ws}://{address}/ws/news"))?;
        line(
            f,
            "publish",
            &format!(
                "curl {http}://{address}/api/publish -H \"X-API-Key: {key}\" -d '{{\"channel\": \"news\", \"data\": {{\"hello\": \"world\"}}}}'"
            ),
        )?;
        match &self.token {
            Some(token) => line(f, "token", token),
            None => Ok(()),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {name:NAME_WIDTH$}{value}")
}

fn validity(tls: &Tls) -> String {
    match tls.time_left().map(|left| left.as_secs() / (24 * 3600)) {
        Some(1) => "valid for one more day".to_owned(),
        Some(days) => format!("valid for {days} more days"),
        None => "not valid today".to_owned(),
    }
}

fn plain(verb: Verb) -> &'static str {
    match verb {
        Verb::Subscribe => "subscribe",
        Verb::Publish => "publish",
        Verb::History => "read history",
        Verb::Presence => "read presence",
        other => other.word(),
    }
}

/// An address that this machine can connect to: one that means all of them is shown as loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut shown = address;
    if address.ip().is_unspecified() {
        shown.set_ip(if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Inputs;

    #[test]
    fn what_the_application_and_the_server_decide_is_not_called_nothing() {
        let config = Config::load(&Inputs::default()).config;
        let block = |namespace: &Namespace, name: &str, asked: Verbs| {
            let block = StartBlock {
                config: &config,
                file: None,
                listen: "127.0.0.1:8000".parse().unwrap(),
                internal_listen: "127.0.0.1:8001".parse().unwrap(),
                tls: None,
                made: Vec::new(),
                token: None,
            };
            block.right(name, namespace, asked)
        };
        let (open, shut) = (&Namespace::default().allow(Verb::Publish), &Namespace::default());
        assert_eq!(
            block(open, "asked:...", Verbs::NONE.with(Verb::Subscribe)),
            "publish, with a token; subscribe where the application says so"
        );
        assert_eq!(block(shut, "asked:...", Verbs::NONE.with(Verb::Subscribe)), "subscribe where the application says so");
        assert_eq!(block(shut, "group:...", Verbs::NONE), "what the server decides: who is in it hears it");
        assert_eq!(block(shut, "shut:...", Verbs::NONE), "nothing (hint: add \"sub\" to its `allow`)");
    }

    #[test]
    fn dev_mode_shows_how_to_try_it() {
        let config = Config::load(&Inputs { dev: 1, ..Inputs::default() }).config;
        let secret = Secret::new("s3cr3t");
        let block = StartBlock {
            config: &config,
            file: None,
            listen: "127.0.0.1:8000".parse().unwrap(),
            internal_listen: "127.0.0.1:8001".parse().unwrap(),
            tls: None,
            made: vec![("client.token.hmac_secret", &secret)],
            token: Some("eyJ".to_owned()),
        };
        let expected = format!(
            r#"Broker {VERSION_AND_COMMIT}, dev mode: anyone who reaches it may subscribe and publish

  config     no file, defaults and environment; `broker init` writes one
  listen     http://127.0.0.1:8000
  internal   http://127.0.0.1:8001/metrics
  backplane  memory: one node, history ends with the process

who may do what
  topics without a namespace  subscribe, publish, read history, read presence, with or without a token
  any other namespace         subscribe, publish, read history, read presence, with or without a token
  backends                    everything, with the API key

made for this run, and told this once (set them to keep them)
  client.token.hmac_secret = "s3cr3t"

try it
  page       http://127.0.0.1:8000/
  socket     ws://127.0.0.1:8000/ws/news
  publish    curl http://127.0.0.1:8000/api/publish -H "X-API-Key: dev" -d '{{"channel": "news", "data": {{"hello": "world"}}}}'
  token      eyJ

ready; Ctrl-C ends it in good order
"#
        );
        assert_eq!(block.to_string(), expected);
    }

    #[test]
    fn a_configured_secret_is_not_told() {
        let mut config = Config::default();
        config.api.key = Some(Secret::new("0123456789abcdef"));
        config.default.allow = Verbs::NONE.with(Verb::Subscribe);
        config.namespaces.insert("orders".to_owned(), Namespace::default());
        let block = StartBlock {
            config: &config,
            file: Some("/etc/broker.toml".into()),
            listen: "0.0.0.0:80".parse().unwrap(),
            internal_listen: "[::]:81".parse().unwrap(),
            tls: None,
            made: Vec::new(),
            token: None,
        }
        .to_string();
        assert!(!block.contains("0123456789abcdef") && !block.contains("try it") && !block.contains("made for"), "{block}");
        assert!(block.contains("listen     http://127.0.0.1:80\n") && block.contains("http://[::1]:81/metrics\n"), "{block}");
        assert!(block.contains("  topics without a namespace  subscribe, with a token\n"), "{block}");
        assert!(block.contains("  orders:...                  nothing (hint: add \"sub\" to its `allow`)\n"), "{block}");
    }
}
