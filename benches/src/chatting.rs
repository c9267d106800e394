//! The chat of the examples under load: every client sends its messages one after the other, and checks that it hears everybody's, each once and in
//! order; then the database is asked whether it has them, each once and in order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{http, process::Server, sockets::Sockets};

/// Silence that ends the bench.
const SILENCE: Duration = Duration::from_secs(20);
/// Time that ends the bench.
const TIME_MAX: Duration = Duration::from_secs(300);
/// Messages that the database is asked for at once.
const PAGE: u64 = 200;

/// How much is said by how many.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Clients; each a user of its own, with one socket.
    pub(crate) clients: usize,
    /// Messages of each.
    pub(crate) each: u32,
    /// Sessions that the clients are spread over.
    pub(crate) sessions: usize,
}

/// A client, and what it knows.
struct Client {
    session: usize,
    token: String,
    /// Messages that the server has answered with an id.
    confirmed: u32,
    sent_at: Vec<Instant>,
    /// Sent again then, because it came too fast.
    again_at: Option<Instant>,
    /// The id of the last message that was heard.
    top: u64,
    /// Of each sender, how many messages were heard.
    heard: HashMap<u32, u32>,
}

/// What matters in a frame.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    id: Option<u64>,
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(rename = "clientId", borrow)]
    client_id: Option<Cow<'a, str>>,
    repeated: Option<bool>,
    retry_after_ms: Option<u64>,
}

/// What came out.
#[derive(Default)]
struct Outcome {
    heard: u64,
    too_fast: u64,
    latencies: Vec<Duration>,
}

/// Runs the load against the chat's own server, and prints what came out. Fails where anything is lost, doubled or out of order.
pub(crate) fn run(start: impl FnOnce() -> Result<Server>, load: Load) -> Result<()> {
    ensure!(
        load.sessions > 0 && load.clients.is_multiple_of(load.sessions),
        "{} clients cannot be spread over {} sessions evenly",
        load.clients,
        load.sessions
    );
    let server = start()?;
    let (sessions, mut clients) = prepare(server.address, load)?;
    let mut sockets = Sockets::new()?;
    for client in &clients {
        sockets.open(server.address, &format!("/ws/chat?sessionId={}&token={}", sessions[client.session], client.token))?;
    }
    let cpu_before = server.cpu_ns()?;
    let started = Instant::now();
    let outcome = talk(&mut sockets, &mut clients, load)?;
    let took = started.elapsed();
    let cpu = Duration::from_nanos(server.cpu_ns()? - cpu_before);
    for (place, session) in sessions.iter().enumerate() {
        check_stored(server.address, session, &clients[place].token, load).with_context(|| format!("session {place}"))?;
    }
    print(load, took, cpu, outcome);
    Ok(())
}

/// Signs everybody up, and into their sessions.
fn prepare(address: SocketAddr, load: Load) -> Result<(Vec<String>, Vec<Client>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"));
    let (mut sessions, mut invites, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    for place in 0..load.clients {
        let account = json!({ "name": format!("client {place}"), "password": "of the bench" });
        let token = text(&http::call(address, "POST", "/api/signup", "", &account)?["token"])?;
        // The first ones make the sessions, the others join them in turn.
        if place < load.sessions {
            let session = http::call(address, "POST", "/api/sessions", &token, &json!({ "title": format!("session {place}") }))?;
            sessions.push(text(&session["id"])?);
            invites.push(text(&session["invite"])?);
        } else {
            http::call(address, "POST", &format!("/api/invites/{}", invites[place % load.sessions]), &token, &Value::Null)?;
        }
        let (session, sent_at) = (place % load.sessions, Vec::with_capacity(load.each as usize));
        clients.push(Client { session, token, confirmed: 0, sent_at, again_at: None, top: 0, heard: HashMap::new() });
    }
    Ok((sessions, clients))
}

/// Everybody says what they have to say, and hears what all in their session say.
fn talk(sockets: &mut Sockets, clients: &mut [Client], load: Load) -> Result<Outcome> {
    let members = load.clients / load.sessions;
    let expected = load.clients as u64 * u64::from(load.each) * members as u64;
    let mut outcome = Outcome::default();
    let mut to_send: Vec<usize> = (0..clients.len()).collect();
    let (started, mut heard_at, mut heard_before) = (Instant::now(), Instant::now(), 0);
    sockets.hear_rests(&mut |place, frame| clients[place].take(place, frame, load, &mut outcome).map(drop))?;
    while outcome.heard < expected || clients.iter().any(|client| client.confirmed < load.each) {
        for place in to_send.drain(..) {
            let client = &mut clients[place];
            let number = client.confirmed;
            if client.sent_at.len() == number as usize {
                client.sent_at.push(Instant::now());
            }
            sockets.send(place, &format!(r#"{{"type":"message","content":"{place} {number}","clientId":"{number}"}}"#))?;
        }
        sockets.hear(Duration::from_millis(5), &mut |place, frame| {
            if clients[place].take(place, frame, load, &mut outcome)? {
                to_send.push(place);
            }
            Ok(())
        })?;
        for (place, client) in clients.iter_mut().enumerate() {
            if client.again_at.is_some_and(|at| at <= Instant::now()) {
                client.again_at = None;
                to_send.push(place);
            }
        }
        if outcome.heard > heard_before {
            (heard_at, heard_before) = (Instant::now(), outcome.heard);
        }
        ensure!(heard_at.elapsed() < SILENCE, "{} of {expected} deliveries are missing", expected - outcome.heard);
        ensure!(started.elapsed() < TIME_MAX, "not done after {TIME_MAX:?}: {} of {expected} deliveries came", outcome.heard);
    }
    Ok(outcome)
}

impl Client {
    /// Takes one frame. Whether the next message can be sent.
    fn take(&mut self, place: usize, frame: &[u8], load: Load, outcome: &mut Outcome) -> Result<bool> {
        let unknown = || format!("client {place} was told {}", String::from_utf8_lossy(frame));
        let told: Told<'_> = serde_json::from_slice(frame).with_context(unknown)?;
        match told.kind.as_deref() {
            Some("message") => {
                let (id, content) = (told.id.with_context(unknown)?, told.content.with_context(unknown)?);
                ensure!(id == self.top + 1, "client {place} heard message {id} behind message {}", self.top);
                self.top = id;
                let (sender, number) = content.split_once(' ').with_context(unknown)?;
                let (sender, number): (u32, u32) = (sender.parse()?, number.parse()?);
                let next = self.heard.entry(sender).or_default();
                ensure!(number == *next, "client {place} heard number {number} of client {sender} in the place of number {next}");
                *next += 1;
                outcome.heard += 1;
                if sender as usize == place {
                    outcome.latencies.push(self.sent_at[number as usize].elapsed());
                }
                Ok(false)
            }
            Some("sent") => {
                let number = self.confirmed.to_string();
                ensure!(told.client_id.as_deref() == Some(&number) && told.repeated == Some(false), unknown());
                self.confirmed += 1;
                Ok(self.confirmed < load.each)
            }
            Some("history") => Ok(false),
            _ => {
                // More often than one client may: it comes again when it is told to.
                let Some(after) = told.retry_after_ms else { bail!(unknown()) };
                outcome.too_fast += 1;
                self.again_at = Some(Instant::now() + Duration::from_millis(after));
                Ok(false)
            }
        }
    }
}

/// Everything is in the database, once, and in each client's order.
fn check_stored(address: SocketAddr, session: &str, token: &str, load: Load) -> Result<()> {
    let members = (load.clients / load.sessions) as u64;
    let (mut top, mut next) = (0, HashMap::<String, u64>::new());
    loop {
        let page = http::call(address, "GET", &format!("/api/sessions/{session}/messages?after={top}&limit={PAGE}"), token, &Value::Null)?;
        let messages = page["messages"].as_array().context("no messages are answered")?;
        if messages.is_empty() {
            break;
        }
        for message in messages {
            ensure!(message["id"] == top + 1, "message {} is stored behind message {top}", message["id"]);
            top += 1;
            let (sender, number) =
                message["content"].as_str().and_then(|content| content.split_once(' ')).context("a message is stored broken")?;
            let expected = next.entry(sender.to_owned()).or_default();
            ensure!(number == expected.to_string(), "number {number} of client {sender} is stored in the place of number {expected}");
            *expected += 1;
        }
    }
    ensure!(top == members * u64::from(load.each), "{top} messages are stored of {}", members * u64::from(load.each));
    Ok(())
}

fn print(load: Load, took: Duration, cpu: Duration, mut outcome: Outcome) {
    let Load { clients, each, sessions } = load;
    let messages = clients as u64 * u64::from(each);
    outcome.latencies.sort_unstable();
    let percentile = |percent: usize| outcome.latencies[(outcome.latencies.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!(
        "\n# Chat: {clients} clients in {sessions} session{}, {each} messages each, stored in SQLite\n",
        if sessions == 1 { "" } else { "s" }
    );
    println!(
        "| stored | heard | lost | doubled | out of order | time | messages a second | from sending to hearing one's own, p50, p99 | CPU of the server | too fast, sent again |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {messages} | {} | 0 | 0 | 0 | {:.1} s | {:.0} | {:.0} ms, {:.0} ms | {:.1} s | {} |",
        outcome.heard,
        took.as_secs_f64(),
        messages as f64 / took.as_secs_f64(),
        percentile(50),
        percentile(99),
        cpu.as_secs_f64(),
        outcome.too_fast
    );
}
