//! The one table of numbers and words on the wire: refusals, closes, ends of subscriptions, gaps. Frames are not made here.

use std::borrow::Cow;

use broker_core::{CloseFrame, CloseReason, GapReason, Refusal, RefusalKind, UnsubscribeReason};

/// How a refusal is told: over a socket, as the end of a connection, over HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RefusalCode {
    /// The number in error frames of every protocol.
    pub number: u32,
    /// The stable word; numbers are for programs, words for programs that people read.
    pub word: &'static str,
    /// The close code, where the opening of a connection is refused for this.
    pub close: u16,
    /// The HTTP status, where a handshake or a request is refused for this.
    pub status: u16,
}

/// Every kind of refusal but the application's own, with its code.
pub const REFUSALS: [(RefusalKind, RefusalCode); 13] = [
    (RefusalKind::Unavailable, refusal_row(100, "unavailable", 3004, 503)),
    (RefusalKind::Unauthorized, refusal_row(101, "unauthorized", 3500, 401)),
    (RefusalKind::UnknownTopic, refusal_row(102, "unknown_topic", 3507, 404)),
    (RefusalKind::PermissionDenied, refusal_row(103, "permission_denied", 3507, 403)),
    (RefusalKind::UnknownAction, refusal_row(104, "unknown_action", 3501, 404)),
    (RefusalKind::AlreadySubscribed, refusal_row(105, "already_subscribed", 3501, 409)),
    (RefusalKind::LimitExceeded, refusal_row(106, "limit_exceeded", 3505, 429)),
    (RefusalKind::BadRequest, refusal_row(107, "bad_request", 3501, 400)),
    (RefusalKind::NotAvailable, refusal_row(108, "not_available", 3508, 400)),
    (RefusalKind::TokenExpired, refusal_row(109, "token_expired", 3005, 401)),
    (RefusalKind::Expired, refusal_row(110, "expired", 3006, 401)),
    (RefusalKind::TooManyRequests, refusal_row(111, "too_many_requests", 3013, 429)),
    (RefusalKind::UnrecoverablePosition, refusal_row(112, "unrecoverable_position", 3010, 410)),
];

const fn refusal_row(number: u32, word: &'static str, close: u16, status: u16) -> RefusalCode {
    RefusalCode { number, word, close, status }
}

/// The code of a kind of refusal. An error of the application's own keeps its number and has the word `application`.
pub fn refusal(kind: RefusalKind) -> RefusalCode {
    if let RefusalKind::Application(number) = kind {
        return refusal_row(number, "application", 3507, 403);
    }
    if let RefusalKind::Close(code) = kind {
        return refusal_row(u32::from(code), "application", code, 403);
    }
    // A kind that the table does not know is the broker's fault, not the client's.
    REFUSALS.iter().find(|(known, _)| *known == kind).map_or(REFUSALS[0].1, |(_, code)| *code)
}

/// The code of a refusal. One of the application's own that is temporary closes and answers as what is unavailable: the client comes back.
pub fn of(refusal: &Refusal) -> RefusalCode {
    let code = self::refusal(refusal.kind);
    match refusal.kind {
        RefusalKind::Application(_) if refusal.is_temporary() => RefusalCode { close: 3004, status: 503, ..code },
        _ => code,
    }
}

/// A close code, with the text that goes with it.
///
/// 3000 to 3499 and 4000 to 4499: the client connects again. 3500 to 3999 and 4500 to 4999: it does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CloseCode {
    /// The number in the close frame.
    pub number: u16,
    /// The text in the close frame; what went wrong in particular may follow it.
    pub text: &'static str,
}

/// Every close code that the broker sends of its own accord, but not the application's.
pub const CLOSES: [CloseCode; 25] = [
    close_row(1002, "protocol violation"),
    close_row(1007, "text is not UTF-8"),
    close_row(1009, "message too large"),
    close_row(3000, "connection closed"),
    close_row(3001, "shutdown"),
    close_row(3004, "internal server error"),
    close_row(3005, "connection expired"),
    close_row(3006, "subscription expired"),
    close_row(3008, "slow"),
    close_row(3009, "write error"),
    close_row(3010, "insufficient state"),
    close_row(3011, "force reconnect"),
    close_row(3012, "no pong"),
    close_row(3013, "too many requests"),
    close_row(3014, "state invalidated"),
    close_row(3500, "invalid token"),
    close_row(3501, "bad request"),
    close_row(3502, "stale"),
    close_row(3503, "force disconnect"),
    close_row(3504, "connection limit"),
    close_row(3505, "channel limit"),
    close_row(3506, "inappropriate protocol"),
    close_row(3507, "permission denied"),
    close_row(3508, "not available"),
    close_row(3509, "too many errors"),
];

const fn close_row(number: u16, text: &'static str) -> CloseCode {
    CloseCode { number, text }
}

/// The longest text of a close frame, in bytes: what RFC 6455, section 5.5, leaves of a control frame.
pub const CLOSE_TEXT_MAX_LEN: usize = 123;

/// The close frame for a reason: code, text, and what went wrong in particular, cut to [`CLOSE_TEXT_MAX_LEN`].
///
/// What failed inside the broker stays out of it; that is for the log.
pub fn close(reason: &CloseReason) -> CloseFrame {
    if let CloseReason::Refused(refusal) = reason
        && let RefusalKind::Close(code) = refusal.kind
    {
        return by_application(code, refusal.message.clone());
    }
    let (number, detail): (u16, Cow<'_, str>) = match reason {
        // An echo of the client's own close; 1005, 1006 and 1015 may not stand in a frame (RFC 6455, section 7.4).
        CloseReason::ClientLeft { code } => {
            let code = code.filter(|code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)).unwrap_or(1000);
            return CloseFrame { code, reason: Cow::Borrowed("") };
        }
        CloseReason::Application { code, reason } => return by_application(*code, reason.clone()),
        CloseReason::Ordered { code, reason, .. } => {
            let code = if (3000..=4999).contains(code) { *code } else { 3503 };
            return CloseFrame { code, reason: cut(reason.clone()) };
        }
        CloseReason::Refused(refusal) => (of(refusal).close, refusal.message.as_ref().into()),
        CloseReason::TransportBroke(_) => (3009, "".into()),
        CloseReason::NotUtf8 => (1007, "".into()),
        CloseReason::TransportViolation(detail) => (1002, detail.as_ref().into()),
        CloseReason::TooLarge { max_bytes } => (1009, format!("at most {max_bytes} bytes are allowed").into()),
        CloseReason::Shutdown { .. } => (3001, "".into()),
        CloseReason::CredentialsExpired => (3005, "".into()),
        CloseReason::SubscriptionExpired => (3006, "".into()),
        CloseReason::IdentityChanged => (3014, "".into()),
        CloseReason::Revoked => (3500, "revoked".into()),
        CloseReason::SlowConsumer { .. } => (3008, "".into()),
        CloseReason::InsufficientState => (3010, "".into()),
        CloseReason::ForceReconnect => (3011, "".into()),
        CloseReason::NoPong => (3012, "".into()),
        CloseReason::TooManyRequests => (3013, "".into()),
        CloseReason::InvalidCredentials(detail) => (3500, detail.as_ref().into()),
        CloseReason::BadRequest(detail) => (3501, detail.as_ref().into()),
        CloseReason::NeverConnected => (3502, "no connect command came in time".into()),
        CloseReason::ForceDisconnect => (3503, "".into()),
        CloseReason::ConnectionLimit => (3504, "".into()),
        CloseReason::SubscriptionLimit => (3505, "".into()),
        CloseReason::InappropriateProtocol => (3506, "JSON is spoken here, and nothing else".into()),
        CloseReason::PermissionDenied(detail) => (3507, detail.as_ref().into()),
        CloseReason::NotAvailable(detail) => (3508, detail.as_ref().into()),
        CloseReason::TooManyMistakes => (3509, "".into()),
        // `ServerError`, and a reason that the table does not know.
        _ => (3004, "".into()),
    };
    let text = CLOSES.iter().find(|row| row.number == number).expect("every number above stands in the table").text;
    let reason = if detail.is_empty() { Cow::Borrowed(text) } else { cut(Cow::Owned(format!("{text}: {detail}"))) };
    CloseFrame { code: number, reason }
}

/// The close frame that the application chose; 3503 where its code is not 4000 to 4999.
fn by_application(code: u16, reason: Cow<'static, str>) -> CloseFrame {
    let code = if (4000..=4999).contains(&code) { code } else { 3503 };
    CloseFrame { code, reason: cut(reason) }
}

/// Cuts a text to [`CLOSE_TEXT_MAX_LEN`] bytes, between characters.
fn cut(text: Cow<'static, str>) -> Cow<'static, str> {
    if text.len() <= CLOSE_TEXT_MAX_LEN {
        return text;
    }
    let end = (0..=CLOSE_TEXT_MAX_LEN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(text[..end].to_owned())
}

/// Why a subscription ended, on the wire.
///
/// Below 2500 the end is final; from 2500 on the client subscribes again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnsubscribeCode {
    /// The number.
    pub number: u32,
    /// The text.
    pub text: &'static str,
}

/// The end that the client asked for.
pub const CLIENT_UNSUBSCRIBE: UnsubscribeCode = UnsubscribeCode { number: 2000, text: "client unsubscribe" };

/// The code of an end that the server chose.
pub fn unsubscribe(reason: UnsubscribeReason) -> UnsubscribeCode {
    match reason {
        UnsubscribeReason::InsufficientState => UnsubscribeCode { number: 2500, text: "insufficient state" },
        UnsubscribeReason::Expired => UnsubscribeCode { number: 2501, text: "subscription expired" },
        // `Server`, and a reason that the table does not know.
        _ => UnsubscribeCode { number: 2000, text: "server unsubscribe" },
    }
}

/// The stable word for the reason of a gap.
pub fn gap(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Epoch => "epoch",
        GapReason::Trimmed => "trimmed",
        GapReason::Unreadable => "unreadable",
        // `SlowConsumer`, and a reason that the table does not know.
        _ => "slow_consumer",
    }
}
