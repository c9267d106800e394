//! The scripts, and how one is called. What they do stands in `lua/*.lua`.

use std::{fmt::Display, sync::LazyLock};

use broker_resp::{Argument, Command};

/// A script that runs in Redis as one step.
pub(crate) struct Script {
    source: String,
    sha: String,
}

impl Script {
    /// A script of its own.
    pub(crate) fn new(source: impl Into<String>) -> Self {
        let source = source.into();
        let sha = sha1_smol::Sha1::from(&source).digest().to_string();
        Self { source, sha }
    }

    /// A script that begins with the fence: it knows of which life of the data it speaks.
    fn fenced(source: &str) -> Self {
        Self::new(format!("{}{source}", include_str!("lua/fence.lua")))
    }

    /// Begins a call: every key must be named, or a cluster cannot tell where it runs.
    pub(crate) fn call(&self, keys: impl IntoIterator<Item = impl Argument>) -> Call {
        let keys: Vec<_> = keys.into_iter().collect();
        let command = Command::new("EVALSHA").arg(&self.sha).arg(keys.len()).args(keys);
        Call { command }
    }

    /// The command that makes a server know the script.
    pub(crate) fn load(&self) -> Command {
        Command::new("SCRIPT").arg("LOAD").arg(&self.source)
    }
}

/// A call of a script.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) command: Command,
}

impl Call {
    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl Argument) -> Self {
        self.command.push(argument);
        self
    }

    /// Adds an argument in place.
    pub(crate) fn push(&mut self, argument: impl Argument) {
        self.command.push(argument);
    }

    /// Adds a number, or an empty text where there is none.
    pub(crate) fn arg_or_empty(self, number: Option<impl Display>) -> Self {
        self.arg(number.map_or_else(String::new, |number| number.to_string()))
    }
}

/// Appends and sends a batch.
pub(crate) static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::fenced(include_str!("lua/publish.lua")));
/// Reads part of a log.
pub(crate) static HISTORY: LazyLock<Script> = LazyLock::new(|| Script::fenced(include_str!("lua/history.lua")));
/// Reads part of the rows.
pub(crate) static STATE: LazyLock<Script> = LazyLock::new(|| Script::fenced(include_str!("lua/state.lua")));
