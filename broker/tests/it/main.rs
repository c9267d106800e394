//! How the facade behaves, seen by clients: the same inside every host.

mod addresses;
mod client;
mod ending;
mod events;
mod events_client;
mod events_ending;
mod events_resuming;
mod events_selecting;
#[cfg(target_os = "linux")]
mod half_open;
mod hostile;
mod hosts;
mod origins;
mod refusing;
mod resuming;
mod rust_client;
#[cfg(feature = "tls")]
mod tls;
