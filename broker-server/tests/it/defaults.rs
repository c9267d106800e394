//! `config default` and `init`: what they print is right and complete.

use broker_server::config::{Config, starter};

use crate::support::{load, shown};

#[test]
fn the_printed_defaults_are_the_defaults() {
    let loaded = load(&Config::explain(), |_| {});
    assert_eq!(shown(&loaded), "");
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn what_is_commented_out_in_the_printed_defaults_can_be_used() {
    let text: String = Config::explain()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .map(|line| if line.contains("\"...\"") { line.replace("...", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6") } else { line })
        // Hooks without a namespace that asks would be warned about.
        .map(|line| line.replace("hooks = []", "hooks = [\"subscribe\", \"publish\", \"snapshot\"]"))
        // Beside `kind = "memory"` these would have no effect.
        .filter(|line| !line.starts_with("url = \"redis://") && !line.starts_with("ca = "))
        // The example of a route shows a namespace that is not there.
        .map(|line| line.replace("spc:product.{id}", "orders:{id}"))
        .collect();
    let loaded = load(&text, |_| {});
    assert_eq!(shown(&loaded), "");
    assert_eq!(loaded.config.routes.len(), 1);
    assert!(loaded.config.namespaces.contains_key("orders"));
    assert!(loaded.config.api.key.is_some() && loaded.config.client.token.hmac_secret.is_some());
}

#[test]
fn every_printed_default_has_its_meaning_above() {
    let text = Config::explain();
    let mut before = "";
    for line in text.lines() {
        let is_value = line.contains(" = ") && !line.starts_with("# ");
        assert!(!is_value || before.starts_with("# "), "{line} has no comment");
        before = line;
    }
}

#[test]
fn the_starter_file_is_in_order_and_its_secrets_are_its_own() {
    let (first, second) = (starter().unwrap(), starter().unwrap());
    assert_ne!(first, second);
    let loaded = load(&first, |_| {});
    assert_eq!(shown(&loaded), "");
    let config = loaded.config;
    let topic = "news".parse().unwrap();
    let namespaces = config.core_namespaces();
    let news = namespaces.of(&topic).expect("the quick start's topic is there");
    assert!(config.client.anonymous && news.allow_anonymous && news.allow.has(broker_core::Verb::Subscribe));
    assert!(!news.allow.has(broker_core::Verb::Publish));
}
