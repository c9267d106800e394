//! The configuration as TOML: the defaults with their meaning, and what is in force with where it comes from.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    field::{Field, quoted},
    mistake::{File, Origin},
    secret::Secret,
    source::Path,
    visit::Visitor,
};

/// Width at which comments wrap.
const WIDTH: usize = 100;

/// Prints every key with its meaning. Keys without a value, and examples of what the user names, are commented out.
#[derive(Default)]
pub(super) struct Explainer {
    text: String,
    path: Path,
    /// Inside an example: every line is a comment.
    is_example: bool,
}

impl Explainer {
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn comment(&mut self, text: &str) {
        for line in wrap(text, WIDTH - 2) {
            let _ = writeln!(self.text, "# {line}");
        }
    }

    fn header(&mut self, about: &str, header: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        if !about.is_empty() {
            self.comment(about);
        }
        let _ = writeln!(self.text, "{}{header}", if self.is_example { "#" } else { "" });
    }
}

impl Visitor for Explainer {
    fn key(&mut self, name: &'static str, about: &'static str, field: &mut dyn Field) {
        let shown = field.show();
        self.comment(&format!("{about} {}.", capital(&field.expected())));
        let commented = if self.is_example || shown.is_none() { "#" } else { "" };
        let _ = writeln!(self.text, "{commented}{name} = {}", shown.unwrap_or_else(|| field.example()));
    }

    fn later(&mut self, _: &'static str, _: &'static str) {}

    fn section(&mut self, name: &'static str, about: &'static str, keys: &mut dyn FnMut(&mut dyn Visitor)) {
        self.path.push(name.to_owned());
        self.header(about, &format!("[{}]", self.path.join(".")));
        keys(self);
        self.path.pop();
    }

    fn named(&mut self, name: &'static str, about: &'static str, there: Vec<String>, each: &mut dyn FnMut(&str, &mut dyn Visitor)) {
        self.is_example = true;
        for one in there {
            let parents: String = self.path.iter().map(|parent| format!("{parent}.")).collect();
            self.header(about, &format!("[{parents}{name}.{}]", bare_or_quoted(&one)));
            each(&one, self);
        }
        self.is_example = false;
    }

    fn list(&mut self, name: &'static str, about: &'static str, len: usize, each: &mut dyn FnMut(usize, &mut dyn Visitor)) {
        self.is_example = true;
        for index in 0..len {
            self.header(about, &format!("[[{name}]]"));
            each(index, self);
        }
        self.is_example = false;
    }
}

/// Prints every value in force with its origin; secrets are masked.
pub(super) struct Shower<'a> {
    file: Option<&'a File>,
    origins: BTreeMap<Path, Origin>,
    lines: Vec<(String, String)>,
    path: Path,
}

impl<'a> Shower<'a> {
    pub(super) fn new(file: Option<&'a File>, origins: &[(Path, Origin)]) -> Self {
        Self { file, origins: origins.iter().cloned().collect(), lines: Vec::new(), path: Vec::new() }
    }

    pub(super) fn finish(self) -> String {
        let width =
            self.lines.iter().filter(|(_, origin)| !origin.is_empty()).map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
        self.lines.iter().fold(String::new(), |mut text, (line, origin)| {
            let _ = match origin.as_str() {
                "" => writeln!(text, "{line}"),
                origin => writeln!(text, "{line:width$}  # {origin}"),
            };
            text
        })
    }

    fn header(&mut self, header: String) {
        if !self.lines.is_empty() {
            self.lines.push(Default::default());
        }
        self.lines.push((header, String::new()));
    }

    fn origin(&self, path: &[String]) -> String {
        match self.origins.get(path) {
            None | Some(Origin::Default) => "default".to_owned(),
            Some(Origin::DevMode) => "dev mode".to_owned(),
            Some(Origin::Variable(name)) => format!("from {name}"),
            Some(Origin::Flag(name)) => format!("from {name}"),
            Some(Origin::File(span)) => match self.file {
                Some(file) => format!("from {}:{}", file.path.display(), file.line_and_column(span.start).0),
                None => "from the file".to_owned(),
            },
        }
    }
}

impl Visitor for Shower<'_> {
    fn key(&mut self, name: &'static str, _: &'static str, field: &mut dyn Field) {
        self.path.push(name.to_owned());
        let origin = self.origin(&self.path);
        let line = match field.show() {
            Some(_) if field.is_secret() => format!("{name} = {}", quoted(Secret::MASK)),
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} is not set"),
        };
        self.lines.push((line, origin));
        self.path.pop();
    }

    fn later(&mut self, _: &'static str, _: &'static str) {}

    fn section(&mut self, name: &'static str, _: &'static str, keys: &mut dyn FnMut(&mut dyn Visitor)) {
        self.path.push(name.to_owned());
        self.header(format!("[{}]", self.path.join(".")));
        keys(self);
        self.path.pop();
    }

    fn named(&mut self, name: &'static str, _: &'static str, there: Vec<String>, each: &mut dyn FnMut(&str, &mut dyn Visitor)) {
        for one in there {
            let parents: String = self.path.iter().map(|parent| format!("{parent}.")).collect();
            self.header(format!("[{parents}{name}.{}]", bare_or_quoted(&one)));
            self.path.extend([name.to_owned(), one.clone()]);
            each(&one, self);
            self.path.truncate(self.path.len() - 2);
        }
    }

    fn list(&mut self, name: &'static str, _: &'static str, len: usize, each: &mut dyn FnMut(usize, &mut dyn Visitor)) {
        for index in 0..len {
            self.header(format!("[[{name}]]"));
            self.path.extend([name.to_owned(), index.to_string()]);
            each(index, self);
            self.path.truncate(self.path.len() - 2);
        }
    }
}

/// Collects every value as text, to tell where two configurations differ.
#[derive(Default)]
pub(super) struct Values {
    pub(super) values: BTreeMap<Path, Option<String>>,
    path: Path,
}

impl Visitor for Values {
    fn key(&mut self, name: &'static str, _: &'static str, field: &mut dyn Field) {
        self.path.push(name.to_owned());
        self.values.insert(self.path.clone(), field.show());
        self.path.pop();
    }

    fn later(&mut self, _: &'static str, _: &'static str) {}

    fn section(&mut self, name: &'static str, _: &'static str, keys: &mut dyn FnMut(&mut dyn Visitor)) {
        self.path.push(name.to_owned());
        keys(self);
        self.path.pop();
    }

    fn named(&mut self, name: &'static str, _: &'static str, there: Vec<String>, each: &mut dyn FnMut(&str, &mut dyn Visitor)) {
        for one in there {
            self.path.extend([name.to_owned(), one.clone()]);
            each(&one, self);
            self.path.truncate(self.path.len() - 2);
        }
    }

    fn list(&mut self, _: &'static str, _: &'static str, _: usize, _: &mut dyn FnMut(usize, &mut dyn Visitor)) {}
}

fn bare_or_quoted(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_bare { name.to_owned() } else { quoted(name) }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
