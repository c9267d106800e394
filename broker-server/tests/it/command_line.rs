//! The real binary: exit codes, files it writes, what it prints.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::support::{broker, text};

#[track_caller]
fn check(directory: &Path, arguments: &[&str], variables: &[(&str, &str)], code: i32, expected: &str) {
    let output = broker(directory, arguments, variables);
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{printed}");
    assert!(printed.contains(expected), "{expected:?} is missing in\n{printed}");
}

#[test]
fn init_writes_a_file_that_check_finds_in_order() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    check(here, &["init"], &[], 0, "wrote broker.toml");
    check(here, &["check"], &[], 0, "broker.toml is in order\n");
    check(here, &["config", "show"], &[], 0, "from broker.toml:");
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_what_init_writes() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    check(directory.path(), &["init", "--output", "x.toml"], &[], 0, "next: `broker --config x.toml`");
    let mode = fs::metadata(directory.path().join("x.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn init_replaces_a_file_only_when_told_so() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    fs::write(here.join("broker.toml"), "# mine\n").unwrap();
    check(here, &["init"], &[], 1, "`broker init --force` replaces it");
    assert_eq!(fs::read_to_string(here.join("broker.toml")).unwrap(), "# mine\n");
    check(here, &["init", "--force"], &[], 0, "wrote broker.toml");
    check(here, &["check"], &[], 0, "in order");
}

#[test]
fn check_ends_with_2_where_there_are_mistakes() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    check(here, &["check"], &[], 0, "in order");
    check(here, &["check"], &[("BROKER_CLIENT__PING_INTERVALL", "3s")], 2, "did you mean BROKER_CLIENT__PING_INTERVAL?");
    check(here, &["check", "--config", "nowhere.toml"], &[], 2, "cannot read nowhere.toml");
    check(here, &["check"], &[("BROKER_CONFIG", "nowhere.toml")], 2, "cannot read nowhere.toml");
    check(here, &["check", "--listen", "0.0.0.0:80"], &[], 2, "hmac_secret = \"");
    fs::write(here.join("broker.toml"), "[client]\nping = 3\nanonymous = 4\n").unwrap();
    check(here, &["check"], &[], 2, "broker.toml has 2 mistakes\n");
    check(here, &["config", "show"], &[], 2, "broker.toml:2:1");
    check(here, &["serve"], &[], 2, "broker.toml:3:13");
    check(here, &[], &[], 2, "broker.toml:3:13");
}

#[test]
fn warnings_are_shown_and_are_no_mistakes() {
    let directory = TempDir::new().unwrap();
    let open = "[client]\nanonymous = true\n[default]\nallow = [\"pub\"]\nallow_anonymous = true\n";
    fs::write(directory.path().join("broker.toml"), open).unwrap();
    check(directory.path(), &["check"], &[], 0, "in order, with 1 warning\n");
    check(directory.path(), &["check"], &[], 0, "anyone may publish to topics without a namespace without a token");
}

#[test]
fn a_secret_on_a_wrong_line_is_not_shown() {
    let directory = TempDir::new().unwrap();
    let file = "[client.token]\nhmac_secret = \"tooshort-hunter2\"\n[api]\nkye = \"hunter2-hunter2-hunter2\"\n[x]\npassword = \"hunter2\n";
    fs::write(directory.path().join("broker.toml"), file).unwrap();
    let output = broker(directory.path(), &["check"], &[("BROKER_API__KEY", "hunter2")]);
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn the_printed_defaults_pass_the_check() {
    let directory = TempDir::new().unwrap();
    let output = broker(directory.path(), &["config", "default"], &[]);
    fs::write(directory.path().join("broker.toml"), output.stdout).unwrap();
    check(directory.path(), &["check"], &[], 0, "broker.toml is in order\n");
}

#[test]
fn completions_know_the_subcommands() {
    let directory = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        check(directory.path(), &["completions", shell], &[], 0, "completions");
    }
    check(directory.path(), &["completions", "csh"], &[], 2, "possible values");
}

#[test]
fn help_and_version_say_what_this_is() {
    let directory = TempDir::new().unwrap();
    check(directory.path(), &["--version"], &[], 0, concat!("broker ", env!("CARGO_PKG_VERSION"), " ("));
    check(directory.path(), &["--help"], &[], 0, "broker --dev");
    check(directory.path(), &["help", "sub"], &[], 0, "--since");
    check(directory.path(), &["chek"], &[], 2, "check");
}
