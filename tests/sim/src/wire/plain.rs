//! The plain protocol as a client without an SDK speaks it.

use broker_core::{Position, Since};
use serde_json::{Value, json};

use super::{Ask, Heard, Word, position, topic};

pub(super) fn say(id: u64, ask: &Ask) -> String {
    let value = match ask {
        Ask::Subscribe { topic, since } => match since {
            Some(Since::Position(since)) => json!({"broker": "subscribe", "id": id, "topic": topic.as_str(), "since": since.to_string()}),
            Some(Since::Beginning) => json!({"broker": "subscribe", "id": id, "topic": topic.as_str(), "since": "0"}),
            Some(Since::Unreadable) | None => json!({"broker": "subscribe", "id": id, "topic": topic.as_str()}),
        },
        Ask::Unsubscribe { topic } => json!({"broker": "unsubscribe", "id": id, "topic": topic.as_str()}),
        Ask::Publish { topic, payload } => {
            return format!(r#"{{"broker":"publish","id":{id},"topic":"{}","data":{payload}}}"#, topic.as_str());
        }
        Ask::History { topic } => json!({"broker": "history", "id": id, "topic": topic.as_str()}),
        Ask::Connect { token } | Ask::Refresh { token } => json!({"broker": "authenticate", "id": id, "token": token}),
        // Every frame is a sign of life.
        Ask::Pong => json!({"broker": "ping"}),
    };
    value.to_string()
}

pub(super) fn hear(value: &Value) -> Option<Word> {
    let Some(word) = value.get("broker") else {
        return Some(Word::Publication { topic: None, heard: Heard { payload: value.to_string(), offset: None, position: None } });
    };
    let id = value["id"].as_u64();
    Some(match word.as_str()? {
        "publication" => Word::Publication { topic: Some(topic(&value["topic"])?), heard: heard(value) },
        "subscribed" => Word::Subscribed {
            id,
            topic: Some(topic(&value["topic"])?),
            position: position(&value["position"]),
            recovered: value["recovered"].as_bool(),
            missed: Vec::new(),
        },
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
    Heard { payload: publication["data"].to_string(), offset: None, position: position(&publication["position"]) }
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
        check(
            r#"{"t":"cut:a"}"#,
            Word::Publication { topic: None, heard: Heard { payload: r#"{"t":"cut:a"}"#.to_owned(), offset: None, position: None } },
        );
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
                missed: Vec::new(),
            },
        );
    }
}
