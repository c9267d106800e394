//! Live dispatch statistics and stock ticks: `cargo run -p dashboard`, then open the address it prints.

use std::time::Duration;

use dashboard::{
    api,
    board::Board,
    bridge::{self, Switch},
    dispatch::Database,
    exchange::Exchange,
    failures::Failures,
    live,
    tokens::{self, Tokens},
};
use kit::App;
use tokio::sync::watch;

#[derive(clap::Args)]
struct Flags {
    /// The Python that runs the bridge; it needs the package `websockets`.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Starts no bridge: run `bridge/bridge.py` yourself.
    #[arg(long)]
    no_bridge: bool,
    /// The key for publishing over HTTP. Default: one made at random.
    #[arg(long, env = "DASHBOARD_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// How long a token of the stock socket holds, in seconds.
    #[arg(long, default_value_t = 120)]
    token_life: u64,
    /// How long a token of the exchange holds, in seconds.
    #[arg(long, default_value_t = 90)]
    exchange_token_life: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kit::run("dashboard", async |node, flags: Flags| {
        let database = Database::open(&node.data)?;
        let tokens = Tokens::new(&database.secret("tokens", &Tokens::fresh_secret()?)?, Duration::from_secs(flags.token_life))?;
        let parts =
            live::Parts { board: Board::new(database.clone()), machine: watch::Sender::new(false), tokens: tokens.clone(), database };
        let broker = live::broker(&node, &parts)?;
        parts.publish_on(&broker, &node.name);

        let exchange = Exchange::open(Duration::from_secs(flags.exchange_token_life)).await?;
        println!("exchange on http://{}", exchange.address);
        let api_key = match flags.api_key {
            Some(key) => key,
            None => tokens::key(&parts.database.secret("api-key", &Tokens::fresh_secret()?)?),
        };
        let switch = Switch::default();
        if !flags.no_bridge {
            let settings = bridge::Settings {
                python: flags.python,
                exchange: format!("http://{}", exchange.address),
                broker: format!("http://{}", node.address),
                api_key: api_key.clone(),
            };
            let (database, broker, switch, name, folder) =
                (parts.database.clone(), broker.clone(), switch.clone(), node.name.clone(), node.data.clone());
            tokio::spawn(async move {
                if let Err(error) = bridge::keep_running(settings, &folder, name, database, broker, switch).await {
                    tracing::error!(%error, "there is no bridge");
                }
            });
        }
        tokio::spawn(Failures { board: parts.board, exchange, bridge: switch }.act(broker.clone()));
        let router = api::router(&broker, tokens, &api_key);
        Ok(App::new(broker, router))
    })
    .await
}
