//! What the URL of the plain protocol asks for: topics, format, notices, where to resume.
//!
//! spec: the plain protocol, "Connecting"

use broker_core::{Refusal, Selection, Since, Subscribe, Topic};
use broker_protocol::{Format, Plain, update_interval};

use super::query::Query;

/// A connection as its URL asks for it.
#[derive(Debug)]
pub(crate) struct PlainRequest {
    pub(crate) protocol: Plain,
    pub(crate) subscriptions: Vec<Subscribe>,
}

impl PlainRequest {
    /// Reads the query of a path that means `topics` and this format.
    pub(crate) fn read(topics: Vec<Topic>, format: Format, query: &Query, dev: bool) -> Result<Self, Refusal> {
        let topics = names(topics, query)?;
        let selection = selection(query)?;
        let since = since(query, topics.len())?;
        let mut subscriptions: Vec<Subscribe> =
            topics.into_iter().map(|topic| Subscribe::new(topic).selection(selection.clone())).collect();
        if let [subscription] = subscriptions.as_mut_slice() {
            subscription.since = since;
        }
        Ok(Self { protocol: protocol(format, query, dev)?, subscriptions })
    }
}

/// The topics of the path, and those that the query adds.
pub(crate) fn names(mut topics: Vec<Topic>, query: &Query) -> Result<Vec<Topic>, Refusal> {
    for name in query.all("topic") {
        let topic: Topic = name.parse().map_err(|error| Refusal::bad_request(format!("the parameter `topic`: {error}")))?;
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    Ok(topics)
}

/// How the client wants to be spoken to; `format` is what the path means where the query does not say it.
pub(crate) fn protocol(format: Format, query: &Query, dev: bool) -> Result<Plain, Refusal> {
    let format = match query.first("format") {
        None => format,
        Some("raw") => Format::Raw,
        Some("envelope") => Format::Envelope,
        Some(_) => return Err(Refusal::bad_request("the parameter `format` is `raw` or `envelope`")),
    };
    let notices = match query.first("notices") {
        None | Some("on") => true,
        Some("off") => false,
        Some(_) => return Err(Refusal::bad_request("the parameter `notices` is `on` or `off`")),
    };
    Ok(Plain { format, notices, dev })
}

/// How often every topic of the URL may be told about.
pub(crate) fn selection(query: &Query) -> Result<Selection, Refusal> {
    let Some(rate) = query.first("rate") else { return Ok(Selection::ALL) };
    let interval = update_interval(rate);
    let interval =
        interval.ok_or_else(|| Refusal::bad_request("the parameter `rate` must be a number of updates per second, at most 1000"))?;
    Ok(Selection::ALL.pace(interval))
}

fn since(query: &Query, topics: usize) -> Result<Option<Since>, Refusal> {
    let Some(since) = query.first("since") else { return Ok(None) };
    if topics != 1 {
        let refusal = Refusal::bad_request(format!("the parameter `since` needs exactly one topic, there are {topics}"));
        return Err(refusal.hint("resume each topic with a `subscribe` command of its own"));
    }
    let since = since.parse().map_err(|error| Refusal::bad_request(format!("the parameter `since`: {error}")))?;
    Ok(Some(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_what_and_how() {
        check("", Ok("Raw true []"));
        check("format=envelope&notices=off", Ok("Envelope false []"));
        check("topic=b&topic=c&topic=b", Ok("Raw true [b, c]"));
        check("topic=b&since=0", Ok("Raw true [b since Beginning]"));
        check("topic=b&rate=4", Ok("Raw true [b Selection { filter: None, pace: Some(250ms) }]"));
    }

    #[test]
    fn mistakes_are_named() {
        check("topic=", Err("the parameter `topic`: the topic is empty"));
        check("format=json", Err("the parameter `format` is `raw` or `envelope`"));
        check("notices=no", Err("the parameter `notices` is `on` or `off`"));
        check("topic=a&since=17", Err("the parameter `since`: a position has the form offset@epoch, as it was received"));
        check("topic=a&topic=b&since=0", Err("the parameter `since` needs exactly one topic, there are 2"));
        check("since=0", Err("the parameter `since` needs exactly one topic, there are 0"));
        check("rate=0", Err("the parameter `rate` must be a number of updates per second, at most 1000"));
    }

    #[track_caller]
    fn check(query: &str, expected: Result<&str, &str>) {
        let read = PlainRequest::read(Vec::new(), Format::Raw, &Query::parse(query).unwrap(), false);
        let read = read.map_err(|refusal| refusal.message.into_owned()).map(|PlainRequest { protocol, subscriptions }| {
            let topics: Vec<String> = subscriptions
                .iter()
                .map(|subscribe| match subscribe.since {
                    Some(since) => format!("{} since {since:?}", subscribe.topic),
                    None if !subscribe.selection.is_all() => format!("{} {:?}", subscribe.topic, subscribe.selection),
                    None => subscribe.topic.to_string(),
                })
                .collect();
            format!("{:?} {} [{}]", protocol.format, protocol.notices, topics.join(", "))
        });
        assert_eq!(read.as_deref().map_err(String::as_str), expected);
    }
}
