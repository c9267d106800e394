//! Defaults, file, environment, flags: who wins, and what `config show` says about it.

use std::time::Duration;

use broker_core::Verb;
use broker_server::config::Inputs;

use crate::support::{load, shown};

const SECRET: &str = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6";

fn variables(variables: &[(&str, &str)]) -> impl FnOnce(&mut Inputs) {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    |inputs| inputs.variables = variables
}

#[test]
fn the_environment_wins_over_the_file_and_flags_win_over_both() {
    let text = "[client]\nping_interval = \"20s\"\nsubscriptions_max = 7\n[server]\nlisten = \"127.0.0.1:1\"\n";
    let loaded = load(text, |inputs| {
        variables(&[("BROKER_CLIENT__PING_INTERVAL", "30s"), ("BROKER_SERVER__LISTEN", "127.0.0.1:2")])(inputs);
        inputs.flags.push(("--listen", "server.listen", "127.0.0.1:3".to_owned()));
    });
    assert_eq!(shown(&loaded), "");
    assert_eq!(loaded.config.client.ping_interval, Duration::from_secs(30));
    assert_eq!(loaded.config.client.subscriptions_max, 7);
    assert_eq!(loaded.config.server.listen.port(), 3);
}

#[test]
fn every_kind_of_value_can_come_from_the_environment() {
    let loaded = load(
        "[namespaces.Chat-Room]\npresence = true\n",
        variables(&[
            ("BROKER_CLIENT__MESSAGE_MAX", "1KiB"),
            ("BROKER_CLIENT__ANONYMOUS", "true"),
            ("BROKER_CLIENT__ALLOWED_ORIGINS", "https://a.example, https://b.example"),
            ("BROKER_CLIENT__TOKEN__HMAC_SECRET", SECRET),
            ("BROKER_NAMESPACES__ORDERS__HISTORY_SIZE", "300"),
            ("BROKER_NAMESPACES__CHAT_ROOM__HISTORY_SIZE", "5"),
            ("BROKER_DEFAULT__ALLOW", "[\"sub\", \"prs\"]"),
            ("BROKER_SERVER__SHARDS", "3"),
            ("BROKER_SERVER__LOG_LEVEL", "debug"),
        ]),
    );
    assert_eq!(shown(&loaded), "");
    let config = loaded.config;
    assert_eq!(config.client.message_max, 1024);
    assert!(config.client.anonymous);
    assert_eq!(config.client.allowed_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.client.token.hmac_secret.unwrap().expose(), SECRET);
    assert_eq!(config.namespaces["orders"].history_size, 300);
    assert_eq!((config.namespaces["Chat-Room"].history_size, config.namespaces.len()), (5, 2));
    assert!(config.default.allow.has(Verb::Presence) && !config.default.allow.has(Verb::Publish));
    assert_eq!(config.server.shards, Some(3));
}

#[test]
fn a_short_ping_interval_alone_shortens_the_timeout_that_nobody_set() {
    let check = |set: &[(&str, &str)], expected| {
        let loaded = load("", variables(set));
        assert_eq!(shown(&loaded), "");
        assert_eq!(loaded.config.client.pong_timeout, expected);
    };
    check(&[], Duration::from_secs(10));
    check(&[("BROKER_CLIENT__PING_INTERVAL", "3s")], Duration::from_millis(1_200));
    check(&[("BROKER_CLIENT__PING_INTERVAL", "30s")], Duration::from_secs(10));
    check(&[("BROKER_CLIENT__PING_INTERVAL", "3s"), ("BROKER_CLIENT__PONG_TIMEOUT", "2s")], Duration::from_secs(2));
}

#[test]
fn variables_of_others_are_none_of_ours() {
    let loaded = load("", variables(&[("BROKER_PORT", "tcp://10.0.0.1:80"), ("BROKER_SERVICE_HOST", "10.0.0.1"), ("PATH", "/bin")]));
    assert_eq!(shown(&loaded), "");
}

#[test]
fn every_shown_value_tells_where_it_comes_from_and_secrets_are_masked() {
    let text = format!("[api]\nkey = \"{SECRET}\"\n\n[namespaces.orders]\nhistory_ttl = \"90m\"\n[[routes]]\npath = \"/ws/x/\"\n");
    let loaded = load(&text, |inputs| {
        variables(&[("BROKER_CLIENT__PING_INTERVAL", "30s"), ("BROKER_CLIENT__TOKEN__HMAC_SECRET", SECRET)])(inputs);
        inputs.flags.push(("--listen", "server.listen", "127.0.0.1:0".to_owned()));
    });
    let directory = format!("{}/", loaded.file().unwrap().parent().unwrap().display());
    let show = loaded.show().replace(&directory, "");
    for expected in [
        "ping_interval = \"30s\" # from BROKER_CLIENT__PING_INTERVAL",
        "pong_timeout = \"10s\" # default",
        "hmac_secret = \"********\" # from BROKER_CLIENT__TOKEN__HMAC_SECRET",
        "key = \"********\" # from broker.toml:2",
        "[namespaces.orders]",
        "history_ttl = \"1h30m\" # from broker.toml:5",
        "[[routes]]",
        "path = \"/ws/x\" # from broker.toml:7",
        "# topic is not set # default",
        "listen = \"127.0.0.1:0\" # from --listen",
    ] {
        let found = show.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == expected);
        assert!(found, "{expected} is missing in\n{show}");
    }
    assert!(!show.contains(SECRET) && !format!("{loaded:?}").contains(&format!("Secret({SECRET}")));
    let again = load(&show.replace("********", SECRET), |_| {});
    assert_eq!(again.config, loaded.config, "what is shown is TOML that means the same");
}

#[test]
fn a_url_alone_means_redis_and_the_flag_wins() {
    use broker_server::config::BackplaneKind;

    let flags = |inputs: &mut Inputs| {
        inputs.dev = 1;
        inputs.flags.push(("--redis", "backplane.url", "redis://:s3cret@127.0.0.1:7".to_owned()));
        inputs.flags.push(("--redis", "backplane.kind", "redis".to_owned()));
    };
    let loaded = load("[backplane]\nkind = \"memory\"\n", flags);
    assert_eq!((shown(&loaded).as_str(), loaded.config.backplane.kind), ("", BackplaneKind::Redis));
    let show = loaded.show();
    assert!(show.contains("url = \"redis://:********@127.0.0.1:7\"") && !show.contains("s3cret"), "{show}");
    assert!(!format!("{loaded:?}").contains("s3cret"));
    let loaded = load("", variables(&[("BROKER_BACKPLANE__URL", "redis://127.0.0.1:7"), ("BROKER_BACKPLANE__PREFIX", "eu")]));
    assert_eq!((loaded.config.backplane.kind, loaded.config.backplane.prefix.as_deref()), (BackplaneKind::Redis, Some("eu")));
    assert_eq!(load("", |_| {}).config.backplane.kind, BackplaneKind::Memory);
}

#[test]
fn dev_mode_opens_what_nobody_configured_and_says_so() {
    let loaded = load("[default]\nallow = [\"sub\"]\n[namespaces.orders]\nallow = [\"sub\"]\n", |inputs| inputs.dev = 1);
    assert_eq!(shown(&loaded), "");
    let namespaces = loaded.config.core_namespaces();
    let may_publish = |topic: &str| namespaces.of(&topic.parse().unwrap()).map(|namespace| namespace.allow.has(Verb::Publish));
    assert_eq!(may_publish("news"), Some(true));
    assert_eq!(may_publish("anything:1"), Some(true));
    assert_eq!(may_publish("orders:1"), Some(false));
    assert_eq!(may_publish("group:admins"), Some(false), "the server's own topics stay its own");
    assert_eq!(loaded.config.api.key.as_ref().unwrap().expose(), "dev");
    assert!(loaded.config.client.anonymous);
    let show = loaded.show();
    let dev = show.lines().filter(|line| line.ends_with("# dev mode")).count();
    assert_eq!(dev, 7, "{show}");
}

#[test]
fn outside_dev_mode_nothing_is_allowed_that_nobody_allowed() {
    let namespaces = load("", |_| {}).config.core_namespaces();
    let news = namespaces.of(&"news".parse().unwrap()).expect("topics without a namespace are there");
    assert_eq!(news.allow, broker_core::Verbs::NONE);
    assert!(namespaces.of(&"orders:1".parse().unwrap()).is_none());
}
