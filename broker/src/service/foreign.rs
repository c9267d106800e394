//! What the log says of pages that were refused: each origin once, and which setting would let it in.

use std::{collections::HashSet, fmt::Write as _};

use parking_lot::Mutex;

/// Most origins that are named; whoever makes up origins does not fill the log.
const ORIGINS_MAX: usize = 64;

/// Longest origin that is shown, in characters.
const SHOWN_MAX: usize = 128;

/// Remembers which origins were told.
#[derive(Debug, Default)]
pub(super) struct ForeignLog {
    told: Mutex<HashSet<String>>,
}

/// What is known of a refused origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refused<'a> {
    /// Scheme and host that could be allowed.
    Origin(&'a str),
    /// The origin of pages that have none, such as sandboxed ones and files.
    Null,
    /// No origin at all, or several.
    Unreadable(&'a str),
}

impl ForeignLog {
    pub(super) fn refused(&self, refused: Refused<'_>) {
        if let Some((origin, hint)) = self.line(refused) {
            tracing::warn!(origin, hint, "a web page was refused because of its origin; each origin is told once");
        }
    }

    /// The origin as it may be shown, and what to do. `None`: it was told, or too many were.
    fn line(&self, refused: Refused<'_>) -> Option<(String, String)> {
        let (Refused::Origin(origin) | Refused::Unreadable(origin)) = refused else { return self.once("null").then(null) };
        let origin = shown(origin);
        let hint = match refused {
            Refused::Origin(_) => format!("add \"{origin}\" to client.allowed_origins (in Rust: Builder::allow_origin)"),
            _ => "this is no origin that a browser sends; see which client or proxy writes it".to_owned(),
        };
        self.once(&origin).then_some((origin, hint))
    }

    fn once(&self, origin: &str) -> bool {
        let mut told = self.told.lock();
        told.len() < ORIGINS_MAX && told.insert(origin.to_owned())
    }
}

fn null() -> (String, String) {
    ("null".to_owned(), "sandboxed pages and local files cannot be told apart: serve the page over HTTP and allow its origin".to_owned())
}

/// Text from outside: cut, and without what could begin a line or end a quotation.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).fold(String::new(), |mut shown, letter| {
        let _ = match letter {
            letter if letter.is_ascii_graphic() && !matches!(letter, '"' | '\\') => write!(shown, "{letter}"),
            letter => write!(shown, "{}", letter.escape_unicode()),
        };
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_is_told_once_with_the_setting_that_would_allow_it() {
        let log = ForeignLog::default();
        let (origin, hint) = log.line(Refused::Origin("https://app.test")).unwrap();
        assert_eq!(origin, "https://app.test");
        assert_eq!(hint, "add \"https://app.test\" to client.allowed_origins (in Rust: Builder::allow_origin)");
        assert_eq!(log.line(Refused::Origin("https://app.test")), None);
        assert!(log.line(Refused::Origin("https://other.test")).is_some());
        assert!(log.line(Refused::Null).unwrap().1.contains("serve the page over HTTP"));
        assert_eq!(log.line(Refused::Null), None);
    }

    #[test]
    fn whoever_makes_up_origins_fills_neither_log_nor_memory() {
        let log = ForeignLog::default();
        let told = (0..1_000).filter(|n| log.line(Refused::Origin(&format!("https://{n}.test"))).is_some()).count();
        assert_eq!((told, log.told.lock().len()), (ORIGINS_MAX, ORIGINS_MAX));
        assert_eq!(ForeignLog::default().line(Refused::Unreadable(&"\n\"x".repeat(100))).unwrap().0.matches("\\u{a}").count(), 43);
    }
}
