//! Orders of a hospital, live: `cargo run -p ocs`, then open the address it prints; `cargo run -p ocs -- two-nodes` for two nodes behind a balancer.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kit::run("ocs", ocs::app).await
}
