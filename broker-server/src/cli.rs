//! The command line: subcommands, flags and their help. What they do lives in `commands`.

mod doctor;
pub(crate) mod token;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

pub use self::{
    doctor::Doctor,
    token::{CreateToken, TokenCommand, TokenText, VerifyToken},
};
use crate::{VERSION_AND_COMMIT, config::Inputs};

/// A broker for real-time web applications: pages subscribe over WebSocket, backends publish over HTTP.
#[derive(Debug, Parser)]
#[command(name = "broker", version = VERSION_AND_COMMIT, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  broker --dev                          try it: anyone on this machine may subscribe and publish
  broker init && broker                 start from a commented configuration file
  broker check                          all mistakes of the configuration at once
  broker pub news '{\"hello\": \"world\"}'  publish
  broker sub news                       listen

`broker` alone is `broker serve`. `broker help COMMAND` shows the examples of a command.")]
pub struct Cli {
    /// What to do; `None`: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of `serve`.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker (what `broker` alone does)
    #[command(after_help = "\
Examples:
  broker serve --dev                              anyone on this machine may subscribe and publish; a page at /
  broker serve --config /etc/broker/broker.toml
  broker serve --listen 127.0.0.1:0               a free port; what was bound is printed
  broker serve --redis redis://127.0.0.1:6379     one node of many
  broker serve --tls-cert cert.pem --tls-key key.pem
  BROKER_CLIENT__PING_INTERVAL=3s broker serve    any setting from the environment")]
    Serve(Settings),
    /// Write a commented configuration file with random secrets
    #[command(after_help = "\
Examples:
  broker init
  broker init --output /etc/broker/broker.toml
  broker init --force                             replace the file that is there")]
    Init(Init),
    /// Report all mistakes of the configuration at once
    #[command(after_help = "\
Exit code 0: no mistakes (warnings may be shown); 2: mistakes.

Examples:
  broker check
  broker check --config staging.toml
  BROKER_SERVER__LISTEN=0.0.0.0:8000 broker check")]
    Check(Settings),
    /// Look at a running broker, its Redis and all its nodes, and say how to put right what is wrong
    #[command(after_help = "\
Exit code 0: nothing is wrong (there may be warnings); 1: something is; 2: the configuration has mistakes.

Examples:
  broker doctor                                    what broker.toml says, on this machine
  broker doctor wss://broker.example.com           as clients reach it, through what stands in front
  broker doctor --redis redis://127.0.0.1:6379 --api-key KEY
  broker doctor wss://broker.example.com --origin https://app.example.com --token \"$TOKEN\"
  broker doctor --json                             for programs")]
    Doctor(Doctor),
    /// Show settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Publish to a topic
    #[command(name = "pub")]
    #[command(after_help = "\
Examples:
  broker pub news '{\"hello\": \"world\"}'
  broker pub news hello                           text that is no JSON goes out as a JSON string
  echo '{\"n\": 1}' | broker pub news -             from standard input, one publication per line
  broker pub news '{}' --url ws://broker.example.com --token \"$TOKEN\"")]
    Publish(Publish),
    /// Listen to topics, one line per publication
    #[command(name = "sub")]
    #[command(after_help = "\
Examples:
  broker sub news
  broker sub news alerts --json                   with topic and position
  broker sub news --since 17@Bx3k                 first what was missed since a position
  broker sub news --since 0 --count 10            the history that is kept, ten publications at most")]
    Subscribe(Subscribe),
    /// Make, explain and check tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print a completion script
    #[command(after_help = "\
Examples:
  source <(broker completions bash)
  broker completions zsh > ~/.zfunc/_broker
  broker completions fish > ~/.config/fish/completions/broker.fish")]
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// Show settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every key with its meaning and default
    #[command(after_help = "\
Examples:
  broker config default
  broker config default > broker.toml")]
    Default,
    /// What is in force, and where each value comes from; secrets are masked
    #[command(after_help = "\
Examples:
  broker config show
  broker config show --dev
  BROKER_CLIENT__PING_INTERVAL=3s broker config show | grep ping")]
    Show(Settings),
}

/// Where settings come from: defaults, then the file, then the environment, then these flags.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// Anyone may subscribe and publish; loopback only, unless said twice
    #[arg(long, action = ArgAction::Count)]
    pub dev: u8,
    /// The configuration file [default: broker.toml, if there is one]
    #[arg(long, short, value_name = "FILE", env = "BROKER_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Where clients and backends connect [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Where metrics are read [default: 127.0.0.1:8001]
    #[arg(long, value_name = "ADDR:PORT")]
    pub internal_listen: Option<String>,
    /// Where Redis is: all nodes with the same one act as one broker
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// The certificate chain (PEM); the listener for clients then speaks https and wss only
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// The private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// What a backend sends as X-API-Key [default: random]
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// The secret that signs connection tokens [default: random]
    #[arg(long, value_name = "KEY")]
    pub token_hmac_secret: Option<String>,
}

impl Settings {
    /// These flags and the process's environment, for the configuration.
    pub fn inputs(&self) -> Inputs {
        let flags = [
            ("--listen", "server.listen", &self.listen),
            ("--internal-listen", "server.internal_listen", &self.internal_listen),
            ("--redis", "backplane.url", &self.redis),
            // Whoever names Redis means it, whatever the file says.
            ("--redis", "backplane.kind", &self.redis.as_ref().map(|_| "redis".to_owned())),
            ("--tls-cert", "server.tls.cert", &self.tls_cert),
            ("--tls-key", "server.tls.key", &self.tls_key),
            ("--api-key", "api.key", &self.api_key),
            ("--token-hmac-secret", "client.token.hmac_secret", &self.token_hmac_secret),
        ];
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
        Inputs {
            file: self.config.clone(),
            variables: variables.filter(|(name, _)| name.starts_with("BROKER_")).collect(),
            flags: flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value.clone()?))).collect(),
            dev: self.dev,
        }
    }
}

/// Flags of `init`.
#[derive(Args, Debug)]
pub struct Init {
    /// Where to write
    #[arg(long, short, value_name = "FILE", default_value = "broker.toml")]
    pub output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

/// Where `pub` and `sub` connect.
#[derive(Args, Debug)]
pub struct Target {
    /// The broker's address
    #[arg(long, value_name = "URL", env = "BROKER_URL", default_value = "ws://127.0.0.1:8000")]
    pub url: String,
    /// A connection token
    #[arg(long, value_name = "TOKEN", env = "BROKER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Flags of `pub`.
#[derive(Args, Debug)]
pub struct Publish {
    /// The topic
    pub topic: String,
    /// JSON, or text that goes out as a JSON string; `-` reads lines from standard input
    pub data: String,
    /// Where to connect.
    #[command(flatten)]
    pub target: Target,
}

/// Flags of `sub`.
#[derive(Args, Debug)]
pub struct Subscribe {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// First what was published since this position (`offset@epoch`); 0: all that is kept
    #[arg(long, value_name = "POSITION")]
    pub since: Option<String>,
    /// One JSON object per line, with topic and position (the same as --format envelope)
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// What a line looks like: the data alone, or an object around it
    #[arg(long, value_enum, default_value_t = LineFormat::Raw)]
    pub format: LineFormat,
    /// End after so many publications
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Where to connect.
    #[command(flatten)]
    pub target: Target,
}

/// What a line of `sub` looks like.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LineFormat {
    /// The data as it was published.
    #[default]
    Raw,
    /// An object with topic, position and data.
    Envelope,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_examples() {
        fn check(command: &clap::Command) {
            for subcommand in command.get_subcommands() {
                let has_examples = subcommand.get_after_help().is_some_and(|help| help.to_string().contains("Examples:"));
                assert!(has_examples || subcommand.has_subcommands(), "{} has no examples", subcommand.get_name());
                check(subcommand);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn no_subcommand_means_serve() {
        let cli = Cli::try_parse_from(["broker", "--dev", "--listen", "127.0.0.1:0"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!((cli.settings.dev, cli.settings.listen.as_deref()), (1, Some("127.0.0.1:0")));
        assert!(Cli::try_parse_from(["broker", "--dev", "check"]).is_err());
    }
}
