//! What one build of the whole workspace brings: the binaries of the tests, and the programs that suites start.
//!
//! One build, since each choice of packages or features is a graph of its own to cargo, which would compile most of the dependencies again.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{cargo, command, shown};
use crate::workspace;

/// The tests and programs of the workspace.
#[derive(Default)]
pub(crate) struct Products {
    /// In the order in which they were built.
    pub(crate) tests: Vec<TestBinary>,
    programs: HashMap<String, PathBuf>,
}

/// A binary with tests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TestBinary {
    pub(crate) package: String,
    /// What is tested: `lib`, `bin` and its name, or the name of a file or folder below `tests`. No other one of the package is called so.
    pub(crate) target: String,
    program: PathBuf,
    /// The folder of the package.
    folder: PathBuf,
}

impl TestBinary {
    /// What cargo would start to run it.
    pub(crate) fn command(&self) -> Command {
        let mut test = command::<&str>(&self.program, &[]);
        test.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder).env("CARGO_PKG_NAME", &self.package);
        test
    }
}

impl Products {
    /// The program of this name.
    pub(crate) fn program(&self, name: &str) -> Option<&Path> {
        self.programs.get(name).map(PathBuf::as_path)
    }

    /// Reads cargo's messages, one JSON object a line.
    fn read(messages: &str) -> Result<Self> {
        let mut products = Self::default();
        for line in messages.lines().filter(|line| line.starts_with('{')) {
            let message: Value = serde_json::from_str(line).with_context(|| format!("cargo said what is no JSON: {line}"))?;
            let Some(program) = message["executable"].as_str().map(PathBuf::from) else { continue };
            let target = text(&message["target"]["name"])?;
            let kind = text(&message["target"]["kind"][0])?;
            if message["profile"]["test"] == true {
                let target = match kind.as_str() {
                    "test" => target,
                    "bin" => format!("bin {target}"),
                    _ => kind,
                };
                let manifest = text(&message["manifest_path"])?;
                let folder = Path::new(&manifest).parent().context("a manifest is in a folder")?.to_owned();
                let package = of_package(&text(&message["package_id"])?);
                products.tests.push(TestBinary { package, target, program, folder });
            } else if kind == "bin" {
                products.programs.insert(target, program);
            }
        }
        Ok(products)
    }
}

/// Builds all tests and programs of the workspace, with all features.
///
/// A program does what it does for users, who build it with its own features: those of the workspace add modules (`testing`) and interfaces that nobody calls
/// who does not ask for them (`broker/json`, `tokio/test-util`).
pub(crate) fn of_workspace() -> Result<Products> {
    build(whole_workspace(&["build", "--lib", "--bins", "--examples", "--tests"]))
}

/// Cargo with all packages and features. Where nobody has built the workspace incrementally it does not begin to: what is built once costs a third more so.
pub(crate) fn whole_workspace(arguments: &[&str]) -> Command {
    let mut build = cargo(arguments);
    build.args(["--workspace", "--all-features"]);
    if env::var_os("CARGO_INCREMENTAL").is_none() && (env::var_os("CI").is_some() || !workspace::is_built_incrementally()) {
        build.env("CARGO_INCREMENTAL", "0");
    }
    build
}

/// Builds some programs: package and binary.
pub(crate) fn of_programs(wanted: &[(&str, &str)]) -> Result<Products> {
    let chosen = wanted.iter().flat_map(|(package, binary)| ["--package", package, "--bin", binary]);
    build(cargo(&["build"].into_iter().chain(chosen).collect::<Vec<_>>()))
}

fn build(mut build: Command) -> Result<Products> {
    eprintln!("\n$ {}", shown(&build));
    let output = build.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the build failed");
    Products::read(&String::from_utf8_lossy(&output.stdout))
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("cargo said {value} where a text belongs"))?.to_owned())
}

/// The name in `path+file:///folder/name#0.1.0` or `path+file:///folder#name@0.1.0`.
fn of_package(id: &str) -> String {
    let (place, version) = id.rsplit_once('#').unwrap_or((id, ""));
    let name = version.split_once('@').map_or_else(|| place.rsplit('/').next().unwrap_or_default(), |(name, _)| name);
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"
{"reason":"compiler-artifact","package_id":"registry+x#itoa@1.0.0","manifest_path":"/r/itoa/Cargo.toml","target":{"kind":["lib"],"name":"itoa"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///w/broker-server#0.1.0","manifest_path":"/w/broker-server/Cargo.toml","target":{"kind":["bin"],"name":"broker"},"profile":{"test":false},"executable":"/t/debug/broker"}
{"reason":"compiler-artifact","package_id":"path+file:///w/broker-server#0.1.0","manifest_path":"/w/broker-server/Cargo.toml","target":{"kind":["bin"],"name":"broker"},"profile":{"test":true},"executable":"/t/debug/deps/broker-1"}
{"reason":"compiler-artifact","package_id":"path+file:///w/tests/sim#simulation@0.1.0","manifest_path":"/w/tests/sim/Cargo.toml","target":{"kind":["test"],"name":"seeds"},"profile":{"test":true},"executable":"/t/debug/deps/seeds-2"}
{"reason":"compiler-artifact","package_id":"path+file:///w/broker#0.1.0","manifest_path":"/w/broker/Cargo.toml","target":{"kind":["example"],"name":"hello"},"profile":{"test":false},"executable":"/t/debug/examples/hello"}
{"reason":"build-finished","success":true}
"#;

    #[test]
    fn tests_and_programs_are_told_apart() {
        let products = Products::read(MESSAGES).unwrap();
        let tests: Vec<_> =
            products.tests.iter().map(|test| (test.package.as_str(), test.target.as_str(), test.folder.to_str().unwrap())).collect();
        assert_eq!(tests, [("broker-server", "bin broker", "/w/broker-server"), ("simulation", "seeds", "/w/tests/sim")]);
        assert_eq!(products.program("broker"), Some(Path::new("/t/debug/broker")));
        assert_eq!(products.program("hello"), None, "examples are no programs of a suite");
    }
}
