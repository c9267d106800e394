//! What is wrong with a configuration, shown with file, line and caret. Finding it does not live here.

use std::{
    fmt::{self, Write as _},
    ops::Range,
    path::PathBuf,
};

use super::{redis_url, secret::Secret, suggest};

/// Longest line of a file that is shown, in characters.
const LINE_MAX: usize = 160;

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// Dev mode changes the default.
    DevMode,
    /// Bytes of the configuration file.
    File(Range<usize>),
    /// An environment variable, by name.
    Variable(String),
    /// A flag of the command line, such as `--listen`.
    Flag(&'static str),
}

/// One thing that is wrong, or risky, and how to put it right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    pub(super) origin: Origin,
    pub(super) message: String,
    /// What stands beside the caret.
    pub(super) label: String,
    pub(super) help: Option<String>,
}

impl Mistake {
    pub(super) fn new(origin: Origin, message: impl Into<String>) -> Self {
        Self { origin, message: message.into(), label: String::new(), help: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn help_if(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// What is wrong, in one line without its place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The configuration file as it was read.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// The path as the user gave it.
    pub path: PathBuf,
    /// What the file holds.
    pub text: String,
}

impl File {
    /// Line and column of a byte, both from 1; columns count characters.
    pub fn line_and_column(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary_of(at)];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }
}

/// Everything that was found in one look at a configuration.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) file: Option<File>,
    /// What must be put right before the broker starts, in the order of the file.
    pub mistakes: Vec<Mistake>,
    /// What works and may hurt, in the order of the file.
    pub warnings: Vec<Mistake>,
}

impl Report {
    /// Sorts by place: the file from top to bottom, then the environment, then flags, then the whole.
    pub(super) fn sort(&mut self) {
        for list in [&mut self.mistakes, &mut self.warnings] {
            list.sort_by_key(|mistake| match &mistake.origin {
                Origin::File(span) => (0, span.start, String::new()),
                Origin::Variable(name) => (1, 0, name.clone()),
                Origin::Flag(name) => (2, 0, (*name).to_owned()),
                Origin::Default | Origin::DevMode => (3, 0, String::new()),
            });
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, severity: &str, mistake: &Mistake) -> fmt::Result {
        writeln!(f, "{severity}: {}", mistake.message)?;
        match (&mistake.origin, &self.file) {
            (Origin::File(span), Some(file)) => show_line(f, file, span, &mistake.label)?,
            (Origin::Variable(name), _) => writeln!(f, "  --> environment variable {name}{}", beside(&mistake.label))?,
            (Origin::Flag(name), _) => writeln!(f, "  --> flag {name}{}", beside(&mistake.label))?,
            _ => {}
        }
        for (index, line) in mistake.help.iter().flat_map(|help| help.lines()).enumerate() {
            writeln!(f, "{}", format!("   {} {line}", if index == 0 { "=" } else { " " }).trim_end())?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            self.show(f, "warning", warning)?;
        }
        for mistake in &self.mistakes {
            self.show(f, "error", mistake)?;
        }
        Ok(())
    }
}

fn beside(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!(": {label}") }
}

fn show_line(f: &mut fmt::Formatter<'_>, file: &File, span: &Range<usize>, label: &str) -> fmt::Result {
    let (line, column) = file.line_and_column(span.start);
    let start = file.text[..file.text.floor_char_boundary_of(span.start)].rfind('\n').map_or(0, |newline| newline + 1);
    let text = file.text[start..].lines().next().unwrap_or_default();
    let marked = span.start - start..span.end.saturating_sub(start).max(span.start - start);
    let (shown, caret) = mask(text, &marked);
    let gutter = " ".repeat(line.to_string().len());
    writeln!(f, "  --> {}:{line}:{column}", file.path.display())?;
    writeln!(f, " {gutter} |")?;
    writeln!(f, " {line} | {}", shown.chars().take(LINE_MAX).collect::<String>().replace('\t', " ").trim_end())?;
    let before = shown[..caret.start].chars().count().min(LINE_MAX);
    let width = shown[caret].chars().count().clamp(1, LINE_MAX);
    let mut pointer = format!("{}{} {label}", " ".repeat(before), "^".repeat(width));
    pointer.truncate(pointer.trim_end().len());
    writeln!(f, " {gutter} | {pointer}")
}

/// The line with its secrets masked, and the marked bytes in it.
fn mask(line: &str, marked: &Range<usize>) -> (String, Range<usize>) {
    let mut shown = String::new();
    let mut from = 0;
    let (mut start, mut end) = (None, None);
    let marked = line.floor_char_boundary_of(marked.start)..line.floor_char_boundary_of(marked.end.min(line.len()));
    for secret in secret_values(line) {
        let shift = |at: usize, shown: &String| shown.len() + at - from;
        if start.is_none() && marked.start < secret.start {
            start = Some(shift(marked.start, &shown));
        }
        if end.is_none() && marked.end <= secret.start {
            end = Some(shift(marked.end, &shown));
        }
        shown += &line[from..secret.start];
        let masked_from = shown.len();
        let _ = write!(shown, "{}", Secret::MASK);
        start = start.or_else(|| (marked.start < secret.end).then_some(masked_from));
        end = end.or_else(|| (marked.end <= secret.end).then_some(shown.len()));
        from = secret.end;
    }
    let start = start.unwrap_or_else(|| shown.len() + marked.start - from);
    let end = end.unwrap_or_else(|| shown.len() + marked.end - from).max(start);
    shown += &line[from..];
    (shown, start..end)
}

/// The bytes of a line that stand where a secret is assigned, also under a misspelt key.
fn secret_values(line: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (equals, _) in line.match_indices('=') {
        if found.last().is_some_and(|last| equals < last.end) {
            continue;
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let key = line[..equals].trim_end().trim_end_matches(['"', '\'']);
        let key = &key[key.rfind(|c| !word(c)).map_or(0, |at| at + 1)..];
        let value = equals + 1 + (line[equals + 1..].len() - line[equals + 1..].trim_start().len());
        let rest = &line[value..];
        if !names_a_secret(key) || rest.is_empty() || rest.starts_with(['{', '#', '[']) {
            continue;
        }
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let len = quote.and_then(|quote| rest[1..].find(quote)).map_or(rest.trim_end().len(), |at| at + 2);
        found.push(value..value + len);
    }
    found.extend(passwords(line, &found));
    found.sort_unstable_by_key(|range| range.start);
    found
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "passw", "token"].iter().any(|word| key.contains(word))
        || key.ends_with("key")
        || ["hmac_secret", "key"].iter().any(|secret| suggest::is_near(&key, secret))
}

/// The bytes of a line that are passwords of addresses, besides what is secret anyway.
fn passwords(line: &str, besides: &[Range<usize>]) -> Vec<Range<usize>> {
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'');
    let addresses = line.match_indices("://").map(|(at, _)| {
        let start = line[..at].rfind(ends).map_or(0, |before| before + 1);
        start..at + line[at..].find(ends).unwrap_or(line.len() - at)
    });
    let passwords = addresses.flat_map(|address| {
        let of_address = redis_url::passwords(&line[address.clone()]);
        of_address.into_iter().map(move |password| address.start + password.start..address.start + password.end)
    });
    passwords.filter(|password| besides.iter().all(|other| password.end <= other.start || other.end <= password.start)).collect()
}

/// Cutting text at a byte that may lie inside a character.
trait FloorCharBoundary {
    fn floor_char_boundary_of(&self, at: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_of(&self, at: usize) -> usize {
        (0..=at.min(self.len())).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(mask(line, &(0..0)).0, expected);
    }

    #[test]
    fn a_shown_line_holds_no_secret() {
        check(r#"hmac_secret = "abc" # mine"#, r"hmac_secret = ******** # mine");
        check(r#"token = { hmac_secret = "abc", x = 1 }"#, r"token = { hmac_secret = ********, x = 1 }");
        check(r#"hmac_sercet = "abc"#, r"hmac_sercet = ********");
        check(r"api.key = 'a=b'", r"api.key = ********");
        check("kye = abc", "kye = ********");
        check(r#""key" = "abc""#, r#""key" = ********"#);
        check("keyed = true", "keyed = true");
        check(r#"url = "redis://ann:s3cret@redis:1" # ours"#, r#"url = "redis://ann:********@redis:1" # ours"#);
        check("ulr = 'redis://:s3cret@redis'", "ulr = 'redis://:********@redis'");
        check(r#"url = "http://127.0.0.1:80/a@b""#, r#"url = "http://127.0.0.1:80/a@b""#);
        check(r#"hmac_secret = "redis://:s3cret@a""#, r"hmac_secret = ********");
        check(r#"ping_interval = "25s""#, r#"ping_interval = "25s""#);
    }

    #[test]
    fn the_caret_follows_the_mask() {
        let line = r#"a = 1, key = "abc", b = 2"#;
        let caret = |text: &str| {
            let at = line.find(text).unwrap();
            let (shown, caret) = mask(line, &(at..at + text.len()));
            shown[caret].to_owned()
        };
        assert_eq!(caret("a"), "a");
        assert_eq!(caret("key"), "key");
        assert_eq!(caret(r#""abc""#), "********");
        assert_eq!(caret("abc"), "********");
        assert_eq!(caret("b = 2"), "b = 2");
    }
}
