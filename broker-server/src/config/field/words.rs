//! Words of a fixed list: switches, choices, verbs.

use broker_core::{Verb, Verbs};

use super::{Fault, Field, bare_element, did_you_mean, list, quoted};
use crate::config::{namespaces::NamespaceHooks, raw::Raw, suggest};

/// `true` or `false`.
pub(in crate::config) fn switch(target: &mut bool) -> impl Field + '_ {
    SwitchField(target)
}

struct SwitchField<'a>(&'a mut bool);

impl Field for SwitchField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let Some(value) = raw.as_bool() else {
            let fault = Fault::kind(raw);
            return Err(match raw.as_text() {
                Some(text @ ("true" | "false")) => fault.help(format!("write {text} without quotes")),
                Some("on" | "yes" | "1") => fault.help("write true"),
                Some("off" | "no" | "0") => fault.help("write false"),
                _ => fault,
            });
        };
        *self.0 = value;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(self.0.to_string())
    }

    fn expected(&self) -> String {
        "true or false".to_owned()
    }
}

/// One word of a list. `later` holds words that a later version will know, and what to write until then.
pub(in crate::config) fn choice<'a, T: Copy + PartialEq>(
    target: &'a mut T,
    words: &'a [(&'static str, T)],
    later: &'a [(&'static str, &'static str)],
) -> impl Field + 'a {
    ChoiceField { target, words, later }
}

struct ChoiceField<'a, T> {
    target: &'a mut T,
    words: &'a [(&'static str, T)],
    later: &'a [(&'static str, &'static str)],
}

impl<T: Copy + PartialEq> Field for ChoiceField<'_, T> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let text = raw.as_text().ok_or_else(|| Fault::kind(raw))?;
        if let Some((_, value)) = self.words.iter().find(|(word, _)| *word == text) {
            *self.target = *value;
            return Ok(());
        }
        if let Some((word, help)) = self.later.iter().find(|(word, _)| *word == text) {
            return Err(Fault::found(format!("{} is not in this version yet", quoted(word))).help(*help));
        }
        let meant = suggest::nearest(text, self.words.iter().map(|(word, _)| *word));
        Err(Fault::found(did_you_mean(meant).unwrap_or_else(|| "unknown word".to_owned())))
    }

    fn show(&self) -> Option<String> {
        self.words.iter().find(|(_, value)| value == self.target).map(|(word, _)| quoted(word))
    }

    fn expected(&self) -> String {
        suggest::either(&self.words.iter().map(|(word, _)| quoted(word)).collect::<Vec<_>>())
    }
}

/// A list of what the application is asked: `["subscribe", "publish", "snapshot"]`.
pub(in crate::config) fn asked(target: &mut NamespaceHooks) -> impl Field + '_ {
    AskedField(target)
}

struct AskedField<'a>(&'a mut NamespaceHooks);

impl AskedField<'_> {
    /// Without a verb: the snapshot, by which nothing is decided.
    const WORDS: [(&'static str, Option<Verb>); 3] =
        [("subscribe", Some(Verb::Subscribe)), ("publish", Some(Verb::Publish)), ("snapshot", None)];
}

impl Field for AskedField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let elements = raw.as_list().ok_or_else(|| bare_element(raw))?;
        let mut hooks = NamespaceHooks::default();
        for (index, element) in elements.iter().enumerate() {
            let text = element.as_text().ok_or_else(|| Fault { element: Some(index), ..Fault::kind(element) })?;
            let Some((_, verb)) = Self::WORDS.into_iter().find(|(word, _)| *word == text) else {
                let meant = match text {
                    "sub" => Some("subscribe"),
                    "pub" => Some("publish"),
                    _ => suggest::nearest(text, Self::WORDS.map(|(word, _)| word)),
                };
                let found = did_you_mean(meant).unwrap_or_else(|| "unknown word".to_owned());
                return Err(Fault { element: Some(index), ..Fault::found(found) });
            };
            match verb {
                Some(verb) => hooks.decides = hooks.decides.with(verb),
                None => hooks.snapshot = true,
            }
        }
        *self.0 = hooks;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        let is_there = |verb: Option<Verb>| verb.map_or(self.0.snapshot, |verb| self.0.decides.has(verb));
        Some(list(Self::WORDS.into_iter().filter(|(_, verb)| is_there(*verb)).map(|(word, _)| word)))
    }

    fn expected(&self) -> String {
        "a list of \"subscribe\", \"publish\" and \"snapshot\"".to_owned()
    }
}

/// A list of verbs: `["sub", "pub"]`.
pub(in crate::config) fn verbs(target: &mut Verbs) -> impl Field + '_ {
    VerbsField(target)
}

struct VerbsField<'a>(&'a mut Verbs);

impl Field for VerbsField<'_> {
    fn assign(&mut self, raw: &Raw) -> Result<(), Fault> {
        let elements = raw.as_list().ok_or_else(|| bare_element(raw))?;
        let mut verbs = Verbs::NONE;
        for (index, element) in elements.iter().enumerate() {
            let text = element.as_text().ok_or_else(|| Fault { element: Some(index), ..Fault::kind(element) })?;
            let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.word() == text) else {
                let found = did_you_mean(meant_verb(text)).unwrap_or_else(|| "unknown word".to_owned());
                return Err(Fault { element: Some(index), ..Fault::found(found) });
            };
            verbs = verbs.with(verb);
        }
        *self.0 = verbs;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(list(Verb::ALL.into_iter().filter(|verb| self.0.has(*verb)).map(Verb::word)))
    }

    fn expected(&self) -> String {
        "a list of \"sub\", \"pub\", \"hst\" and \"prs\"".to_owned()
    }
}

fn meant_verb(text: &str) -> Option<&'static str> {
    match text {
        "subscribe" | "read" => Some("sub"),
        "publish" | "write" => Some("pub"),
        "history" | "hist" => Some("hst"),
        "presence" | "pres" => Some("prs"),
        _ => suggest::nearest(text, Verb::ALL.map(Verb::word)),
    }
}
