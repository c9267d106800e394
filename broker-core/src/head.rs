//! What a connection brought along when it was opened: path, query, headers, peer.

use std::{any::Any, fmt, net::SocketAddr, sync::Arc};

/// The head of the request that opened a connection, as hooks see it. Names no HTTP crate.
///
/// Dropped when the session is connected; a session keeps only what it logs.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Head {
    /// The path, without the query.
    pub path: String,
    /// The query, without `?`, credentials removed.
    pub query: String,
    /// Header names in lower case, with their values where they are UTF-8.
    pub headers: Vec<(String, String)>,
    /// A token that the request carried, for protocols whose client may say who it is later: it stands in where the connect has no credentials.
    pub token: Option<String>,
    /// Who connected, as far as the transport knows: the client itself where a trusted proxy named it, with port 0 if its port was not told.
    pub peer: Option<SocketAddr>,
    /// The transport's own form of the request, for hosts that know its type.
    pub original: Option<Arc<dyn Any + Send + Sync>>,
    /// What the transport holds until the session is connected, such as a place among those that have not said who they are. Dropped with the
    /// last clone of the head.
    pub until_connected: Option<Arc<dyn Any + Send + Sync>>,
}

impl Head {
    /// A head with only a path.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The value of a cookie, without the quotes that some frameworks write around it.
    ///
    /// ```
    /// let mut head = broker_core::Head::new("/ws");
    /// head.headers.push(("cookie".to_owned(), "user=\"kim\"; theme=dark".to_owned()));
    /// assert_eq!(head.cookie("user"), Some("kim"));
    /// assert_eq!(head.cookie("theme"), Some("dark"));
    /// ```
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .filter(|(header, _)| header == "cookie")
            .flat_map(|(_, value)| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(cookie, _)| *cookie == name)
            // spec: RFC 6265, section 4.1.1: the quotes may stand, and are no part of what is meant
            .map(|(_, value)| value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold credentials: names only.
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Head").field("path", &self.path).field("headers", &headers).field("peer", &self.peer).finish_non_exhaustive()
    }
}
