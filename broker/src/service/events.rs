//! What a URL asks for over server-sent events: the topics, and from where each resumes.
//!
//! spec: the plain protocol, "SSE"

use broker_core::{Position, Refusal, RefusalKind, Since, Subscribe, Topic};
use broker_http::SseTopics;
use broker_protocol::{CURSOR_TOPICS_MAX, Format, Sse, SseCursor, TopicKey};

use super::{
    plain::{names, protocol, selection},
    query::Query,
};

/// A connection as its URL, and the header of a client that comes back, ask for it.
#[derive(Debug)]
pub(crate) struct EventsRequest {
    pub(crate) protocol: Sse,
    pub(crate) subscriptions: Vec<Subscribe>,
    /// For topics that the server chooses.
    pub(crate) cursor: Option<SseCursor>,
}

impl EventsRequest {
    /// Reads the query of a path that means `topics` and this format. `needs_topic`: only the URL can name topics there.
    pub(crate) fn read(
        topics: Vec<Topic>,
        format: Format,
        query: &Query,
        dev: bool,
        last_event_id: Option<&str>,
        needs_topic: bool,
    ) -> Result<Self, Refusal> {
        let topics = names(topics, query)?;
        if topics.is_empty() && needs_topic {
            return Err(
                Refusal::bad_request("no topic is named").hint("name it in the path, /sse/{topic}, or in the query, /sse?topic=a&topic=b")
            );
        }
        if topics.len() > CURSOR_TOPICS_MAX {
            let text = format!("a stream of events has at most {CURSOR_TOPICS_MAX} topics, there are {}", topics.len());
            return Err(Refusal::new(RefusalKind::LimitExceeded, text).hint("open another stream, or a WebSocket"));
        }
        if query.first("resume").is_some() {
            let refusal = Refusal::bad_request("the parameter `resume` is for WebSockets");
            return Err(refusal.hint("a stream of events resumes all its topics with `since` and the last `id:` that it sent"));
        }
        let protocol = Sse { plain: protocol(format, query, dev)? };
        let selection = selection(query)?;
        let from = From::read(query, last_event_id, topics.len())?;
        let subscriptions = topics.into_iter().map(|topic| {
            let since = from.since(&topic);
            let mut subscribe = Subscribe::new(topic).selection(selection.clone());
            subscribe.since = since;
            subscribe
        });
        let subscriptions = subscriptions.collect();
        let cursor = if let From::Cursor(cursor) = from { Some(cursor) } else { None };
        Ok(Self { protocol, subscriptions, cursor })
    }

    /// The topics as the writer of `id:` lines needs them.
    pub(crate) fn topics(&self) -> SseTopics {
        let of_url = self.subscriptions.iter().map(|subscribe| {
            let position = match subscribe.since {
                Some(Since::Position(position)) => Some(position),
                _ => None,
            };
            (TopicKey::of(subscribe.topic.local()), position)
        });
        let of_url: Vec<_> = of_url.collect();
        let mut others: Vec<(TopicKey, Position)> = self.cursor.iter().flat_map(SseCursor::topics).copied().collect();
        others.retain(|(topic, _)| of_url.iter().all(|(of_url, _)| of_url != topic));
        SseTopics { of_url, others }
    }
}

/// From where a connection resumes.
#[derive(Debug, Eq, PartialEq)]
enum From {
    Now,
    Beginning,
    Cursor(SseCursor),
    /// The client came with something, and nobody knows what it means.
    Unreadable,
}

impl From {
    /// What the browser remembers beats what the page wrote into the URL when it was loaded.
    ///
    /// A bad `since` is the mistake of whoever wrote the URL, who can put it right. A bad `Last-Event-ID` is nobody's: a browser sends what it has,
    /// perhaps of another server that stood here, and would give up for ever at a refusal. It gets its topics, and is told that it cannot resume.
    fn read(query: &Query, last_event_id: Option<&str>, topics: usize) -> Result<Self, Refusal> {
        if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
            return Ok(match SseCursor::parse(id) {
                // A position says nothing of the other topics.
                Ok(SseCursor::Single(_)) if topics != 1 => Self::Unreadable,
                Ok(cursor) => Self::Cursor(cursor),
                Err(_) => Self::Unreadable,
            });
        }
        match query.first("since") {
            None => Ok(Self::Now),
            Some("0") => Ok(Self::Beginning),
            Some(since) => match SseCursor::parse(since) {
                Ok(SseCursor::Single(_)) if topics != 1 => {
                    let refusal =
                        Refusal::bad_request(format!("a position in the parameter `since` needs exactly one topic, there are {topics}"));
                    Err(refusal.hint("use the last `id:` of the stream, which stands for all its topics, or 0"))
                }
                Ok(cursor) => Ok(Self::Cursor(cursor)),
                Err(error) => {
                    let refusal = Refusal::bad_request(format!("the parameter `since`: {error}"));
                    Err(refusal.hint("use what `id:` or `position` said, or 0 for all that is kept"))
                }
            },
        }
    }

    fn since(&self, topic: &Topic) -> Option<Since> {
        match self {
            Self::Now => None,
            Self::Beginning => Some(Since::Beginning),
            Self::Cursor(SseCursor::Single(position)) => Some(Since::Position(*position)),
            Self::Cursor(cursor) => cursor.since(topic.local()),
            Self::Unreadable => Some(Since::Unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_protocol::{no_history, write_cursor};

    use super::*;

    #[test]
    fn the_id_of_a_client_that_comes_back_beats_the_url() {
        check("topic=a", None, Ok("a"));
        check("topic=a&since=0", None, Ok("a since Beginning"));
        check("topic=a&topic=b&since=0", None, Ok("a since Beginning, b since Beginning"));
        check("topic=a&since=17@x", None, Ok("a since 17@x"));
        check("topic=a&since=17@x", Some("18@x"), Ok("a since 18@x"));
        check("topic=a&since=17@x", Some(""), Ok("a since 17@x"));
        let cursor = cursor(&[("a", "3@x"), ("c", "9@y")]);
        check("topic=a&topic=b", Some(&cursor), Ok("a since 3@x, b"));
        check(&format!("topic=c&since={cursor}"), None, Ok("c since 9@y"));
        check("topic=a", Some("0@-"), Ok("a since 0@-"));
    }

    #[test]
    fn a_foreign_id_is_told_as_a_gap_and_a_foreign_since_is_refused() {
        check("topic=a&topic=b", Some("42"), Ok("a since Unreadable, b since Unreadable"));
        check("topic=a&topic=b", Some("17@x"), Ok("a since Unreadable, b since Unreadable"));
        check("topic=a", Some(&"x".repeat(100_000)), Ok("a since Unreadable"));
        let foreign = "the parameter `since`: this is neither a position (offset@epoch) nor a cursor that this server sent as `id:`";
        check("topic=a&since=42", None, Err(foreign));
        check("topic=a&since=1.AAAA", None, Err("the parameter `since`: the cursor is damaged; it must come back exactly as it was sent"));
        check("topic=a&topic=b&since=1@x", None, Err("a position in the parameter `since` needs exactly one topic, there are 2"));
    }

    #[test]
    fn a_stream_has_topics_and_not_too_many() {
        check("", None, Err("no topic is named"));
        let many = |count: usize| (0..count).map(|n| format!("topic={n}")).collect::<Vec<_>>().join("&");
        check(&many(129), None, Err("a stream of events has at most 128 topics, there are 129"));
        assert_eq!(read(&many(128), None).unwrap().topics().of_url.len(), 128);
    }

    #[test]
    fn a_topic_without_history_is_resumed_from_nowhere() {
        let read = read("topic=a", Some(&no_history().to_string())).unwrap();
        assert_eq!(read.topics().of_url, [(TopicKey::of("a"), Some(no_history()))]);
    }

    fn cursor(topics: &[(&str, &str)]) -> String {
        let topics: Vec<_> = topics.iter().map(|(topic, at)| (TopicKey::of(topic), at.parse().unwrap())).collect();
        let mut out = Vec::new();
        write_cursor(&topics, true, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn read(query: &str, last_event_id: Option<&str>) -> Result<EventsRequest, Refusal> {
        EventsRequest::read(Vec::new(), Format::Raw, &Query::parse(query).unwrap(), false, last_event_id, true)
    }

    #[track_caller]
    fn check(query: &str, last_event_id: Option<&str>, expected: Result<&str, &str>) {
        let read = read(query, last_event_id).map_err(|refusal| refusal.message.into_owned()).map(|request| {
            let topics = request.subscriptions.iter().map(|subscribe| match subscribe.since {
                None => subscribe.topic.to_string(),
                Some(Since::Position(position)) => format!("{} since {position}", subscribe.topic),
                Some(since) => format!("{} since {since:?}", subscribe.topic),
            });
            topics.collect::<Vec<_>>().join(", ")
        });
        assert_eq!(read.as_deref().map_err(String::as_str), expected);
    }
}
