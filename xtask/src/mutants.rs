//! `cargo xtask mutants`: plants bugs, one at a time, in a copy of the source, and says which tests catch them. The bugs stand in `list`.

mod list;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use list::{MUTANTS, Mutant};

use crate::{process, workspace};

/// A suite that takes so much longer than without a bug hangs, and the bug is caught; on a busy machine everything takes long.
const HANGS_FROM: u32 = 5;
/// Shortest time until a suite counts as hanging.
const RUN_TIMEOUT: Duration = Duration::from_secs(240);
/// Longest build.
const BUILD_TIMEOUT: Duration = Duration::from_secs(1_200);
/// Seeds until which the simulation must have found a bug.
const SEEDS: &str = "400";
/// Cases of each property: a bug that takes more is not caught in every test run.
const CASES: &str = "20000";
/// Schedules of the model, of each kind.
const SCHEDULES: &str = "3000";

/// A group of tests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Suite {
    /// Unit tests and properties of `broker-core` whose path contains this.
    Unit(&'static str),
    /// Tests of `broker-core` through its public API.
    Integration(&'static str),
    /// Simulated clients, node and faults.
    Simulation,
    /// The hub under shuttle's scheduler.
    Model,
}

/// How a suite ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Passed,
    Failed,
    /// Nobody waited for its end.
    Hung,
}

/// A group of tests, and how long it takes without a planted bug.
type Known = (Suite, Duration);

/// What became of a planted bug.
enum Fate {
    Caught(Suite, Outcome, Duration),
    Survived,
    /// The text to replace does not stand exactly once in its file.
    DoesNotApply,
    /// With it nothing is built.
    DoesNotCompile,
}

/// Plants every bug whose name contains one of the words of `filter`, which commas part; `true` when each is caught.
pub(crate) fn run(filter: &str) -> Result<bool> {
    let source = workspace::target().join("mutants/source");
    copy_source(&source)?;
    let chosen: Vec<&Mutant> = MUTANTS.iter().filter(|mutant| filter.split(',').any(|word| mutant.name.contains(word))).collect();
    if chosen.is_empty() {
        bail!("no mutant's name contains {filter:?}");
    }
    let mut known: Vec<Known> = Vec::new();
    for suite in suites_of(&chosen) {
        if !build(&source, suite)? {
            bail!("nothing is built without a planted bug: {suite:?}");
        }
        let started = Instant::now();
        match outcome(&source, suite, BUILD_TIMEOUT)? {
            Outcome::Passed => known.push((suite, started.elapsed())),
            how => bail!("the tests fail without a planted bug: {suite:?}, {how:?} after {:.0} s", started.elapsed().as_secs_f64()),
        }
    }
    let mut bad = 0;
    for mutant in &chosen {
        let fate = fate(&source, mutant, &known)?;
        let line = match fate {
            Fate::Caught(suite, how, time) => format!("caught   {} by {suite:?}, {how:?} in {:.0} s", mutant.name, time.as_secs_f64()),
            Fate::Survived => format!("SURVIVED {} ({:?})", mutant.name, mutant.suites),
            Fate::DoesNotApply => format!("STALE    {}: its text does not stand exactly once in {}", mutant.name, mutant.file),
            Fate::DoesNotCompile => format!("BROKEN   {} does not compile", mutant.name),
        };
        bad += usize::from(!line.starts_with("caught"));
        println!("{line}");
    }
    println!("{} planted bugs, {} caught", chosen.len(), chosen.len() - bad);
    Ok(bad == 0)
}

/// Each suite that somebody needs, once.
fn suites_of(mutants: &[&Mutant]) -> Vec<Suite> {
    let mut suites = Vec::new();
    for suite in mutants.iter().flat_map(|mutant| mutant.suites) {
        if !suites.contains(suite) {
            suites.push(*suite);
        }
    }
    suites
}

fn fate(source: &Path, mutant: &Mutant, known: &[Known]) -> Result<Fate> {
    let path = source.join("broker-core/src").join(mutant.file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let Some(changed) = applied(&text, mutant) else { return Ok(Fate::DoesNotApply) };
    fs::write(&path, changed)?;
    let fate = tried(source, mutant, known);
    fs::write(&path, text)?;
    fate
}

/// The text of a file with the bug; `None`: it does not apply.
fn applied(text: &str, mutant: &Mutant) -> Option<String> {
    (text.matches(mutant.find).count() == 1).then(|| text.replace(mutant.find, mutant.replace))
}

fn tried(source: &Path, mutant: &Mutant, known: &[Known]) -> Result<Fate> {
    for suite in mutant.suites {
        if !build(source, *suite)? {
            return Ok(Fate::DoesNotCompile);
        }
        let without = known.iter().find(|(of, _)| of == suite).map_or(RUN_TIMEOUT, |(_, took)| *took);
        let started = Instant::now();
        match outcome(source, *suite, RUN_TIMEOUT.max(without * HANGS_FROM))? {
            Outcome::Passed => {}
            how => return Ok(Fate::Caught(*suite, how, started.elapsed())),
        }
    }
    Ok(Fate::Survived)
}

fn build(source: &Path, suite: Suite) -> Result<bool> {
    let mut command = cargo(source, suite);
    match suite {
        Suite::Simulation => command.args(["build", "--package", "simulation"]),
        _ => command.args(tests_of(suite)).arg("--no-run"),
    };
    Ok(process::bounded(&mut command, BUILD_TIMEOUT)?.is_some_and(|status| status.success()))
}

fn outcome(source: &Path, suite: Suite, timeout: Duration) -> Result<Outcome> {
    let mut command = cargo(source, suite);
    match suite {
        Suite::Simulation => command.args(["run", "--package", "simulation", "--", "--until-broken", SEEDS]),
        Suite::Unit(filter) | Suite::Integration(filter) => command.args(tests_of(suite)).args(["--", filter]),
        Suite::Model => command.args(tests_of(suite)).args(["--", "model"]),
    };
    // What fails is expected to fail: its output is of no interest.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(match process::bounded(&mut command, timeout)? {
        None => Outcome::Hung,
        Some(status) if status.success() => Outcome::Passed,
        Some(_) => Outcome::Failed,
    })
}

fn tests_of(suite: Suite) -> &'static [&'static str] {
    match suite {
        Suite::Integration(_) => &["test", "--package", "broker-core", "--features", "testing", "--test", "it"],
        _ => &["test", "--package", "broker-core", "--features", "testing", "--lib"],
    }
}

/// `cargo` in the copy, with build products of its own; the model is built with another configuration and has others.
fn cargo(source: &Path, suite: Suite) -> Command {
    let mut command = process::cargo(&[]);
    let target = if matches!(suite, Suite::Model) { "mutants/model" } else { "mutants/build" };
    command.current_dir(source).env("CARGO_TARGET_DIR", workspace::target().join(target));
    command.env("BROKER_PROPERTIES", CASES).env("BROKER_MODEL_SCHEDULES", SCHEDULES).env("RUST_BACKTRACE", "0");
    if matches!(suite, Suite::Model) {
        command.env("RUSTFLAGS", "--cfg broker_model").env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    }
    command
}

/// Copies every file that git knows or would take, where it differs: what is unchanged is not built again.
fn copy_source(to: &Path) -> Result<()> {
    let listed = process::output(&mut process::command("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let (from, to): (PathBuf, PathBuf) = (workspace::root().join(name), to.join(name));
        let Ok(content) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_a_name_of_its_own_and_stands_in_the_docs() {
        let docs = fs::read_to_string(workspace::root().join("docs/mutants.md")).unwrap();
        for mutant in MUTANTS {
            assert_eq!(MUTANTS.iter().filter(|other| other.name == mutant.name).count(), 1, "{}", mutant.name);
            assert!(docs.contains(&format!("| `{}` |", mutant.name)), "{} is missing in docs/mutants.md", mutant.name);
        }
        assert_eq!(docs.matches("\n| `").count(), MUTANTS.len(), "docs/mutants.md lists what is planted, and nothing else");
    }

    #[test]
    fn every_mutant_still_applies() {
        for mutant in MUTANTS {
            let text = fs::read_to_string(workspace::root().join("broker-core/src").join(mutant.file)).unwrap();
            assert!(applied(&text, mutant).is_some(), "{}: move it along with what is rewritten in {}", mutant.name, mutant.file);
        }
    }

    #[test]
    fn a_text_that_stands_twice_or_not_at_all_is_not_replaced() {
        let mutant = Mutant { name: "x", file: "x", find: "a", replace: "b", suites: &[] };
        assert_eq!(applied("a c", &mutant), Some("b c".to_owned()));
        assert_eq!(applied("a a", &mutant), None);
        assert_eq!(applied("c", &mutant), None);
    }
}
