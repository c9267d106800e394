//! Running other programs: loudly, quietly, or with a bound on their time.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// `program` with `arguments`, in the root of the workspace.
pub(crate) fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace::root());
    command
}

/// `cargo` with `arguments`: the one that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

/// Says what runs and runs it; `false` when it failed.
pub(crate) fn passes(command: &mut Command) -> Result<bool> {
    eprintln!("\n$ {}", shown(command));
    Ok(command.status().with_context(|| format!("cannot run {}", shown(command)))?.success())
}

/// Says what runs and runs it; an error when it failed.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    if passes(command)? { Ok(()) } else { bail!("{} failed", shown(command)) }
}

/// What the program printed; an error when it failed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed", shown(command));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name can be started.
pub(crate) fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Runs a program with everything that it starts for at most `limit`; `None` when it took longer and was ended.
pub(crate) fn bounded(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut child = command.process_group(0).spawn().with_context(|| format!("cannot run {}", shown(command)))?;
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            // What it started and left behind would go on beside the others.
            end_group(&mut child)?;
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(50));
    }
    end_group(&mut child)?;
    Ok(None)
}

/// Ends a child that leads a process group, and everything in that group, if there is anything left.
fn end_group(child: &mut Child) -> Result<()> {
    Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status()?;
    child.wait()?;
    Ok(())
}

/// The command as one would type it, without its variables.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
