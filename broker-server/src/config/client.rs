//! `[client]`: what holds for every client's connection. Keys of tokens live in `token`.

use std::time::Duration;

use super::{
    addresses::Addresses,
    field::{Complaint, count, duration, size, switch, texts},
    quantity::show_duration,
    rates::Rates,
    token::TokenKeys,
    visit::Visitor,
};

/// What holds for every client's connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Client {
    /// Silence after which the server pings. 1 s to 10 min. Default: 25 s.
    pub ping_interval: Duration,
    /// Silence after a ping that closes, shorter than `ping_interval`. Default: 10 s, less where pings come that often.
    pub pong_timeout: Duration,
    /// Time a new connection has to say who it is. Default: 5 s.
    pub connect_timeout: Duration,
    /// Largest frame from a client, in bytes. Default: 64 KiB.
    pub message_max: usize,
    /// Most subscriptions of one session. Default: 128.
    pub subscriptions_max: usize,
    /// Most connections of this node. Default: 100,000.
    pub connections_max: usize,
    /// Most bytes that wait for one client; more makes it a slow consumer. Default: 1 MiB.
    pub backlog_max: usize,
    /// Most bytes that wait for all clients together, each publication counted once. Default: 512 MiB.
    pub backlogs_max: usize,
    /// Time in which a client must take something of what waits for it, and its kernel acknowledge what was sent (on Linux). Default: 30 s.
    pub write_timeout: Duration,
    /// Most mistakes of one session in a minute; more closes it. Default: 60.
    pub mistakes_per_minute: usize,
    /// Whether a client may connect without a token. Default: no.
    pub anonymous: bool,
    /// Origins of pages that may connect: `https://app.example.com`, `https://*.example.com` or `*`. Default: none.
    pub allowed_origins: Vec<String>,
    /// Keys of connection tokens. Default: a random secret at each start.
    pub token: TokenKeys,
    /// Keys of subscription tokens. Default: those of connection tokens.
    pub subscription_token: TokenKeys,
    /// Where clients come from, and how many may come from there.
    pub addresses: Addresses,
    /// How often sessions and users may do what.
    pub rates: Rates,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            message_max: 64 << 10,
            subscriptions_max: 128,
            connections_max: 100_000,
            backlog_max: 1 << 20,
            backlogs_max: 512 << 20,
            write_timeout: Duration::from_secs(30),
            mistakes_per_minute: 60,
            anonymous: false,
            allowed_origins: Vec::new(),
            token: TokenKeys::default(),
            subscription_token: TokenKeys::default(),
            addresses: Addresses::default(),
            rates: Rates::default(),
        }
    }
}

impl Client {
    /// Sets what the engine takes of these; `shards`: `None` is one per core.
    pub fn apply(&self, settings: &mut broker::Settings, shards: Option<usize>) {
        settings.ping_interval = self.ping_interval;
        settings.pong_timeout = self.pong_timeout;
        settings.connect_timeout = self.connect_timeout;
        settings.subscriptions_max = self.subscriptions_max;
        settings.connections_max = self.connections_max;
        settings.backlog_max_bytes = self.backlog_max;
        settings.backlogs_max_bytes = self.backlogs_max;
        settings.write_timeout = self.write_timeout;
        settings.mistakes_per_minute = u32::try_from(self.mistakes_per_minute).unwrap_or(u32::MAX);
        settings.anonymous = self.anonymous;
        settings.rates = self.rates.rates();
        settings.shards = shards.unwrap_or(0);
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.section("client", "What holds for every client's connection.", &mut |keys| self.keys(keys));
    }

    fn keys(&mut self, keys: &mut dyn Visitor) {
        let (second, minutes) = (Duration::from_secs(1), |minutes: u64| Duration::from_secs(60 * minutes));
        keys.key(
            "ping_interval",
            "Silence after which the server pings a client.",
            &mut duration(&mut self.ping_interval, second..=minutes(10)),
        );
        keys.key(
            "pong_timeout",
            "Silence after a ping that closes the connection; shorter than ping_interval, and by itself at most two fifths of it.",
            &mut duration(&mut self.pong_timeout, Duration::from_millis(100)..=minutes(10)),
        );
        keys.key(
            "connect_timeout",
            "Time that a new connection has to say who it is.",
            &mut duration(&mut self.connect_timeout, Duration::from_millis(100)..=minutes(1)),
        );
        keys.key("message_max", "Largest message from a client.", &mut size(&mut self.message_max, 1 << 10..=64 << 20));
        keys.key("subscriptions_max", "Most subscriptions of one session.", &mut count(&mut self.subscriptions_max, 1..=100_000));
        keys.key("connections_max", "Most connections of this node.", &mut count(&mut self.connections_max, 1..=10_000_000));
        keys.key(
            "backlog_max",
            "Most bytes that wait for one client; a client that reads slower is a slow consumer.",
            &mut size(&mut self.backlog_max, 16 << 10..=1 << 30),
        );
        keys.key(
            "backlogs_max",
            "Most bytes of publications that wait for all clients together, each counted once; above it, clients that most waits for are closed.",
            &mut size(&mut self.backlogs_max, 1 << 20..=1 << 40),
        );
        keys.key(
            "write_timeout",
            "Time in which a client must take something of what waits for it, or acknowledge what was sent; one that does not is closed.",
            &mut duration(&mut self.write_timeout, second..=minutes(60)),
        );
        keys.key(
            "mistakes_per_minute",
            "Most mistakes of one session in a minute; more closes it.",
            &mut count(&mut self.mistakes_per_minute, 1..=100_000),
        );
        keys.key("anonymous", "Whether clients may connect without a token.", &mut switch(&mut self.anonymous));
        keys.key(
            "allowed_origins",
            "Pages that may connect, besides loopback pages on a loopback listener.",
            &mut texts(
                &mut self.allowed_origins,
                "a list of origins such as \"https://app.example.com\" or \"https://*.example.com\"",
                origin,
            ),
        );
        self.addresses.keys(keys);
        keys.section("token", "Connection tokens: signed JSON Web Tokens that say who a client is.", &mut |keys| self.token.keys(keys));
        let about =
            "Tokens that let one user subscribe to one topic. Where this section has no key, keys and settings of [client.token] hold.";
        keys.section("subscription_token", about, &mut |keys| self.subscription_token.keys(keys));
        keys.section("rate", "How often clients may do what costs something: a rate is what holds in the long run, a burst what may come at once. Over one, a command \
             is refused with the time to wait.", &mut |keys| {
            self.addresses.rate_keys(keys);
            self.rates.keys(keys);
        });
    }

    /// Shortens a timeout that nobody set to what a short `ping_interval` leaves, so that one of the two can be set alone.
    pub(super) fn fit_pong_timeout(&mut self) {
        self.pong_timeout = self.pong_timeout.min(self.ping_interval * 2 / 5);
    }

    /// What is wrong between the keys of this section.
    pub(super) fn pong_mistake(&self) -> Option<(String, String)> {
        (self.pong_timeout >= self.ping_interval).then(|| {
            let (timeout, interval) = (show_duration(self.pong_timeout), show_duration(self.ping_interval));
            (
                format!("`client.pong_timeout` ({timeout}) must be shorter than `client.ping_interval` ({interval})"),
                "a pong must be missed before the next ping goes out: lower pong_timeout or raise ping_interval".to_owned(),
            )
        })
    }
}

fn origin(text: &str) -> Result<(), Complaint> {
    if text == "*" {
        return Ok(());
    }
    if text == "null" {
        return Err((
            "every sandboxed page and local file has this origin".to_owned(),
            Some("serve the page over HTTP and name its origin".to_owned()),
        ));
    }
    let Some((scheme, host)) = text.split_once("://") else {
        return Err(("this has no scheme".to_owned(), Some(format!("write \"https://{text}\""))));
    };
    if !matches!(scheme, "http" | "https") && !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    {
        return Err((format!("\"{scheme}\" is no scheme of a page"), Some("write \"https://\" or \"http://\"".to_owned())));
    }
    if matches!(scheme, "ws" | "wss") {
        let page = if scheme == "ws" { "http" } else { "https" };
        return Err(("this is the address of a socket, not of a page".to_owned(), Some(format!("write \"{page}://{host}\""))));
    }
    if let Some(end) = host.find(['/', '?', '#']) {
        let help = format!("write \"{scheme}://{}\"", &host[..end]);
        return Err(("an origin ends after the host and port".to_owned(), Some(help)));
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    let name = match name.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => match port.parse::<u16>() {
            Ok(_) => name,
            Err(_) => return Err((format!("\"{port}\" is no port"), Some("a port is a number from 1 to 65535".to_owned()))),
        },
        _ => name,
    };
    if name.is_empty() || name.contains('*') || name.contains(|c: char| !c.is_ascii_graphic() || matches!(c, '@' | ',' | ';')) {
        return Err(("this is no host".to_owned(), Some("`*` may only be the first level: \"https://*.example.com\"".to_owned())));
    }
    Ok(())
}
