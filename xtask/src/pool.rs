//! Jobs, several at a time: what each prints is collected, and shown whole when it ends. Which jobs there are is said elsewhere.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{bounded, shown};
use crate::report::Count;
use crate::workspace;

/// A program that runs tests.
pub(crate) struct Job {
    /// What it is called in the output and in the sum.
    pub(crate) name: String,
    pub(crate) command: Command,
    /// How long it takes, about: the longest begin first, so that none of them is left over at the end.
    pub(crate) expected: Duration,
    /// It measures what others beside it would disturb.
    pub(crate) alone: bool,
    /// The longest that it may take.
    pub(crate) limit: Duration,
    pub(crate) counted: Counted,
}

/// How a job says what passed.
pub(crate) enum Counted {
    /// By a JUnit report in this file.
    Junit(PathBuf),
    /// By the lines `test result:` of what it prints.
    Output,
}

/// A job that has ended.
pub(crate) struct Done {
    pub(crate) name: String,
    pub(crate) count: Count,
    pub(crate) took: Duration,
}

/// Runs all jobs, `at_once` at a time, then one after the other those that want to be alone, and prints what each has printed when it has ended.
pub(crate) fn run(jobs: Vec<Job>, at_once: usize) -> Vec<Done> {
    run_and(jobs, at_once, print)
}

/// Runs all jobs and shows each that has ended; answers them in that order.
fn run_and(jobs: Vec<Job>, at_once: usize, show: fn(&Done, &str)) -> Vec<Done> {
    let shown = |(done, output): (Done, String)| {
        show(&done, &output);
        done
    };
    let (alone, mut together): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.alone);
    together.sort_by_key(|job| Reverse(job.expected));
    let queue = Mutex::new(VecDeque::from(together));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let (ends, ended) = mpsc::channel();
    let mut all = thread::scope(|scope| {
        for _ in 0..at_once {
            let (next, ends) = (&next, ends.clone());
            scope.spawn(move || {
                while let Some(job) = next() {
                    // The other side is there as long as one of these threads is.
                    let _ = ends.send(one(job));
                }
            });
        }
        drop(ends);
        ended.iter().map(shown).collect::<Vec<_>>()
    });
    all.extend(alone.into_iter().map(|job| shown(one(job))));
    all
}

/// Runs one job; answers what is to be shown of it as well.
fn one(job: Job) -> (Done, String) {
    let started = Instant::now();
    let name = job.name.clone();
    eprintln!("begins: {name}");
    let (count, output) = attempt(job).unwrap_or_else(|error| (Count::BROKEN, format!("{name} cannot run: {error:#}\n")));
    (Done { name, count, took: started.elapsed() }, output)
}

fn attempt(mut job: Job) -> Result<(Count, String)> {
    let path = workspace::artifacts().join("output").join(format!("{}.txt", job.name.replace([' ', '/'], "-")));
    fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    job.command.stdout(file.try_clone()?).stderr(file);
    let status = bounded(&mut job.command, job.limit)?;
    let mut text = format!("$ {}\n", shown(&job.command));
    text.push_str(&String::from_utf8_lossy(&fs::read(&path)?));
    let Some(status) = status else {
        return Ok((Count::BROKEN, format!("{text}took longer than {:?} and was ended\n", job.limit)));
    };
    let count = match job.counted {
        Counted::Junit(report) => fs::read_to_string(report).map_or(Count::BROKEN, |xml| Count::of_junit(&xml)),
        Counted::Output => Count::of_cargo(&text),
    };
    Ok((count.with_exit(status.success()), text))
}

/// Prints all that a job has printed, in one piece.
fn print(done: &Done, output: &str) {
    let mut screen = io::stdout().lock();
    // A screen that is gone is no reason to end the others.
    let _ = write!(screen, "\n==== {}\n{output}==== {}: {} in {:.1} s\n", done.name, done.name, done.count, done.took.as_secs_f64());
    let _ = screen.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, script: &str, expected: u64, alone: bool) -> Job {
        Job {
            name: name.to_owned(),
            command: crate::process::command("sh", &["-c", script]),
            expected: Duration::from_secs(expected),
            alone,
            limit: Duration::from_secs(60),
            counted: Counted::Output,
        }
    }

    const PASSED: &str = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'";

    #[test]
    fn the_longest_begins_first_and_who_wants_to_be_alone_comes_last() {
        let jobs = vec![job("pool short", PASSED, 1, false), job("pool alone", PASSED, 9, true), job("pool long", PASSED, 5, false)];
        let done = run_and(jobs, 1, |_, _| ());
        let order: Vec<(&str, usize)> = done.iter().map(|done| (done.name.as_str(), done.count.passed)).collect();
        assert_eq!(order, [("pool long", 2), ("pool short", 2), ("pool alone", 2)]);
    }

    #[test]
    fn several_run_at_a_time() {
        // Each waits for what the other one does.
        let folder = workspace::artifacts().join("output");
        fs::create_dir_all(&folder).unwrap();
        let (one, other) = (folder.join("pool-one"), folder.join("pool-other"));
        let _ = (fs::remove_file(&one), fs::remove_file(&other));
        let script = |mine: &PathBuf, its: &PathBuf| {
            format!("touch {}; until [ -e {} ]; do sleep 0.02; done; {PASSED}", mine.display(), its.display())
        };
        let jobs = vec![job("pool first", &script(&one, &other), 1, false), job("pool second", &script(&other, &one), 1, false)];
        assert!(run_and(jobs, 2, |_, _| ()).iter().all(|done| done.count == Count { passed: 2, failed: 0, skipped: 0 }));
    }

    #[test]
    fn a_job_that_fails_cannot_run_or_takes_too_long_counts_as_failed() {
        let mut missing = job("pool missing", "", 1, false);
        missing.command = crate::process::command::<&str>("/no/such/program", &[]);
        let mut endless = job("pool endless", "exec sleep 60", 1, false);
        endless.limit = Duration::from_millis(100);
        let unreported = Job { counted: Counted::Junit(PathBuf::from("/no/such/report")), ..job("pool unreported", "true", 1, false) };
        let done = run_and(vec![missing, endless, unreported, job("pool failing", "exit 3", 1, false)], 4, |_, _| ());
        assert_eq!(done.len(), 4);
        assert!(done.iter().all(|done| done.count == Count::BROKEN));
    }
}
