//! The link and the codec through their public interface, against a real server.

mod calls;
mod codec;
mod faults;
mod greeting;
mod pushes;
mod spawners;

use std::time::Duration;

use broker_resp::{Command, DisconnectReason, Event, Events, Link, Options, Target, Value, Wait};

/// Time enough for whatever should happen; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

/// A link that is connected.
async fn linked(target: Target, options: Options) -> (Link, Events) {
    let (link, mut events) = Link::open(target, options);
    let generation = link.connected(SOON).await;
    assert_eq!(generation, Some(1), "{:?}", link.state());
    connected(&mut events).await;
    (link, events)
}

/// Options that notice silence fast, and not by mistake on a busy machine.
fn impatient() -> Options {
    let mut options = Options::default();
    options.ping_interval = Duration::from_millis(200);
    options.ping_timeout = Duration::from_millis(800);
    options
}

async fn event(events: &mut Events) -> Event {
    tokio::time::timeout(SOON, events.next()).await.expect("an event in time").expect("the link lives")
}

/// Reads events up to the next connection and answers its generation.
async fn connected(events: &mut Events) -> u64 {
    loop {
        if let Event::Connected { generation, .. } = event(events).await {
            return generation;
        }
    }
}

/// Reads events up to the end of the connection and answers why it ended.
async fn disconnected(events: &mut Events) -> DisconnectReason {
    loop {
        if let Event::Disconnected { reason, .. } = event(events).await {
            return reason;
        }
    }
}

fn command(words: &str) -> Command {
    let mut words = words.split(' ');
    // Names are part of a program; a test may keep its few for ever.
    let name = words.next().unwrap().to_owned().leak();
    Command::new(name).args(words)
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

fn text(value: impl Into<String>) -> Value {
    Value::Bulk(value.into().into())
}

fn patient() -> Wait {
    Wait::at_most(SOON).for_link()
}
