//! Clients that do too much: refused with the time to wait, closed only when they go on and on, and nobody else's trouble.

use std::time::Duration;

use broker_core::{Command, CommandId, EngineBuilder, Identity, Payload, Rate, Rates, Refusal, Request, Subscribe, testing::Client};

use crate::{
    delivering::{open_engine, topic},
    except::{connect, engine_with_users},
    identity::authenticate,
};

const SECOND: Duration = Duration::from_secs(1);

fn with_rates(engine: EngineBuilder, set: impl FnOnce(&mut Rates)) -> EngineBuilder {
    engine.with_settings(|settings| {
        settings.ping_interval = Duration::from_secs(3600);
        settings.rates = Rates::OFF;
        set(&mut settings.rates);
    })
}

fn ping() -> Request {
    Request::Ping { bare: false }
}

/// Lines that are there, by their beginnings.
fn count(client: &mut Client, beginning: &str) -> usize {
    std::iter::from_fn(|| client.try_next().filter(|line| line != "finished")).filter(|line| line.starts_with(beginning)).count()
}

async fn settled() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_over_a_rate_is_refused_and_comes_back_with_time() {
    let set = |rates: &mut Rates| rates.session.commands = Some(Rate::per_second(10).burst(3));
    let engine = with_rates(open_engine(), set).build().unwrap();
    let mut client = Client::connect(&engine).await;
    let mut other = Client::connect(&engine).await;
    client.send_all((0..5).map(|_| ping()));
    assert_eq!(client.take(3).await, ["pong", "pong", "pong"]);
    let refused = "refused TooManyRequests: this session is over its rate of commands; the command was not executed";
    assert_eq!(client.take(2).await, [refused, refused]);
    other.send(ping());
    assert_eq!(other.next().await, "pong", "another session has its own");
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.send_all([ping(), ping()]);
    assert_eq!(client.take(2).await, ["pong", refused]);
    tokio::time::sleep(SECOND).await;
    client.send_all((0..5).map(|_| ping()));
    assert_eq!(client.take(4).await, ["pong", "pong", "pong", refused], "not more than the burst comes back");
}

#[tokio::test(start_paused = true)]
async fn publishes_and_subscribes_have_rates_of_their_own_and_are_not_executed_over_them() {
    let set = |rates: &mut Rates| {
        rates.session.publishes = Some(Rate::per_second(1).burst(2));
        rates.session.subscribes = Some(Rate::per_second(1));
    };
    let engine = with_rates(open_engine(), set).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.send_all((1..=3).map(|n| Request::Publish {
        topic: topic("quiet:a"),
        data: Payload::json(n.to_string()),
        key: None,
        idempotency_key: None,
        removed: false,
    }));
    settled().await;
    assert_eq!(count(&mut client, "published"), 2);
    assert_eq!(engine.history(&topic("quiet:a"), broker_core::HistoryQuery::default()).await.unwrap().position.offset, 2);
    client.send_all(["a", "b"].map(|name| Request::Subscribe(Subscribe::new(topic(&format!("plain:{name}"))))));
    settled().await;
    assert_eq!(count(&mut client, "subscribed"), 1);
    assert_eq!(engine.stats().subscriptions.value(), 1);
    client.send(ping());
    assert_eq!(client.next().await, "pong");
}

#[tokio::test(start_paused = true)]
async fn sessions_of_a_user_share_the_users_rate_and_anonymous_ones_none() {
    let set = |rates: &mut Rates| rates.user.commands = Some(Rate::per_second(1).burst(4));
    let engine = with_rates(engine_with_users(), set).build().unwrap();
    let mut tabs = [connect(&engine, "ann").await, connect(&engine, "ann").await];
    let mut bob = connect(&engine, "bob").await;
    let mut pongs = 0;
    for client in &mut tabs {
        client.send_all((0..3).map(|_| ping()));
        settled().await;
        pongs += count(client, "pong");
    }
    assert_eq!(pongs, 4);
    // A new connection does not help, also after the others have gone.
    drop(tabs);
    let mut again = connect(&engine, "ann").await;
    again.send(ping());
    assert!(again.next().await.starts_with("refused TooManyRequests: this user is over"));
    bob.send(ping());
    assert_eq!(bob.next().await, "pong");
    authenticate(&bob, "ann");
    settled().await;
    bob.send(ping());
    settled().await;
    assert_eq!(count(&mut bob, "refused TooManyRequests"), 1, "it is another user's session");

    let engine = with_rates(open_engine(), set).build().unwrap();
    let mut anonymous = Client::connect(&engine).await;
    anonymous.send_all((0..20).map(|_| ping()));
    settled().await;
    assert_eq!(count(&mut anonymous, "pong"), 20);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_by_read_and_one_large_read_passes() {
    let set = |rates: &mut Rates| rates.session.bytes = Some(Rate::per_second(1000).burst(2000));
    let engine = with_rates(open_engine(), set).build().unwrap();
    let mut client = Client::connect(&engine).await;
    let read = |client: &mut Client, bytes| {
        client.connection().post(vec![Command { id: CommandId::Number(1), request: ping() }], bytes);
    };
    read(&mut client, 5000);
    assert_eq!(client.next().await, "pong");
    read(&mut client, 1);
    assert!(client.next().await.starts_with("refused TooManyRequests"));
    tokio::time::sleep(SECOND * 4).await;
    read(&mut client, 1);
    assert_eq!(client.next().await, "pong");
}

#[tokio::test(start_paused = true)]
async fn who_makes_too_many_errors_must_rest() {
    let set = |rates: &mut Rates| rates.session.errors = Some(Rate::per_second(1).burst(2));
    let engine = with_rates(open_engine(), set).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.send(ping());
    assert_eq!(client.next().await, "pong");
    for _ in 0..2 {
        client.send(Request::Call { method: "none".into(), data: Payload::json("1") });
        assert!(client.next().await.starts_with("refused NotAvailable"));
    }
    client.send(ping());
    assert!(client.next().await.starts_with("refused TooManyRequests: this session is over its rate of errors"));
    tokio::time::sleep(SECOND).await;
    client.send(ping());
    assert_eq!(client.next().await, "pong");
}

#[tokio::test(start_paused = true)]
async fn one_great_burst_closes_nobody_but_going_on_for_half_a_minute_does() {
    let set = |rates: &mut Rates| rates.session.commands = Some(Rate::per_second(1));
    let engine = with_rates(open_engine(), set).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.send_all((0..1000).map(|_| ping()));
    settled().await;
    assert_eq!(count(&mut client, "refused"), 999);
    for _ in 0..29 {
        tokio::time::sleep(SECOND).await;
        client.send_all([ping(), ping()]);
    }
    settled().await;
    assert_eq!(count(&mut client, "closed"), 0);
    tokio::time::sleep(SECOND).await;
    client.send_all([ping(), ping()]);
    settled().await;
    assert_eq!(count(&mut client, "closed too_many_requests"), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_also_over_every_rate() {
    let set = |rates: &mut Rates| rates.session.commands = Some(Rate::per_second(1));
    let engine = with_rates(engine_with_users(), set).build().unwrap();
    let mut client = connect(&engine, "ann").await;
    client.send_all([ping(), ping()]);
    client.take(2).await;
    authenticate(&client, "ann");
    assert_eq!(client.next().await, "refreshed");
}

#[tokio::test(start_paused = true)]
async fn who_guesses_tokens_must_rest_and_a_good_one_is_taken_again_afterwards() {
    let set = |rates: &mut Rates| rates.session.errors = Some(Rate::per_second(1).burst(2));
    let builder = open_engine().on_connect(|request| async move {
        match request.connect.token.as_deref() {
            Some("ann") => Ok(Identity::user("ann")),
            _ => Err(Refusal::unauthorized("who is this?")),
        }
    });
    let engine = with_rates(builder, set).build().unwrap();
    let mut client = connect(&engine, "ann").await;
    for _ in 0..2 {
        authenticate(&client, "bob");
        let answer = client.next().await;
        assert!(answer.starts_with("refused Unauthorized"), "{answer}");
    }
    authenticate(&client, "bob");
    assert!(client.next().await.starts_with("refused TooManyRequests: this session is over its rate of errors"));
    tokio::time::sleep(SECOND).await;
    authenticate(&client, "ann");
    assert_eq!(client.next().await, "refreshed");
}
