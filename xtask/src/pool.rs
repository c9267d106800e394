//! Jobs, several at a time: what each prints is collected, and shown whole when it ends. Which jobs there are is said elsewhere.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
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
    /// How many places it takes: 1 where it mostly waits, 2 where it keeps a core busy.
    pub(crate) weight: usize,
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
    /// What it counted beside others, where it failed there and not alone.
    pub(crate) beside_others: Option<Count>,
}

/// Runs all jobs, `at_once` places full at a time, then one after the other those that want to be alone, and prints what each has printed when it has ended.
///
/// What fails beside others is tried once more alone: where it passes, a busy machine is what it could not stand, which is told and no failure.
pub(crate) fn run(jobs: Vec<Job>, at_once: usize) -> Vec<Done> {
    run_and(jobs, at_once, print)
}

/// Runs all jobs and shows each that has ended; answers them in that order.
fn run_and(jobs: Vec<Job>, at_once: usize, show: fn(&Done, &str)) -> Vec<Done> {
    let shown = |(job, done, output): (Job, Done, String)| {
        show(&done, &output);
        (job, done)
    };
    let (alone, mut together): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.alone);
    together.sort_by_key(|job| Reverse(job.expected));
    let queue = Queue { inner: Mutex::new(Waiting { jobs: together, free: at_once }), freed: Condvar::new(), places: at_once };
    let (ends, ended) = mpsc::channel();
    let mut all = thread::scope(|scope| {
        for _ in 0..at_once {
            let (queue, ends) = (&queue, ends.clone());
            scope.spawn(move || {
                while let Some(job) = queue.next() {
                    let places = queue.places_of(&job);
                    let end = one(job);
                    queue.give_back(places);
                    // The other side is there as long as one of these threads is.
                    let _ = ends.send(end);
                }
            });
        }
        drop(ends);
        ended.iter().map(shown).collect::<Vec<_>>()
    });
    all.extend(alone.into_iter().map(|job| shown(one(job))));
    again(all, show)
}

/// Most jobs that are tried again: where more fail, it is not the machine.
const AGAIN_MAX: usize = 4;

/// Tries what failed once more, one after the other.
fn again(all: Vec<(Job, Done)>, show: fn(&Done, &str)) -> Vec<Done> {
    let too_many = all.iter().filter(|(_, done)| done.count.failed > 0).count() > AGAIN_MAX;
    let second = |(job, first): (Job, Done)| {
        if first.count.failed == 0 || too_many {
            return first;
        }
        let (_, mut done, output) = one(job);
        if done.count.failed == 0 {
            done.beside_others = Some(first.count);
        }
        done.took += first.took;
        show(&done, &output);
        done
    };
    all.into_iter().map(second).collect()
}

/// Jobs that wait for places.
struct Queue {
    inner: Mutex<Waiting>,
    freed: Condvar,
    places: usize,
}

struct Waiting {
    jobs: Vec<Job>,
    free: usize,
}

impl Queue {
    /// The first job that fits; waits for places where none does. `None`: there is none any more.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if waiting.jobs.is_empty() {
                return None;
            }
            if let Some(at) = waiting.jobs.iter().position(|job| self.places_of(job) <= waiting.free) {
                let job = waiting.jobs.remove(at);
                waiting.free -= self.places_of(&job);
                return Some(job);
            }
            waiting = self.freed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, places: usize) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).free += places;
        self.freed.notify_all();
    }

    /// No job waits for more places than there are.
    fn places_of(&self, job: &Job) -> usize {
        job.weight.clamp(1, self.places)
    }
}

/// Runs one job; gives it back with what is to be shown of it.
fn one(mut job: Job) -> (Job, Done, String) {
    let started = Instant::now();
    let name = job.name.clone();
    eprintln!("begins: {name}");
    let (count, output) = attempt(&mut job).unwrap_or_else(|error| (Count::BROKEN, format!("{name} cannot run: {error:#}\n")));
    (job, Done { name, count, took: started.elapsed(), beside_others: None }, output)
}

fn attempt(job: &mut Job) -> Result<(Count, String)> {
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
    let count = match &job.counted {
        // A report without a test is one that was not written to its end.
        Counted::Junit(report) => {
            let count = fs::read_to_string(report).map(|xml| Count::of_junit(&xml)).unwrap_or_default();
            if count == Count::default() { Count::BROKEN } else { count }
        }
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
            weight: 1,
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
    fn a_heavy_job_takes_the_places_of_two() {
        let folder = workspace::artifacts().join("output");
        fs::create_dir_all(&folder).unwrap();
        let busy = folder.join("pool-busy");
        let _ = fs::remove_dir(&busy);
        // Two at a time would find the folder there.
        let script = format!("mkdir {0} && sleep 0.1 && rmdir {0} && {PASSED}", busy.display());
        let heavy = |name: &str| Job { weight: 2, ..job(name, &script, 1, false) };
        let done = run_and(vec![heavy("pool heavy one"), heavy("pool heavy other"), heavy("pool heavy third")], 3, |_, _| ());
        assert!(done.iter().all(|done| done.count.passed == 2 && done.beside_others.is_none()));
    }

    #[test]
    fn what_fails_beside_others_and_passes_alone_is_told() {
        let folder = workspace::artifacts().join("output");
        fs::create_dir_all(&folder).unwrap();
        let seen = folder.join("pool-seen");
        let _ = fs::remove_file(&seen);
        let script = format!("[ -e {0} ] && {PASSED} || {{ touch {0}; exit 3; }}", seen.display());
        let done = run_and(vec![job("pool second try", &script, 1, false)], 1, |_, _| ());
        assert_eq!((done[0].count.passed, done[0].beside_others), (2, Some(Count::BROKEN)));
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
