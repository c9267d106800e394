//! The command line of `broker token`. What the commands do lives in `commands`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Settings;

/// Make, explain and check tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, signed with HS256
    #[command(after_help = "\
The secret is `hmac_secret` in [client.token] of the configuration, unless --secret gives another one. The token is printed on
standard output and nowhere else.

Examples:
  broker token create --user ris1
  broker token create --user ris1 --group ocs_ris --channel news --expires 10m
  broker token create --user ris1 --cap 'sub,pub=chat:*' --info '{\"name\": \"Kim\"}'
  broker token create --user ris1 --subscribe orders:7     the token of one subscription
  broker sub news --token \"$(broker token create --user ris1)\"")]
    Create(Box<CreateToken>),
    /// Say what a token holds and why it would be refused, without verifying it
    #[command(after_help = "\
No key is needed, and none is used: what is shown may be forged.

Examples:
  broker token inspect eyJhbGciOi...
  pbpaste | broker token inspect -                         from standard input
  BROKER_TOKEN=eyJhbGciOi... broker token inspect")]
    Inspect(TokenText),
    /// Verify a token with the keys of the configuration
    #[command(after_help = "\
Exit code 0: the broker would let its bearer in; 1: it would not, and why is said on standard error.

Examples:
  broker token verify eyJhbGciOi...
  broker token verify - --config /etc/broker/broker.toml < token")]
    Verify(VerifyToken),
}

/// Flags of `token create`.
#[derive(Args, Debug)]
pub struct CreateToken {
    /// Whose token it is [default: nobody's, an anonymous one]
    #[arg(long, short, value_name = "USER", default_value = "", hide_default_value = true)]
    pub user: String,
    /// A group that the bearer joins; repeatable
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// A topic that the bearer is subscribed to; repeatable
    #[arg(long, value_name = "TOPIC")]
    pub channel: Vec<String>,
    /// A right: verbs (sub, pub, hst, prs) and a topic or pattern; repeatable
    #[arg(long, value_name = "VERBS=PATTERN")]
    pub cap: Vec<String>,
    /// How long it holds: 10m, 12h, 7d, or never
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub expires: String,
    /// What others see of the user, as JSON
    #[arg(long, value_name = "JSON")]
    pub info: Option<String>,
    /// The application's own data, which clients never see, as JSON
    #[arg(long, value_name = "JSON")]
    pub meta: Option<String>,
    /// The tenant that everything is inside of
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// The token's id (jti), by which it can be revoked
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Let the user subscribe to this topic, and do nothing else: the token of a subscription
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["group", "channel", "cap", "meta", "id"])]
    pub subscribe: Option<String>,
    /// The secret to sign with; other users of this machine may see it, prefer the configuration
    #[arg(long, value_name = "KEY")]
    pub secret: Option<String>,
    /// The configuration file [default: broker.toml, if there is one]
    #[arg(long, short, value_name = "FILE", env = "BROKER_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

/// A token as an argument.
#[derive(Args, Debug)]
pub struct TokenText {
    /// The token; `-` reads it from standard input
    #[arg(value_name = "TOKEN", env = "BROKER_TOKEN", hide_env_values = true)]
    pub token: String,
}

/// Flags of `token verify`.
#[derive(Args, Debug)]
pub struct VerifyToken {
    /// The token.
    #[command(flatten)]
    pub token: TokenText,
    /// The configuration file [default: broker.toml, if there is one]
    #[arg(long, short, value_name = "FILE", env = "BROKER_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

/// The settings of a command that takes nothing but the file from its flags.
pub(crate) fn settings(config: Option<&PathBuf>) -> Settings {
    Settings { config: config.cloned(), ..Settings::default() }
}
