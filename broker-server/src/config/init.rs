//! The file that `broker init` writes.

use super::Secret;

/// A commented configuration that works unedited with the quick start: pages on this machine may listen without a token, and a backend
/// publishes with the key. The secrets are random.
///
/// # Errors
/// The operating system gives no random bytes.
pub fn starter() -> Result<String, getrandom::Error> {
    Ok(STARTER.replace("{hmac_secret}", Secret::random()?.expose()).replace("{api_key}", Secret::random()?.expose()))
}

const STARTER: &str = r#"# Configuration of a broker. Start it with `broker`, look at what is in force with `broker config show`,
# see every setting with `broker config default`, and run `broker check` after an edit.
# Each setting can also come from the environment: BROKER_CLIENT__ANONYMOUS=false.

[client]
# Clients may connect without a token. Set it to false once your backend issues tokens.
anonymous = true
# Pages that may connect, besides those that this machine serves to itself.
allowed_origins = []                 # ["https://app.example.com"]
# Behind nginx or haproxy: their addresses, or all clients have the proxy's (docs/operations/load-balancers.md).
# trusted_proxies = ["127.0.0.1"]

[client.token]
# Signs the tokens that your backend issues (JWT, HS256). Keep it secret.
hmac_secret = "{hmac_secret}"

[api]
# What your backend sends as X-API-Key:
#   curl http://127.0.0.1:8000/api/publish -H 'X-API-Key: KEY' -d '{"channel": "news", "data": {"hello": "world"}}'
key = "{api_key}"

[default]
# Topics without a namespace, such as "news". In a browser:
#   new WebSocket("ws://127.0.0.1:8000/ws/news").onmessage = (e) => console.log(e.data)
allow = ["sub", "hst"]               # "pub": clients may publish; "prs": they may ask who listens
allow_anonymous = true               # `allow` holds without a token too
history_size = 100                   # publications kept for those who come back
history_ttl = "10m"

# Topics such as "orders:7": options of their own, and for clients with a token only.
# [namespaces.orders]
# allow = ["sub"]
# history_size = 300
# history_ttl = "1h"
# presence = true

# A path that your application's clients already use.
# [[routes]]
# path = "/ws/dashboard/{id}"
# topic = "orders:{id}"

[server]
listen = "127.0.0.1:8000"            # "0.0.0.0:8000" to be reached from other machines
internal_listen = "127.0.0.1:8001"   # /metrics

# Many nodes act as one on one Redis; each has this same file.
# [backplane]
# url = "redis://127.0.0.1:6379"       # `broker doctor` looks at it, and at all nodes

# TLS, without a proxy in front: https and wss only. The files are read again when they change.
# [server.tls]
# cert = "/etc/broker/cert.pem"
# key = "/etc/broker/key.pem"
"#;
