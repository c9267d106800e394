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

/// Whether cargo keeps here what it needs to compile the workspace's crates in part.
pub(crate) fn is_built_incrementally() -> bool {
    // The commands of this crate are built before anything else.
    let mut kept = target().join("debug/incremental").read_dir().into_iter().flatten().flatten();
    kept.any(|entry| !entry.file_name().to_string_lossy().starts_with("xtask-"))
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
