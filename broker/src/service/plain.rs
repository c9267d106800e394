//! What the URL of the plain protocol asks for: topics, format, notices, where to resume.
//!
//! spec: the plain protocol, "Connecting"

use broker_core::{Refusal, RefusalKind, Selection, Since, Subscribe, Topic};
use broker_protocol::{Format, Plain, read_filter, update_interval};

use super::query::Query;

/// Most topics that one URL resumes.
const RESUMES_MAX: usize = 128;

/// A connection as its URL asks for it.
#[derive(Debug)]
pub(crate) struct PlainRequest {
    pub(crate) protocol: Plain,
    pub(crate) subscriptions: Vec<Subscribe>,
    /// From where to resume topics that the URL does not name and the server may choose.
    pub(crate) resume: Vec<(Topic, Since)>,
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
        let mut resume = resumes(query)?;
        for subscription in &mut subscriptions {
            let Some(at) = resume.iter().position(|(topic, _)| *topic == subscription.topic) else { continue };
            let (topic, since) = resume.swap_remove(at);
            if subscription.since.replace(since).is_some() {
                return Err(
                    Refusal::bad_request(format!("`since` and `resume` both say where {topic} resumes")).hint("leave one of them out")
                );
            }
        }
        Ok(Self { protocol: protocol(format, query, dev)?, subscriptions, resume })
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

/// What is wanted of every topic of the URL, and how often.
pub(crate) fn selection(query: &Query) -> Result<Selection, Refusal> {
    let mut selection = Selection::ALL;
    if let Some(rate) = query.first("rate") {
        let interval = update_interval(rate);
        let interval =
            interval.ok_or_else(|| Refusal::bad_request("the parameter `rate` must be a number of updates per second, at most 1000"))?;
        selection = selection.pace(interval);
    }
    if let Some(filter) = query.first("filter") {
        let filter = read_filter(filter).map_err(|why| Refusal::bad_request(format!("the parameter `filter` {why}")))?;
        selection = selection.filter(filter);
    }
    Ok(selection)
}

/// The pairs of `resume=topic,position`: a name may have commas, a position has none.
fn resumes(query: &Query) -> Result<Vec<(Topic, Since)>, Refusal> {
    let mut resumes: Vec<(Topic, Since)> = Vec::new();
    for pair in query.all("resume") {
        let form = || Refusal::bad_request("the parameter `resume` has the form topic,position, as `group:ops,17@Bx3k`");
        let (topic, since) = pair.rsplit_once(',').ok_or_else(form)?;
        let topic: Topic = topic.parse().map_err(|error| Refusal::bad_request(format!("the parameter `resume`: {error}")))?;
        if topic.tenant().is_some() {
            let refusal = Refusal::bad_request(format!("the parameter `resume`: {topic} has the prefix of a tenant"));
            return Err(refusal.hint("name the topic as `subscribed` named it"));
        }
        let since = since.parse().map_err(|error| Refusal::bad_request(format!("the parameter `resume`: {error}")))?;
        if resumes.iter().any(|(earlier, _)| *earlier == topic) {
            return Err(Refusal::bad_request(format!("the parameter `resume` names {topic} twice")));
        }
        if resumes.len() == RESUMES_MAX {
            let refusal = Refusal::new(RefusalKind::LimitExceeded, format!("a URL resumes at most {RESUMES_MAX} topics"));
            return Err(refusal.hint("resume each topic with a `subscribe` command of its own"));
        }
        resumes.push((topic, since));
    }
    Ok(resumes)
}

fn since(query: &Query, topics: usize) -> Result<Option<Since>, Refusal> {
    let Some(since) = query.first("since") else { return Ok(None) };
    if topics != 1 {
        let refusal = Refusal::bad_request(format!("the parameter `since` needs exactly one topic, there are {topics}"));
        return Err(refusal.hint("resume each topic with `resume=topic,position`, or with a `subscribe` command of its own"));
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
        check("topic=b&since=0", Ok("Raw true [b since 0]"));
        check("topic=a&topic=b&resume=b,17@x&resume=group:a,b,0", Ok("Raw true [a, b since 17@x] group:a,b since 0"));
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
        check("resume=17@x", Err("the parameter `resume` has the form topic,position, as `group:ops,17@Bx3k`"));
        check("resume=a,17", Err("the parameter `resume`: a position has the form offset@epoch, as it was received"));
        check("resume=tenant:x/a,0", Err("the parameter `resume`: tenant:x/a has the prefix of a tenant"));
        check("resume=,0", Err("the parameter `resume`: the topic is empty"));
        check("resume=a,0&resume=a,1@x", Err("the parameter `resume` names a twice"));
        check("topic=a&since=0&resume=a,1@x", Err("`since` and `resume` both say where a resumes"));
        let many = (0..129).map(|n| format!("resume={n},0")).collect::<Vec<_>>().join("&");
        check(&many, Err("a URL resumes at most 128 topics"));
        check(
            "filter=x",
            Err("the parameter `filter` is no filter: an object with key, cmp and val or vals, or with op and nodes, all of them text"),
        );
        check("rate=0", Err("the parameter `rate` must be a number of updates per second, at most 1000"));
    }

    #[track_caller]
    fn check(query: &str, expected: Result<&str, &str>) {
        let read = PlainRequest::read(Vec::new(), Format::Raw, &Query::parse(query).unwrap(), false);
        let read = read.map_err(|refusal| refusal.message.into_owned()).map(|PlainRequest { protocol, subscriptions, resume }| {
            let topics: Vec<String> = subscriptions
                .iter()
                .map(|subscribe| match subscribe.since {
                    Some(since) => format!("{} since {}", subscribe.topic, written(since)),
                    None if !subscribe.selection.is_all() => format!("{} {:?}", subscribe.topic, subscribe.selection),
                    None => subscribe.topic.to_string(),
                })
                .collect();
            let others = resume.iter().map(|(topic, since)| format!(" {topic} since {}", written(*since))).collect::<Vec<_>>().concat();
            format!("{:?} {} [{}]{others}", protocol.format, protocol.notices, topics.join(", "))
        });
        assert_eq!(read.as_deref().map_err(String::as_str), expected);
    }

    fn written(since: Since) -> String {
        match since {
            Since::Position(position) => position.to_string(),
            Since::Beginning => "0".to_owned(),
            Since::Unreadable => "unreadable".to_owned(),
        }
    }
}
