//! Two processes of the same program on one Redis, and a balancer in front of them. How one node serves lives in `run`.

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStdin, Command},
    sync::oneshot,
    time::timeout,
};

use crate::{args::Mode, balancer, redis_server::RedisServer};

/// How long a node may take to say where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take to end when it is asked to.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs two nodes and their balancer until `stop` is ready, or both nodes have ended.
pub(crate) async fn run(
    name: &str,
    listen: SocketAddr,
    redis: Option<String>,
    data: &Path,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let own = if redis.is_none() { Some(RedisServer::start().await?) } else { None };
    let url = redis.or_else(|| own.as_ref().map(|server| server.url.clone())).expect("one of them is there");
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let mut nodes = [NodeProcess::start("n1", &url, data).await?, NodeProcess::start("n2", &url, data).await?];
    if let Some(server) = &own {
        println!("redis at {}", server.url);
    }
    for node in &nodes {
        println!("{} at http://{}/ (process {})", node.name, node.address, node.child.id().unwrap_or_default());
    }
    println!("{name} at http://{}/ (two nodes behind a balancer)", listener.local_addr()?);
    let balancing = tokio::spawn(balancer::serve(listener, nodes.iter().map(|node| node.address).collect()));
    let [first, second] = &mut nodes;
    tokio::select! {
        () = stop => {}
        () = async { tokio::join!(first.ended(), second.ended()); } => {}
    }
    let [first, second] = nodes;
    tokio::join!(first.stop(), second.stop());
    balancing.abort();
    Ok(())
}

/// One node, as a process of its own. It ends with its standard input, so also where this process is killed.
struct NodeProcess {
    name: &'static str,
    child: Child,
    /// What keeps it alive. Not left in `child`, because waiting for that closes it.
    input: Option<ChildStdin>,
    address: SocketAddr,
}

impl NodeProcess {
    async fn start(name: &'static str, redis: &str, data: &Path) -> anyhow::Result<Self> {
        let own = std::env::args_os().skip(1).filter(|word| word != Mode::TWO_NODES);
        let mut child = Command::new(std::env::current_exe()?)
            .args(own)
            .args(["--listen", "127.0.0.1:0", "--redis", redis, "--node", name, "--data"])
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C is for the process that started the nodes: it ends them first, and Redis after them.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take();
        let (found, address) = oneshot::channel();
        tokio::spawn(pass_on(name, child.stdout.take().expect("it is piped"), Some(found)));
        tokio::spawn(pass_on(name, child.stderr.take().expect("it is piped"), None));
        match timeout(START_TIMEOUT, address).await {
            Ok(Ok(address)) => Ok(Self { name, child, input, address }),
            Ok(Err(_)) => bail!("{name} ended before it listened"),
            Err(_) => bail!("{name} does not listen after {START_TIMEOUT:?}"),
        }
    }

    /// Returns when the process has ended by itself, and says so.
    async fn ended(&mut self) {
        let status = self.child.wait().await;
        let how = status.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
        println!("{} has ended ({how}); the balancer leaves it out", self.name);
    }

    async fn stop(mut self) {
        drop(self.input.take());
        if timeout(END_TIMEOUT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Prints the lines of a node with its name before them. The first address in them is where the node listens.
async fn pass_on(name: &'static str, from: impl AsyncRead + Unpin, mut found: Option<oneshot::Sender<SocketAddr>>) {
    let is_output = found.is_some();
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(address) = address(&line).filter(|_| found.is_some()) else {
            if is_output {
                println!("{name} {line}");
            } else {
                eprintln!("{name} {line}");
            }
            continue;
        };
        let _ = found.take().expect("it was looked at").send(address);
    }
}

/// The address in `hello at http://127.0.0.1:3000/`.
fn address(line: &str) -> Option<SocketAddr> {
    line.split_once(" at http://")?.1.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_where_it_listens() {
        assert_eq!(address("hello at http://127.0.0.1:3000/").unwrap().port(), 3000);
        assert_eq!(address("data at /tmp"), None);
    }
}
