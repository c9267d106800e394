//! Where things are: the root of the workspace, its build products, its crates.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Where the end-to-end tests keep their Python, their reports and their screenshots.
pub(crate) fn artifacts() -> PathBuf {
    target().join("e2e")
}

/// Names of the folders of the workspace that hold a crate, in the order of the file system.
pub(crate) fn crates() -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for parent in ["", "examples"] {
        let Ok(entries) = root().join(parent).read_dir() else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.join("Cargo.toml").is_file() {
                let name = path.strip_prefix(root()).expect("the entry was read below the root");
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}
