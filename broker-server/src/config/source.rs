//! Where settings come from: the file, then the environment, then flags, each value with its place. What they mean does not live here.

use std::{collections::BTreeMap, ops::Range};

use toml::de::{DeTable, DeValue};

use super::{
    mistake::{Mistake, Origin},
    raw::Raw,
    suggest,
};

/// Prefix of the environment variables that are settings.
const PREFIX: &str = "BROKER_";

/// A key from the root: `["client", "ping_interval"]`; elements of `routes` by their index.
pub(super) type Path = Vec<String>;

/// Everything that was set, by key.
#[derive(Debug, Default)]
pub(super) struct Source {
    entries: BTreeMap<Path, Entry>,
}

/// What was set under one key.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where the key stands.
    pub(super) key: Origin,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A table; its keys are entries of their own.
    Table,
    /// Values from the weakest layer to the strongest, which wins.
    Values(Vec<(Raw, Origin)>),
}

impl Source {
    /// Reads a file; what is no TOML is a mistake each.
    pub(super) fn read_file(&mut self, text: &str, mistakes: &mut Vec<Mistake>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        mistakes.extend(errors.iter().map(|error| {
            let span = error.span().unwrap_or(0..0);
            Mistake::new(Origin::File(span.clone()), format!("this is no TOML: {}", error.message()))
                .label(if span.start == text.len() { "the file ends here" } else { "" })
                .help(match error.message() {
                    "duplicate key" => "it stands in the file twice: make one of the two",
                    _ => "strings stand in double quotes, lists in brackets, one key = value on each line",
                })
        }));
        self.add_table(&mut Vec::new(), table.get_ref());
    }

    fn add_table(&mut self, path: &mut Path, table: &DeTable<'_>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            self.add(path, key.span(), value);
            path.pop();
        }
    }

    fn add(&mut self, path: &mut Path, key: Range<usize>, value: &toml::Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                self.entries.insert(path.clone(), Entry { key: Origin::File(key), kind: Kind::Table });
                self.add_table(path, table);
            }
            // The one array of tables there is. Elsewhere a table in an array is a wrong value.
            DeValue::Array(elements) if path.as_slice() == ["routes"] && elements.iter().all(|element| element.get_ref().is_table()) => {
                self.entries.insert(path.clone(), Entry { key: Origin::File(key.clone()), kind: Kind::Table });
                for (index, element) in elements.iter().enumerate() {
                    path.push(index.to_string());
                    self.add(path, element.span(), element);
                    path.pop();
                }
            }
            _ => self.set(path.clone(), Raw::from_toml(value), &Origin::File(key), Origin::File(value.span())),
        }
    }

    /// Reads the variables that start with `BROKER_` and hold `__`. Others are none of ours: a container platform sets `BROKER_PORT` and
    /// the like for a service of that name.
    pub(super) fn read_environment(&mut self, variables: &[(String, String)]) {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains("__")) else { continue };
            let mut path: Path = key.split("__").map(str::to_ascii_lowercase).collect();
            if path.len() > 2 && path[0] == "namespaces" {
                path[1] = self.namespace_as_written(&path[1]);
            }
            let origin = Origin::Variable(name.clone());
            self.set(path, Raw::plain(value), &origin, origin.clone());
        }
    }

    /// A variable's name has neither small letters nor dashes; the namespace in the file may have both.
    fn namespace_as_written(&self, name: &str) -> String {
        let fold = |name: &str| name.to_ascii_lowercase().replace('-', "_");
        let written = self.entries.keys().filter(|path| path.len() == 2 && path[0] == "namespaces").map(|path| &path[1]);
        written.into_iter().find(|written| fold(written) == fold(name)).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// Sets one value over what weaker layers set.
    pub(super) fn set(&mut self, path: Path, raw: Raw, key: &Origin, origin: Origin) {
        let entry = self.entries.entry(path).or_insert_with(|| Entry { key: key.clone(), kind: Kind::Values(Vec::new()) });
        match &mut entry.kind {
            Kind::Values(values) => values.push((raw, origin)),
            // A variable names a whole section: the reader sees a value where a table must be.
            Kind::Table => entry.kind = Kind::Values(vec![(raw, origin)]),
        }
    }

    pub(super) fn get(&self, path: &[String]) -> Option<&Entry> {
        self.entries.get(path)
    }

    pub(super) fn take(&mut self, path: &[String]) -> Option<Entry> {
        self.entries.remove(path)
    }

    /// Forgets a key and everything below it.
    pub(super) fn forget(&mut self, path: &[String]) {
        self.entries.retain(|other, _| !other.starts_with(path));
    }

    /// The names directly below a path, in order.
    pub(super) fn names(&self, path: &[String]) -> Vec<String> {
        let mut names: Vec<String> = self
            .entries
            .keys()
            .filter(|other| other.len() > path.len() && other.starts_with(path))
            .map(|other| other[path.len()].clone())
            .collect();
        names.dedup();
        names
    }

    /// Everything that is left, in order.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries.iter()
    }

    /// The origin of the value that wins.
    pub(super) fn winner(entry: &Entry) -> Option<&Origin> {
        match &entry.kind {
            Kind::Values(values) => values.last().map(|(_, origin)| origin),
            Kind::Table => None,
        }
    }
}

/// A variable such as `BROKER_CLIENT_PING_INTERVAL`, which is none of ours and was probably meant to be.
pub(super) fn nearly_settings<'a>(variables: &'a [(String, String)], known: &[Path]) -> Vec<(&'a str, String)> {
    let joined = |path: &Path, by: &str| format!("{PREFIX}{}", path.join(by).to_ascii_uppercase());
    variables
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !name.contains("__"))
        .filter_map(|(name, _)| {
            let meant = known.iter().filter(|path| path.len() > 1).find(|path| joined(path, "_") == *name)?;
            Some((name.as_str(), joined(meant, "__")))
        })
        .collect()
}

/// The variable that sets a key.
pub(super) fn variable(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join("__").to_ascii_uppercase().replace('-', "_"))
}

/// The name that was probably meant by the last part of a key.
pub(super) fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    suggest::nearest(name, known)
}
