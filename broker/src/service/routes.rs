//! From a path to what is meant by it: which protocol, and which topics.

use broker_core::{Refusal, RefusalKind, Topic};
use broker_protocol::Format;

use super::query::{Query, decode};

/// A path of its own for a topic, or a pattern of topics.
///
/// Variables in braces stand for one segment of the path, or for a parameter of the query of that name.
///
/// ```
/// use broker::Route;
///
/// let route = Route::new("/ws/spc/product/{id}").topic("spc:product.{id}");
/// ```
#[derive(Clone, Debug)]
pub struct Route {
    path: String,
    topic: Option<String>,
    format: Format,
}

impl Route {
    /// A route at this path, with or without a trailing slash. It wins over `/ws/{topic}`.
    ///
    /// A path that begins with `/sse/` speaks server-sent events. Any other speaks WebSocket, and server-sent events to a client that asks for them
    /// with `Accept: text/event-stream`, as every `EventSource` does.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), topic: None, format: Format::Raw }
    }

    /// The topic that a connection at this path subscribes to. Without one, only hooks and groups give it topics.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// How publications are sent where the client does not say it. Default: [`Format::Raw`].
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }
}

/// The first segment of paths that speak server-sent events.
pub(crate) const EVENTS: &str = "sse";

/// Whether a path speaks server-sent events, whoever asks.
pub(crate) fn is_of_events(path: &str) -> bool {
    segments(path.trim_start_matches('/')).next() == Some(EVENTS)
}

/// All paths that are known.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    routes: Vec<Template>,
}

#[derive(Debug)]
struct Template {
    path: String,
    segments: Vec<Part>,
    topic: Option<Vec<Part>>,
    format: Format,
}

/// A piece of a template.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Variable(String),
}

/// What a path means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// The Centrifuge protocol; topics come with commands.
    Centrifuge,
    /// The plain protocol with the topics of the path; more may stand in the query.
    Plain { topics: Vec<Topic>, format: Format },
}

impl Routes {
    pub(crate) fn add(&mut self, route: Route) -> Result<(), InvalidRoute> {
        let invalid = |why| InvalidRoute { path: route.path.clone(), why };
        let path = route.path.strip_prefix('/').ok_or_else(|| invalid("the path does not begin with a slash"))?;
        let segments = segments(path).map(|segment| match parts(segment)?.as_slice() {
            [part] => Some(part.clone()),
            _ => None,
        });
        let segments: Option<Vec<Part>> = segments.collect();
        let segments = segments.ok_or_else(|| invalid("a variable stands for a whole segment, in braces: /ws/{id}"))?;
        let topic = match &route.topic {
            None => None,
            Some(topic) => Some(parts(topic).ok_or_else(|| invalid("a brace in the topic is not closed, or empty"))?),
        };
        self.routes.push(Template { path: route.path, segments, topic, format: route.format });
        Ok(())
    }

    /// What a path means; the query may hold variables of a route.
    pub(crate) fn resolve(&self, path: &str, query: &Query) -> Result<Target, Refusal> {
        let path = path.trim_start_matches('/');
        let found: Vec<&str> = segments(path).collect();
        for route in &self.routes {
            if let Some(captures) = route.captures(&found) {
                return route.target(&captures?, query);
            }
        }
        match found.as_slice() {
            ["connection", "websocket"] => Ok(Target::Centrifuge),
            ["ws" | EVENTS] => Ok(Target::Plain { topics: Vec::new(), format: Format::Raw }),
            ["ws" | EVENTS, topic] => {
                let topic = decode(topic).map_err(|error| Refusal::bad_request(error.to_string()))?;
                let topic = topic.parse().map_err(|error| Refusal::bad_request(format!("in the path: {error}")))?;
                Ok(Target::Plain { topics: vec![topic], format: Format::Raw })
            }
            [first @ ("ws" | EVENTS), rest @ ..] if self.routes.is_empty() => {
                Err(unknown(path).hint(format!("did you mean /{first}/{}?", rest.join("%2F"))))
            }
            _ => Err(self.unknown(path)),
        }
    }

    /// Whether a path is one of those that were added, and which need not name a topic.
    pub(crate) fn is_added(&self, path: &str) -> bool {
        let found: Vec<&str> = segments(path.trim_start_matches('/')).collect();
        self.routes.iter().any(|route| route.captures(&found).is_some())
    }

    /// No such path; names the nearest one.
    fn unknown(&self, path: &str) -> Refusal {
        let known =
            ["/connection/websocket", "/ws/{topic}", "/sse/{topic}"].into_iter().chain(self.routes.iter().map(|route| route.path.as_str()));
        let path: String = path.chars().take(255).collect();
        let nearest = known.min_by_key(|known| distance(known.trim_start_matches('/'), &path)).unwrap_or("/ws/{topic}");
        unknown(&path).hint(format!("did you mean {nearest}?"))
    }
}

fn unknown(path: &str) -> Refusal {
    let shown: String = path.chars().take(64).collect();
    Refusal::new(RefusalKind::UnknownTopic, format!("there is no route /{shown}"))
}

impl Template {
    /// The values of the variables, where the path is this route's.
    fn captures(&self, found: &[&str]) -> Option<Result<Vec<(&str, String)>, Refusal>> {
        if found.len() != self.segments.len() {
            return None;
        }
        let mut captures = Vec::new();
        for (segment, found) in self.segments.iter().zip(found) {
            match segment {
                Part::Text(text) if text == found => {}
                Part::Text(_) => return None,
                Part::Variable(name) => match decode(found) {
                    Ok(value) => captures.push((name.as_str(), value)),
                    Err(error) => return Some(Err(Refusal::bad_request(error.to_string()))),
                },
            }
        }
        Some(Ok(captures))
    }

    fn target(&self, captures: &[(&str, String)], query: &Query) -> Result<Target, Refusal> {
        let mut topics = Vec::new();
        if let Some(parts) = &self.topic {
            let mut name = String::new();
            for part in parts {
                match part {
                    Part::Text(text) => name.push_str(text),
                    Part::Variable(variable) => {
                        let captured = captures.iter().find(|(name, _)| name == variable).map(|(_, value)| value.as_str());
                        let value = captured.or_else(|| query.first(variable)).filter(|value| !value.is_empty());
                        let value = value.ok_or_else(|| Refusal::bad_request(format!("the parameter `{variable}` is missing")))?;
                        name.push_str(&Topic::encode_level(value));
                    }
                }
            }
            topics.push(name.parse().map_err(|error| Refusal::bad_request(format!("in the path: {error}")))?);
        }
        Ok(Target::Plain { topics, format: self.format })
    }
}

/// The route cannot be matched.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the route `{path}` cannot be used: {why}")]
pub struct InvalidRoute {
    path: String,
    why: &'static str,
}

/// The segments of a path without its leading slash; a trailing slash makes no segment.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_suffix('/').unwrap_or(path).split('/')
}

/// Cuts `a.{b}` into text and variables. `None`: a brace is not closed, or empty.
fn parts(template: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        if name.is_empty() || name.contains('{') {
            return None;
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        parts.push(Part::Variable(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Some(parts)
}

/// How many letters differ (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, found) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *found);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_paths_are_known_with_and_without_a_trailing_slash() {
        check("/connection/websocket", Ok((None, None)));
        check("/connection/websocket/", Ok((None, None)));
        check("/ws", Ok((Some(Format::Raw), None)));
        check("/ws/", Ok((Some(Format::Raw), None)));
        check("/ws/news", Ok((Some(Format::Raw), Some("news"))));
        check("/ws/news/", Ok((Some(Format::Raw), Some("news"))));
        check("/ws/chat%3A1", Ok((Some(Format::Raw), Some("chat:1"))));
        check("/ws/a%2Fb", Ok((Some(Format::Raw), Some("a/b"))));
    }

    #[test]
    fn a_bad_topic_or_encoding_is_a_bad_request() {
        check(
            "/ws/a%20b",
            Err("in the path: byte 1 of the topic is 0x20; only printable ASCII without spaces is allowed, percent-encode the rest"),
        );
        check("/ws/%", Err("`%` is not percent-encoded UTF-8"));
        check("/ws/news.*", Err("in the path: byte 5 of the topic is a wildcard; a topic is one name, not a pattern"));
    }

    #[test]
    fn an_unknown_path_names_the_nearest_route() {
        check("/ws/chatt/", Ok((Some(Format::Raw), Some("chatt"))));
        check("/ws/a/b/c", Err("there is no route /ws/a/b/c (did you mean /ws/chat?)"));
        let hint = Routes::default().resolve("/ws/a/b", &Query::default()).unwrap_err().hint;
        assert_eq!(hint.as_deref(), Some("did you mean /ws/a%2Fb?"));
        check("/conection/websockets", Err("there is no route /conection/websockets (did you mean /connection/websocket?)"));
        check("/dash", Err("there is no route /dash (did you mean /dashboard?)"));
    }

    #[test]
    fn configured_routes_win_and_take_variables_from_path_and_query() {
        check("/ws/spc/product/7", Ok((Some(Format::Envelope), Some("spc:product.7"))));
        check("/ws/spc/product/7/", Ok((Some(Format::Envelope), Some("spc:product.7"))));
        check("/ws/spc/product/a.b%3A%20", Ok((Some(Format::Envelope), Some("spc:product.a%2Eb%3A%20"))));
        check("/ws/spc/product/", Err("there is no route /ws/spc/product/ (did you mean /ws/spc/product/{id}?)"));
        check("/ws/chat?sessionId=s1", Ok((Some(Format::Raw), Some("chat:s1"))));
        check("/ws/chat", Err("the parameter `sessionId` is missing"));
        check("/dashboard", Ok((Some(Format::Raw), None)));
    }

    #[test]
    fn routes_that_cannot_match_are_refused() {
        for path in ["ws", "/ws/{", "/ws/{}", "/ws/a{b}", "/{a}{b}"] {
            assert!(Routes::default().add(Route::new(path)).is_err(), "{path}");
        }
        assert!(Routes::default().add(Route::new("/a").topic("{")).is_err());
    }

    #[track_caller]
    fn check(url: &str, expected: Result<(Option<Format>, Option<&str>), &str>) {
        let mut routes = Routes::default();
        routes.add(Route::new("/ws/spc/product/{id}").topic("spc:product.{id}").format(Format::Envelope)).unwrap();
        routes.add(Route::new("/ws/chat").topic("chat:{sessionId}")).unwrap();
        routes.add(Route::new("/dashboard")).unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let found = routes.resolve(path, &Query::parse(query).unwrap());
        let found = found.map_err(|refusal| match refusal.hint {
            Some(hint) => format!("{} ({hint})", refusal.message),
            None => refusal.message.into_owned(),
        });
        let expected = expected.map_err(str::to_owned).map(|(format, topic)| match format {
            None => Target::Centrifuge,
            Some(format) => Target::Plain { topics: topic.map(|topic| topic.parse().unwrap()).into_iter().collect(), format },
        });
        assert_eq!(found, expected);
    }
}
