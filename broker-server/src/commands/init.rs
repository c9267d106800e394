//! `broker init`: a configuration file to start from.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, bail};

use crate::{cli::Init, config};

pub(super) fn run(init: &Init) -> anyhow::Result<ExitCode> {
    let path = init.output.as_path();
    let text = config::starter().context("the system gives no random bytes for the secrets")?;
    let mut file = match create(path, init.force) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; `broker init --force` replaces it, `--output FILE` writes elsewhere", path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {} (secrets inside: keep it to yourself)", path.display());
    println!(
        "next: `{}`",
        if path == Path::new(config::FILE_NAME) { "broker".to_owned() } else { format!("broker --config {}", path.display()) }
    );
    Ok(ExitCode::SUCCESS)
}

/// Opens the file for its owner only: it holds secrets.
fn create(path: &Path, force: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
