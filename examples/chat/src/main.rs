//! A chat that survives a lost network: `cargo run -p chat`, then open the address it prints.

use std::sync::Arc;

use broker::{MemoryRegistry, Registry};
use chat::{Parts, people::Hardness};

#[derive(clap::Args)]
struct Flags {
    /// Memory for hashing one password with Argon2id, in KiB. Less is for tests.
    #[arg(long, value_name = "KIB", default_value_t = Hardness::default().memory_kib)]
    password_memory: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kit::run("chat", async |node, flags: Flags| {
        let hardness = Hardness { memory_kib: flags.password_memory, ..Hardness::default() };
        let registry =
            node.redis.as_ref().map_or_else(|| Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>, |redis| redis.node().registry());
        chat::open(Parts { data: &node.data, builder: node.builder(), registry, hardness }).await
    })
    .await
}
