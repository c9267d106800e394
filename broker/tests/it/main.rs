//! How the facade behaves, seen by clients: the same inside every host.

mod client;
mod ending;
mod hostile;
mod hosts;
mod refusing;
mod rust_client;
