//! One log line when a session opens and one when it closes, and refusals; rate-limited, and what is left out is counted.

use tokio::time::{Duration, Instant};

use super::conn::Conn;
use crate::{CloseFrame, CloseReason, Refusal, Subject};

/// User text in a log line is cut here.
const TEXT_MAX: usize = 128;

/// Writes the lines of sessions' lives, at most so many a second.
pub(super) struct LifeLog {
    per_second: u32,
    second_from: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl LifeLog {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, second_from: None, written: 0, left_out: 0 }
    }

    pub(super) fn opened(&mut self, conn: &Conn, now: Instant) {
        if !self.may_write(now) {
            return;
        }
        let info = conn.session.info();
        tracing::info!(
            target: "broker::session",
            session = %info.session,
            user = %cut(info.user.as_str()),
            peer = %peer(conn),
            path = %cut(&conn.life.path),
            transport = conn.life.transport,
            protocol = conn.codec.protocol.name(),
            rule = &*conn.session.subject().rule,
            groups = %cut(&conn.session.subject().groups().join(",")),
            "session opened"
        );
    }

    /// A session that goes on as somebody else.
    pub(super) fn changed(&mut self, conn: &Conn, before: &Subject, now: Instant) {
        let subject = conn.session.subject();
        if (before.user == subject.user && before.groups() == subject.groups()) || !self.may_write(now) {
            return;
        }
        tracing::info!(
            target: "broker::session",
            session = %subject.session,
            user = %cut(subject.user.as_str()),
            before = %cut(before.user.as_str()),
            rule = &*subject.rule,
            groups = %cut(&subject.groups().join(",")),
            "session changed its identity"
        );
    }

    pub(super) fn closed(&mut self, conn: &Conn, reason: &CloseReason, close: &CloseFrame, now: Instant) {
        if !self.may_write(now) {
            return;
        }
        let info = conn.session.info();
        let rule = match reason {
            CloseReason::Refused(refusal) => refusal.rule.as_deref(),
            _ => None,
        };
        let silent = conn.life.heard_at.map(|at| now.duration_since(at).as_secs_f32());
        tracing::info!(
            target: "broker::session",
            session = %info.session,
            user = %cut(info.user.as_str()),
            peer = %peer(conn),
            path = %cut(&conn.life.path),
            cause = reason.cause(),
            code = close.code,
            reason = %cut(&close.reason),
            hint = rule.map(cut),
            closed_by = reason.closed_by(),
            alive_s = now.duration_since(conn.life.opened_at).as_secs_f32(),
            frames_in = conn.life.frames_in,
            frames_out = conn.life.frames_out,
            last_heard_s = silent,
            connected = conn.life.user.is_some(),
            "session closed"
        );
    }

    /// What a client was refused, and which rule did it.
    pub(super) fn refused(&mut self, conn: &Conn, refusal: &Refusal, now: Instant) {
        if !self.may_write(now) {
            return;
        }
        let info = conn.session.info();
        tracing::info!(
            target: "broker::session",
            session = %info.session,
            user = %cut(info.user.as_str()),
            refused = ?refusal.kind,
            why = %cut(&refusal.message),
            hint = refusal.rule.as_deref().map(cut),
            "command refused"
        );
    }

    /// Says how many lines were left out, once a second of silence has passed.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.left_out > 0 && self.second_from.is_none_or(|from| now.duration_since(from) >= Duration::from_secs(1)) {
            self.begin_second(now);
        }
    }

    fn may_write(&mut self, now: Instant) -> bool {
        if self.second_from.is_none_or(|from| now.duration_since(from) >= Duration::from_secs(1)) {
            self.begin_second(now);
        }
        self.written += 1;
        let may = self.written <= self.per_second;
        self.left_out += u64::from(!may);
        may
    }

    fn begin_second(&mut self, now: Instant) {
        if self.left_out > 0 {
            tracing::info!(
                target: "broker::session",
                left_out = self.left_out,
                hint = "raise server.session_log_lines (in Rust: Settings::session_log_lines_per_second)",
                "session lines were left out, there were too many"
            );
        }
        *self = Self { second_from: Some(now), ..Self::new(self.per_second) };
    }
}

fn peer(conn: &Conn) -> String {
    conn.life.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string())
}

/// Text from outside in a log line: cut, and escaped where it would not print as it is.
fn cut(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(TEXT_MAX));
    for letter in text.chars().take(TEXT_MAX) {
        match letter {
            '"' | '\'' => shown.push(letter),
            _ => shown.extend(letter.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_readable_and_cannot_begin_a_line() {
        let check = |text: &str, expected: &str| assert_eq!(cut(text), expected);
        check("add \"sub\" to namespaces.news.allow", "add \"sub\" to namespaces.news.allow");
        check("김철수", "김철수");
        check("a\nINFO b\u{202e}\u{1b}[2J\\n", "a\\nINFO b\\u{202e}\\u{1b}[2J\\\\n");
        check(&"x".repeat(TEXT_MAX + 1), &"x".repeat(TEXT_MAX));
    }
}
