//! Files and functions that have grown long. A report, not a rule: each is worth a look, and some are fine as they are.

use anyhow::Result;

use crate::{source, workspace};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// One line for each long file and each long function.
pub(crate) fn report() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in source::files(workspace::root()) {
        let text = source::read(&path)?;
        let place = path.strip_prefix(workspace::root()).unwrap_or(&path).display().to_string();
        let lines = text.lines().count();
        if lines > FILE_LINES {
            found.push(format!("{place}: {lines} lines"));
        }
        let long = functions(&text).into_iter().filter(|function| function.lines > FUNCTION_LINES);
        found.extend(long.map(|function| format!("{place}:{}: fn {} has {} lines", function.at, function.name, function.lines)));
    }
    Ok(found)
}

struct Function {
    name: String,
    /// Number of its first line.
    at: usize,
    /// From the line of `fn` to the closing brace.
    lines: usize,
}

/// The functions of formatted source: each ends at a closing brace that is indented as its head is.
fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(source::code(line)) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends =
            |line: &str| line.strip_prefix(indent).is_some_and(|rest| rest == "}" || (rest.ends_with(';') && !rest.starts_with(' ')));
        if let Some(length) = lines[index..].iter().position(|line| ends(line)) {
            found.push(Function { name, at: index + 1, lines: length + 1 });
        }
    }
    found
}

fn function_name(code: &str) -> Option<String> {
    let head = code.trim_start();
    let (before, after) = head.split_once("fn ")?;
    let modifiers = ["", "pub", "pub(crate)", "pub(super)", "const", "async", "extern", "unsafe"];
    let is_head = before.split_whitespace().all(|word| modifiers.contains(&word));
    is_head.then(|| after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_measured_from_its_head_to_its_brace() {
        let text = "impl A {\n    pub(crate) async fn long(\n        a: u8,\n    ) {\n        b();\n    }\n\n    fn short() {}\n}\n";
        let found = functions(text);
        assert_eq!(found.iter().map(|function| (function.name.as_str(), function.at, function.lines)).next(), Some(("long", 2, 5)));
    }
}
