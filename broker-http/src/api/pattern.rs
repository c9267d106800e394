//! Patterns over topic names, for `channels`: a glob over the whole name.

/// A glob: `*` is any text, `?` is any one character, `[a-c]` and `[!a-c]` are sets, `{a,b}` are alternatives, `\` takes the next one as it is.
///
/// Matching takes time proportional to the lengths of pattern and name together, for each of at most [`Pattern::ALTERNATIVES_MAX`] alternatives.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Vec<Part>>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Any,
    One,
    Byte(u8),
    Set { ranges: Vec<(u8, u8)>, negated: bool },
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BadPattern {
    TooLong,
    Unclosed(char),
    Nested,
    TooManyAlternatives,
    LoneEscape,
}

impl BadPattern {
    pub(crate) fn message(self) -> String {
        match self {
            Self::TooLong => format!("has more than {} bytes", Pattern::LEN_MAX),
            Self::Unclosed(bracket) => format!("has a {bracket} that is not closed"),
            Self::Nested => "has braces within braces".to_owned(),
            Self::TooManyAlternatives => format!("stands for more than {} alternatives", Pattern::ALTERNATIVES_MAX),
            Self::LoneEscape => "ends with a backslash".to_owned(),
        }
    }
}

impl Pattern {
    const LEN_MAX: usize = 1024;
    const ALTERNATIVES_MAX: usize = 64;

    /// Reads a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.len() > Self::LEN_MAX {
            return Err(BadPattern::TooLong);
        }
        let mut alternatives = vec![Vec::new()];
        let mut bytes = text.as_bytes();
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            if byte == b'{' {
                let branches = take_branches(&mut bytes)?;
                if alternatives.len() * branches.len() > Self::ALTERNATIVES_MAX {
                    return Err(BadPattern::TooManyAlternatives);
                }
                alternatives = alternatives.iter().flat_map(|head| branches.iter().map(|branch| [&head[..], branch].concat())).collect();
            } else {
                let part = take_part(byte, &mut bytes)?;
                for alternative in &mut alternatives {
                    alternative.push(part.clone());
                }
            }
        }
        Ok(Self(alternatives))
    }

    /// Whether the whole name is meant.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|parts| matches(parts, name.as_bytes()))
    }
}

/// What stands between braces.
fn take_branches(bytes: &mut &[u8]) -> Result<Vec<Vec<Part>>, BadPattern> {
    let mut branches = vec![Vec::new()];
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        match byte {
            b'}' => return Ok(branches),
            b'{' => return Err(BadPattern::Nested),
            b',' => branches.push(Vec::new()),
            _ => {
                let part = take_part(byte, bytes)?;
                branches.last_mut().expect("there is at least one").push(part);
            }
        }
    }
    Err(BadPattern::Unclosed('{'))
}

fn take_part(byte: u8, bytes: &mut &[u8]) -> Result<Part, BadPattern> {
    Ok(match byte {
        b'*' => Part::Any,
        b'?' => Part::One,
        b'[' => take_set(bytes)?,
        b'\\' => {
            let (&escaped, rest) = bytes.split_first().ok_or(BadPattern::LoneEscape)?;
            *bytes = rest;
            Part::Byte(escaped)
        }
        byte => Part::Byte(byte),
    })
}

fn take_set(bytes: &mut &[u8]) -> Result<Part, BadPattern> {
    let end = bytes.iter().position(|byte| *byte == b']').ok_or(BadPattern::Unclosed('['))?;
    let (mut inner, rest) = bytes.split_at(end);
    *bytes = &rest[1..];
    let negated = inner.first() == Some(&b'!');
    inner = &inner[usize::from(negated)..];
    let mut ranges = Vec::new();
    loop {
        match inner {
            [from, b'-', to, rest @ ..] => {
                ranges.push((*from, *to));
                inner = rest;
            }
            [byte, rest @ ..] => {
                ranges.push((*byte, *byte));
                inner = rest;
            }
            [] => return Ok(Part::Set { ranges, negated }),
        }
    }
}

/// The last `*` is the only one that ever takes more: every earlier one has found its nearest match.
fn matches(parts: &[Part], name: &[u8]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match (parts.get(part), name.get(at)) {
            (None, None) => return true,
            (Some(Part::Any), _) => {
                retry = Some((part, at));
                part += 1;
                continue;
            }
            (Some(wanted), Some(byte)) => wanted.takes(*byte),
            _ => false,
        };
        if step {
            (part, at) = (part + 1, at + 1);
            continue;
        }
        match retry {
            Some((any, from)) if from < name.len() => {
                retry = Some((any, from + 1));
                (part, at) = (any + 1, from + 1);
            }
            _ => return false,
        }
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Byte(wanted) => *wanted == byte,
            Self::Set { ranges, negated } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *negated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let parsed = Pattern::parse(pattern).unwrap();
        for name in matching {
            assert!(parsed.matches(name), "{pattern} should match {name}");
        }
        for name in others {
            assert!(!parsed.matches(name), "{pattern} should not match {name}");
        }
    }

    #[test]
    fn a_glob_matches_whole_names() {
        check("", &[], &["a"]);
        check("*", &["a", "a:b.c"], &[]);
        check("news", &["news"], &["new", "newss"]);
        check("chat:*", &["chat:1", "chat:"], &["chat", "xchat:1"]);
        check("*:1", &["chat:1", "a:1:1"], &["chat:11"]);
        check("a*b*c", &["abc", "axbxbxc"], &["axbx", "bc"]);
        check("chat:?", &["chat:1"], &["chat:", "chat:12"]);
        check("room[0-9]", &["room7"], &["rooma"]);
        check("room[!0-9x]", &["rooma"], &["room7", "roomx"]);
        check("{chat,news}:*", &["chat:1", "news:2"], &["spc:1"]);
        check("a{,b*}", &["a", "ab", "abc"], &["ac"]);
        check(r"a\*", &["a*"], &["ab"]);
        check("a]}b,c", &["a]}b,c"], &[]);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let check = |pattern: &str, expected: BadPattern| assert_eq!(Pattern::parse(pattern).unwrap_err(), expected, "{pattern}");
        check("a[", BadPattern::Unclosed('['));
        check("a{b", BadPattern::Unclosed('{'));
        check("{a,{b}}", BadPattern::Nested);
        check("a\\", BadPattern::LoneEscape);
        check(&"{a,b}".repeat(7), BadPattern::TooManyAlternatives);
        check(&"a".repeat(1025), BadPattern::TooLong);
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let pattern = Pattern::parse(&"*a".repeat(100)).unwrap();
        assert!(!pattern.matches(&"a".repeat(99)));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(254))));
    }
}
