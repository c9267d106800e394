//! The machine's behaviour, step by step, in time that is only counted.

use std::{sync::Arc, time::Duration, time::Instant};

use super::{Effect, Machine, Request, TokenFor};
use crate::{CallError, ClientConfig, Event, Payload, SubscribeConfig, TokenError, Tokens};

/// A machine whose clock moves when a test says so.
struct Harness {
    machine: Machine,
    now: Instant,
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Harness {
    fn start(config: ClientConfig) -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(config, 7, now);
        machine.handle_timeout(now);
        Self { machine, now }
    }

    /// A connected client; the server pings every 25 s.
    fn live() -> Self {
        let mut client = Self::start(ClientConfig::default());
        client.effects();
        client.dial_and_greet();
        client
    }

    fn dial_and_greet(&mut self) -> Vec<String> {
        self.machine.handle_open(self.now);
        let connect = self.effects().remove(0);
        let id = connect.split(['"', ':', ',']).find(|part| part.parse::<u32>().is_ok()).unwrap().to_owned();
        self.frame(&format!(r#"{{"id":{id},"connect":{{"client":"s","ping":25,"pong":true}}}}"#))
    }

    /// What the machine wants, in words.
    fn effects(&mut self) -> Vec<String> {
        self.machine.take_effects().into_iter().map(words).collect()
    }

    fn frame(&mut self, text: &str) -> Vec<String> {
        self.machine.handle_frame(text, self.now);
        self.effects()
    }

    /// Moves the clock to each deadline on the way, as a driver does.
    fn advance(&mut self, by: Duration) -> Vec<String> {
        let end = self.now + by;
        while let Some(at) = self.machine.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            if !self.machine.effects.is_empty() {
                break;
            }
        }
        self.now = if self.machine.effects.is_empty() { end } else { self.now };
        self.effects()
    }

    fn cut(&mut self) -> Vec<String> {
        self.machine.handle_cut("cut", None, self.now);
        self.effects()
    }

    fn subscribe(&mut self, topic: &str, config: SubscribeConfig) -> Vec<String> {
        self.machine.handle_subscribe(1, topic.into(), config, self.now);
        self.effects()
    }

    fn publish(&mut self, call: u64) -> Vec<String> {
        let request = Request::Publish { topic: "t".into(), data: Payload::of(&call).unwrap() };
        self.machine.handle_call(call, &request, self.now);
        self.effects()
    }
}

fn words(effect: Effect) -> String {
    match effect {
        Effect::FetchToken(TokenFor::Connection) => "fetch token".into(),
        Effect::FetchToken(TokenFor::Subscription(_)) => "fetch subscription token".into(),
        Effect::Dial => "dial".into(),
        Effect::Write(line) => line,
        Effect::Hangup(code) => format!("hang up {code:?}"),
        Effect::Answer(call, Ok(answer)) => format!("{call}: {answer:?}"),
        Effect::Answer(call, Err(error)) => format!("{call}: {error}"),
        Effect::Deliver(_, Event::Publication(publication)) => {
            format!("publication {} at {}", publication.data, publication.position.map_or("-".into(), |position| position.to_string()))
        }
        Effect::Deliver(_, Event::Subscribed(subscribed)) => {
            format!("subscribed at {} recovered {:?}", subscribed.position.map_or("-".into(), |p| p.to_string()), subscribed.recovered)
        }
        Effect::Deliver(_, Event::Gap(gap)) => format!("gap {:?}", gap.reason),
        Effect::Deliver(_, event) => format!("{event:?}"),
        Effect::Notice(notice) => format!("{notice:?}"),
        Effect::State(crate::State::Reconnecting { why, .. }) => format!("reconnecting: {why}"),
        Effect::State(crate::State::Live { session }) => format!("live {session}"),
        Effect::State(state) => format!("{state:?}"),
    }
}

#[track_caller]
fn check(got: &[String], expected: &[&str]) {
    assert_eq!(got, expected);
}

fn fetched_tokens() -> ClientConfig {
    ClientConfig::default().tokens(Tokens::fetch(|| std::future::ready(Ok("unused".to_owned()))))
}

#[test]
fn a_client_dials_greets_and_is_live() {
    let mut client = Harness::start(ClientConfig::default().tokens(Tokens::fixed("jwt")).name("bench"));
    check(&client.effects(), &["dial"]);
    client.machine.handle_open(client.now);
    let version = env!("CARGO_PKG_VERSION");
    check(&client.effects(), &[&format!(r#"{{"id":1,"connect":{{"token":"jwt","name":"bench","version":"{version}"}}}}"#)]);
    check(&client.frame("{\"id\":1,\"connect\":{\"client\":\"s1\",\"ping\":25,\"pong\":true}}\n"), &["live s1"]);
}

#[test]
fn a_server_that_cannot_be_reached_is_tried_for_ever() {
    let mut client = Harness::start(ClientConfig::default());
    for _ in 0..1000 {
        check(&client.effects(), &["dial"]);
        client.machine.handle_cut("refused", None, client.now);
        check(&client.effects(), &["hang up None", "reconnecting: refused"]);
        let before = client.now;
        client.machine.handle_timeout(client.machine.next_timeout().unwrap());
        client.now = client.machine.next_timeout().unwrap_or(before).max(before);
    }
}

#[test]
fn retry_after_is_respected_and_a_hint_that_the_network_is_back_skips_the_wait() {
    let mut client = Harness::start(ClientConfig::default());
    client.effects();
    client.machine.handle_cut("503", Some(secs(60)), client.now);
    client.effects();
    check(&client.advance(secs(59)), &[]);
    client.machine.handle_retry_now();
    check(&client.effects(), &["dial"]);
    client.machine.handle_retry_now();
    check(&client.effects(), &[]);
}

#[test]
fn pings_are_answered_and_a_silent_server_is_given_up_after_ping_and_ten_seconds() {
    let mut client = Harness::live();
    check(&client.frame("{}"), &["{}"]);
    check(&client.advance(secs(34)), &[]);
    check(&client.frame("{}"), &["{}"]);
    check(&client.advance(secs(34)), &[]);
    check(&client.advance(secs(1)), &["hang up None", "reconnecting: the server is silent"]);
    check(&client.advance(secs(20)), &["dial"]);
}

#[test]
fn a_server_that_does_not_answer_connect_is_cut() {
    let mut client = Harness::start(ClientConfig::default());
    client.effects();
    client.machine.handle_open(client.now);
    client.effects();
    check(&client.advance(secs(10)), &["hang up None", "reconnecting: the server did not answer in time"]);
}

#[test]
fn close_codes_decide_whether_it_goes_on() {
    for (code, goes_on) in
        [(1000, true), (1009, true), (3001, true), (3500, false), (3999, false), (4000, true), (4500, false), (4999, false)]
    {
        let mut client = Harness::live();
        client.machine.handle_close_code(code, "why", client.now);
        let expected = if goes_on {
            ["hang up None".to_owned(), format!("reconnecting: the server closed the connection: why ({code})")]
        } else {
            ["hang up None".to_owned(), format!("Closed(Closed {{ code: {code}, reason: \"why\" }})")]
        };
        assert_eq!(client.effects(), expected);
        assert_eq!(client.machine.next_timeout().is_none(), !goes_on);
    }
}

#[test]
fn a_refused_token_is_fetched_again_and_a_fixed_one_ends_the_client() {
    let mut client = Harness::start(fetched_tokens());
    check(&client.effects(), &["fetch token"]);
    client.machine.handle_token(TokenFor::Connection, Ok("old".into()), client.now);
    check(&client.effects(), &["dial"]);
    client.machine.handle_open(client.now);
    client.effects();
    client.machine.handle_close_code(3500, "invalid token", client.now);
    check(&client.effects(), &["hang up None", "reconnecting: the server closed the connection: invalid token (3500)"]);
    check(&client.advance(secs(1)), &["fetch token"]);
    client.machine.handle_token(TokenFor::Connection, Ok("new".into()), client.now);
    check(&client.effects(), &["dial"]);
    client.machine.handle_open(client.now);
    assert!(client.effects()[0].contains(r#""token":"new""#));
    let refused = client.frame(r#"{"id":2,"error":{"code":109,"message":"token expired"}}"#);
    check(&refused, &["hang up None", "reconnecting: the server refused the connection: token expired (109)"]);
    check(&client.advance(secs(2)), &["fetch token"]);

    let mut client = Harness::start(ClientConfig::default().tokens(Tokens::fixed("old")));
    client.effects();
    client.machine.handle_open(client.now);
    client.effects();
    let refused = client.frame(r#"{"id":1,"error":{"code":109,"message":"token expired"}}"#);
    check(&refused, &["hang up Some(1000)", r#"Closed(Closed { code: 109, reason: "token expired" })"#]);
}

#[test]
fn an_application_without_a_token_ends_the_client_and_one_that_fails_is_asked_again() {
    let mut client = Harness::start(fetched_tokens());
    client.effects();
    client.machine.handle_token(TokenFor::Connection, Err(TokenError::Unavailable("down".into())), client.now);
    check(&client.effects(), &["hang up None", "reconnecting: the token could not be fetched: down"]);
    check(&client.advance(secs(1)), &["fetch token"]);
    client.machine.handle_token(TokenFor::Connection, Err(TokenError::Refused), client.now);
    assert!(client.machine.is_closed());
}

#[test]
fn a_token_that_ends_is_renewed_before_without_a_reconnect() {
    let mut client = Harness::start(fetched_tokens());
    client.machine.handle_token(TokenFor::Connection, Ok("a".into()), client.now);
    client.machine.handle_open(client.now);
    client.effects();
    client.frame(r#"{"id":1,"connect":{"client":"s","expires":true,"ttl":60}}"#);
    check(&client.advance(secs(53)), &[]);
    check(&client.advance(secs(2)), &["fetch token"]);
    client.machine.handle_token(TokenFor::Connection, Ok("b".into()), client.now);
    check(&client.effects(), &[r#"{"id":2,"refresh":{"token":"b"}}"#]);
    check(&client.frame(r#"{"id":2,"refresh":{"client":"s","expires":true,"ttl":600}}"#), &[]);
    check(&client.advance(secs(589)), &[]);
    check(&client.advance(secs(2)), &["fetch token"]);
}

const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"t","positioned":true,"recoverable":true}}"#;

#[test]
fn a_cut_subscription_resumes_from_the_last_publication_it_told() {
    let mut client = Harness::live();
    check(&client.subscribe("t", SubscribeConfig::default()), &[SUBSCRIBE]);
    let live = client.frame(r#"{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":3}}"#);
    check(&live, &["subscribed at 3@e recovered None"]);
    let told = client.frame("{\"push\":{\"channel\":\"t\",\"pub\":{\"data\":4,\"offset\":4}}}\n{\"push\":{\"channel\":\"t\",\"pub\":{\"data\":5,\"offset\":5}}}");
    check(&told, &["publication 4 at 4@e", "publication 5 at 5@e"]);
    check(&client.cut(), &["hang up None", "reconnecting: cut"]);
    check(&client.advance(secs(1)), &["dial"]);
    let resume = r#"{"id":4,"subscribe":{"channel":"t","recover":true,"epoch":"e","offset":5,"positioned":true,"recoverable":true}}"#;
    check(&client.dial_and_greet(), &["live s", resume]);
    let recovered = client.frame(
        r#"{"id":4,"subscribe":{"recoverable":true,"epoch":"e","offset":5,"recovered":true,"was_recovering":true,"publications":[{"data":6,"offset":6},{"data":7,"offset":7}]}}"#,
    );
    check(&recovered, &["subscribed at 7@e recovered Some(true)", "publication 6 at 6@e", "publication 7 at 7@e"]);
    check(&client.frame(r#"{"push":{"channel":"t","pub":{"data":7,"offset":7}}}"#), &[]);
    check(&client.frame(r#"{"push":{"channel":"t","pub":{"data":8,"offset":8}}}"#), &["publication 8 at 8@e"]);
}

#[test]
fn a_subscription_that_is_cut_before_its_pages_or_rows_came_resumes_from_where_they_begin() {
    let mut client = Harness::live();
    client.subscribe("t", SubscribeConfig::default());
    // Rows follow: the answer has the epoch, and no offset.
    check(
        &client.frame(r#"{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":0}}"#),
        &["subscribed at 0@e recovered None"],
    );
    client.cut();
    client.advance(secs(1));
    let again = r#"{"id":4,"subscribe":{"channel":"t","recover":true,"epoch":"e","positioned":true,"recoverable":true}}"#;
    check(&client.dial_and_greet(), &["live s", again]);
    // More pages follow: the answer has the first one, and repeats what was asked for.
    let page = r#"{"id":4,"subscribe":{"recoverable":true,"epoch":"e","offset":0,"recovered":true,"was_recovering":true,"publications":[{"data":1,"offset":1},{"data":2,"offset":2}]}}"#;
    check(&client.frame(page), &["subscribed at 2@e recovered Some(true)", "publication 1 at 1@e", "publication 2 at 2@e"]);
    client.cut();
    client.advance(secs(2));
    let rest = r#"{"id":6,"subscribe":{"channel":"t","recover":true,"epoch":"e","offset":2,"positioned":true,"recoverable":true}}"#;
    check(&client.dial_and_greet(), &["live s", rest]);
}

#[test]
fn what_cannot_be_recovered_is_told_as_a_gap() {
    let mut client = Harness::live();
    client.subscribe("t", SubscribeConfig::default());
    client.frame(r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":3}}"#);
    client.cut();
    client.advance(secs(1));
    client.dial_and_greet();
    let lost = client.frame(r#"{"id":4,"subscribe":{"recoverable":true,"epoch":"f","offset":1,"was_recovering":true}}"#);
    check(&lost, &["subscribed at 1@f recovered Some(false)", "gap NotRecovered"]);
    check(&client.frame(r#"{"push":{"channel":"t","pub":{"data":2,"offset":2}}}"#), &["publication 2 at 2@f"]);
}

#[test]
fn a_topic_without_history_tells_a_gap_after_each_cut_and_none_at_first() {
    let mut client = Harness::live();
    client.subscribe("t", SubscribeConfig::default());
    check(&client.frame(r#"{"id":2,"subscribe":{}}"#), &["subscribed at - recovered None"]);
    check(&client.frame(r#"{"push":{"channel":"t","pub":{"data":null}}}"#), &["publication null at -"]);
    client.cut();
    client.advance(secs(1));
    client.dial_and_greet();
    check(&client.frame(r#"{"id":4,"subscribe":{}}"#), &["subscribed at - recovered None", "gap NoHistory"]);
}

#[test]
fn the_server_may_ask_for_a_new_subscribe_or_end_it() {
    let mut client = Harness::live();
    client.subscribe("t", SubscribeConfig::default());
    client.frame(r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":3}}"#);
    check(&client.frame(r#"{"push":{"channel":"t","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#), &[]);
    check(&client.frame(r#"{"push":{"channel":"t","pub":{"data":9,"offset":9}}}"#), &[]);
    let resume = r#"{"id":3,"subscribe":{"channel":"t","recover":true,"epoch":"e","offset":3,"positioned":true,"recoverable":true}}"#;
    check(&client.advance(secs(1)), &[resume]);
    client.frame(r#"{"id":3,"subscribe":{"recoverable":true,"epoch":"e","offset":3,"recovered":true}}"#);
    let ended = client.frame(r#"{"push":{"channel":"t","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#);
    check(&ended, &[r#"Unsubscribed(ByServer { code: 2000, reason: "server unsubscribe" })"#]);
    check(&client.cut(), &["hang up None", "reconnecting: cut"]);
    client.advance(secs(2));
    check(&client.dial_and_greet(), &["live s"]);
}

#[test]
fn a_refused_subscribe_ends_the_subscription_and_a_temporary_error_is_tried_again() {
    let mut client = Harness::live();
    client.subscribe("t", SubscribeConfig::default());
    check(&client.frame(r#"{"id":2,"error":{"code":100,"message":"internal","temporary":true}}"#), &[]);
    check(&client.advance(secs(1)), &[&SUBSCRIBE.replace("\"id\":2", "\"id\":3")]);
    let refused = client.frame(r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#);
    check(&refused, &[r#"Unsubscribed(Refused(Refusal { code: 103, message: "permission denied", temporary: false }))"#]);
}

#[test]
fn an_unsubscribed_topic_is_void_until_its_next_subscription_is_live() {
    let mut client = Harness::live();
    client.subscribe("t", SubscribeConfig::default());
    client.frame(r#"{"id":2,"subscribe":{}}"#);
    client.machine.handle_unsubscribe(1, client.now);
    check(&client.effects(), &[r#"{"id":3,"unsubscribe":{"channel":"t"}}"#]);
    client.machine.handle_subscribe(2, Arc::from("t"), SubscribeConfig::default().recover(false), client.now);
    check(&client.effects(), &[r#"{"id":4,"subscribe":{"channel":"t"}}"#]);
    check(&client.frame(r#"{"push":{"channel":"t","pub":{"data":1}}}"#), &[]);
    check(&client.frame("{\"id\":3,\"unsubscribe\":{}}\n{\"id\":4,\"subscribe\":{}}"), &["subscribed at - recovered None"]);
}

#[test]
fn a_subscription_token_is_fetched_first_and_again_when_it_ends() {
    let mut client = Harness::live();
    let tokens = Tokens::fetch(|| std::future::ready(Ok(String::new())));
    check(&client.subscribe("t", SubscribeConfig::default().recover(false).tokens(tokens)), &["fetch subscription token"]);
    client.machine.handle_token(TokenFor::Subscription(1), Ok("a".into()), client.now);
    check(&client.effects(), &[r#"{"id":2,"subscribe":{"channel":"t","token":"a"}}"#]);
    client.frame(r#"{"id":2,"error":{"code":109,"message":"token expired"}}"#);
    check(&client.advance(secs(1)), &["fetch subscription token"]);
    client.machine.handle_token(TokenFor::Subscription(1), Err(TokenError::Refused), client.now);
    assert!(client.effects()[0].starts_with("Unsubscribed(Refused"));
}

/// A live subscription to `t` whose token `a` ends in a minute.
fn with_subscription_token() -> Harness {
    let mut client = Harness::live();
    let tokens = Tokens::fetch(|| std::future::ready(Ok(String::new())));
    client.subscribe("t", SubscribeConfig::default().tokens(tokens));
    client.machine.handle_token(TokenFor::Subscription(1), Ok("a".into()), client.now);
    client.effects();
    client.frame(r#"{"id":2,"subscribe":{"expires":true,"ttl":20,"recoverable":true,"epoch":"e","offset":3}}"#);
    client
}

#[test]
fn a_subscription_token_is_renewed_before_its_end() {
    let mut client = with_subscription_token();
    check(&client.advance(secs(17)), &[]);
    check(&client.advance(secs(1)), &["fetch subscription token"]);
    client.machine.handle_token(TokenFor::Subscription(1), Err(TokenError::Unavailable("down".into())), client.now);
    check(&client.advance(secs(1)), &["fetch subscription token"]);
    client.machine.handle_token(TokenFor::Subscription(1), Ok("b".into()), client.now);
    check(&client.effects(), &[r#"{"id":3,"sub_refresh":{"channel":"t","token":"b"}}"#]);
    check(&client.frame(r#"{"id":3,"error":{"code":100,"message":"internal","temporary":true}}"#), &[]);
    check(&client.advance(secs(1)), &["fetch subscription token"]);
    client.machine.handle_token(TokenFor::Subscription(1), Ok("c".into()), client.now);
    client.effects();
    check(&client.frame(r#"{"id":4,"sub_refresh":{"expires":true,"ttl":20}}"#), &[]);
    check(&client.advance(secs(17)), &[]);
    check(&client.advance(secs(1)), &["fetch subscription token"]);
}

#[test]
fn a_subscription_that_expired_is_made_again_with_a_fresh_token() {
    let mut client = with_subscription_token();
    check(&client.frame(r#"{"push":{"channel":"t","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#), &[]);
    check(&client.advance(secs(1)), &["fetch subscription token"]);
    client.machine.handle_token(TokenFor::Subscription(1), Ok("b".into()), client.now);
    let resume =
        r#"{"id":3,"subscribe":{"channel":"t","token":"b","recover":true,"epoch":"e","offset":3,"positioned":true,"recoverable":true}}"#;
    check(&client.effects(), &[resume]);
}

#[test]
fn a_token_found_for_a_subscription_of_an_earlier_connection_is_void() {
    let mut client = with_subscription_token();
    check(&client.advance(secs(18)), &["fetch subscription token"]);
    client.cut();
    client.machine.handle_token(TokenFor::Subscription(1), Ok("late".into()), client.now);
    check(&client.effects(), &[]);
    client.advance(secs(1));
    let live = client.dial_and_greet();
    assert!(live[1].contains(r#""token":"a""#), "{live:?}");
}

#[test]
fn a_renewal_that_is_refused_for_a_while_is_tried_again() {
    let mut client = Harness::start(fetched_tokens());
    client.machine.handle_token(TokenFor::Connection, Ok("a".into()), client.now);
    client.machine.handle_open(client.now);
    client.effects();
    client.frame(r#"{"id":1,"connect":{"client":"s","expires":true,"ttl":60}}"#);
    client.advance(secs(54));
    client.machine.handle_token(TokenFor::Connection, Ok("b".into()), client.now);
    client.effects();
    check(&client.frame(r#"{"id":2,"error":{"code":109,"message":"token expired"}}"#), &[]);
    check(&client.advance(secs(20)), &["fetch token"]);
    client.machine.handle_token(TokenFor::Connection, Ok("c".into()), client.now);
    client.effects();
    check(&client.frame(r#"{"id":3,"error":{"code":101,"message":"unauthorized"}}"#), &[]);
    check(&client.advance(secs(600)), &[]);
}

#[test]
fn an_end_of_the_token_that_the_server_moves_moves_its_renewal() {
    let mut client = Harness::start(fetched_tokens());
    client.machine.handle_token(TokenFor::Connection, Ok("a".into()), client.now);
    client.machine.handle_open(client.now);
    client.effects();
    client.frame(r#"{"id":1,"connect":{"client":"s"}}"#);
    check(&client.frame(r#"{"push":{"refresh":{"expires":true,"ttl":20}}}"#), &[]);
    check(&client.advance(secs(18)), &["fetch token"]);
}

#[test]
fn an_invalidated_state_forgets_tokens_and_positions_and_tells_the_gap() {
    let mut client = Harness::start(fetched_tokens());
    client.machine.handle_token(TokenFor::Connection, Ok("old".into()), client.now);
    client.machine.handle_open(client.now);
    client.effects();
    client.frame(r#"{"id":1,"connect":{"client":"s","subs":{"group:a":{"recoverable":true,"epoch":"e","offset":1}}}}"#);
    client.subscribe("t", SubscribeConfig::default());
    client.frame(r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":3}}"#);
    client.machine.handle_close_code(3014, "state invalidated", client.now);
    check(&client.effects(), &["hang up None", "reconnecting: the server closed the connection: state invalidated (3014)"]);
    check(&client.advance(secs(1)), &["fetch token"]);
    client.machine.handle_token(TokenFor::Connection, Ok("new".into()), client.now);
    client.machine.handle_open(client.now);
    let connect = client.effects().pop().unwrap();
    assert!(connect.contains(r#""token":"new""#) && !connect.contains("subs"), "{connect}");
    let live = client.frame(r#"{"id":3,"connect":{"client":"s2","subs":{"group:a":{"recoverable":true,"epoch":"e","offset":9}}}}"#);
    assert!(live[1].contains("Subscribed") && live[2].contains("NoHistory"), "{live:?}");
    check(&live[3..], &[&SUBSCRIBE.replace("\"id\":2", "\"id\":4")]);
    let subscribed = client.frame(r#"{"id":4,"subscribe":{"recoverable":true,"epoch":"e","offset":7}}"#);
    check(&subscribed, &["subscribed at 7@e recovered None", "gap NoHistory"]);
}

#[test]
fn calls_wait_for_a_connection_and_are_never_sent_twice() {
    let mut client = Harness::start(ClientConfig::default());
    client.effects();
    check(&client.publish(1), &[]);
    check(&client.dial_and_greet(), &["live s", r#"{"id":1,"publish":{"channel":"t","data":1}}"#]);
    check(&client.cut(), &["1: the connection ended before the answer; it may have been done: cut", "hang up None", "reconnecting: cut"]);
    client.advance(secs(1));
    check(&client.dial_and_greet(), &["live s"]);
}

#[test]
fn a_call_ends_at_its_deadline_and_a_late_answer_is_void() {
    let mut client = Harness::live();
    client.publish(1);
    check(&client.advance(secs(10)), &["1: no answer in time; it may have been done"]);
    check(&client.frame(r#"{"id":2,"publish":{}}"#), &[]);

    let mut client = Harness::start(ClientConfig::default());
    client.effects();
    client.publish(1);
    check(&client.advance(secs(10)), &["1: no connection in time; nothing was sent"]);
    check(&client.dial_and_greet(), &["live s"]);
}

#[test]
fn a_cancelled_call_that_waits_for_a_connection_is_not_sent() {
    let mut client = Harness::start(ClientConfig::default());
    client.effects();
    client.publish(1);
    client.machine.handle_cancel(1);
    check(&client.dial_and_greet(), &["live s"]);
}

#[test]
fn a_refused_call_leaves_the_connection_alone_and_too_long_ones_are_not_sent() {
    let mut client = Harness::live();
    client.publish(1);
    check(&client.frame(r#"{"id":2,"error":{"code":103,"message":"no"}}"#), &["1: the server refused: no (103)"]);
    let request = Request::Send { data: Payload::of(&"x".repeat(70_000)).unwrap() };
    client.machine.handle_call(2, &request, client.now);
    let Some(Effect::Answer(2, Err(error))) = client.machine.take_effects().pop() else { panic!("not refused") };
    assert!(matches!(error, CallError::TooLarge { max: 65_536, .. }) && !error.is_retryable());
}

#[test]
fn groups_of_the_server_are_noticed_and_resumed() {
    let mut client = Harness::start(ClientConfig::default());
    client.effects();
    client.machine.handle_open(client.now);
    client.effects();
    let live = client.frame(r#"{"id":1,"connect":{"client":"s","subs":{"group:a":{"recoverable":true,"epoch":"e","offset":1}}}}"#);
    assert!(live[1].contains(r#"topic: "group:a", event: Subscribed"#), "{live:?}");
    let told =
        client.frame("{\"push\":{\"channel\":\"group:a\",\"pub\":{\"data\":2,\"offset\":2}}}\n{\"push\":{\"message\":{\"data\":3}}}");
    assert!(told[0].contains("data: 2") && told[1] == "Message(3)", "{told:?}");
    client.cut();
    client.advance(secs(1));
    client.machine.handle_open(client.now);
    assert!(client.effects()[0].contains(r#""subs":{"group:a":{"recover":true,"epoch":"e","offset":2}}"#));
    let ended = client.frame(r#"{"id":2,"connect":{"client":"s"}}"#);
    assert!(ended[1].contains("not made again by the server"), "{ended:?}");
}

#[test]
fn topics_that_the_server_adds_and_ends_are_noticed() {
    let mut client = Harness::live();
    let told = client.frame(
        "{\"push\":{\"channel\":\"group:a\",\"subscribe\":{\"recoverable\":true,\"epoch\":\"e\",\"offset\":1}}}\n\
         {\"push\":{\"channel\":\"group:a\",\"pub\":{\"data\":2,\"offset\":2}}}\n\
         {\"push\":{\"channel\":\"group:a\",\"unsubscribe\":{\"code\":2000,\"reason\":\"server unsubscribe\"}}}\n\
         {\"push\":{\"channel\":\"group:a\",\"pub\":{\"data\":3,\"offset\":3}}}",
    );
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("Subscribed") && told[1].contains("data: 2") && told[2].contains("ByServer { code: 2000"), "{told:?}");
}

#[test]
fn a_topic_of_the_server_that_lost_its_place_is_resumed_by_the_next_connection() {
    let mut client = Harness::live();
    client.frame(r#"{"push":{"channel":"group:a","subscribe":{"recoverable":true,"epoch":"e","offset":4}}}"#);
    check(&client.frame(r#"{"push":{"channel":"group:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#), &[]);
    client.machine.handle_close_code(3010, "insufficient state", client.now);
    client.effects();
    client.advance(secs(1));
    client.machine.handle_open(client.now);
    assert!(client.effects()[0].contains(r#""subs":{"group:a":{"recover":true,"epoch":"e","offset":4}}"#));
}

#[test]
fn a_disconnect_push_ends_the_connection_as_a_close_code_does() {
    let mut client = Harness::live();
    let cut = client.frame("{\"push\":{\"disconnect\":{\"code\":3001,\"reason\":\"shutdown\"}}}\n{}");
    check(&cut, &["hang up None", "reconnecting: the server closed the connection: shutdown (3001)"]);
}

#[test]
fn a_frame_that_cannot_be_read_cuts_the_connection() {
    let mut client = Harness::live();
    assert!(client.frame("{\"id\":")[1].starts_with("reconnecting: the server sent what cannot be read"));
}

#[test]
fn closing_ends_everything_and_what_comes_after_is_refused() {
    let mut client = Harness::live();
    client.subscribe("t", SubscribeConfig::default());
    client.publish(1);
    client.machine.handle_close();
    let closed = r#"Closed(Closed { code: 0, reason: "closed by the application" })"#;
    check(
        &client.effects(),
        &["1: the client is closed: closed by the application (0)", &format!("Unsubscribed({closed})"), "hang up Some(1000)", closed],
    );
    check(&client.publish(2), &["2: the client is closed: closed by the application (0)"]);
    check(&client.subscribe("u", SubscribeConfig::default()), &[&format!("Unsubscribed({closed})")]);
    assert_eq!(client.machine.next_timeout(), None);
}
