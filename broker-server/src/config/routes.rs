//! `[[routes]]`: paths of an application and the topics they stand for. Matching a request does not live here.

use std::fmt;

use super::{
    field::{Complaint, choice, text},
    suggest,
    visit::Visitor,
};

/// Paths that the server itself answers.
const RESERVED: [&str; 6] = ["/health", "/ready", "/metrics", "/broker.js", "/api", "/connection/websocket"];

/// A path of an application and the topic it stands for.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// The path, with captures: `/ws/spc/product/{id}`.
    pub path: Option<PathTemplate>,
    /// The topic, with variables from the path or the query; `None`: the connection starts without a topic.
    pub topic: Option<TopicTemplate>,
    /// What frames out look like. Default: [`Format::Raw`].
    pub format: Format,
}

/// What frames out look like in the plain protocol.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// The payload exactly as it was published.
    #[default]
    Raw,
    /// A JSON object around it, with topic and position.
    Envelope,
}

pub(super) fn visit(routes: &mut Vec<Route>, visitor: &mut dyn Visitor) {
    let about = "A path of an application and the topic it stands for; variables in braces come from the path or the query.";
    visitor.list("routes", about, routes.len(), &mut |index, keys| {
        if routes.len() <= index {
            routes.resize_with(index + 1, Route::default);
        }
        let route = &mut routes[index];
        keys.key(
            "path",
            "The path; it matches with and without a slash at its end.",
            &mut text(&mut route.path, "a path such as \"/ws/product/{id}\"", "/ws/product/{id}", PathTemplate::parse),
        );
        keys.key(
            "topic",
            "The topic. Without one, a connection starts with no subscription.",
            &mut text(&mut route.topic, "a topic such as \"spc:product.{id}\"", "spc:product.{id}", TopicTemplate::parse),
        );
        keys.key(
            "format",
            "What frames out look like: the payload as it was published, or an object around it.",
            &mut choice(&mut route.format, &[("raw", Format::Raw), ("envelope", Format::Envelope)], &[]),
        );
        keys.later("greeting", "remove the key: the first frame is the first publication");
        keys.later("heartbeat", "remove the key: WebSocket pings keep the connection alive");
        keys.later("ping_interval", "remove the key: client.ping_interval holds for all routes");
    });
}

/// A path with captures, without a slash at its end: `/ws/spc/product/{id}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathTemplate {
    text: String,
    captures: Vec<String>,
}

impl PathTemplate {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its captures, in order.
    pub fn captures(&self) -> &[String] {
        &self.captures
    }

    /// Orders paths so that a literal level comes before a capture in its place.
    pub(super) fn specificity(&self) -> Vec<bool> {
        self.text.split('/').map(|level| level.starts_with('{')).collect()
    }

    fn parse(text: &str) -> Result<Self, Complaint> {
        if !text.starts_with('/') {
            return Err(("this does not start with a slash".to_owned(), Some(format!("write \"/{text}\""))));
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
            return Err((
                format!("{bad:?} stands in no path"),
                Some("a variable of the query needs no mention here: name it in the topic".to_owned()),
            ));
        }
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_reserved = |reserved: &str| path == reserved || path.starts_with(&format!("{reserved}/"));
        if path.is_empty() || RESERVED.into_iter().any(is_reserved) {
            return Err(("the server answers this path itself".to_owned(), Some("choose another one, such as \"/ws/...\"".to_owned())));
        }
        if path.contains("//") {
            return Err(("two slashes follow each other".to_owned(), None));
        }
        let mut captures = Vec::new();
        for level in path.split('/').skip(1) {
            let level = pieces(level)?;
            let len = level.len();
            for piece in level {
                let Piece::Variable(name) = piece else { continue };
                if len > 1 {
                    let help = "a capture stands alone between two slashes: \"/ws/{id}/x\"".to_owned();
                    return Err((format!("{{{name}}} is a part of a level"), Some(help)));
                }
                if captures.contains(&name) {
                    return Err((format!("{{{name}}} stands here twice"), Some("give each capture a name of its own".to_owned())));
                }
                captures.push(name);
            }
        }
        Ok(Self { text: path.to_owned(), captures })
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A topic with variables: `spc:product.{id}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicTemplate {
    text: String,
    pieces: Vec<Piece>,
}

/// A part of a [`TopicTemplate`].
#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Literal(String),
    Variable(String),
}

impl TopicTemplate {
    /// The template as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// The namespace that all its topics have; `None`: none, or one that a variable names.
    pub(super) fn namespace(&self) -> Option<&str> {
        match self.pieces.first() {
            Some(Piece::Literal(text)) => text.split_once(':').map(|(namespace, _)| namespace),
            _ => None,
        }
    }

    fn parse(text: &str) -> Result<Self, Complaint> {
        let pieces = pieces(text)?;
        let sample: String = pieces.iter().map(|piece| if let Piece::Literal(text) = piece { text } else { "x" }).collect();
        sample.parse::<broker_core::Topic>().map_err(|error| (error.to_string(), None))?;
        Ok(Self { text: text.to_owned(), pieces })
    }
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits a template at its variables.
fn pieces(text: &str) -> Result<Vec<Piece>, Complaint> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        if rest[open..].starts_with('}') {
            return Err(("a `}` has no `{`".to_owned(), Some("a variable is written {name}".to_owned())));
        }
        let Some(len) = rest[open..].find('}') else {
            return Err(("a `{` has no `}`".to_owned(), Some("a variable is written {name}".to_owned())));
        };
        let name = &rest[open + 1..open + len];
        if name.starts_with('*') {
            return Err(("a capture is one level".to_owned(), Some("write one {name} for each level".to_owned())));
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err((format!("{{{name}}} is no variable"), Some("a variable's name has letters, digits and _".to_owned())));
        }
        if open > 0 {
            pieces.push(Piece::Literal(rest[..open].to_owned()));
        }
        pieces.push(Piece::Variable(name.to_owned()));
        rest = &rest[open + len + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

impl Route {
    /// A variable of the topic that the path does not have although it has one like it.
    pub(super) fn misspelt_variable(&self) -> Option<(&str, &str)> {
        let (path, topic) = (self.path.as_ref()?, self.topic.as_ref()?);
        let used: Vec<&str> = topic.variables().collect();
        let unused = path.captures.iter().map(String::as_str).filter(|capture| !used.contains(capture));
        used.iter()
            .filter(|name| !path.captures.iter().any(|capture| capture == *name))
            .find_map(|name| Some((*name, suggest::nearest(name, unused.clone())?)))
    }
}
