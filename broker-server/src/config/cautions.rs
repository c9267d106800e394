//! What is wrong or risky between settings that are each right.

use std::{collections::BTreeMap, time::Duration};

use broker_auth::Hook;
use broker_core::{Namespace, Recovery, Topic, Verb};

use super::{
    BackplaneKind, Config, Origin, Report, Secret, field::quoted, mistake::Mistake, namespaces::NamespaceHooks, source::Path, suggest,
};

/// Namespaces that the server fills: their topics belong to users, sessions and groups.
const SERVER_FILLED: [&str; 3] = ["group", "user", "session"];

/// Adds the mistakes and warnings about combinations of settings.
pub(super) fn check(config: &Config, origins: &[(Path, Origin)], dev: u8, report: &mut Report) {
    let mut cautions = Cautions { config, origins: origins.iter().map(|(path, origin)| (path.join("."), origin)).collect(), report };
    cautions.timing();
    cautions.listeners(dev);
    cautions.tls(dev);
    cautions.proxies();
    cautions.secrets();
    cautions.keys_of_tokens();
    cautions.origins_of_pages();
    cautions.backplane();
    cautions.namespace("default", "topics without a namespace", &config.default);
    for (name, namespace) in &config.namespaces {
        cautions.namespace_name(name);
        cautions.namespace(&format!("namespaces.{name}"), &format!("topics of {name}"), namespace);
    }
    cautions.hooks();
    cautions.routes();
}

/// The longest that anything is kept in Redis.
const REDIS_TTL_MAX: Duration = Duration::from_secs(365 * 86_400);

struct Cautions<'a> {
    config: &'a Config,
    origins: BTreeMap<String, &'a Origin>,
    report: &'a mut Report,
}

impl Cautions<'_> {
    fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).map_or(Origin::Default, |origin| (*origin).clone())
    }

    /// The origin of the first of these keys that somebody set.
    fn first_origin(&self, keys: &[&str]) -> Origin {
        keys.iter().find_map(|key| self.origins.get(*key)).map_or(Origin::Default, |origin| (*origin).clone())
    }

    fn is_set(&self, key: &str) -> bool {
        self.origins.get(key).is_some_and(|origin| !matches!(origin, Origin::Default | Origin::DevMode))
    }

    fn mistake(&mut self, mistake: Mistake) {
        self.report.mistakes.push(mistake);
    }

    fn warning(&mut self, warning: Mistake) {
        self.report.warnings.push(warning);
    }

    fn timing(&mut self) {
        if let Some((message, help)) = self.config.client.pong_mistake() {
            let origin = self.first_origin(&["client.pong_timeout", "client.ping_interval"]);
            self.mistake(Mistake::new(origin, message).help(help));
        }
        let client = &self.config.client;
        if client.backlog_max < client.message_max {
            let origin = self.first_origin(&["client.backlog_max", "client.message_max"]);
            let message = "`client.backlog_max` is smaller than `client.message_max`: one large message makes every client a slow consumer";
            self.mistake(Mistake::new(origin, message).help("raise backlog_max or lower message_max"));
        }
    }

    fn listeners(&mut self, dev: u8) {
        let server = &self.config.server;
        let (listen, internal) = (server.listen, server.internal_listen);
        if listen == internal && listen.port() != 0 {
            let origin = self.first_origin(&["server.internal_listen", "server.listen"]);
            let message = format!("`server.listen` and `server.internal_listen` are both {listen}");
            self.mistake(Mistake::new(origin, message).help("give one of them another port"));
        }
        if !internal.ip().is_loopback() {
            let message = format!("/metrics can be read by whoever reaches {internal}");
            let warning = Mistake::new(self.origin("server.internal_listen"), message);
            self.warning(warning.help("keep internal_listen on loopback, or let a firewall guard it"));
        }
        if listen.ip().is_loopback() {
            return;
        }
        let origin = self.origin("server.listen");
        if dev > 0 {
            let message = format!("in dev mode anyone may publish, and {listen} can be reached from other machines");
            if dev == 1 {
                self.mistake(Mistake::new(origin, message).help("listen on 127.0.0.1, or say --dev twice if you mean it"));
            } else {
                self.warning(Mistake::new(origin, message).help("stop it when you are done"));
            }
            return;
        }
        if self.config.client.token.is_empty() && !self.config.client.anonymous && !self.config.hooks.has(Hook::Connect) {
            let secret = Secret::random().map_or_else(|_| "...".to_owned(), |secret| secret.expose().to_owned());
            let message = format!("{listen} can be reached from other machines, and there is no authentication");
            let help = format!(
                "add to the configuration file:\n\n    [client.token]\n    hmac_secret = \"{secret}\"\n\nor, if everybody may connect without a token:\n\n    \
                 [client]\n    anonymous = true"
            );
            self.mistake(Mistake::new(origin, message).help(help));
        } else if self.config.api.key.is_none() {
            let message = "`api.key` is not set: a random key is made at each start, and backends must be told";
            self.warning(Mistake::new(Origin::Default, message).help("add key = \"...\" to [api]"));
        }
    }

    fn tls(&mut self, dev: u8) {
        let server = &self.config.server;
        let (cert, key) = ("server.tls.cert", "server.tls.key");
        let halves = [(cert, key), (key, cert)];
        if let Some((set, missing)) = halves.into_iter().find(|(set, missing)| self.is_set(set) && !self.is_set(missing)) {
            let mistake = Mistake::new(self.origin(set), format!("`{set}` is set, and `{missing}` is not"));
            self.mistake(mistake.help(format!("add {missing}, or remove {set}: TLS needs both")));
        }
        let is_clear = server.tls.pair().is_none() && self.config.client.addresses.trusted_proxies.is_empty();
        if is_clear && !server.listen.ip().is_loopback() && dev == 0 {
            let message = format!("{} speaks no TLS: tokens and data can be read and changed on their way", server.listen);
            let help = "set cert and key in [server.tls]; where a proxy in front ends TLS, name it in client.trusted_proxies";
            self.warning(Mistake::new(self.origin("server.listen"), message).help(help));
        }
        if server.tls.pair().is_some() {
            let clear = |origin: &&String| origin.starts_with("http://") && !is_loopback_page(origin);
            if let Some(origin) = self.config.client.allowed_origins.iter().find(clear) {
                let message = format!("pages of {origin} may connect, and can be changed on their way");
                let help = format!("serve them over TLS, and allow \"{}\"", origin.replacen("http://", "https://", 1));
                self.warning(Mistake::new(self.origin("client.allowed_origins"), message).help(help));
            }
        }
    }

    fn proxies(&mut self) {
        let proxies = &self.config.client.addresses.trusted_proxies;
        if let Some(everybody) = proxies.iter().find(|network| network.ends_with("/0")) {
            let message = format!("{} in `client.trusted_proxies` lets every client claim any address", quoted(everybody));
            let warning = Mistake::new(self.origin("client.trusted_proxies"), message);
            self.warning(warning.help("name the addresses of your proxies"));
        }
        if !proxies.is_empty() && self.config.client.addresses.proxy_headers.is_empty() {
            let message = "`client.trusted_proxies` has no effect: `client.proxy_headers` is empty";
            let warning = Mistake::new(self.origin("client.proxy_headers"), message);
            self.warning(warning.help("name the header that the proxy sets, such as \"X-Forwarded-For\""));
        }
    }

    fn secrets(&mut self) {
        let client = &self.config.client;
        let secrets = [
            ("client.token.hmac_secret", &client.token.hmac_secret),
            ("client.subscription_token.hmac_secret", &client.subscription_token.hmac_secret),
            ("api.key", &self.config.api.key),
        ];
        for (key, secret) in secrets {
            if let Some(weakness) = secret.as_ref().and_then(Secret::weakness).filter(|_| self.is_set(key) && !self.config.is_dev) {
                let fresh = Secret::random().map_or_else(|_| String::new(), |fresh| format!("a random one: \"{}\"", fresh.expose()));
                let warning = Mistake::new(self.origin(key), format!("`{key}` is weak: {weakness}"));
                self.warning(warning.help(fresh));
            }
        }
    }

    fn keys_of_tokens(&mut self) {
        let client = &self.config.client;
        for (section, keys) in [("client.token", &client.token), ("client.subscription_token", &client.subscription_token)] {
            if let Some(weak) = keys.secret_mistake() {
                let key = format!("{section}.hmac_secret");
                self.mistake(Mistake::new(self.origin(&key), format!("`{key}` protects nothing: {weak}")));
            }
            for (name, address) in &keys.jwks {
                let key = format!("{section}.jwks.{name}");
                // An address that was there and wrong has been told.
                let is_told = self.report.mistakes.iter().any(|mistake| mistake.message.contains(&format!("`{key}.url`")));
                if address.url.is_none() && !is_told {
                    let origin = self.origin(&format!("{key}.issuer"));
                    self.mistake(Mistake::new(origin, format!("`{key}` has no url")).help("add url = \"https://...\""));
                }
            }
        }
    }

    fn origins_of_pages(&mut self) {
        if self.config.client.allowed_origins.iter().any(|origin| origin == "*") {
            let message = "`*` in `client.allowed_origins` lets every web page connect in its visitor's name";
            let warning = Mistake::new(self.origin("client.allowed_origins"), message);
            self.warning(warning.help("name the origins of your own pages"));
        }
    }

    fn backplane(&mut self) {
        let backplane = &self.config.backplane;
        if backplane.kind == BackplaneKind::Memory {
            for key in ["url", "ca"].map(|key| format!("backplane.{key}")) {
                if self.is_set(&key) {
                    let warning = Mistake::new(self.origin(&key), format!("`{key}` has no effect: `backplane.kind` is \"memory\""));
                    self.warning(warning.help("set kind = \"redis\", or remove it"));
                }
            }
            return;
        }
        let Some(url) = &backplane.url else {
            // A url that was there and wrong has been told.
            if !self.report.mistakes.iter().any(|mistake| mistake.message.contains("`backplane.url`")) {
                let mistake = Mistake::new(self.origin("backplane.kind"), "`backplane.kind` is \"redis\", and `backplane.url` is not set");
                self.mistake(mistake.help("add url = \"redis://127.0.0.1:6379\" to [backplane]"));
            }
            return;
        };
        let config = self.config;
        if config.client.token.is_empty() && !config.hooks.has(Hook::Connect) && !config.is_dev {
            let message = "`client.token.hmac_secret` is not set: each node makes its own, and refuses the tokens of the others";
            self.warning(Mistake::new(Origin::Default, message).help("set the same in [client.token] of every node"));
        }
        if config.api.key.is_none() {
            let message = "`api.key` is not set: each node makes its own, and backends cannot know which node answers them";
            self.warning(Mistake::new(Origin::Default, message).help("set the same in [api] of every node"));
        }
        if url.tells_its_password() {
            let warning = Mistake::new(self.origin("backplane.url"), "the password of Redis crosses the network in clear text");
            self.warning(warning.help("use rediss://, or a network that nobody else is in"));
        }
        if backplane.ca.is_some() && !url.is_tls() {
            let warning = Mistake::new(self.origin("backplane.ca"), "`backplane.ca` has no effect: `backplane.url` speaks no TLS");
            self.warning(warning.help("write rediss:// in the url, or remove it"));
        }
        if self.is_set("server.memory_max") {
            let message = "`server.memory_max` has no effect: what is kept is kept in Redis";
            let warning = Mistake::new(self.origin("server.memory_max"), message);
            self.warning(warning.help("set maxmemory in Redis, with maxmemory-policy noeviction"));
        }
        let named = config.namespaces.iter().map(|(name, namespace)| (format!("namespaces.{name}"), namespace));
        for (section, namespace) in std::iter::once(("default".to_owned(), &config.default)).chain(named) {
            self.kept_in_redis(&section, namespace);
        }
    }

    /// What a namespace asks for and Redis cannot do.
    fn kept_in_redis(&mut self, section: &str, namespace: &Namespace) {
        let memory_max = format!("{section}.memory_max");
        if self.is_set(&memory_max) {
            let message = format!("`{memory_max}` cannot be kept: Redis does not count bytes by namespace");
            let help = format!("remove it; {section}.history_bytes bounds each topic, maxmemory in Redis everything together");
            self.mistake(Mistake::new(self.origin(&memory_max), message).help(help));
        }
        let ttls = [("history_ttl", namespace.history_ttl, true), ("state_ttl", namespace.state_ttl, namespace.keyed)];
        for (name, ttl, is_used) in ttls {
            if is_used && namespace.keeps_history() && ttl > REDIS_TTL_MAX {
                let key = format!("{section}.{name}");
                let message = format!("`{key}` cannot be kept: in Redis nothing is kept longer than 365 days");
                self.mistake(Mistake::new(self.origin(&key), message).help("write \"365d\" or less"));
            }
        }
    }

    fn namespace_name(&mut self, name: &str) {
        let why = match format!("{name}:x").parse::<Topic>() {
            _ if name.is_empty() => "it is empty".to_owned(),
            _ if name.contains(':') => "it holds a `:`, which ends a namespace".to_owned(),
            Err(error) => error.to_string(),
            Ok(_) => return,
        };
        let origin =
            self.origins.iter().find(|(key, _)| key.starts_with(&format!("namespaces.{name}."))).map(|(_, origin)| (*origin).clone());
        let mistake = Mistake::new(origin.unwrap_or(Origin::Default), format!("{} is no name of a namespace: {why}", quoted(name)));
        self.mistake(mistake.help("a name is the text before the first `:` of its topics"));
    }

    fn namespace(&mut self, key: &str, topics: &str, namespace: &Namespace) {
        if self.config.is_dev {
            return;
        }
        let allow = format!("{key}.allow");
        let opened_to_anonymous = namespace.allow_anonymous && self.config.client.anonymous;
        if opened_to_anonymous && namespace.allow.has(Verb::Publish) {
            let warning = Mistake::new(self.origin(&allow), format!("anyone may publish to {topics} without a token"));
            self.warning(warning.help(format!("remove \"pub\" from {allow}, or set {key}.allow_anonymous = false")));
        }
        if namespace.allow_anonymous && !self.config.client.anonymous {
            let warning = Mistake::new(self.origin(&format!("{key}.allow_anonymous")), format!("`{key}.allow_anonymous` has no effect"));
            self.warning(warning.help("set client.anonymous = true, or remove it"));
        }
        let recovery = format!("{key}.recovery");
        if namespace.recovery == Recovery::Cache && !namespace.keeps_history() {
            let warning = Mistake::new(self.origin(&recovery), format!("`{recovery}` has no effect: {topics} keep no history"));
            self.warning(warning.help(format!("set {key}.history_size, for example to 300")));
        }
        if namespace.keyed && !namespace.keeps_history() {
            let warning =
                Mistake::new(self.origin(&format!("{key}.keyed")), format!("`{key}.keyed` has no effect: {topics} keep no history"));
            self.warning(warning.help(format!("set {key}.history_size, for example to 300")));
        }
        let name = key.strip_prefix("namespaces.").unwrap_or_default();
        if SERVER_FILLED.contains(&name) && namespace.allow.has(Verb::Subscribe) {
            let warning = Mistake::new(self.origin(&allow), format!("whoever is connected may listen to every {name}'s topic"));
            self.warning(warning.help(format!("remove \"sub\" from {allow}: the server subscribes those who belong there")));
        }
    }

    fn hooks(&mut self) {
        let config = self.config;
        let named = config.asked.named.iter().map(|(name, hooks)| (format!("namespaces.{name}"), name.as_str(), *hooks));
        let all: Vec<(String, &str, NamespaceHooks)> =
            std::iter::once(("default".to_owned(), "", config.asked.default)).chain(named).collect();
        for (hook, verb) in [(Hook::Subscribe, Verb::Subscribe), (Hook::Publish, Verb::Publish)] {
            let mut is_asked = false;
            for (section, name, _) in all.iter().filter(|(_, _, hooks)| hooks.decides.has(verb)) {
                is_asked = true;
                let key = format!("{section}.hooks");
                let origin = self.origin(&key);
                if !config.hooks.has(hook) {
                    let message = format!("`{key}` names \"{hook}\", and `hooks.{hook}.url` is not set: nobody could {hook} there");
                    self.mistake(Mistake::new(origin.clone(), message).help(format!("add url = \"http://...\" to [hooks.{hook}]")));
                }
                if SERVER_FILLED.contains(name) {
                    let message = format!("`{key}` has no effect: the server alone decides who listens to a {name}'s topic");
                    self.warning(Mistake::new(origin, message).help("remove it"));
                }
            }
            if config.hooks.has(hook) && !is_asked {
                let message = format!("`hooks.{hook}.url` has no effect: no namespace asks");
                let help = format!("add hooks = [\"{hook}\"] to the namespaces where the application decides");
                self.warning(Mistake::new(self.origin(&format!("hooks.{hook}.url")), message).help(help));
            }
        }
        let mut wants_snapshot =
            all.iter().filter(|(_, _, hooks)| hooks.snapshot).map(|(section, ..)| format!("{section}.hooks")).peekable();
        if config.hooks.has(Hook::Snapshot) && wants_snapshot.peek().is_none() {
            let warning = Mistake::new(self.origin("hooks.snapshot.url"), "`hooks.snapshot.url` has no effect: no namespace asks");
            self.warning(warning.help("add hooks = [\"snapshot\"] to the namespaces whose topics have a current state"));
        }
        for key in wants_snapshot.filter(|_| !config.hooks.has(Hook::Snapshot)) {
            let message = format!("`{key}` names \"snapshot\", and `hooks.snapshot.url` is not set: there is nobody to ask");
            self.mistake(Mistake::new(self.origin(&key), message).help("add url = \"http://...\" to [hooks.snapshot]"));
        }
        if config.hooks.has(Hook::Refresh) && !config.hooks.has(Hook::Connect) {
            let message = "`hooks.refresh.url` has no effect: only what the connect hook said is renewed by it";
            self.warning(Mistake::new(self.origin("hooks.refresh.url"), message).help("set hooks.connect.url, or remove it"));
        }
        let is_static = |name: &&String| config.hooks.headers.iter().any(|header| header.name().eq_ignore_ascii_case(name));
        if let Some(name) = config.hooks.pass_headers.iter().find(is_static) {
            let message = format!("{} stands in `hooks.headers` and in `hooks.pass_headers`: the client's is not passed", quoted(name));
            self.warning(Mistake::new(self.origin("hooks.pass_headers"), message).help("remove it from one of them"));
        }
    }

    fn routes(&mut self) {
        let mut router = matchit::Router::new();
        for (index, route) in self.config.routes.iter().enumerate() {
            let key = |name: &str| format!("routes.{index}.{name}");
            let Some(path) = &route.path else {
                // A path that was there and wrong has been told.
                if !self.report.mistakes.iter().any(|mistake| mistake.message.contains(&format!("`routes[{index}].path`"))) {
                    let origin = self.first_origin(&[&key("topic"), &key("format")]);
                    self.mistake(Mistake::new(origin, format!("`routes[{index}]` has no path")).help("add path = \"/ws/...\""));
                }
                continue;
            };
            if let Err(error) = router.insert(path.as_str(), path.as_str()) {
                let why = match error {
                    matchit::InsertError::Conflict { with } => format!("it matches the same requests as \"{with}\""),
                    other => other.to_string(),
                };
                let mistake = Mistake::new(self.origin(&key("path")), format!("two routes are in conflict at \"{path}\": {why}"));
                self.mistake(mistake.help("remove one of them"));
            }
            if let Some((variable, meant)) = route.misspelt_variable() {
                let message = format!("{{{variable}}} is not in the path, so it is read from the query");
                let warning = Mistake::new(self.origin(&key("topic")), message).help(format!("did you mean {{{meant}}}?"));
                self.warning(warning);
            }
            let namespace = route.topic.as_ref().and_then(|topic| topic.namespace());
            if let Some(name) = namespace.filter(|name| !self.config.is_dev && !self.config.namespaces.contains_key(*name)) {
                let meant = suggest::nearest(name, self.config.namespaces.keys().map(String::as_str));
                let help = meant.map_or_else(|| format!("add [namespaces.{name}]"), |meant| format!("did you mean \"{meant}:\"?"));
                let message = format!("there is no namespace {}: every connection to this route is refused", quoted(name));
                self.warning(Mistake::new(self.origin(&key("topic")), message).help(help));
            }
        }
    }
}

/// Whether the page comes from this machine, where nobody is on the way.
fn is_loopback_page(origin: &str) -> bool {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']);
    name == "localhost" || name.ends_with(".localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
