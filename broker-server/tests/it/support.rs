//! What the tests share: configuration from text, and the real binary in a directory of its own.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use broker_server::config::{Config, Inputs, Loaded};
use tempfile::TempDir;

/// Reads this text as `broker.toml`, over it these variables and flags.
pub(crate) fn load(text: &str, change: impl FnOnce(&mut Inputs)) -> Loaded {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("broker.toml");
    fs::write(&path, text).unwrap();
    let mut inputs = Inputs { file: Some(path), ..Inputs::default() };
    change(&mut inputs);
    Config::load(&inputs)
}

/// The report as a user sees it, without the directory of the test and with random secrets made the same.
pub(crate) fn shown(loaded: &Loaded) -> String {
    let directory = loaded.file().and_then(Path::parent).map(|directory| format!("{}/", directory.display()));
    let text = loaded.report.to_string();
    let text = directory.map_or(text.clone(), |directory| text.replace(&directory, ""));
    let is_random = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('"').map(|word| if is_random(word) { "RANDOM" } else { word }).collect::<Vec<_>>().join("\"")
}

/// Runs the real binary in a directory, with an environment of nothing but these variables.
pub(crate) fn broker(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_broker"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the binary runs")
}

/// What was printed, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}
