//! The real binary while it serves: addresses, answers, clients, the end.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{broker, text};

const DEV: &[&str] = &["--dev"];
const KEY: &str = "a1B2c3D4e5F6g7H8";

#[test]
fn dev_mode_serves_the_page_the_api_and_sockets_and_says_where() {
    let server = Running::start("", DEV);
    assert!(get(server.listen, "/health").starts_with("HTTP/1.1 200"));
    assert!(get(server.listen, "/ready").starts_with("HTTP/1.1 200"));
    let page = get(server.listen, "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("etag: \"") && page.contains("<title>Broker</title>"), "{page}");
    assert!(server.upgrade("/ws/news").starts_with("HTTP/1.1 101"));
    assert!(get(server.listen, "/ws/news").starts_with("HTTP/1.1 426"));
    assert!(server.publish("dev", "news").contains("{\"result\":{\"offset\":1,"));
    for line in ["socket     ws://127.0.0.1:", "publish    curl http://127.0.0.1:", "token      eyJ"] {
        assert!(server.started.contains(line), "{line} is missing in\n{}", server.started);
    }
}

#[test]
fn the_starter_file_works_unedited_with_the_quick_start() {
    let file = broker_server::config::starter().unwrap();
    let server = Running::start(&file, &[]);
    assert!(server.upgrade("/ws/news").starts_with("HTTP/1.1 101"));
    let key = file.split("\nkey = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(server.publish(key, "news").contains("{\"result\":{\"offset\":1,"));
    assert_eq!(text(&server.run(&["sub", "news", "--since", "0", "--count", "1"]).stdout), "1\n");
    let refused = server.run(&["pub", "news", "1"]);
    assert!(text(&refused.stderr).contains("not allowed"), "{}", text(&refused.stderr));
}

#[test]
fn metrics_are_on_the_internal_listener_only() {
    let server = Running::start("", DEV);
    server.publish("dev", "news");
    let metrics = get(server.internal, "/metrics");
    assert!(metrics.contains("\nbroker_publishes_total 1\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(get(server.listen, "/metrics").starts_with("HTTP/1.1 404"));
    assert!(get(server.internal, "/").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_node_that_is_full_of_clients_still_takes_publishes_and_is_well() {
    let server = Running::start("[client]\nconnections_max = 1\n", DEV);
    let mut client = TcpStream::connect(server.listen).unwrap();
    let upgrade = "GET /ws/news HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(upgrade.as_bytes()).unwrap();
    let mut status = String::new();
    BufReader::new(client.try_clone().unwrap()).read_line(&mut status).unwrap();
    assert!(status.starts_with("HTTP/1.1 101"), "{status}");
    let refused = server.upgrade("/ws/news");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("\"unavailable\""), "{refused}");
    assert!(get(server.listen, "/health").starts_with("HTTP/1.1 200"));
    assert!(server.publish("dev", "news").contains("{\"result\":{\"offset\":1,"));
}

#[test]
fn outside_dev_mode_there_is_no_page_and_secrets_are_random_and_told_once() {
    let (one, two) = (Running::start("", &[]), Running::start("", &[]));
    assert!(get(one.listen, "/").starts_with("HTTP/1.1 404"));
    let key = |server: &Running| server.started.split("api.key = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_ne!(key(&one), key(&two));
    assert!(one.publish(&key(&one), "news").contains("{\"result\":{"));
    assert!(one.publish(&key(&two), "news").starts_with("HTTP/1.1 401"));
    assert!(one.publish("dev", "news").starts_with("HTTP/1.1 401"));
}

#[test]
fn the_client_for_browsers_is_served_in_every_mode_and_to_allowed_pages() {
    let server = Running::start("[client]\nallowed_origins = [\"https://app.example.com\"]\n", &[]);
    let module = get(server.listen, "/broker.js");
    assert!(module.starts_with("HTTP/1.1 200") && module.contains("content-type: text/javascript"), "{module}");
    assert!(module.contains("export const connect") && module.contains("cache-control: no-cache"), "{module}");
    assert!(get(server.listen, "/broker.d.ts").contains("export declare function connect"));
    let tag = module.split("etag: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let with = |header: String| ask(server.listen, &format!("GET /broker.js HTTP/1.1\r\nHost: x\r\n{header}\r\nConnection: close\r\n\r\n"));
    assert!(with(format!("If-None-Match: {tag}")).starts_with("HTTP/1.1 304"));
    let allowed = with("Origin: https://app.example.com".to_owned());
    assert!(allowed.contains("access-control-allow-origin: https://app.example.com") && allowed.contains("vary: Origin"), "{allowed}");
    assert!(!with("Origin: https://other.example.com".to_owned()).contains("access-control-allow-origin"));
}

#[test]
fn a_configured_secret_is_never_printed() {
    let secret = "hunter2-a1B2c3D4e5F6g7H8i9J0k1L2m3N4";
    let mut server = Running::start(&format!("[client.token]\nhmac_secret = \"{secret}\"\n[api]\nkey = \"{secret}\"\n"), &[]);
    assert!(server.publish(secret, "news").contains("{\"result\":{"));
    server.terminate();
    let printed = server.started.clone() + &server.log();
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn what_pub_publishes_reaches_sub() {
    let server = Running::start("", DEV);
    let mut listener = server.sub(&["news", "--json", "--count", "2"]);
    wait_for(&mut listener, "news: subscribed");
    assert_eq!(server.run(&["pub", "news", "{\"n\":1}"]).status.code(), Some(0));
    server.publish("dev", "news");
    let output = listener.process.wait_with_output().unwrap();
    let lines = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(lines.contains("\"topic\":\"news\"") && lines.contains("\"data\":{\"n\":1}") && lines.lines().count() == 2, "{lines}");
    let history = text(&server.run(&["sub", "news", "--since", "0", "--count", "2"]).stdout);
    assert_eq!(history, "{\"n\":1}\n1\n");
}

#[test]
fn without_a_token_nobody_gets_in_and_with_one_the_rights_hold() {
    let secret = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6";
    let server = Running::start(&format!("[client.token]\nhmac_secret = \"{secret}\"\n[default]\nallow = [\"pub\"]\n"), &[]);
    let refused = server.run(&["pub", "news", "1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("refused the connection"), "{}", text(&refused.stderr));
    let tokens = broker_auth::HmacTokens::new(secret, broker_auth::TokenOptions::default()).unwrap();
    let token = tokens.create(&broker_auth::Claims::user("ris1"));
    assert_eq!(server.run(&["pub", "news", "1", "--token", &token]).status.code(), Some(0));
    let refused = server.run(&["sub", "news", "--token", &token]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("news: refused: "), "{}", text(&refused.stderr));
}

#[test]
fn configured_routes_are_served() {
    let routes = "[[routes]]\npath = \"/ws/spc/product/{id}\"\ntopic = \"spc:product.{id}\"\n[[routes]]\npath = \"/ws/spc/product/all\"\ntopic = \
                  \"all\"\n[[routes]]\npath = \"/ws/chat\"\ntopic = \"chat:{sessionId}\"\n";
    let server = Running::start(routes, DEV);
    assert!(server.upgrade("/ws/spc/product/7/").starts_with("HTTP/1.1 101"));
    assert!(server.upgrade("/ws/spc/product/all").starts_with("HTTP/1.1 101"));
    assert!(server.upgrade("/ws/chat?sessionId=4").starts_with("HTTP/1.1 101"));
    let missing = server.upgrade("/ws/chat");
    assert!(missing.starts_with("HTTP/1.1 400") && missing.contains("sessionId"), "{missing}");
    let unknown = server.upgrade("/wss/spc/product/7");
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("did you mean"), "{unknown}");
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = TempDir::new().unwrap();
    let output = broker(directory.path(), &["--listen", &address, "--internal-listen", "127.0.0.1:0"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains(&format!("error: cannot listen on {address}")) && error.contains("--listen"), "{error}");
}

#[cfg(unix)]
#[test]
fn sigterm_sends_clients_away_with_3001_and_ends_with_0() {
    let mut server = Running::start(&format!("[api]\nkey = \"{KEY}\"\n"), DEV);
    let mut listener = server.sub(&["news"]);
    wait_for(&mut listener, "news: subscribed");
    assert_eq!(server.terminate(), Some(0));
    let told = wait_for(&mut listener, "3001");
    // The pause is a matter of chance, and may be none.
    assert!(told.contains("reconnecting"), "{told}");
    listener.process.kill().unwrap();
    listener.process.wait().unwrap();
    let log = server.log();
    assert!(log.contains("\"cause\":\"shutdown\"") && log.contains("\"message\":\"stopped\""), "{log}");
}

#[test]
fn pages_of_configured_origins_may_read_the_api_and_others_may_not() {
    let server = Running::start("[client]\nallowed_origins = [\"https://app.example.com\"]\n", DEV);
    let preflight = |origin: &str| {
        let head = format!("OPTIONS /api/publish HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
        ask(server.listen, &format!("{head}Connection: close\r\n\r\n"))
    };
    for origin in ["https://app.example.com", "http://localhost:5173"] {
        assert!(preflight(origin).contains(&format!("access-control-allow-origin: {origin}\r\n")), "{origin}");
    }
    let foreign = preflight("https://evil.example");
    assert!(!foreign.contains("access-control-allow-origin"), "{foreign}");
}

#[test]
fn a_refused_page_is_logged_once_with_the_setting_that_would_let_it_in() {
    let server = Running::start("", DEV);
    let upgrade = |origin: &str| {
        let head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        ask(server.listen, &format!("GET /ws/news HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n{head}\r\n\r\n"))
    };
    for origin in ["https://app.example.com", "https://app.example.com", "https://other.example.com", "null"] {
        assert!(upgrade(origin).starts_with("HTTP/1.1 403 "), "{origin}");
    }
    let log = server.log();
    for hint in [
        r#"add \"https://app.example.com\" to client.allowed_origins"#,
        r#"add \"https://other.example.com\" to client.allowed_origins"#,
        "serve the page over HTTP",
    ] {
        assert_eq!(log.matches(hint).count(), 1, "{hint}: {log}");
    }
}

#[test]
fn whoever_connects_too_often_is_refused_and_the_log_names_the_setting() {
    let config = "[client]\ntrusted_proxies = [\"127.0.0.1\"]\n[client.rate]\nconnects_per_address = \"1/h\"\nconnects_burst = 1\n";
    let server = Running::start(config, DEV);
    let upgrade = || {
        let head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let mut stream = connect(server.listen);
        let request = format!("GET /ws/news HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n{head}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 1024];
        let len = stream.read(&mut answer).unwrap();
        text(&answer[..len])
    };
    assert!(upgrade().starts_with("HTTP/1.1 101"));
    let refused = upgrade();
    assert!(refused.starts_with("HTTP/1.1 429") && refused.to_ascii_lowercase().contains("retry-after: 3600"), "{refused}");
    let metrics = get(server.internal, "/metrics");
    assert!(metrics.contains("\nbroker_connections_turned_away_total{cause=\"rate\"} 1\n"), "{metrics}");
    let log = server.log();
    assert!(log.contains("over client.rate.connects_per_address") && log.contains("\"client\":\"203.0.113.7\""), "{log}");
}

/// A broker that serves on free ports until it is dropped.
pub(crate) struct Running {
    process: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) internal: SocketAddr,
    /// The start block.
    pub(crate) started: String,
    directory: TempDir,
}

impl Running {
    pub(crate) fn start(config: &str, arguments: &[&str]) -> Self {
        Self::start_with(config, arguments, &[])
    }

    /// The same, with an environment of these variables.
    pub(crate) fn start_with(config: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("broker.toml"), config).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_broker"))
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"])
            .current_dir(directory.path())
            .env_clear()
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut started = String::new();
        while !started.contains("\nready; ") {
            let line = lines.next().unwrap_or_else(|| panic!("the start block ends early:\n{started}"));
            started += &(line + "\n");
        }
        let address = |name: &str| {
            let rest = started.split(name).nth(1).unwrap_or_else(|| panic!("no {name} in\n{started}"));
            rest.split("://").nth(1).unwrap().split(['\n', '/']).next().unwrap().parse().unwrap()
        };
        let (listen, internal) = (address("listen  "), address("internal  "));
        Self { process, listen, internal, started, directory }
    }

    pub(crate) fn publish(&self, key: &str, topic: &str) -> String {
        self.call(key, "publish", &format!("{{\"channel\":\"{topic}\",\"data\":1}}"))
    }

    /// Calls a method of the server API.
    pub(crate) fn call(&self, key: &str, method: &str, body: &str) -> String {
        let head = format!(
            "POST /api/{method} HTTP/1.1\r\nHost: {}\r\nX-API-Key: {key}\r\nConnection: close\r\nContent-Length: {}",
            self.listen,
            body.len()
        );
        ask(self.listen, &format!("{head}\r\n\r\n{body}"))
    }

    /// The head of the answer to a WebSocket handshake.
    pub(crate) fn upgrade(&self, path: &str) -> String {
        self.upgrade_with(path, "")
    }

    /// The same with headers of its own, each with its line end.
    pub(crate) fn upgrade_with(&self, path: &str, headers: &str) -> String {
        let head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let mut stream = connect(self.listen);
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}{head}\r\n\r\n", self.listen).as_bytes()).unwrap();
        let mut answer = [0; 1024];
        let len = stream.read(&mut answer).unwrap();
        text(&answer[..len])
    }

    /// What is answered to this message over a WebSocket, up to the first answer to its last command.
    pub(crate) fn speak(&self, path: &str, message: &str) -> String {
        self.speak_with(path, "", message)
    }

    /// The same with headers of its own, each with its line end.
    pub(crate) fn speak_with(&self, path: &str, headers: &str, message: &str) -> String {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
        let mut request = format!("ws://{}{path}", self.listen).into_client_request().unwrap();
        for (name, value) in headers.lines().filter_map(|line| line.split_once(": ")) {
            request.headers_mut().insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let (mut socket, _) = tokio_tungstenite::tungstenite::client(request, connect(self.listen)).unwrap();
        socket.send(message.into()).unwrap();
        let mut heard = String::new();
        while !heard.contains("\"id\":2") {
            match socket.read().unwrap() {
                tokio_tungstenite::tungstenite::Message::Close(Some(close)) => return format!("{heard}closed {}", close.code),
                message => heard += message.to_text().unwrap(),
            }
        }
        heard
    }

    /// Runs a command of the binary against this server.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        broker(self.directory.path(), arguments, &[("BROKER_URL", &format!("ws://{}", self.listen))])
    }

    fn sub(&self, arguments: &[&str]) -> Listener {
        let mut process = Command::new(env!("CARGO_BIN_EXE_broker"))
            .arg("sub")
            .args(arguments)
            .env_clear()
            .env("BROKER_URL", format!("ws://{}", self.listen))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let status = BufReader::new(process.stderr.take().unwrap());
        Listener { process, status }
    }

    /// Asks the process to end, and gives its exit code.
    #[cfg(unix)]
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        use rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.process.wait().unwrap().code()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A `broker sub` that runs.
struct Listener {
    process: Child,
    status: BufReader<ChildStderr>,
}

/// Reads status lines up to one that holds this text.
fn wait_for(listener: &mut Listener, wanted: &str) -> String {
    let mut line = String::new();
    let mut seen = String::new();
    while listener.status.read_line(&mut line).unwrap() > 0 {
        if line.contains(wanted) {
            return line;
        }
        seen += &std::mem::take(&mut line);
    }
    panic!("no {wanted:?} in\n{seen}");
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// The answer to a request whose connection ends with it.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
