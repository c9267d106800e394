//! Settings about addresses and TLS: what is read, what is refused, what is worth a warning.

use std::{fs, time::Duration};

use broker_server::config::{Loaded, Mistake, Rate};
use tempfile::TempDir;

use crate::support::{broker, load, shown, text};

const LISTEN: &str = "[server]\nlisten = \"0.0.0.0:8000\"\n";
const KEYS: &str = "[client.token]\nhmac_secret = \"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6\"\n[api]\nkey = \"a1B2c3D4e5F6g7H8\"\n";

#[test]
fn rates_are_numbers_over_a_time_or_off() {
    let rate = |value: &str| {
        let loaded = load(&format!("[client.rate]\nconnects_per_address = {value}\n"), |_| {});
        assert_eq!(shown(&loaded), "");
        loaded.config.client.addresses.connects_per_address
    };
    assert_eq!(rate("\"20/s\""), Some(Rate { count: 20, per: Duration::from_secs(1) }));
    assert_eq!(rate("\"600/m\""), Some(Rate { count: 600, per: Duration::from_secs(60) }));
    for off in ["\"off\"", "\"0\"", "0"] {
        assert_eq!(rate(off), None, "{off}");
    }
    check_mistake("[client.rate]\nconnects_per_address = 20\n", "this has no unit", "write \"20/s\" for so many a second");
    check_mistake("[client.rate]\nconnects_per_address = \"20\"\n", "this has no unit", "write \"20/s\" for so many a second");
    check_mistake("[client.rate]\nconnects_per_address = \"fast\"\n", "this is no rate", "write it like \"50/s\"");
    check_mistake("[client.rate]\nconnects_burst = 0\n", "this is 0", "from 1 to 1000000");
}

#[test]
fn rates_of_sessions_and_users_reach_the_engine() {
    let text = "[client.rate]\ncommands = \"600/m\"\ncommands_burst = 7\nuser_commands = \"off\"\nbytes = \"64KiB/s\"\nuser_bytes_burst = \"16MiB\"\n";
    let loaded = load(text, |_| {});
    assert_eq!(shown(&loaded), "");
    let (rates, defaults) = (loaded.config.client.rates.rates(), broker::Rates::default());
    assert_eq!(rates.session.commands, Some(broker::Rate::new(600, Duration::from_secs(60)).burst(7)));
    assert_eq!(rates.session.bytes, Some(broker::Rate::per_second(64 << 10).burst(4 << 20)));
    assert_eq!(rates.user.commands, None);
    assert_eq!(rates.user.bytes, defaults.user.bytes.map(|rate| rate.burst(16 << 20)));
    assert_eq!((rates.session.publishes, rates.user.errors), (defaults.session.publishes, defaults.user.errors));
    check_mistake("[client.rate]\nbytes = 100000\n", "this has no unit", "write \"100000B/s\" for bytes a second");
    check_mistake("[client.rate]\nbytes = \"50/s\"\n", "this is no rate of bytes", "write it like \"1MiB/s\"");
    check_mistake("[client.rate]\nbytes_burst = 100000\n", "this has no unit", "for bytes");
    check_mistake("[client.rate]\nuser_publish = \"5/s\"\n", "did you mean `user_publishes`?", "");
}

#[test]
fn proxies_are_addresses_and_networks() {
    let loaded = load("[client]\ntrusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]\nproxy_headers = [\"x-real-ip\"]\n", |_| {});
    assert_eq!(shown(&loaded), "");
    let proxies = loaded.config.client.addresses.proxies();
    let headers = [("x-real-ip".to_owned(), "203.0.113.7".to_owned()), ("x-forwarded-for".to_owned(), "6.6.6.6".to_owned())];
    let client = |peer: &str| proxies.client(peer.parse().unwrap(), &headers).ip().to_string();
    assert_eq!((client("10.1.2.3:1"), client("11.1.2.3:1")), ("203.0.113.7".to_owned(), "11.1.2.3".to_owned()));
    for (network, help) in [
        ("10.0.0.0/33", "up to /32 for IPv4"),
        ("10.0.0.1:80", "without a port"),
        ("proxy.internal", "names are not looked up"),
        ("*", "may claim any address"),
    ] {
        check_mistake(&format!("[client]\ntrusted_proxies = [\"10.0.0.1\", \"{network}\"]\n"), "neither an address nor a network", help);
    }
    check_mistake("[client]\nproxy_headers = [\"X-Forwarded-Fro\"]\n", "no proxy names clients there", "did you mean \"X-Forwarded-For\"?");
}

#[test]
fn insecure_listeners_are_warnings() {
    let clear = "0.0.0.0:8000 speaks no TLS: tokens and data can be read and changed on their way";
    check_warnings(&format!("{KEYS}{LISTEN}"), &[clear]);
    check_warnings(&format!("{KEYS}[client]\ntrusted_proxies = [\"10.0.0.5\"]\n{LISTEN}"), &[]);
    check_warnings(&format!("{KEYS}{LISTEN}[server.tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n"), &[]);
    check_warnings(
        "[client]\nallowed_origins = [\"http://localhost:3000\", \"http://app.test\"]\n[server.tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n",
        &["pages of http://app.test may connect, and can be changed on their way"],
    );
    check_warnings(
        "[client]\ntrusted_proxies = [\"0.0.0.0/0\"]\n",
        &["\"0.0.0.0/0\" in `client.trusted_proxies` lets every client claim any address"],
    );
    check_warnings(
        "[client]\ntrusted_proxies = [\"10.0.0.5\"]\nproxy_headers = []\n",
        &["`client.trusted_proxies` has no effect: `client.proxy_headers` is empty"],
    );
}

#[test]
fn a_certificate_without_its_key_is_a_mistake() {
    check_mistake("[server.tls]\ncert = \"c.pem\"\n", "`server.tls.cert` is set, and `server.tls.key` is not", "TLS needs both");
    check_mistake("[server.tls]\nkey = \"k.pem\"\n", "`server.tls.key` is set, and `server.tls.cert` is not", "TLS needs both");
    check_mistake("[server.tls]\ncert = \"-----BEGIN CERTIFICATE-----\"\nkey = \"k.pem\"\n", "the content of a file", "name that");
}

#[test]
fn files_that_cannot_be_used_stop_check_and_serve_and_say_why() {
    let directory = TempDir::new().unwrap();
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, other) = (made(), made());
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("cert.pem", &one.cert.pem());
    write("key.pem", &one.signing_key.serialize_pem());
    write("other-key.pem", &other.signing_key.serialize_pem());
    write("cert.der", "0\u{1}\u{2}");
    for (cert, key, mistake, cure) in [
        ("nowhere.pem", "key.pem", "`server.tls.cert`: cannot read nowhere.pem: ", "relative paths begin where the process was started"),
        ("cert.der", "key.pem", "`server.tls.cert`: cert.der is not PEM", "openssl x509 -inform der"),
        ("key.pem", "cert.pem", "`server.tls.cert`: key.pem holds no certificate", "perhaps certificate and key are swapped"),
        ("cert.pem", "cert.pem", "`server.tls.key`: cert.pem holds no private key", "perhaps certificate and key are swapped"),
        (
            "cert.pem",
            "other-key.pem",
            "`server.tls.key`: the key in other-key.pem is not that of",
            "the key that the certificate was asked for with",
        ),
    ] {
        for command in ["check", "serve"] {
            let output = broker(directory.path(), &[command, "--tls-cert", cert, "--tls-key", key], &[]);
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{error}");
            assert!(error.contains(mistake) && error.contains(cure) && error.contains("flag --tls-"), "{error}");
        }
    }
    let output =
        broker(directory.path(), &["check"], &[("BROKER_SERVER__TLS__CERT", "cert.pem"), ("BROKER_SERVER__TLS__KEY", "nowhere.pem")]);
    assert!(text(&output.stderr).contains("environment variable BROKER_SERVER__TLS__KEY"), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_and_a_certificate_that_has_expired_are_warnings() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    fs::write(directory.path().join("cert.pem"), params.self_signed(&pair).unwrap().pem()).unwrap();
    let key = directory.path().join("key.pem");
    fs::write(&key, pair.serialize_pem()).unwrap();
    let check = |mode| {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let output = broker(directory.path(), &["check", "--tls-cert", "cert.pem", "--tls-key", "key.pem"], &[]);
        assert_eq!(output.status.code(), Some(0));
        text(&output.stderr)
    };
    let open = check(0o644);
    assert!(open.contains("every user of this machine can read key.pem") && open.contains("chmod o-rwx key.pem"), "{open}");
    let closed = check(0o640);
    assert!(closed.contains("the certificate has expired") && !closed.contains("can read"), "{closed}");
}

#[track_caller]
fn check_mistake(config: &str, mistake: &str, cure: &str) {
    let loaded = load(config, |_| {});
    let report = shown(&loaded);
    assert_eq!(loaded.report.mistakes.len(), 1, "{report}");
    assert!(report.contains(mistake) && report.contains(cure), "{mistake:?} or {cure:?} is missing in\n{report}");
}

#[track_caller]
fn check_warnings(config: &str, expected: &[&str]) {
    let loaded: Loaded = load(config, |_| {});
    assert!(loaded.report.mistakes.is_empty(), "{}", loaded.report);
    assert_eq!(loaded.report.warnings.iter().map(Mistake::message).collect::<Vec<_>>(), expected);
}
