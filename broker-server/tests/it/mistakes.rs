//! Each kind of mistake in a configuration, and exactly what is said about it.

use broker_server::config::Inputs;

use crate::support::{load, shown};

#[test]
fn an_unknown_key_is_a_mistake_with_what_was_meant() {
    check(
        "[client]\nping_intervall = \"25s\"\n",
        r#"
error: unknown key `ping_intervall` in [client]
  --> broker.toml:2:1
   |
 2 | ping_intervall = "25s"
   | ^^^^^^^^^^^^^^ did you mean `ping_interval`?
"#,
    );
    check(
        "[namespaces.orders]\n# nine more lines\n\n\n\n\n\n\n\n  ping_interval = \"3s\"\n",
        r#"
error: unknown key `ping_interval` in [namespaces.orders]
  --> broker.toml:10:3
    |
 10 |   ping_interval = "3s"
    |   ^^^^^^^^^^^^^
   = `ping_interval` belongs into [client]
"#,
    );
    check(
        "[backplane]\ncolour = 1\n",
        "
error: unknown key `colour` in [backplane]
  --> broker.toml:2:1
   |
 2 | colour = 1
   | ^^^^^^
   = known here: `ca`, `durable`, `kind`, `local_when_down`, `prefix`, `publish_queue_max`, `publish_timeout`, `read_timeout`, `timeout`, `url`, `versions_max` or `write_timeout`
",
    );
    check(
        "[[routes]]\npath = \"/ws/x\"\ntopics = \"x\"\n",
        r#"
error: unknown key `topics` in [[routes]]
  --> broker.toml:3:1
   |
 3 | topics = "x"
   | ^^^^^^ did you mean `topic`?
"#,
    );
}

#[test]
fn where_redis_is_must_be_an_address_and_its_password_is_not_shown() {
    check(
        "[backplane]\nkind = \"redis\"\n",
        r#"
error: `backplane.kind` is "redis", and `backplane.url` is not set
  --> broker.toml:2:8
   |
 2 | kind = "redis"
   |        ^^^^^^^
   = add url = "redis://127.0.0.1:6379" to [backplane]
"#,
    );
    check(
        "[backplane]\nurl = \"127.0.0.1:6379\"\n",
        r#"
error: `backplane.url` must be the address of Redis, such as "redis://127.0.0.1:6379"
  --> broker.toml:2:7
   |
 2 | url = "127.0.0.1:6379"
   |       ^^^^^^^^^^^^^^^^ this has no scheme
   = write "redis://127.0.0.1:6379"; rediss:// speaks TLS, unix:// names a socket
"#,
    );
    check(
        "[backplane]\nurl = \"redis://ann:s3cret@redis/x\"\n",
        r#"
error: `backplane.url` must be the address of Redis, such as "redis://127.0.0.1:6379"
  --> broker.toml:2:7
   |
 2 | url = "redis://ann:********@redis/x"
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ `x` is no database, databases are numbers
"#,
    );
    check(
        "[backplane]\nurl = \"redis://ann:s3cret\"\n",
        r#"
error: `backplane.url` must be the address of Redis, such as "redis://127.0.0.1:6379"
  --> broker.toml:2:7
   |
 2 | url = "redis://ann:********"
   |       ^^^^^^^^^^^^^^^^^^^^^^ its port is no number
   = a password stands before the host: redis://:password@host:6379
"#,
    );
}

/// Nodes need a secret and a key that they share; with both, nothing else is to be told.
const SHARED: &str = "[client.token]\nhmac_secret = \"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6\"\n[api]\nkey = \"a1B2c3D4e5F6g7H8\"\n";

#[test]
fn what_redis_cannot_keep_is_refused() {
    check(
        &format!(
            "{SHARED}[backplane]\nurl = \"redis://127.0.0.1\"\n[namespaces.orders]\nhistory_size = 3\nmemory_max = \"1MiB\"\nhistory_ttl = \"366d\"\n"
        ),
        r#"
error: `namespaces.orders.memory_max` cannot be kept: Redis does not count bytes by namespace
  --> broker.toml:9:14
   |
 9 | memory_max = "1MiB"
   |              ^^^^^^
   = remove it; namespaces.orders.history_bytes bounds each topic, maxmemory in Redis everything together

error: `namespaces.orders.history_ttl` cannot be kept: in Redis nothing is kept longer than 365 days
  --> broker.toml:10:15
    |
 10 | history_ttl = "366d"
    |               ^^^^^^
   = write "365d" or less
"#,
    );
}

#[test]
fn settings_of_redis_that_have_no_effect_or_tell_too_much_are_warned_about() {
    let memory = "[backplane]\nkind = \"memory\"\nurl = \"redis://127.0.0.1\"\n";
    check_warnings(memory, &["`backplane.url` has no effect: `backplane.kind` is \"memory\""]);
    check_warnings(&format!("{SHARED}[backplane]\nurl = \"redis://127.0.0.1\"\n"), &[]);
    check_warnings(
        &format!("{SHARED}[backplane]\nurl = \"redis://:s3cret@redis\"\n[server]\nmemory_max = \"1GiB\"\n"),
        &["the password of Redis crosses the network in clear text", "`server.memory_max` has no effect: what is kept is kept in Redis"],
    );
    check_warnings(
        "[backplane]\nurl = \"redis://127.0.0.1\"\n",
        &[
            "`client.token.hmac_secret` is not set: each node makes its own, and refuses the tokens of the others",
            "`api.key` is not set: each node makes its own, and backends cannot know which node answers them",
        ],
    );
}

#[test]
fn an_unknown_section_is_one_mistake_whatever_it_holds() {
    check(
        "[defualt]\nallow = [\"sub\"]\nhistory_size = 3\n",
        "
error: unknown section [defualt]
  --> broker.toml:1:2
   |
 1 | [defualt]
   |  ^^^^^^^ did you mean `default`?
",
    );
    check(
        "[client.tokens]\n",
        "
error: unknown section [client.tokens]
  --> broker.toml:1:9
   |
 1 | [client.tokens]
   |         ^^^^^^ did you mean `token`?
",
    );
}

#[test]
fn a_value_of_the_wrong_kind_says_what_to_write() {
    check(
        "[client]\npong_timeout = 10\n",
        r#"
error: `client.pong_timeout` must be a duration from 100ms to 10m
  --> broker.toml:2:16
   |
 2 | pong_timeout = 10
   |                ^^ this has no unit
   = write "10s" for seconds
"#,
    );
    check(
        "[client]\nsubscriptions_max = \"128\"\n",
        r#"
error: `client.subscriptions_max` must be a whole number from 1 to 100000
  --> broker.toml:2:21
   |
 2 | subscriptions_max = "128"
   |                     ^^^^^ this is a string
   = write 128 without quotes
"#,
    );
    check(
        "[client]\nanonymous = \"yes\"\n",
        r#"
error: `client.anonymous` must be true or false
  --> broker.toml:2:13
   |
 2 | anonymous = "yes"
   |             ^^^^^ this is a string
   = write true
"#,
    );
    check(
        "[default]\nallow = \"sub\"\n",
        r#"
error: `default.allow` must be a list of "sub", "pub", "hst" and "prs"
  --> broker.toml:2:9
   |
 2 | allow = "sub"
   |         ^^^^^ this is a string
   = write ["sub"]
"#,
    );
    check(
        "[api]\nbody_max = 1.5\n",
        "
error: `api.body_max` must be a size from 1KiB to 64MiB
  --> broker.toml:2:12
   |
 2 | body_max = 1.5
   |            ^^^ this is a number with a fraction
",
    );
}

#[test]
fn a_value_out_of_its_range_names_the_range() {
    check(
        "[client]\nping_interval = \"20m\"\n",
        r#"
error: `client.ping_interval` must be a duration from 1s to 10m
  --> broker.toml:2:17
   |
 2 | ping_interval = "20m"
   |                 ^^^^^ this is 20m
"#,
    );
    check(
        "namespaces.orders.history_size = 100_001\n",
        "
error: `namespaces.orders.history_size` must be a whole number from 0 to 100000
  --> broker.toml:1:34
   |
 1 | namespaces.orders.history_size = 100_001
   |                                  ^^^^^^^ this is 100001
",
    );
    check(
        "[client]\nmessage_max = \"1GiB\"\nbacklog_max = \"1GiB\"\n",
        r#"
error: `client.message_max` must be a size from 1KiB to 64MiB
  --> broker.toml:2:15
   |
 2 | message_max = "1GiB"
   |               ^^^^^^ this is 1GiB
"#,
    );
}

#[test]
fn text_that_cannot_be_read_shows_how_it_is_written() {
    check(
        "[client]\nconnect_timeout = \"5 seconds\"\n",
        r#"
error: `client.connect_timeout` must be a duration from 100ms to 1m
  --> broker.toml:2:19
   |
 2 | connect_timeout = "5 seconds"
   |                   ^^^^^^^^^^^ this is no duration
   = write it like "25s", "500ms", "10m", "1h30m" or "7d"
"#,
    );
    check(
        "[client]\nmessage_max = \"64KB\"\n",
        r#"
error: `client.message_max` must be a size from 1KiB to 64MiB
  --> broker.toml:2:15
   |
 2 | message_max = "64KB"
   |               ^^^^^^ this is no size
   = write it like "512B", "64KiB" or "1MiB"
"#,
    );
    check(
        "[server]\nlisten = \"localhost:8000\"\n",
        r#"
error: `server.listen` must be an address and a port, such as "127.0.0.1:8000"
  --> broker.toml:2:10
   |
 2 | listen = "localhost:8000"
   |          ^^^^^^^^^^^^^^^^ this is no address with a port
   = write "127.0.0.1:8000"
"#,
    );
    check(
        "[namespaces.a]\nrecovery = \"steam\"\n",
        r#"
error: `namespaces.a.recovery` must be "stream", "cache" or "off"
  --> broker.toml:2:12
   |
 2 | recovery = "steam"
   |            ^^^^^^^ did you mean "stream"?
"#,
    );
}

#[test]
fn the_caret_is_under_the_element_of_a_list_that_is_wrong() {
    check(
        "[default]\nallow = [\"sub\", \"publish\"]\n",
        r#"
error: `default.allow` must be a list of "sub", "pub", "hst" and "prs"
  --> broker.toml:2:17
   |
 2 | allow = ["sub", "publish"]
   |                 ^^^^^^^^^ did you mean "pub"?
"#,
    );
    check(
        "[client]\nallowed_origins = [\n  \"https://ok.example\",\n  \"wss://app.example\",\n]\n",
        r#"
error: `client.allowed_origins` must be a list of origins such as "https://app.example.com" or "https://*.example.com"
  --> broker.toml:4:3
   |
 4 |   "wss://app.example",
   |   ^^^^^^^^^^^^^^^^^^^ this is the address of a socket, not of a page
   = write "https://app.example"
"#,
    );
}

#[test]
fn what_is_no_origin_says_why() {
    for (origin, why) in [
        ("app.example.com", "this has no scheme"),
        ("wss://a.example", "this is the address of a socket, not of a page"),
        ("https://a.example/x", "an origin ends after the host and port"),
        ("https://a.example:99999", "\"99999\" is no port"),
        ("https://a.*.example", "this is no host"),
        ("https://", "this is no host"),
        ("null", "every sandboxed page and local file has this origin"),
    ] {
        let report = shown(&load(&format!("[client]\nallowed_origins = [\"{origin}\"]\n"), |_| {}));
        assert!(report.contains(&format!("^ {why}\n")), "{origin}:\n{report}");
    }
    for origin in
        ["https://a.example", "http://localhost:3000", "https://*.a.example:8443", "http://[::1]:80", "*", "capacitor://localhost"]
    {
        assert!(load(&format!("[client]\nallowed_origins = [\"{origin}\"]\n"), |_| {}).report.mistakes.is_empty(), "{origin}");
    }
}

#[test]
fn what_a_later_version_brings_is_told_as_such() {
    let loaded = load("[namespaces.orders]\ndelta = [\"fossil\"]\n", |_| {});
    let messages: Vec<&str> = loaded.report.mistakes.iter().map(broker_server::config::Mistake::message).collect();
    assert_eq!(messages, ["`namespaces.orders.delta` is not in this version yet"]);
}

#[test]
fn a_secret_that_is_too_short_is_refused_with_the_reason_and_not_shown() {
    check(
        "[client.token]\nhmac_secret = \"short\"\n",
        r#"
error: `client.token.hmac_secret` must be a secret of at least 32 bytes
  --> broker.toml:2:15
   |
 2 | hmac_secret = ********
   |               ^^^^^^^^ this has 5 bytes
   = a secret shorter than its hash can be found by trying, from one token alone
     a random one: "RANDOM"
"#,
    );
}

#[test]
fn settings_that_contradict_each_other_are_mistakes() {
    check(
        "[client]\nping_interval = \"5s\"\npong_timeout = \"10s\"\n",
        r#"
error: `client.pong_timeout` (10s) must be shorter than `client.ping_interval` (5s)
  --> broker.toml:3:16
   |
 3 | pong_timeout = "10s"
   |                ^^^^^
   = a pong must be missed before the next ping goes out: lower pong_timeout or raise ping_interval
"#,
    );
    check(
        "[server]\ninternal_listen = \"127.0.0.1:8000\"\n",
        r#"
error: `server.listen` and `server.internal_listen` are both 127.0.0.1:8000
  --> broker.toml:2:19
   |
 2 | internal_listen = "127.0.0.1:8000"
   |                   ^^^^^^^^^^^^^^^^
   = give one of them another port
"#,
    );
}

#[test]
fn listening_beyond_loopback_needs_authentication_and_says_which_line() {
    check(
        "[server]\nlisten = \"0.0.0.0:8000\"\n",
        r#"
warning: 0.0.0.0:8000 speaks no TLS: tokens and data can be read and changed on their way
  --> broker.toml:2:10
   |
 2 | listen = "0.0.0.0:8000"
   |          ^^^^^^^^^^^^^^
   = set cert and key in [server.tls]; where a proxy in front ends TLS, name it in client.trusted_proxies

error: 0.0.0.0:8000 can be reached from other machines, and there is no authentication
  --> broker.toml:2:10
   |
 2 | listen = "0.0.0.0:8000"
   |          ^^^^^^^^^^^^^^
   = add to the configuration file:

         [client.token]
         hmac_secret = "RANDOM"

     or, if everybody may connect without a token:

         [client]
         anonymous = true
"#,
    );
    let secrets = "hmac_secret = \"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6\"\n[api]\nkey = \"a1B2c3D4e5F6g7H8\"\n";
    let proxied = "[client]\ntrusted_proxies = [\"10.0.0.5\"]\n";
    check(&format!("{proxied}[server]\nlisten = \"[::]:8000\"\n[client.token]\n{secrets}"), "");
}

#[test]
fn dev_mode_listens_beyond_loopback_only_when_told_twice() {
    let listen = |dev| {
        load("", move |inputs| {
            inputs.dev = dev;
            inputs.flags.push(("--listen", "server.listen", "0.0.0.0:8000".to_owned()));
        })
    };
    assert_eq!(
        shown(&listen(1)),
        "error: in dev mode anyone may publish, and 0.0.0.0:8000 can be reached from other machines\n  --> flag --listen\n   = listen on \
         127.0.0.1, or say --dev twice if you mean it\n\n"
    );
    assert!(listen(2).report.mistakes.is_empty() && listen(2).report.warnings.len() == 1);
}

#[test]
fn a_route_that_cannot_work_is_a_mistake() {
    check(
        "[[routes]]\npath = \"ws/dashboard\"\n",
        r#"
error: `routes[0].path` must be a path such as "/ws/product/{id}"
  --> broker.toml:2:8
   |
 2 | path = "ws/dashboard"
   |        ^^^^^^^^^^^^^^ this does not start with a slash
   = write "/ws/dashboard"
"#,
    );
    check(
        "[[routes]]\npath = \"/ws/x\"\ntopic = \"a b\"\n",
        r#"
error: `routes[0].topic` must be a topic such as "spc:product.{id}"
  --> broker.toml:3:9
   |
 3 | topic = "a b"
   |         ^^^^^ byte 1 of the topic is 0x20; only printable ASCII without spaces is allowed, percent-encode the rest
"#,
    );
    check(
        "[[routes]]\npath = \"/ws/{id}\"\n[[routes]]\npath = \"/ws/{name}/\"\n",
        r#"
error: two routes are in conflict at "/ws/{name}": it matches the same requests as "/ws/{id}"
  --> broker.toml:4:8
   |
 4 | path = "/ws/{name}/"
   |        ^^^^^^^^^^^^^
   = remove one of them
"#,
    );
    check(
        "[[routes]]\ntopic = \"x\"\n",
        r#"
error: `routes[0]` has no path
  --> broker.toml:2:9
   |
 2 | topic = "x"
   |         ^^^
   = add path = "/ws/..."
"#,
    );
    check(
        "[routes]\npath = \"/ws/x\"\n",
        r"
error: `routes` is a list of sections
  --> broker.toml:1:2
   |
 1 | [routes]
   |  ^^^^^^
   = write [[routes]] with two brackets, once for each
",
    );
    for (path, why) in [
        ("/api/publish", "the server answers this path itself"),
        ("/", "the server answers this path itself"),
        ("/ws/{*rest}", "a capture is one level"),
        ("/ws/{id}/{id}", "{id} stands here twice"),
        ("/ws/{id", "a `{` has no `}`"),
        ("/ws/x?y", "'?' stands in no path"),
        ("/ws//x", "two slashes follow each other"),
        ("/ws/{a}{b}", "{a} is a part of a level"),
        ("/ws/x{a}", "{a} is a part of a level"),
    ] {
        let report = shown(&load(&format!("[[routes]]\npath = \"{path}\"\n"), |_| {}));
        assert!(report.contains(why), "{path}:\n{report}");
    }
}

#[test]
fn what_is_no_toml_is_told_together_with_the_rest() {
    check(
        "[client]\nping_intervall = \"25s\"\nanonymous = yes\n[client]\n",
        r#"
error: unknown key `ping_intervall` in [client]
  --> broker.toml:2:1
   |
 2 | ping_intervall = "25s"
   | ^^^^^^^^^^^^^^ did you mean `ping_interval`?

error: this is no TOML: string values must be quoted, expected literal string
  --> broker.toml:3:13
   |
 3 | anonymous = yes
   |             ^^^
   = strings stand in double quotes, lists in brackets, one key = value on each line

error: `client.anonymous` must be true or false
  --> broker.toml:3:13
   |
 3 | anonymous = yes
   |             ^^^ this is a string
   = write true

error: this is no TOML: duplicate key
  --> broker.toml:4:2
   |
 4 | [client]
   |  ^^^^^^
   = it stands in the file twice: make one of the two
"#,
    );
    check(
        "client = 5\nnamespaces.orders = 3\n",
        "
error: `client` must be a section
  --> broker.toml:1:10
   |
 1 | client = 5
   |          ^ this is a whole number
   = write [client] on a line of its own, and its keys below

error: `namespaces.orders` must be a section
  --> broker.toml:2:21
   |
 2 | namespaces.orders = 3
   |                     ^ this is a whole number
   = write [namespaces.orders] on a line of its own, and its keys below
",
    );
}

#[test]
fn mistakes_outside_the_file_name_the_variable_or_the_flag() {
    let loaded = load("", |inputs: &mut Inputs| {
        for (name, value) in [
            ("BROKER_CLIENT__PING_INTERVAL", "3x"),
            ("BROKER_CLIENT__PINGINTERVAL", "3s"),
            ("BROKER_CLIENT_MESSAGE_MAX", "1MiB"),
            ("BROKER_ROUTES__0__PATH", "/ws/x"),
        ] {
            inputs.variables.push((name.to_owned(), value.to_owned()));
        }
        inputs.flags.push(("--listen", "server.listen", "8000".to_owned()));
    });
    assert_eq!(
        shown(&loaded),
        r#"warning: BROKER_CLIENT_MESSAGE_MAX is not read
  --> environment variable BROKER_CLIENT_MESSAGE_MAX
   = did you mean BROKER_CLIENT__MESSAGE_MAX?

error: unknown key `pinginterval` in [client]
  --> environment variable BROKER_CLIENT__PINGINTERVAL
   = did you mean BROKER_CLIENT__PING_INTERVAL?

error: `client.ping_interval` must be a duration from 1s to 10m
  --> environment variable BROKER_CLIENT__PING_INTERVAL: this is no duration
   = write it like "25s", "500ms", "10m", "1h30m" or "7d"

error: unknown section [routes.0]
  --> environment variable BROKER_ROUTES__0__PATH
   = routes are set in the file only

error: `server.listen` must be an address and a port, such as "127.0.0.1:8000"
  --> flag --listen: this is no address with a port
   = write it like "127.0.0.1:8000" or "[::1]:8000"; port 0 takes a free one

"#
    );
}

#[test]
fn insecure_combinations_are_warnings() {
    let open = "[client]\nanonymous = true\n";
    check_warnings(
        &format!("{open}[namespaces.chat]\nallow = [\"sub\", \"pub\"]\nallow_anonymous = true\n"),
        &["anyone may publish to topics of chat without a token"],
    );
    check_warnings("[namespaces.chat]\nallow = [\"sub\"]\nallow_anonymous = true\n", &["`namespaces.chat.allow_anonymous` has no effect"]);
    check_warnings(
        "[client]\nallowed_origins = [\"*\"]\n",
        &["`*` in `client.allowed_origins` lets every web page connect in its visitor's name"],
    );
    check_warnings(
        "[client.token]\nhmac_secret = \"00000000000000000000000000000000\"\n",
        &["`client.token.hmac_secret` is weak: it has fewer than 8 different characters"],
    );
    check_warnings("[api]\nkey = \"my-secret-key-123\"\n", &["`api.key` is weak: it contains a word that everybody tries first"]);
    check_warnings("[namespaces.group]\nallow = [\"sub\"]\n", &["whoever is connected may listen to every group's topic"]);
    check_warnings("[default]\nrecovery = \"cache\"\n", &["`default.recovery` has no effect: topics without a namespace keep no history"]);
    check_warnings("[server]\ninternal_listen = \"0.0.0.0:8001\"\n", &["/metrics can be read by whoever reaches 0.0.0.0:8001"]);
    check_warnings(
        &format!("{open}trusted_proxies = [\"10.0.0.5\"]\n[server]\nlisten = \"0.0.0.0:8000\"\n"),
        &["`api.key` is not set: a random key is made at each start, and backends must be told"],
    );
    check_warnings(
        "[[routes]]\npath = \"/ws/{id}\"\ntopic = \"spc:{idd}\"\n[namespaces.spd]\n",
        &[
            "{idd} is not in the path, so it is read from the query",
            "there is no namespace \"spc\": every connection to this route is refused",
        ],
    );
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let report = shown(&load(text, |_| {}));
    assert_eq!(report.trim(), expected.trim());
}

#[track_caller]
fn check_warnings(text: &str, expected: &[&str]) {
    let loaded = load(text, |_| {});
    assert!(loaded.report.mistakes.is_empty(), "{}", loaded.report);
    assert_eq!(loaded.report.warnings.iter().map(broker_server::config::Mistake::message).collect::<Vec<_>>(), expected);
}
