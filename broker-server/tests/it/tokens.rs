//! Tokens and the real binary: made, explained, verified, brought along in every way, and never written to a log.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use broker_auth::{Claims, HmacTokens, TokenOptions};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::rust_crypto};
use tempfile::TempDir;

use crate::{
    serving::Running,
    support::{broker, text},
};

const SECRET: &str = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6";

fn config() -> String {
    format!("[client.token]\nhmac_secret = \"{SECRET}\"\n[default]\nallow = [\"sub\", \"pub\"]\n")
}

fn token(user: &str) -> String {
    HmacTokens::new(SECRET, TokenOptions::default()).unwrap().create(&Claims::user(user))
}

/// Runs `broker token ..` beside this configuration: its code and everything that it printed.
#[track_caller]
fn run(config: &str, arguments: &[&str]) -> (i32, String) {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("broker.toml"), config).unwrap();
    let output = broker(directory.path(), &[&["token"], arguments].concat(), &[]);
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_created_token_is_explained_verified_and_let_in() {
    let flags = ["--user", "ris1", "--group", "ocs_ris", "--channel", "news", "--cap", "sub,hst=chat:*", "--expires", "10m"];
    let (code, created) = run(&config(), &[&["create"], &flags[..], &["--info", "{\"name\":\"Kim\"}", "--id", "t1"]].concat());
    assert_eq!(code, 0, "{created}");
    let created = created.trim();
    let (code, explained) = run("", &["inspect", created]);
    assert_eq!(code, 0, "{explained}");
    for expected in
        ["user \"ris1\", in groups ocs_ris, subscribed to news, may sub,hst chat:*, for 10 min more", "\"Kim\"", "not looked at"]
    {
        assert!(explained.contains(expected), "{expected} is missing in\n{explained}");
    }
    assert!(!explained.contains("refused"), "{explained}");
    let (code, verified) = run(&config(), &["verify", created]);
    assert_eq!(code, 0, "{verified}");
    assert!(verified.starts_with("accepted (hs256 token): user \"ris1\""), "{verified}");
    let server = Running::start(&config(), &[]);
    assert_eq!(server.run(&["pub", "news", "1", "--token", created]).status.code(), Some(0));
}

#[test]
fn a_bad_token_is_refused_with_the_cure_and_code_1() {
    let (code, printed) = run(&config(), &["verify", "x"]);
    assert_eq!((code, printed.starts_with("refused: the token has 1 parts")), (1, true), "{printed}");
    let other = HmacTokens::new([b'k'; 32], TokenOptions::default()).unwrap().create(&Claims::user("admin"));
    let (code, printed) = run(&config(), &["verify", &other]);
    assert_eq!(code, 1);
    assert!(printed.contains("signature does not match (sign with the key") && !printed.contains(&other), "{printed}");
    let (code, printed) = run("", &["verify", &other]);
    assert_eq!((code, printed.contains("there is no key to verify with")), (1, true), "{printed}");
    let (_, printed) = run("", &["inspect", "eyJhbGciOiJub25lIn0.eyJleHAiOjF9."]);
    assert!(printed.contains("it is not signed") && printed.contains("the token ended"), "{printed}");
    assert_eq!(run("", &["inspect", "x"]).0, 1);
}

#[test]
fn what_cannot_be_made_is_told_and_the_secret_is_not() {
    let check = |config: &str, flags: &[&str], expected: &str| {
        let (code, printed) = run(config, &[&["create"], flags].concat());
        assert_ne!(code, 0, "{printed}");
        assert!(printed.contains(expected) && !printed.contains(SECRET), "{expected} is missing in\n{printed}");
    };
    check("", &["--user", "a"], "there is no secret to sign with: set hmac_secret in [client.token]");
    check("", &["--secret", "short"], "the secret has 5 bytes, at least 32 are needed");
    check(&config(), &["--expires", "soon"], "write 10m, 12h, 7d, or never");
    check(&config(), &["--group", "a b"], "`groups[0]` is no name of a group");
    check(&config(), &["--cap", "read=x"], "\"read\" is no verb");
    check(&config(), &["--cap", "sub"], "write it like 'sub,pub=chat:*'");
    check(&config(), &["--info", "{"], "--info: this must be one JSON value");
    check(&config(), &["--tenant", "a/b"], "`tenant` is no tenant");
}

#[test]
fn the_token_of_a_subscription_opens_a_topic_that_its_namespace_closes() {
    let server = Running::start(&format!("[client.token]\nhmac_secret = \"{SECRET}\"\n[default]\n"), &[]);
    let created = text(&server.run(&["token", "create", "--user", "ris1", "--subscribe", "news"]).stdout);
    let verified = server.run(&["token", "verify", created.trim()]);
    assert!(verified.status.success() && text(&verified.stdout).contains("user \"ris1\" may subscribe to news"), "{verified:?}");
    let as_connection = server.upgrade_with("/ws/news", &format!("Authorization: Bearer {}\r\n", created.trim()));
    assert!(as_connection.starts_with("HTTP/1.1 401") && as_connection.contains("the token of a subscription"), "{as_connection}");
    let subscribe = |token: &str| {
        let frames = format!(
            "{{\"id\":1,\"connect\":{{\"token\":\"{}\"}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"news\"{token}}}}}",
            self::token("ris1")
        );
        server.speak("/connection/websocket", &frames)
    };
    assert!(subscribe("").contains("\"code\":103"), "{}", subscribe(""));
    let bad = subscribe(",\"token\":\"x\"");
    assert!(bad.contains("\"code\":103") && bad.contains("a signed token has 3"), "{bad}");
    let opened = subscribe(&format!(",\"token\":\"{}\"", created.trim()));
    assert!(opened.contains("\"subscribe\":{"), "{opened}");
}

#[test]
fn keys_that_protect_nothing_are_refused_at_the_start_with_the_cure() {
    let check = |section: &str, expected: &str| {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("broker.toml"), section).unwrap();
        let output = broker(directory.path(), &["check"], &[]);
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{printed}");
        assert!(printed.contains(expected), "{expected} is missing in\n{printed}");
    };
    check("[client.token]\nhmac_secret = \"\"\n", "a random one: \"");
    let der: String = RSA_1024.lines().filter(|line| !line.starts_with('-')).collect();
    check(&format!("[client.token]\nhmac_secret = '''{RSA_1024}'''\n"), "protects nothing: the secret is a key of a key pair");
    check(&format!("[client.subscription_token]\nhmac_secret = \"{der}\"\n"), "protects nothing: the secret is a key of a key pair");
    check(&format!("[client.token]\npublic_keys = ['''{RSA_1024}''']\n"), "the RSA key has 1024 bits, 2048 to 4096 are needed");
    check("[client.token]\npublic_keys = [\"nowhere.pem\"]\n", "there is no file nowhere.pem");
    check("[client.token.jwks.main]\nissuer = \"x\"\n", "`client.token.jwks.main` has no url");
    check("[client.token.jwks.main]\nurl = \"http://id.example.com/\"\n", "keys are fetched over https");
}

#[test]
fn a_token_is_taken_from_every_place_and_never_reaches_a_log() {
    /// What the query and the headers are with a token in them.
    type Put = fn(&str) -> (String, String);

    let mut server = Running::start(&(config() + "[server]\nlog_level = \"debug\"\n"), &[]);
    let places: [(&str, Put); 4] = [
        ("header", |token| (String::new(), format!("Authorization: Bearer {token}\r\n"))),
        ("subprotocol", |token| (String::new(), format!("Sec-WebSocket-Protocol: bearer, {token}\r\n"))),
        ("cookie", |token| (String::new(), format!("Cookie: a=b; broker_token={token}\r\n"))),
        ("query", |token| (format!("?token={token}"), String::new())),
    ];
    let mut used = Vec::new();
    for (place, put) in &places {
        let good = token(place);
        let forged = format!("{}AAAAAAAA", &good[..good.len() - 8]);
        for (token, expected) in [(&good, "HTTP/1.1 101"), (&forged, "HTTP/1.1 401")] {
            let (query, header) = put(token);
            let answer = server.upgrade_with(&format!("/ws/news{query}"), &header);
            assert!(answer.starts_with(expected), "{place}: {answer}");
            // The answer picks `bearer` and never echoes what it announces.
            assert!(!answer.contains(&token[..20]), "{place}: {answer}");
            used.push(token.clone());
        }
    }
    for (place, put) in &places[..3] {
        let good = token(place);
        let connect = "{\"id\":2,\"connect\":{}}";
        let (_, header) = put(&good);
        let answer = server.speak_with("/connection/websocket", &header, connect);
        assert!(answer.contains("\"client\"") && !answer.contains("\"expires\""), "{place}: {answer}");
        let answer = server.speak_with("/connection/websocket", &header, "{\"id\":2,\"connect\":{\"token\":\"x\"}}");
        assert!(answer.contains("closed 3500"), "what the connect says beats the {place}: {answer}");
        used.push(good);
    }
    let in_query = server.speak(&format!("/connection/websocket?token={}", token("query")), "{\"id\":2,\"connect\":{}}");
    assert!(in_query.contains("closed 3500"), "{in_query}");
    let ticket = "A".repeat(43);
    let answer = server.upgrade(&format!("/ws/news?ticket={ticket}"));
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("the ticket is not known"), "{answer}");
    used.push(ticket);
    assert!(server.upgrade("/ws/news").starts_with("HTTP/1.1 401"));
    server.terminate();
    let log = server.started.clone() + &server.log();
    assert!(log.contains("broker started"), "{log}");
    for token in used {
        for part in token.split('.') {
            assert!(!log.contains(part), "a part of a token is in the log:\n{log}");
        }
    }
}

#[test]
fn a_ticket_of_the_server_api_opens_one_connection() {
    let server = Running::start(&(config() + "[api]\nkey = \"a1B2c3D4e5F6g7H8\"\n"), &[]);
    let ticket = |claims: &str| server.call("a1B2c3D4e5F6g7H8", "ticket", claims);
    let answer = ticket(r#"{"user":"ris1","groups":["ocs_ris"]}"#);
    let made = answer.split("\"ticket\":\"").nth(1).unwrap_or_else(|| panic!("{answer}")).split('"').next().unwrap();
    let path = format!("/ws/news?ticket={made}");
    assert!(server.upgrade(&path).starts_with("HTTP/1.1 101"));
    assert!(server.upgrade(&path).starts_with("HTTP/1.1 401"), "a ticket was taken twice");
    let refused = ticket(r#"{"user":"ris1","groups":["a b"]}"#);
    assert!(refused.contains("107") && refused.contains("groups[0]"), "{refused}");
}

#[test]
fn a_token_is_read_from_standard_input() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_broker"))
        .args(["token", "inspect", "-"])
        .current_dir(Path::new(env!("CARGO_TARGET_TMPDIR")))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(format!("{}\n", token("ris1")).as_bytes()).unwrap();
    let mut printed = String::new();
    process.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(process.wait().unwrap().success() && printed.contains("user \"ris1\""), "{printed}");
}

#[test]
fn tokens_of_public_keys_and_of_fetched_keys_are_let_in() {
    let issuer = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = issuer.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut connection in issuer.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request);
            let _ = write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{JWKS}", JWKS.len());
        }
    });
    let keys = "../../../broker-auth/tests/keys";
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(keys).join("ed25519.pem");
    let keys = format!(
        "[client.token]\npublic_keys = [\"{}\"]\n[client.token.jwks.main]\nurl = \"http://{address}/jwks\"\nissuer = \"me\"\n",
        keys.display()
    );
    let mut server = Running::start(&(keys + "[default]\nallow = [\"sub\"]\n"), &[]);
    assert!(!server.started.contains("hmac_secret"), "a secret was made beside the keys:\n{}", server.started);
    let upgrade = |token: &str| server.upgrade_with("/ws/news", &format!("Authorization: Bearer {token}\r\n"));
    let ed25519 = EncodingKey::from_ed_pem(include_bytes!("../../../broker-auth/tests/keys/ed25519.private.pem")).unwrap();
    let p256 = EncodingKey::from_ec_pem(include_bytes!("../../../broker-auth/tests/keys/p256.private.pem")).unwrap();
    let fixed = sign(Algorithm::EdDSA, &ed25519, r#"{"alg":"EdDSA"}"#, r#"{"sub":"ris1"}"#);
    let fetched = sign(Algorithm::ES256, &p256, r#"{"alg":"ES256","kid":"k1"}"#, r#"{"sub":"ris1","iss":"me"}"#);
    let of_another = sign(Algorithm::ES256, &p256, r#"{"alg":"ES256","kid":"k1"}"#, r#"{"sub":"ris1","iss":"you"}"#);
    for (token, expected) in
        [(&fixed, "HTTP/1.1 101"), (&fetched, "HTTP/1.1 101"), (&of_another, "HTTP/1.1 401"), (&token("x"), "HTTP/1.1 401")]
    {
        let answer = upgrade(token);
        assert!(answer.starts_with(expected), "{answer}");
    }
    server.terminate();
    let log = server.log();
    assert!(log.contains("es256 token (jwks)") && log.contains("eddsa token"), "{log}");
}

/// A token with exactly this header and these claims.
fn sign(algorithm: Algorithm, key: &EncodingKey, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signer = (rust_crypto::DEFAULT_PROVIDER.signer_factory)(&algorithm, key).unwrap();
    format!("{signed}.{}", BASE64.encode(signer.try_sign(signed.as_bytes()).unwrap()))
}

const JWKS: &str = include_str!("../../../broker-auth/tests/keys/p256.jwks.json");

const RSA_1024: &str = include_str!("../../../broker-auth/tests/keys/rsa1024.pem");
