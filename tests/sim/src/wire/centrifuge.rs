//! The Centrifuge protocol as a client library speaks it.

use broker_core::{Position, Since};
use serde_json::{Value, json};

use super::{Ask, Heard, Word, topic};

pub(super) fn say(id: u64, ask: &Ask) -> String {
    let value = match ask {
        Ask::Connect { token } => json!({"id": id, "connect": {"token": token}}),
        Ask::Subscribe { topic, since, wants } => {
            let mut subscribe = json!({"channel": topic.as_str()});
            if let Some(Since::Position(since)) = since {
                subscribe["recover"] = json!(true);
                subscribe["offset"] = json!(since.offset);
                subscribe["epoch"] = json!(since.epoch.as_str());
            }
            wants.write("tf", &mut subscribe);
            json!({"id": id, "subscribe": subscribe})
        }
        Ask::Unsubscribe { topic } => json!({"id": id, "unsubscribe": {"channel": topic.as_str()}}),
        Ask::Publish { topic, payload, .. } => {
            return format!(r#"{{"id":{id},"publish":{{"channel":"{}","data":{payload}}}}}"#, topic.as_str());
        }
        Ask::History { topic, .. } => json!({"id": id, "history": {"channel": topic.as_str(), "limit": -1}}),
        Ask::Refresh { token } => json!({"id": id, "refresh": {"token": token}}),
        Ask::Pong => json!({}),
    };
    value.to_string()
}

pub(super) fn hear(value: &Value) -> Option<Word> {
    if value.as_object()?.is_empty() {
        return Some(Word::Ping);
    }
    if let Some(push) = value.get("push") {
        return Some(heard_push(push).unwrap_or(Word::Other));
    }
    let id = value["id"].as_u64()?;
    if let Some(error) = value.get("error") {
        return Some(Word::Refused { id: Some(id), code: error["code"].as_u64()? });
    }
    if let Some(result) = value.get("subscribe") {
        let resumed = result["was_recovering"].as_bool().unwrap_or(false);
        return Some(Word::Subscribed {
            id: Some(id),
            topic: None,
            position: place(result),
            recovered: resumed.then(|| result["recovered"].as_bool().unwrap_or(false)),
            snapshot: result.get("data").map(Value::to_string),
            missed: publications(&result["publications"]),
        });
    }
    if let Some(result) = value.get("history") {
        return Some(Word::History { id, publications: publications(&result["publications"]), position: place(result) });
    }
    Some(Word::Done { id })
}

fn heard_push(push: &Value) -> Option<Word> {
    let topic = topic(&push["channel"])?;
    if let Some(publication) = push.get("pub") {
        return Some(Word::Publication { topic: Some(topic), heard: heard(publication) });
    }
    push.get("unsubscribe").map(|_| Word::Ended { topic })
}

fn publications(value: &Value) -> Vec<Heard> {
    value.as_array().map_or_else(Vec::new, |all| all.iter().map(heard).collect())
}

fn heard(publication: &Value) -> Heard {
    Heard { offset: publication["offset"].as_u64(), ..Heard::of(publication) }
}

/// A zero is left out.
fn place(result: &Value) -> Option<Position> {
    let epoch = result["epoch"].as_str().filter(|epoch| !epoch.is_empty())?;
    Some(Position { offset: result["offset"].as_u64().unwrap_or(0), epoch: epoch.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, word: Word) {
        assert_eq!(hear(&serde_json::from_str(message).unwrap()), Some(word));
    }

    #[test]
    fn answers_and_pushes_are_understood() {
        let heard = |offset| Heard { offset: Some(offset), ..Heard::bare(r#"{"n":1}"#.to_owned()) };
        check("{}", Word::Ping);
        check(r#"{"id":2,"error":{"code":105,"message":"x"}}"#, Word::Refused { id: Some(2), code: 105 });
        check(
            r#"{"id":3,"subscribe":{"recoverable":true,"epoch":"abc","publications":[{"data":{"n":1},"offset":5}],"recovered":true,"offset":4,"positioned":true,"was_recovering":true}}"#,
            Word::Subscribed {
                id: Some(3),
                topic: None,
                position: "4@abc".parse().ok(),
                recovered: Some(true),
                snapshot: None,
                missed: vec![heard(5)],
            },
        );
        let topic = Some("cut:a".parse().unwrap());
        check(r#"{"push":{"channel":"cut:a","pub":{"data":{"n":1},"offset":6}}}"#, Word::Publication { topic, heard: heard(6) });
        check(r#"{"push":{"channel":"cut:a","unsubscribe":{"code":2500}}}"#, Word::Ended { topic: "cut:a".parse().unwrap() });
    }
}
