//! Reading our own Rust source: which files there are, and what of a line is code.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Every `.rs` file below `folder`, sorted; nothing when the folder is missing. Build products are left out.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(folder, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") && name != "node_modules" {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The part of a line that is not a line comment. Text in strings counts as code.
pub(crate) fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// The text in front of its module of tests, which stands at the bottom.
pub(crate) fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Whether `word` stands in `code` and is not part of a longer name.
pub(crate) fn names(code: &str, word: &str) -> bool {
    let part_of_name = |byte: Option<char>| byte.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word)
        .any(|(at, _)| !part_of_name(code[..at].chars().next_back()) && !part_of_name(code[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_named_only_as_a_whole() {
        #[track_caller]
        fn check(code: &str, word: &str, expected: bool) {
            assert_eq!(names(code, word), expected, "{word} in {code}");
        }
        check("use tokio::sync::mpsc;", "tokio", true);
        check("let tokio_like = 1;", "tokio", false);
        check("Instant::now()", "Instant::now", true);
        check("Instant::nowhere()", "Instant::now", false);
        check("", "tokio", false);
    }

    #[test]
    fn comments_are_no_code() {
        assert_eq!(code("let now = at; // never Instant::now()"), "let now = at; ");
        assert_eq!(code("/// tokio"), "");
    }
}
