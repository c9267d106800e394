//! Real servers as processes of a test, and a proxy that does wrong on demand. For tests only: what cannot be done panics and says why.

mod cluster;
mod fates;
mod process;
mod proxy;
mod sentinel;
mod server;

pub use cluster::{Cluster, ClusterShape};
pub use fates::{Chances, Fate};
pub use proxy::{Direction, Proxy};
pub use sentinel::Sentinels;
pub use server::Server;
