//! Questions about topics: `history`, `state` and `channels`.

use broker_core::{Position, Refusal, Since, Topic};

use super::{entries_max, since, topic};
use crate::api::{
    json::{Fields, Value},
    pattern::Pattern,
};

/// Read what was sent to a topic.
#[derive(Debug)]
pub(crate) struct HistoryCall {
    pub(crate) topic: Topic,
    pub(crate) since: Option<Since>,
    /// Most publications; 0: only the position is asked. The engine has a bound of its own.
    pub(crate) limit: usize,
    pub(crate) reverse: bool,
}

/// Read the newest publication of each key of a topic.
#[derive(Debug)]
pub(crate) struct StateCall {
    pub(crate) topic: Topic,
    pub(crate) cursor: Option<Position>,
    /// Most rows; 0: only the position is asked. The engine has a bound of its own.
    pub(crate) limit: usize,
}

/// List topics that have listeners.
#[derive(Debug)]
pub(crate) struct ChannelsCall {
    pub(crate) pattern: Option<Pattern>,
    pub(crate) limit: usize,
}

impl HistoryCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["channel", "limit", "since", "reverse"])?;
        let limit = limit(&fields, 0)?;
        let since = fields.optional("since").map(since).transpose()?;
        Ok(Self { topic: topic(&fields)?, since, limit, reverse: fields.flag("reverse")? })
    }
}

impl StateCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["channel", "limit", "cursor"])?;
        let cursor = match (fields.optional("cursor"), fields.text("cursor")?) {
            (Some(value), Some(text)) if !text.is_empty() => {
                Some(text.parse().map_err(|_| value.refuse("is no cursor").hint("give the `next` of the page before, as it was"))?)
            }
            _ => None,
        };
        Ok(Self { topic: topic(&fields)?, cursor, limit: limit(&fields, usize::MAX)? })
    }
}

/// Most entries of an answer, or what holds where nothing is said.
fn limit(fields: &Fields<'_>, otherwise: usize) -> Result<usize, Refusal> {
    match fields.optional("limit") {
        // As Centrifugo has it: -1 asks for everything.
        Some(limit) if limit.json() == "-1" => Ok(usize::MAX),
        Some(limit) => limit.number(),
        None => Ok(otherwise),
    }
}

impl ChannelsCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["pattern", "limit"])?;
        Ok(Self { pattern: pattern(&fields)?, limit: entries_max(&fields)? })
    }
}

/// Which names are listed; `None`: all.
pub(super) fn pattern(fields: &Fields<'_>) -> Result<Option<Pattern>, Refusal> {
    match (fields.optional("pattern"), fields.text("pattern")?) {
        (Some(value), Some(text)) => Pattern::parse(&text).map(Some).map_err(|bad| value.refuse(&bad.message())),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Call, testing::*},
        *,
    };

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        check("history", r#"{"channel":"a","limit":"9"}"#, "limit must be a whole number, not a string", Some(23));
        check("history", r#"{"channel":"a","limit":-2}"#, "limit must not be negative", Some(23));
        check("history", r#"{"channel":"a","limit":1.5}"#, "limit must be a whole number of at most 64 bits", Some(23));
        check("history", r#"{"channel":"a","since":"7@x"}"#, "since must be an object, not a string", Some(23));
        check("history", r#"{"channel":"a","since":{"offset":7}}"#, "since.epoch is missing", None);
        check("history", r#"{"channel":"a","since":{"offset":7,"epoch":9}}"#, "since.epoch must be a string, not a number", Some(43));
        check("state", r#"{"channel":"a","cursor":"7"}"#, "cursor is no cursor", Some(24));
        check("channels", r#"{"pattern":"a["}"#, "pattern has a [ that is not closed", Some(11));
    }

    #[test]
    fn history_is_asked_as_in_centrifugo() {
        let check = |body: &str, since: Option<Since>, limit: usize, reverse: bool| {
            let Call::History(call) = read("history", body).unwrap() else { panic!() };
            assert_eq!((call.since, call.limit, call.reverse), (since, limit, reverse), "{body}");
        };
        let position = Since::Position(Position { offset: 7, epoch: "Bx3k".parse().unwrap() });
        check(r#"{"channel":"a"}"#, None, 0, false);
        check(r#"{"channel":"a","limit":-1,"reverse":true}"#, None, usize::MAX, true);
        check(r#"{"channel":"a","limit":5,"since":{"offset":7,"epoch":"Bx3k"}}"#, Some(position), 5, false);
        check(r#"{"channel":"a","limit":5,"since":{"offset":0,"epoch":""}}"#, Some(Since::Beginning), 5, false);
    }
}
