//! One walk over all keys, for whoever reads or prints them; and the reader. Which keys there are does not live here.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    field::Field,
    mistake::{Mistake, Origin},
    source::{self, Kind, Path, Source},
    suggest,
};

/// Sees every key of the configuration in order, with its meaning and its value.
pub(super) trait Visitor {
    /// One value. `about` is its meaning, a sentence.
    fn key(&mut self, name: &'static str, about: &'static str, field: &mut dyn Field);

    /// A key that a later version will know; `help` says what to do until then.
    fn later(&mut self, name: &'static str, help: &'static str);

    /// A table of keys.
    fn section(&mut self, name: &'static str, about: &'static str, keys: &mut dyn FnMut(&mut dyn Visitor));

    /// A table of tables whose names the user chooses. `each` is called with every name: those that are there, and those that a file adds.
    fn named(&mut self, name: &'static str, about: &'static str, there: Vec<String>, each: &mut dyn FnMut(&str, &mut dyn Visitor));

    /// An array of tables. `each` is called with every index, in order.
    fn list(&mut self, name: &'static str, about: &'static str, len: usize, each: &mut dyn FnMut(usize, &mut dyn Visitor));
}

/// Puts what a [`Source`] holds into the fields it meets, and collects the mistakes.
pub(super) struct Reader<'a> {
    source: Source,
    path: Path,
    known: BTreeSet<Path>,
    /// Where the value of each key that was set comes from.
    origins: Vec<(Path, Origin)>,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: Source, mistakes: &'a mut Vec<Mistake>) -> Self {
        Self { source, path: Vec::new(), known: BTreeSet::new(), origins: Vec::new(), mistakes }
    }

    /// Reports what nobody asked for. Returns the origins of what was set, and all keys there are.
    pub(super) fn finish(self) -> (Vec<(Path, Origin)>, Vec<Path>) {
        let mut reported = BTreeSet::new();
        for (path, entry) in self.source.rest() {
            let Some(len) = (1..=path.len()).find(|len| !self.known.contains(&path[..*len])) else { continue };
            let unknown = &path[..len];
            if !reported.insert(unknown.to_vec()) {
                continue;
            }
            let header = self.source.get(unknown).map_or(&entry.key, |header| &header.key);
            let is_section = unknown.len() < path.len() || matches!(entry.kind, Kind::Table);
            self.mistakes.push(unknown_key(unknown, is_section, header, &self.known));
        }
        (self.origins, self.known.into_iter().collect())
    }

    fn enter(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.path.push(name.to_owned());
        self.known.insert(self.path.clone());
        inside(self);
        self.path.pop();
    }

    /// Whether keys may stand below the current path; a value in their place is a mistake.
    fn is_table(&mut self, written: &str) -> bool {
        let Some(entry) = self.source.get(&self.path) else { return true };
        let Kind::Values(values) = &entry.kind else { return true };
        if let Some((raw, origin)) = values.last() {
            let mistake = Mistake::new(origin.clone(), format!("`{}` must be a section", show(&self.path)))
                .label(format!("this is {}", raw.kind()))
                .help(format!("write {written} on a line of its own, and its keys below"));
            self.mistakes.push(mistake);
        }
        self.source.forget(&self.path);
        false
    }
}

impl Visitor for Reader<'_> {
    fn key(&mut self, name: &'static str, _: &'static str, field: &mut dyn Field) {
        self.enter(name, |reader| {
            let Some(entry) = reader.source.take(&reader.path) else { return };
            let key = show(&reader.path);
            let Kind::Values(values) = &entry.kind else {
                let mistake = Mistake::new(entry.key, format!("`{key}` must be {}", field.expected())).label("this is a section");
                reader.mistakes.push(mistake);
                reader.source.forget(&reader.path);
                return;
            };
            if let Some(origin) = Source::winner(&entry) {
                reader.origins.push((reader.path.clone(), origin.clone()));
            }
            for (raw, origin) in values {
                let Err(fault) = field.assign(raw) else { continue };
                let element = fault.element.and_then(|index| raw.as_list()?.get(index)?.span.clone());
                let origin = match (origin, element) {
                    (Origin::File(_), Some(span)) => Origin::File(span),
                    _ => origin.clone(),
                };
                let expected = fault.expected.unwrap_or_else(|| field.expected());
                let mistake = Mistake::new(origin, format!("`{key}` must be {expected}")).label(fault.found).help_if(fault.help);
                reader.mistakes.push(mistake);
            }
        });
    }

    fn later(&mut self, name: &'static str, help: &'static str) {
        self.path.push(name.to_owned());
        // Not a known key: it is no suggestion for a slip.
        if let Some(entry) = self.source.get(&self.path) {
            let mistake = Mistake::new(entry.key.clone(), format!("`{}` is not in this version yet", show(&self.path))).help(help);
            self.mistakes.push(mistake);
            self.source.forget(&self.path);
        }
        self.path.pop();
    }

    fn section(&mut self, name: &'static str, _: &'static str, keys: &mut dyn FnMut(&mut dyn Visitor)) {
        self.enter(name, |reader| {
            let written = format!("[{}]", reader.path.join("."));
            reader.is_table(&written);
            keys(reader);
        });
    }

    fn named(&mut self, name: &'static str, _: &'static str, there: Vec<String>, each: &mut dyn FnMut(&str, &mut dyn Visitor)) {
        self.enter(name, |reader| {
            let path = reader.path.join(".");
            if !reader.is_table(&format!("[{path}.NAME]")) {
                return;
            }
            let mut names = there;
            names.extend(reader.source.names(&reader.path));
            names.sort();
            names.dedup();
            for one in names {
                reader.enter(&one, |reader| {
                    if reader.is_table(&format!("[{path}.{one}]")) {
                        each(&one, reader);
                    }
                });
            }
        });
    }

    fn list(&mut self, name: &'static str, _: &'static str, _: usize, each: &mut dyn FnMut(usize, &mut dyn Visitor)) {
        self.enter(name, |reader| {
            if let Some(entry) = reader.source.get(&reader.path).filter(|entry| matches!(entry.key, Origin::File(_))) {
                let names = reader.source.names(&reader.path);
                if let (Kind::Table, Some(first)) = (&entry.kind, names.first())
                    && first.parse::<usize>().is_err()
                {
                    let mistake = Mistake::new(entry.key.clone(), format!("`{name}` is a list of sections"))
                        .help(format!("write [[{name}]] with two brackets, once for each"));
                    reader.mistakes.push(mistake);
                    let path = reader.path.clone();
                    reader.source.forget(&path);
                    return;
                }
            }
            if !reader.is_table(&format!("[[{name}]]")) {
                return;
            }
            let mut indexes: Vec<usize> = reader.source.names(&reader.path).iter().filter_map(|index| index.parse().ok()).collect();
            indexes.sort_unstable();
            for index in indexes {
                // A list has no name that a variable could use: only the file says how many there are.
                let place = reader.source.get(&[reader.path.clone(), vec![index.to_string()]].concat()).map(|entry| entry.key.clone());
                if matches!(place, Some(Origin::File(_))) {
                    reader.enter(&index.to_string(), |reader| each(index, reader));
                }
            }
        });
    }
}

fn unknown_key(path: &[String], is_section: bool, place: &Origin, known: &BTreeSet<Path>) -> Mistake {
    let (name, parent) = path.split_last().expect("an unknown key has a name");
    let siblings =
        known.iter().filter(|other| other.len() == path.len() && other.starts_with(parent)).map(|other| other[parent.len()].as_str());
    let what = match (is_section, parent) {
        (true, _) => format!("unknown section [{}]", path.join(".")),
        (false, []) => format!("unknown key `{name}`"),
        (false, [list, index]) if index.parse::<usize>().is_ok() => format!("unknown key `{name}` in [[{list}]]"),
        (false, parent) => format!("unknown key `{name}` in [{}]", parent.join(".")),
    };
    let mistake = Mistake::new(place.clone(), what);
    if parent.first().is_some_and(|first| first == "routes") && matches!(place, Origin::Variable(_)) {
        return mistake.help("routes are set in the file only");
    }
    if let Some(meant) = source::meant(name, siblings.clone()) {
        return match place {
            Origin::Variable(_) => {
                let meant: Path = parent.iter().map(String::as_str).chain([meant]).map(str::to_owned).collect();
                mistake.help(format!("did you mean {}?", source::variable(&meant)))
            }
            _ => mistake.label(format!("did you mean `{meant}`?")),
        };
    }
    let elsewhere = known.iter().find(|other| other.last() == Some(name) && other.len() > 1 && !is_section);
    if let Some(elsewhere) = elsewhere.filter(|other| other.iter().all(|part| part.parse::<usize>().is_err())) {
        return mistake.help(format!("`{name}` belongs into [{}]", elsewhere[..elsewhere.len() - 1].join(".")));
    }
    let names: Vec<String> = siblings.map(|name| format!("`{name}`")).collect();
    mistake.help(if names.is_empty() { "remove it".to_owned() } else { format!("known here: {}", suggest::either(&names)) })
}

/// A key for people: `client.ping_interval`, `routes[0].path`.
pub(super) fn show(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        match part.parse::<usize>() {
            Ok(index) if !text.is_empty() => {
                let _ = write!(text, "[{index}]");
            }
            _ if text.is_empty() => text.push_str(part),
            _ => text.extend([".", part]),
        }
    }
    text
}
