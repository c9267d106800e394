//! Fingerprints of the settings that all nodes of one broker must share: whoever compares nodes sees which differ, and no value.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::config::{Config, Secret};

/// The secret of tokens that a node in dev mode has made for itself: nodes differ in it, and hardly anybody minds.
pub const MADE_IN_DEV_MODE: &str = "client.token, made for this run";

/// Digits of a fingerprint: enough to tell settings apart.
const DIGITS: usize = 12;

/// Name and fingerprint of each group of settings, in the order of their names. `made_secret` and `api_key`: what is in force where nothing is set.
pub fn of(config: &Config, made_secret: Option<&Secret>, api_key: &Secret) -> Vec<(Box<str>, Box<str>)> {
    let mut groups: BTreeMap<String, Vec<(String, Option<String>)>> = BTreeMap::new();
    for (path, value) in config.clone().every_value() {
        if let Some(group) = group(&path) {
            groups.entry(group).or_default().push((path.join("."), value));
        }
    }
    let made = if config.is_dev && made_secret.is_some() { MADE_IN_DEV_MODE } else { "client.token" };
    let secrets = [(made, made_secret), ("api.key", Some(api_key))];
    for (group, secret) in secrets {
        let value = secret.map(|secret| secret.expose().to_owned());
        groups.entry(group.to_owned()).or_default().push(("in force".to_owned(), value));
    }
    groups.into_iter().map(|(name, values)| (name.clone().into(), digest(&name, &values).into())).collect()
}

/// One fingerprint of all of them.
pub fn all(fingerprints: &[(Box<str>, Box<str>)]) -> String {
    let values: Vec<_> = fingerprints.iter().map(|(name, print)| (name.to_string(), Some(print.to_string()))).collect();
    digest("all", &values)
}

/// Under which name a setting is compared; `None`: nodes may differ in it.
fn group(path: &[String]) -> Option<String> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["default", ..] => Some("default".to_owned()),
        ["namespaces", name, ..] => Some(format!("namespaces.{name}")),
        ["client", section @ ("token" | "subscription_token"), ..] => Some(format!("client.{section}")),
        ["client", "anonymous"] => Some("client.anonymous".to_owned()),
        ["backplane", "prefix" | "durable" | "versions_max"] => Some("backplane".to_owned()),
        _ => None,
    }
}

fn digest(name: &str, values: &[(String, Option<String>)]) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("broker settings {name}\n"));
    for (key, value) in values {
        hash.update(format!("{key}={value:?}\n"));
    }
    let digits = hash.finalize().iter().take(DIGITS / 2).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{digits:0DIGITS$x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Inputs;

    fn prints(text: &[(&str, &str)]) -> BTreeMap<Box<str>, Box<str>> {
        let variables = text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = Config::load(&Inputs { variables, ..Inputs::default() }).config;
        of(&config, None, &Secret::new("dev")).into_iter().collect()
    }

    #[test]
    fn only_what_differs_has_another_fingerprint() {
        let one = prints(&[("BROKER_NAMESPACES__ORDERS__HISTORY_SIZE", "3"), ("BROKER_NAMESPACES__NEWS__HISTORY_SIZE", "3")]);
        let other = prints(&[("BROKER_NAMESPACES__ORDERS__HISTORY_SIZE", "4"), ("BROKER_NAMESPACES__NEWS__HISTORY_SIZE", "3")]);
        let differing: Vec<_> = one.iter().filter(|(name, print)| other.get(*name) != Some(print)).map(|(name, _)| &**name).collect();
        assert_eq!(differing, ["namespaces.orders"]);
        assert_eq!(
            one,
            prints(&[
                ("BROKER_NAMESPACES__ORDERS__HISTORY_SIZE", "3"),
                ("BROKER_NAMESPACES__NEWS__HISTORY_SIZE", "3"),
                ("BROKER_SERVER__LISTEN", "127.0.0.1:1"),
            ])
        );
    }

    #[test]
    fn a_secret_that_dev_mode_has_made_stands_apart() {
        let prints = |dev, secret: &str| {
            let config = Config { is_dev: dev, ..Config::default() };
            of(&config, Some(&Secret::new(secret)), &Secret::new("dev")).into_iter().collect::<BTreeMap<_, _>>()
        };
        let differing = |dev| {
            let (one, other) = (prints(dev, "one"), prints(dev, "other"));
            one.iter().filter(|(name, print)| other.get(*name) != Some(print)).map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(differing(true), [MADE_IN_DEV_MODE]);
        assert_eq!(differing(false), ["client.token"]);
    }

    #[test]
    fn a_secret_is_in_no_fingerprint_and_changes_it() {
        let secret = |text: &str| prints(&[("BROKER_CLIENT__TOKEN__HMAC_SECRET", text)])["client.token"].clone();
        let (one, other) = ("0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdeg");
        assert_ne!(secret(one), secret(other));
        assert!(!secret(one).contains(&one[..6]));
    }
}
