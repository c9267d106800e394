//! Calls: order, batches, deadlines, bounds, the end of a link.

use std::time::{Duration, Instant};

use broker_resp::{CallError, Event, Link, NoAnswer, NotSent, Options, Target, Value, Wait, testing::Server};
use futures_util::future::join_all;

use crate::{SOON, command, connected, linked, patient, text};

#[tokio::test]
async fn answers_belong_to_their_calls_and_calls_share_writes() {
    let server = Server::start().await;
    let (link, _events) = linked(server.target(), Options::default()).await;
    let calls: Vec<_> = (0..5000).map(|number| link.call(&command(&format!("ECHO {number}")), SOON)).collect();
    for (number, answer) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(answer, Ok(text(number.to_string())));
    }
    let counters = link.state().counters;
    assert_eq!(counters.calls, 5000);
    assert_eq!(counters.calls_waiting, 0);
    assert!(counters.writes < 500, "{} writes for 5000 calls", counters.writes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_many_tasks_do_not_mix() {
    let server = Server::start().await;
    let (link, _events) = linked(server.target(), Options::default()).await;
    let tasks = (0..64).map(|task| {
        let link = link.clone();
        tokio::spawn(async move {
            for round in 0..200 {
                let word = format!("{task}:{round}");
                assert_eq!(link.call(&command(&format!("ECHO {word}")), SOON).await, Ok(text(word)));
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no answer went astray");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_one_call_have_nothing_between_them() {
    let server = Server::start().await;
    let (link, _events) = linked(server.target(), Options::default()).await;
    let tasks = (0..32).map(|task| {
        let link = link.clone();
        tokio::spawn(async move {
            for round in 0..50 {
                let me = format!("{task}:{round}");
                let answers = link.call_many(&[command(&format!("SET who {me}")), command("LPOP who"), command("GET who")], SOON).await;
                assert_eq!(answers[2], Ok(text(me)));
                // A refused one does not keep the next from being run.
                assert!(matches!(&answers[1], Err(CallError::Refused(error)) if error.is("WRONGTYPE")));
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("nobody came between");
    }
}

#[tokio::test]
async fn an_error_of_the_server_has_its_code() {
    let server = Server::start().await;
    let (link, _events) = linked(server.target(), Options::default()).await;
    let refused = link.call(&command("EVALSHA 0123456789012345678901234567890123456789 0"), SOON).await;
    let Err(CallError::Refused(error)) = refused else { panic!("{refused:?}") };
    assert_eq!((error.code(), error.message()), ("NOSCRIPT", "No matching script. Please use EVAL."));
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_the_next_ones_keep_their_place() {
    let server = Server::start_with(&["--enable-debug-command", "yes"]).await;
    let (link, _events) = linked(server.target(), Options::default()).await;
    let slow = link.call(&command("DEBUG SLEEP 0.5"), Duration::from_millis(50));
    let many = link.call_many(&[command("ECHO a"), command("ECHO b")], Duration::from_millis(60));
    let next = link.call(&command("ECHO next"), SOON);
    let before = Instant::now();
    assert_eq!(slow.await, Err(CallError::Unknown(NoAnswer::TimedOut)));
    assert_eq!(many.await, vec![Err(CallError::Unknown(NoAnswer::TimedOut)); 2]);
    assert!(before.elapsed() < Duration::from_millis(400), "told after {:?}", before.elapsed());
    assert_eq!(next.await, Ok(text("next")));
    assert_eq!(link.state().counters.timed_out, 2);
}

#[tokio::test]
async fn a_dropped_call_disturbs_nobody() {
    let server = Server::start().await;
    let (link, _events) = linked(server.target(), Options::default()).await;
    let calls: Vec<_> = (0..100).map(|number| link.call(&command(&format!("ECHO {number}")), SOON)).collect();
    for (number, call) in calls.into_iter().enumerate() {
        if number % 3 == 0 {
            drop(call);
        } else {
            assert_eq!(call.await, Ok(text(number.to_string())));
        }
    }
}

#[tokio::test]
async fn without_a_connection_calls_fail_at_once_or_wait_for_one() {
    let mut server = Server::start().await;
    server.kill();
    let (link, mut events) = Link::open(server.target(), Options::default());
    let add = command("INCR visits");
    assert_eq!(link.call(&add, SOON).await, Err(CallError::NotSent(NotSent::Disconnected)));
    let too_short = Wait::at_most(Duration::from_millis(30)).for_link();
    let waits = link.call(&add, patient());
    assert_eq!(link.call(&add, too_short).await, Err(CallError::NotSent(NotSent::TimedOut)));
    server.restart().await;
    // What was told to be not sent is not sent.
    assert_eq!(waits.await, Ok(Value::Integer(1)));
    assert_eq!(connected(&mut events).await, 1);
    assert_eq!(link.connected(SOON).await, Some(1));
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_and_in_calls() {
    let mut server = Server::start().await;
    server.kill();
    let mut options = Options::default();
    (options.queue_max_bytes, options.calls_max) = (10_000, 50);
    let (link, _events) = Link::open(server.target(), options);
    let large = format!("ECHO {}", "x".repeat(1000));
    let waiting: Vec<_> = (0..9).map(|_| link.call(&command(&large), patient())).collect();
    assert_eq!(link.call(&command(&large), patient()).await, Err(CallError::Overloaded));
    let small: Vec<_> = (0..41).map(|_| link.call(&command("PING"), patient())).collect();
    assert_eq!(link.call(&command("PING"), patient()).await, Err(CallError::Overloaded));
    assert_eq!(link.state().counters.overloaded, 2);
    server.restart().await;
    for answer in join_all(waiting.into_iter().chain(small)).await {
        answer.expect("everything that was taken is answered");
    }
    link.call(&command(&large), SOON).await.expect("there is room again");
}

#[tokio::test]
async fn a_closing_link_answers_what_is_owed_and_takes_no_more() {
    let server = Server::start().await;
    let (link, mut events) = linked(server.target(), Options::default()).await;
    let calls: Vec<_> = (0..1000).map(|number| link.call(&command(&format!("ECHO {number}")), SOON)).collect();
    link.close(SOON).await;
    for answer in join_all(calls).await {
        answer.expect("the calls came before the close");
    }
    assert_eq!(link.call(&command("PING"), SOON).await, Err(CallError::NotSent(NotSent::Closed)));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn closing_does_not_wait_longer_than_it_may() {
    let server = Server::start().await;
    let (link, _events) = linked(server.target(), Options::default()).await;
    server.pause();
    let call = link.call(&command("PING"), SOON);
    link.close(Duration::from_millis(50)).await;
    assert_eq!(call.await, Err(CallError::Unknown(NoAnswer::Closed)));
    server.resume();
}

#[tokio::test]
async fn the_last_handle_ends_the_link() {
    let server = Server::start().await;
    let (link, mut events) = linked(server.target(), Options::default()).await;
    drop(link.clone());
    link.call(&command("PING"), SOON).await.expect("a clone is left");
    drop(link);
    assert_eq!(events.next().await, None);
    let (link, mut events) = Link::open(Target::tcp("127.0.0.1", 1), Options::default());
    drop(link);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn large_commands_and_answers_pass_whole() {
    let server = Server::start().await;
    let (link, _events) = linked(server.target(), Options::default()).await;
    let large = "0123456789abcdef".repeat(512 * 1024);
    assert_eq!(link.call(&command(&format!("ECHO {large}")), SOON).await, Ok(text(large)));
    let list: Vec<String> = (0..50_000).map(|number| number.to_string()).collect();
    link.call(&command("RPUSH list").args(&list), SOON).await.expect("a list");
    let read = link.call(&command("LRANGE list 0 -1"), SOON).await.expect("a list").into_values().expect("a list");
    assert!(read.iter().map(Value::text).eq(list.iter().map(|text| Some(text.as_str()))));
}

#[tokio::test]
async fn a_reconnect_can_be_asked_for() {
    let server = Server::start().await;
    let (link, mut events) = linked(server.target(), Options::default()).await;
    link.reconnect();
    let reason = broker_resp::DisconnectReason::Asked;
    assert_eq!(crate::event(&mut events).await, Event::Disconnected { generation: 1, reason });
    assert_eq!(connected(&mut events).await, 2);
}
