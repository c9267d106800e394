//! Behaviour of the server API and of the answers to health checks, through the public API.

mod documents;
mod health;
mod hostile;
mod over_a_socket;
mod requests;
mod script;
mod server;
mod sessions;
mod transcripts;
