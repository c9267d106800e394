//! `cargo run -p spc`, then open the address that it prints; `cargo run -p spc -- two-nodes` for two nodes on one Redis behind a balancer.

use std::{fs, path::Path, time::Duration};

use kit::{App, File, Pages};
use spc::{
    access::new_token,
    api,
    spc::{Options, Spc},
};

const FILES: &[File] = &[
    File::html("/", include_str!("../page/index.html")),
    File::css("/spc.css", include_str!("../page/spc.css")),
    File::js("/spc.js", include_str!("../page/spc.js")),
    File::js("/server.js", include_str!("../page/server.js")),
    File::js("/alerts.js", include_str!("../page/alerts.js")),
    File::js("/control_chart.js", include_str!("../page/control_chart.js")),
    File::js("/histogram.js", include_str!("../page/histogram.js")),
    File::js("/raise.js", include_str!("../page/raise.js")),
    File::js("/operator.js", include_str!("../page/operator.js")),
    File::js("/seal.js", include_str!("../page/seal.js")),
];

/// What only this example has on its command line.
#[derive(clap::Args, Clone, Debug)]
struct Flags {
    /// Milliseconds between points of the simulated lines; 0: they stand still.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pace: u64,
    /// Key of the server API, for programs that publish. Without it one is made, in the file `api-key` beside the data.
    #[arg(long, value_name = "KEY", env = "SPC_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Hash passwords quickly: for tests only.
    #[arg(long, hide = true)]
    quick_passwords: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kit::run("spc", async |node, flags: Flags| {
        let options = Options { pace: Duration::from_millis(flags.pace), quick_passwords: flags.quick_passwords };
        let key = flags.api_key.map_or_else(|| api_key(&node.data), Ok)?;
        let spc = Spc::start(node.builder(), &node.name, &node.data, options).await?;
        let router = api::router(spc.clone(), &key).merge(Pages::new(FILES).router());
        Ok(App { broker: spc.broker.clone(), router, outbox: spc.store.running_outbox().cloned() })
    })
    .await
}

/// The key beside the data, which all nodes share; made at random the first time.
fn api_key(data: &Path) -> anyhow::Result<String> {
    let file = data.join("api-key");
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(&file) {
        Ok(mut made) => std::io::Write::write_all(&mut made, new_token()?.as_bytes())?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    Ok(fs::read_to_string(&file)?)
}
