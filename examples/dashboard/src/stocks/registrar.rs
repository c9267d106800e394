//! What each session has registered, by group, and what a frame changes about it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use broker::{Action, HistoryPage, Payload, SessionId};
use serde_json::{Value, json};

use super::frames::{Mistake, Order, Registration, Request, read};

type Groups = BTreeMap<String, BTreeSet<Registration>>;

/// Remembers registrations while sessions last. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Registrar(Arc<Mutex<HashMap<SessionId, Groups>>>);

impl Registrar {
    /// What to do about a frame of a session: an answer first, then subscriptions, so that the answer precedes the first tick. A bad frame is answered
    /// too, and the socket lives on.
    pub fn take(&self, session: SessionId, frame: &[u8]) -> Vec<Action> {
        let request = match read(frame) {
            Ok(request) => request,
            Err(mistakes) => return vec![Action::Reply(answer(Value::Null, None, &[], &mistakes))],
        };
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = sessions.entry(session).or_default();
        let before: BTreeSet<_> = groups.values().flatten().copied().collect();
        apply(groups, &request);
        let after: BTreeSet<_> = groups.values().flatten().copied().collect();
        if after.is_empty() {
            sessions.remove(&session);
        }
        let trnm = if request.order == Order::Remove { "REMOVE" } else { "REG" };
        let reply = Action::Reply(answer(trnm.into(), Some(&request.group), &request.registrations, &request.mistakes));
        let ended = before.difference(&after).map(|one| Action::Unsubscribe(one.topic()));
        let begun = after.difference(&before).map(|one| Action::Subscribe(one.topic()));
        std::iter::once(reply).chain(ended).chain(begun).collect()
    }

    /// A session has ended.
    pub fn forget(&self, session: SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }
}

/// Changes the groups. A group without registrations is no group, so that there are never more than registrations.
fn apply(groups: &mut Groups, request: &Request) {
    let group = groups.entry(request.group.clone()).or_default();
    match request.order {
        Order::Remove => group.retain(|one| !request.registrations.contains(one)),
        Order::Register { keep } => {
            // A frame without one good element is a mistake, and no wish to have nothing.
            if !keep && !request.registrations.is_empty() {
                group.clear();
            }
            group.extend(&request.registrations);
        }
    }
    groups.retain(|_, registrations| !registrations.is_empty());
}

fn answer(trnm: Value, group: Option<&str>, registrations: &[Registration], mistakes: &[Mistake]) -> Payload {
    let message = match mistakes {
        [] => String::new(),
        [one] => format!("{}: {}", one.path, one.message),
        [first, ..] => format!("{} mistakes, the first at {}: {}", mistakes.len(), first.path, first.message),
    };
    let answer = json!({
        "trnm": trnm, "return_code": i32::from(!mistakes.is_empty()), "return_msg": message,
        "grp_no": group, "data": registrations, "errors": mistakes,
    });
    Payload::json(answer.to_string())
}

/// The newest ticks of a topic as one frame, oldest first: what a new registration gets first. `None`: there are none.
pub fn snapshot(newest_first: &HistoryPage) -> Option<Payload> {
    let mut data = Vec::new();
    for publication in newest_first.publications.iter().rev() {
        let mut frame: Value = serde_json::from_slice(publication.data.bytes()).ok()?;
        if let Some(Value::Array(ticks)) = frame.get_mut("data").map(Value::take) {
            data.extend(ticks);
        }
    }
    (!data.is_empty()).then(|| Payload::json(json!({"trnm": "REAL", "data": data}).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> (Registrar, SessionId) {
        (Registrar::default(), SessionId::from_random(7))
    }

    fn frame(trnm: &str, group: &str, refresh: &str, items: &[&str]) -> String {
        json!({"trnm": trnm, "grp_no": group, "refresh": refresh, "data": [{"item": items, "type": ["0B"]}]}).to_string()
    }

    /// What a frame begins (`+`) and ends (`-`).
    #[track_caller]
    fn check(registrar: &Registrar, session: SessionId, frame: &str, expected: &[&str]) {
        let actions = registrar.take(session, frame.as_bytes());
        assert!(matches!(actions[0], Action::Reply(_)), "{actions:?}");
        let changes = actions[1..].iter().map(|action| match action {
            Action::Subscribe(topic) => format!("+{}", &topic.as_str()[6..12]),
            Action::Unsubscribe(topic) => format!("-{}", &topic.as_str()[6..12]),
            other => panic!("{other:?}"),
        });
        assert_eq!(changes.collect::<Vec<_>>(), expected, "{frame}");
    }

    #[test]
    fn refresh_1_keeps_earlier_registrations_and_0_drops_them() {
        let (registrar, session) = session();
        check(&registrar, session, &frame("REG", "1", "1", &["005930"]), &["+005930"]);
        check(&registrar, session, &frame("REG", "1", "1", &["000660", "005930"]), &["+000660"]);
        check(&registrar, session, &frame("REG", "1", "0", &["035420", "005930"]), &["-000660", "+035420"]);
        check(&registrar, session, &frame("REG", "1", "0", &["wrong"]), &[]);
        check(&registrar, session, &frame("REMOVE", "1", "1", &["005930", "035420"]), &["-005930", "-035420"]);
        assert!(registrar.0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_item_ends_when_no_group_has_it() {
        let (registrar, session) = session();
        check(&registrar, session, &frame("REG", "1", "1", &["005930"]), &["+005930"]);
        check(&registrar, session, &frame("REG", "2", "1", &["005930"]), &[]);
        check(&registrar, session, &frame("REMOVE", "1", "1", &["005930"]), &[]);
        check(&registrar, session, &frame("REMOVE", "2", "1", &["005930"]), &["-005930"]);
    }

    #[test]
    fn a_bad_frame_is_answered_and_changes_nothing() {
        let (registrar, session) = session();
        check(&registrar, session, "{\"trnm\":", &[]);
        check(&registrar, session, r#"{"trnm":"REG"}"#, &[]);
        assert!(registrar.0.lock().unwrap().is_empty());
    }
}
