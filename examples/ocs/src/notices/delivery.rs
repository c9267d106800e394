//! What became of notices: who should have got each, who did and when, and why not. Put together when somebody looks.

use std::collections::{HashMap, HashSet};

use rusqlite::{Result, Row, Transaction, params};
use serde::Serialize;

use super::Sending;
use crate::{database::now_ms, users};

/// Most notices in one list, newest first.
const LIST_MAX: i64 = 40;
/// A page that does not say within this time that it has a notice is slow.
const PROMPT_MS: i64 = 1_000;

/// A notice, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Delivery {
    pub(crate) notice: i64,
    pub(crate) message: String,
    pub(crate) actor: String,
    pub(crate) at_ms: i64,
    pub(crate) state: Sending,
    /// Why it is not sent.
    pub(crate) why: Option<String>,
    /// When the last of its rows was out.
    pub(crate) sent_at_ms: Option<i64>,
    pub(crate) recipients: Vec<Recipient>,
}

/// Somebody who should get a notice.
#[derive(Debug, Serialize)]
pub(crate) struct Recipient {
    pub(crate) user: String,
    pub(crate) name: String,
    pub(crate) received_at_ms: Option<i64>,
    /// `live`: from the socket. `later`: from the list, when the page came back.
    pub(crate) how: Option<String>,
    pub(crate) node: Option<String>,
    /// Why it was not received, or not live; `None`: it was.
    pub(crate) why_not: Option<String>,
}

/// What is known at the moment beside the database.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Sessions that some node has; `None`: not every node answered.
    pub(crate) sessions: Option<HashSet<String>>,
    /// Why the outbox publishes nothing.
    pub(crate) trouble: Option<String>,
}

/// A socket, as it was written down.
struct Socket {
    session: String,
    node: String,
    opened_at_ms: i64,
    closed_at_ms: Option<i64>,
    why: Option<String>,
}

/// The newest notices.
pub(crate) fn list(transaction: &Transaction<'_>, live: &Live) -> Result<Vec<Delivery>> {
    let names: HashMap<String, String> = users::all(transaction)?.into_iter().map(|user| (user.id, user.name)).collect();
    let mut select = transaction.prepare_cached(
        "SELECT n.id, n.message, n.actor, n.at_ms, max(r.published_at_ms), count(b.id) FILTER (WHERE b.refused IS NULL), max(b.refused)
         FROM notices n JOIN notice_rows r ON r.notice = n.id LEFT JOIN broker_outbox b ON b.id = r.outbox_row
         GROUP BY n.id ORDER BY n.id DESC LIMIT ?1",
    )?;
    let deliveries: Result<Vec<Delivery>> = select.query_map([LIST_MAX], |row| read(row, live, &names))?.collect();
    let mut deliveries = deliveries?;
    for delivery in &mut deliveries {
        delivery.recipients = recipients(transaction, delivery, live, &names)?;
    }
    Ok(deliveries)
}

fn read(row: &Row<'_>, live: &Live, names: &HashMap<String, String>) -> Result<Delivery> {
    let (actor, pending, refused): (String, i64, Option<String>) = (row.get(2)?, row.get(5)?, row.get(6)?);
    let (state, why) = match refused {
        Some(reason) => (Sending::Refused, Some(reason)),
        None if pending > 0 => (Sending::Pending, live.trouble.clone()),
        None => (Sending::Sent, None),
    };
    let actor = names.get(&actor).cloned().unwrap_or(actor);
    let (notice, message, at_ms, sent_at_ms) = (row.get(0)?, row.get(1)?, row.get(3)?, row.get(4)?);
    Ok(Delivery { notice, message, actor, at_ms, state, why, sent_at_ms, recipients: Vec::new() })
}

fn recipients(transaction: &Transaction<'_>, delivery: &Delivery, live: &Live, names: &HashMap<String, String>) -> Result<Vec<Recipient>> {
    let mut select = transaction.prepare_cached(
        "SELECT r.user, received_at_ms, how, s.node FROM recipients r LEFT JOIN sockets s ON s.session = r.session WHERE notice = ?1 ORDER BY r.user",
    )?;
    let rows = select.query_map([delivery.notice], |row| {
        let user: String = row.get(0)?;
        let name = names.get(&user).cloned().unwrap_or_else(|| user.clone());
        Ok(Recipient { user, name, received_at_ms: row.get(1)?, how: row.get(2)?, node: row.get(3)?, why_not: None })
    })?;
    let mut recipients: Vec<Recipient> = rows.collect::<Result<_>>()?;
    for recipient in recipients.iter_mut().filter(|recipient| recipient.how.as_deref() != Some("live")) {
        let sockets = sockets(transaction, &recipient.user)?;
        recipient.why_not = Some(why_not(delivery, &sockets, live, now_ms()));
    }
    Ok(recipients)
}

/// A user's last sockets, newest first.
fn sockets(transaction: &Transaction<'_>, user: &str) -> Result<Vec<Socket>> {
    let mut select = transaction.prepare_cached(
        "SELECT session, node, opened_at_ms, closed_at_ms, why FROM sockets WHERE user = ?1 ORDER BY opened_at_ms DESC LIMIT ?2",
    )?;
    let sockets = select.query_map(params![user, 20], |row| {
        Ok(Socket { session: row.get(0)?, node: row.get(1)?, opened_at_ms: row.get(2)?, closed_at_ms: row.get(3)?, why: row.get(4)? })
    })?;
    sockets.collect()
}

/// Why a recipient has not got a notice, or not from the socket.
fn why_not(delivery: &Delivery, sockets: &[Socket], live: &Live, now_ms: i64) -> String {
    let sent_at_ms = match delivery.state {
        Sending::Refused => return "it was refused and not sent".to_owned(),
        Sending::Pending => return "it is not sent yet".to_owned(),
        // A node that dies right after publishing does not write the moment down.
        Sending::Sent => delivery.sent_at_ms.unwrap_or(delivery.at_ms),
    };
    let was_open = |socket: &&Socket| socket.opened_at_ms <= sent_at_ms && socket.closed_at_ms.is_none_or(|closed| closed > sent_at_ms);
    let Some(socket) = sockets.iter().find(was_open) else {
        return match sockets.iter().find(|socket| socket.closed_at_ms.is_some_and(|closed| closed <= sent_at_ms)) {
            Some(Socket { node, why: Some(why), .. }) => format!("was not connected; the last socket, to {node}, had ended: {why}"),
            Some(_) => "was not connected".to_owned(),
            None if sockets.is_empty() => "has not been connected".to_owned(),
            None => "was not connected yet".to_owned(),
        };
    };
    let node = &socket.node;
    if let Some(why) = &socket.why {
        return format!("was connected to {node}, which had no answer before the socket ended: {why}");
    }
    match &live.sessions {
        Some(sessions) if !sessions.contains(&socket.session) => format!("was connected to {node}, which is gone without a goodbye"),
        None => format!("connected to {node}, which cannot be asked at the moment"),
        Some(_) if now_ms - sent_at_ms < PROMPT_MS => "is on its way".to_owned(),
        Some(_) => format!("connected to {node}, but the page has not said that it has it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(session: &str, opened: i64, closed: Option<(i64, &str)>) -> Socket {
        let why = closed.map(|(_, why)| why.to_owned());
        Socket { session: session.to_owned(), node: "n1".to_owned(), opened_at_ms: opened, closed_at_ms: closed.map(|(at, _)| at), why }
    }

    #[track_caller]
    fn check(state: Sending, sockets: &[Socket], sessions: Option<&[&str]>, now_ms: i64, expected: &str) {
        let sent_at_ms = (state == Sending::Sent).then_some(1_000);
        let (message, actor) = (String::new(), String::new());
        let delivery = Delivery { notice: 1, message, actor, at_ms: 900, state, why: None, sent_at_ms, recipients: Vec::new() };
        let sessions = sessions.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!(why_not(&delivery, sockets, &Live { sessions, trouble: None }, now_ms), expected);
    }

    #[test]
    fn an_operator_is_told_why_somebody_did_not_get_a_notice() {
        let open = [socket("a", 500, None)];
        check(Sending::Pending, &open, Some(&["a"]), 1_100, "it is not sent yet");
        check(Sending::Refused, &open, Some(&["a"]), 1_100, "it was refused and not sent");
        check(Sending::Sent, &open, Some(&["a"]), 1_100, "is on its way");
        check(Sending::Sent, &open, Some(&["a"]), 9_000, "connected to n1, but the page has not said that it has it");
        check(Sending::Sent, &open, Some(&[]), 9_000, "was connected to n1, which is gone without a goodbye");
        check(Sending::Sent, &open, None, 9_000, "connected to n1, which cannot be asked at the moment");
        check(Sending::Sent, &[], Some(&[]), 9_000, "has not been connected");
        check(Sending::Sent, &[socket("a", 2_000, None)], Some(&["a"]), 9_000, "was not connected yet");
        let ended = "was not connected; the last socket, to n1, had ended: client_left";
        check(Sending::Sent, &[socket("a", 1, Some((900, "client_left")))], Some(&[]), 9_000, ended);
        let cut = "was connected to n1, which had no answer before the socket ended: no_pong";
        check(Sending::Sent, &[socket("a", 1, Some((1_500, "no_pong")))], Some(&[]), 9_000, cut);
    }
}
