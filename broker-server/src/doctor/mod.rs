//! `broker doctor`: looks at a running broker from outside, and says of everything that is wrong how to put it right. What is looked at lives in the
//! modules; here is what a finding is, and how findings are shown.

mod client;
mod cures;
mod entry;
mod names;
mod nodes;
mod reach;
mod redis;
mod socket;

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::config::Config;

/// Requests, each over a connection of its own, by which the nodes behind an address are found.
const TRIES: usize = 16;
/// Longest that one request may take.
const TIMEOUT: Duration = Duration::from_secs(8);

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// It was looked at, and is in order.
    Fine,
    /// It could not be looked at; the text says what is missing.
    Skipped,
    /// Good to know.
    Note,
    /// It works, and will cost something one day.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What was looked at: `ready`, `nodes`, `redis`; stable, for programs.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, in words.
    pub message: String,
    /// How to put it right.
    pub cure: Option<String>,
}

/// Everything that was found, in the order in which it was looked at.
#[derive(Clone, Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Skipped => "skipped",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Finding {
    fn new(check: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self { check, severity, message: message.into(), cure: None }
    }

    fn fine(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Severity::Fine, message)
    }

    fn skipped(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Severity::Skipped, message)
    }

    fn warning(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Severity::Warning, message)
    }

    fn error(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Severity::Error, message)
    }

    fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

impl Findings {
    /// Whether nothing is wrong that would keep the broker from its work.
    pub fn is_well(&self) -> bool {
        self.0.iter().all(|finding| finding.severity < Severity::Error)
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let finding = |finding: &Finding| json!({"check": finding.check, "severity": finding.severity.word(), "message": finding.message, "cure": finding.cure});
        json!({"well": self.is_well(), "findings": self.0.iter().map(finding).collect::<Vec<_>>()})
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            writeln!(f, "{:<8} {:<8} {}", finding.severity.word(), finding.check, finding.message)?;
            for line in finding.cure.iter().flat_map(|cure| cure.lines()) {
                writeln!(f, "{:17} = {line}", "")?;
            }
        }
        let count = |severity| self.0.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        writeln!(f, "\n{} looked at, {errors} wrong, {warnings} to mend one day", self.0.len())
    }
}

/// What is to be looked at besides what always is.
#[derive(Clone, Copy, Default)]
pub struct Wishes<'a> {
    /// Where the broker is asked; `None`: at the listener of the configuration.
    pub url: Option<&'a str>,
    /// Without what takes as long as a connection is idle.
    pub quick: bool,
    /// An origin that is to be let in.
    pub origin: Option<&'a str>,
    /// A token that is to be taken.
    pub token: Option<&'a str>,
}

/// Looks at everything.
///
/// # Errors
/// The address is none.
pub async fn examine(config: &Config, wishes: Wishes<'_>) -> anyhow::Result<Findings> {
    let Wishes { url, quick, origin, token } = wishes;
    let mut findings = Findings::default();
    let listen = config.server.listen;
    let scheme = if config.server.tls.pair().is_some() { "https" } else { "http" };
    let is_listener = url.is_none();
    let url = url.map_or_else(|| format!("{scheme}://{listen}"), client::http_url);
    let client = client::Client::new(&url)?;
    names::examine(config, &url, &mut findings.0).await;
    redis::examine(config, &mut findings.0).await;
    let reached = reach::examine(&client, &mut findings.0).await;
    if reached.is_empty() {
        return Ok(findings);
    }
    nodes::examine(&client, config.api.key.as_ref(), &reached, &mut findings.0).await;
    if let Some(origin) = origin {
        entry::origin(&client, origin, &mut findings.0).await;
    }
    if let Some(token) = token {
        entry::token(&client, token, &mut findings.0).await;
    }
    // Before the listener itself stands nothing that could cut what is idle.
    socket::examine(&client, config.api.key.as_ref(), quick || is_listener, &mut findings.0).await;
    Ok(findings)
}
