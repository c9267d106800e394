//! Every row of the code tables, and that the documents tell the same.

use std::{borrow::Cow, time::Duration};

use broker_core::{CloseFrame, CloseReason, GapReason, Protocol, Refusal, RefusalKind, UnsubscribeReason};
use broker_protocol::{
    CentrifugeJson, Plain,
    codes::{self, CLOSE_TEXT_MAX_LEN, CLOSES, REFUSALS, RefusalCode},
};

#[test]
fn every_refusal_has_its_number_word_close_code_and_status() {
    let rows = [
        (RefusalKind::Unavailable, 100, "unavailable", 3004, 503),
        (RefusalKind::Unauthorized, 101, "unauthorized", 3500, 401),
        (RefusalKind::UnknownTopic, 102, "unknown_topic", 3507, 404),
        (RefusalKind::PermissionDenied, 103, "permission_denied", 3507, 403),
        (RefusalKind::UnknownAction, 104, "unknown_action", 3501, 404),
        (RefusalKind::AlreadySubscribed, 105, "already_subscribed", 3501, 409),
        (RefusalKind::LimitExceeded, 106, "limit_exceeded", 3505, 429),
        (RefusalKind::BadRequest, 107, "bad_request", 3501, 400),
        (RefusalKind::NotAvailable, 108, "not_available", 3508, 400),
        (RefusalKind::TokenExpired, 109, "token_expired", 3005, 401),
        (RefusalKind::Expired, 110, "expired", 3006, 401),
        (RefusalKind::TooManyRequests, 111, "too_many_requests", 3013, 429),
        (RefusalKind::UnrecoverablePosition, 112, "unrecoverable_position", 3010, 410),
        (RefusalKind::Application(1234), 1234, "application", 3507, 403),
        (RefusalKind::Close(4501), 4501, "application", 4501, 403),
    ];
    for (kind, number, word, close, status) in rows {
        assert_eq!(codes::refusal(kind), RefusalCode { number, word, close, status });
    }
    assert_eq!(rows.len(), REFUSALS.len() + 2);
}

/// An application that asks to come back must not be taken for one that turns away for good.
#[test]
fn an_error_of_the_application_with_a_time_to_wait_closes_and_answers_as_temporary() {
    let refusal = || Refusal::new(RefusalKind::Application(1234), "the ledger is being closed");
    let temporary = refusal().retry_after(Duration::from_secs(1));
    assert_eq!(codes::of(&refusal()), RefusalCode { number: 1234, word: "application", close: 3507, status: 403 });
    assert_eq!(codes::of(&temporary), RefusalCode { number: 1234, word: "application", close: 3004, status: 503 });
    check(&CloseReason::Refused(Box::new(temporary)), 3004, "internal server error: the ledger is being closed");
    // Others have their row, whatever they advise.
    let denied = Refusal::permission_denied("no").retry_after(Duration::from_secs(1));
    assert_eq!(codes::of(&denied), codes::refusal(RefusalKind::PermissionDenied));
}

#[track_caller]
fn check(reason: &CloseReason, code: u16, text: &str) {
    let expected = CloseFrame { code, reason: Cow::Owned(text.to_owned()) };
    assert_eq!(CentrifugeJson.close_frame(reason), expected);
    assert_eq!(Plain::default().close_frame(reason), expected);
}

#[test]
fn every_close_reason_has_its_code_and_text() {
    check(&CloseReason::ClientLeft { code: None }, 1000, "");
    check(&CloseReason::ClientLeft { code: Some(1001) }, 1001, "");
    check(&CloseReason::ClientLeft { code: Some(4321) }, 4321, "");
    check(&CloseReason::TransportBroke("reset".into()), 3009, "write error");
    check(&CloseReason::TransportViolation("text is no UTF-8".into()), 1002, "protocol violation: text is no UTF-8");
    check(&CloseReason::NotUtf8, 1007, "text is not UTF-8");
    check(&CloseReason::TooLarge { max_bytes: 65536 }, 1009, "message too large: at most 65536 bytes are allowed");
    check(&CloseReason::Shutdown { reconnect_after: Some(Duration::from_secs(1)) }, 3001, "shutdown");
    check(&CloseReason::ServerError("panicked at src/secret.rs".into()), 3004, "internal server error");
    check(&CloseReason::CredentialsExpired, 3005, "connection expired");
    check(&CloseReason::SubscriptionExpired, 3006, "subscription expired");
    check(&CloseReason::IdentityChanged, 3014, "state invalidated");
    check(&CloseReason::Revoked, 3500, "invalid token: revoked");
    check(&CloseReason::SlowConsumer { backlog_bytes: 1 << 20 }, 3008, "slow");
    check(&CloseReason::InsufficientState, 3010, "insufficient state");
    check(&CloseReason::ForceReconnect, 3011, "force reconnect");
    check(&CloseReason::NoPong, 3012, "no pong");
    check(&CloseReason::TooManyRequests, 3013, "too many requests");
    check(&CloseReason::InvalidCredentials("the signature is wrong".into()), 3500, "invalid token: the signature is wrong");
    check(&CloseReason::BadRequest("the frame is empty".into()), 3501, "bad request: the frame is empty");
    check(&CloseReason::NeverConnected, 3502, "stale: no connect command came in time");
    check(&CloseReason::ForceDisconnect, 3503, "force disconnect");
    check(&CloseReason::ConnectionLimit, 3504, "connection limit");
    check(&CloseReason::SubscriptionLimit, 3505, "channel limit");
    check(&CloseReason::InappropriateProtocol, 3506, "inappropriate protocol: JSON is spoken here, and nothing else");
    check(&CloseReason::PermissionDenied("".into()), 3507, "permission denied");
    check(&CloseReason::NotAvailable("no handler takes messages".into()), 3508, "not available: no handler takes messages");
    check(&CloseReason::TooManyMistakes, 3509, "too many errors");
    check(&CloseReason::Application { code: 4321, reason: "game over".into() }, 4321, "game over");
    check(&CloseReason::Application { code: 1, reason: "no such code".into() }, 3503, "no such code");
    check(&CloseReason::Refused(Box::new(Refusal::new(RefusalKind::Close(4501), "go away"))), 4501, "go away");
}

#[test]
fn what_the_server_orders_has_its_own_code_and_text() {
    for (code, told) in [(3000, 3000), (3500, 3500), (4321, 4321), (4999, 4999), (2999, 3503), (5000, 3503), (0, 3503)] {
        check(&CloseReason::Ordered { code, reason: "maintenance".into(), reconnect_after: None }, told, "maintenance");
    }
    let frame = codes::close(&CloseReason::Ordered { code: 3000, reason: "é".repeat(100).into(), reconnect_after: None });
    assert_eq!(frame.reason, "é".repeat(61));
}

#[test]
fn a_refused_opening_closes_with_the_refusals_code() {
    for (kind, code) in REFUSALS {
        let frame = codes::close(&CloseReason::Refused(Box::new(Refusal::new(kind, "because"))));
        assert_eq!(frame.code, code.close);
        assert!(frame.reason.ends_with(": because"), "{frame:?}");
    }
    check(&CloseReason::Refused(Box::new(Refusal::unauthorized("no token"))), 3500, "invalid token: no token");
}

#[test]
fn close_codes_that_may_not_stand_in_a_frame_are_not_echoed() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
        check(&CloseReason::ClientLeft { code: Some(code) }, 1000, "");
    }
}

#[test]
fn close_texts_are_cut_between_characters() {
    let frame = codes::close(&CloseReason::BadRequest("é".repeat(200).into()));
    assert_eq!(frame.reason, format!("bad request: {}", "é".repeat(55)));
    assert_eq!(frame.reason.len(), CLOSE_TEXT_MAX_LEN);
    let frame = codes::close(&CloseReason::Application { code: 4000, reason: "€".repeat(42).into() });
    assert_eq!(frame.reason, "€".repeat(41));
    let frame = codes::close(&CloseReason::Application { code: 4000, reason: "\u{1f980}".repeat(31).into() });
    assert_eq!(frame.reason, "\u{1f980}".repeat(30));
}

#[test]
fn subscriptions_end_finally_below_2500() {
    assert_eq!(codes::unsubscribe(UnsubscribeReason::Server).number, 2000);
    assert_eq!(codes::unsubscribe(UnsubscribeReason::InsufficientState).number, 2500);
    assert_eq!(codes::unsubscribe(UnsubscribeReason::Expired).number, 2501);
    assert_eq!(codes::CLIENT_UNSUBSCRIBE.number, 2000);
}

#[test]
fn gaps_say_why() {
    for (reason, word) in [
        (GapReason::SlowConsumer, "slow_consumer"),
        (GapReason::Epoch, "epoch"),
        (GapReason::Trimmed, "trimmed"),
        (GapReason::Unreadable, "unreadable"),
    ] {
        assert_eq!(codes::gap(reason), word);
    }
}

#[test]
fn the_documents_tell_the_same_codes() {
    let plain = include_str!("../../../docs/protocols/plain.md");
    let centrifuge = include_str!("../../../docs/protocols/centrifuge.md");
    for (_, RefusalCode { number, word, close, status }) in REFUSALS {
        let row = format!("| `{word}` | {number} | {close} | {status} |");
        assert!(plain.contains(&row), "plain.md lacks {row}");
        assert!(centrifuge.contains(&format!("| {number} | `{word}` |")), "centrifuge.md lacks {number} {word}");
    }
    for close in CLOSES {
        let row = format!("| {} | {} |", close.number, close.text);
        assert!(centrifuge.contains(&row), "centrifuge.md lacks {row}");
    }
}
