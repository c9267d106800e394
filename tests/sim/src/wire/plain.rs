//! The plain protocol as a client without an SDK speaks it.

use broker_core::{Position, Since};
use serde_json::{Value, json};

use super::{Ask, Heard, Word, position, topic};

pub(super) fn say(id: u64, ask: &Ask) -> String {
    let value = match ask {
        Ask::Subscribe { topic, since, wants } => {
            let mut subscribe = json!({"broker": "subscribe", "id": id, "topic": topic.as_str()});
            match since {
                Some(Since::Position(since)) => subscribe["since"] = json!(since.to_string()),
                Some(Since::Beginning) => subscribe["since"] = json!("0"),
                Some(Since::Unreadable) | None => {}
            }
            wants.write("filter", &mut subscribe);
            subscribe
        }
        Ask::Unsubscribe { topic } => json!({"broker": "unsubscribe", "id": id, "topic": topic.as_str()}),
        Ask::Publish { topic, payload, key } => {
            let key = key.as_ref().map_or_else(String::new, |key| format!(r#","key":"{key}""#));
            return format!(r#"{{"broker":"publish","id":{id},"topic":"{}","data":{payload}{key}}}"#, topic.as_str());
        }
        Ask::History { topic, .. } => json!({"broker": "history", "id": id, "topic": topic.as_str()}),
        Ask::Connect { token } | Ask::Refresh { token } => json!({"broker": "authenticate", "id": id, "token": token}),
        // Every frame is a sign of life.
        Ask::Pong => json!({"broker": "ping"}),
    };
    value.to_string()
}

pub(super) fn hear(value: &Value) -> Option<Word> {
    let Some(word) = value.get("broker") else {
        return Some(match value.get("snap") {
            Some(_) => Word::Snapshot { topic: topic(&value["t"])?, data: value.to_string() },
            None => Word::Publication { topic: None, heard: Heard::bare(value.to_string()) },
        });
    };
    let id = value["id"].as_u64();
    Some(match word.as_str()? {
        "publication" => Word::Publication { topic: Some(topic(&value["topic"])?), heard: heard(value) },
        "subscribed" => Word::Subscribed {
            id,
            topic: Some(topic(&value["topic"])?),
            position: position(&value["position"]),
            recovered: value["recovered"].as_bool(),
            snapshot: None,
            missed: Vec::new(),
        },
        "snapshot" => Word::Snapshot { topic: topic(&value["topic"])?, data: value["data"].to_string() },
        "removed" => Word::Removed { topic: topic(&value["topic"])?, key: value["key"].as_str()?.to_owned() },
        "gap" => Word::Gap { topic: topic(&value["topic"])?, from: position(&value["from"]), to: position(&value["to"]) },
        "unsubscribed" => match id {
            Some(id) => Word::Done { id },
            None => Word::Ended { topic: topic(&value["topic"])? },
        },
        "error" => Word::Refused { id, code: value["code"].as_u64()? },
        "identity" => {
            let left = value["left"].as_array()?.iter().filter_map(topic).collect();
            Word::Identity { id, user: value["user"].as_str()?.to_owned(), left }
        }
        "ok" => match value.get("publications").and_then(Value::as_array) {
            Some(all) => Word::History { id: id?, publications: all.iter().map(heard).collect(), position: top(value) },
            None => Word::Done { id: id? },
        },
        _ => Word::Other,
    })
}

fn heard(publication: &Value) -> Heard {
    Heard { position: position(&publication["position"]), ..Heard::of(publication) }
}

fn top(value: &Value) -> Option<Position> {
    position(&value["position"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, word: Word) {
        assert_eq!(hear(&serde_json::from_str(message).unwrap()), Some(word));
    }

    #[test]
    fn frames_of_the_broker_and_payloads_are_told_apart() {
        let topic = || "cut:a".parse().unwrap();
        check(r#"{"t":"cut:a"}"#, Word::Publication { topic: None, heard: Heard::bare(r#"{"t":"cut:a"}"#.to_owned()) });
        check(
            r#"{"broker":"gap","topic":"cut:a","from":"2@x","to":"4@x","reason":"trimmed"}"#,
            Word::Gap { topic: topic(), from: "2@x".parse().ok(), to: "4@x".parse().ok() },
        );
        check(r#"{"broker":"unsubscribed","id":4,"topic":"cut:a"}"#, Word::Done { id: 4 });
        check(r#"{"broker":"unsubscribed","topic":"cut:a"}"#, Word::Ended { topic: topic() });
        check(
            r#"{"broker":"subscribed","id":1,"topic":"cut:a","position":"7@x","recovered":false}"#,
            Word::Subscribed {
                id: Some(1),
                topic: Some(topic()),
                position: "7@x".parse().ok(),
                recovered: Some(false),
                snapshot: None,
                missed: Vec::new(),
            },
        );
        check(r#"{"snap":7,"t":"cut:a"}"#, Word::Snapshot { topic: topic(), data: r#"{"snap":7,"t":"cut:a"}"#.to_owned() });
        check(r#"{"broker":"removed","topic":"cut:a","key":"k"}"#, Word::Removed { topic: topic(), key: "k".to_owned() });
        let gone = Heard { key: Some("k".to_owned()), removed: true, position: "8@x".parse().ok(), ..Heard::bare("null".to_owned()) };
        check(
            r#"{"broker":"publication","topic":"cut:a","position":"8@x","key":"k","removed":true}"#,
            Word::Publication { topic: Some(topic()), heard: gone },
        );
    }
}
