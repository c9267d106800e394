//! The backplane against a real Redis: each test has its own.

mod checks;
mod cluster;
mod conformance;
mod data;
mod load;
mod network;
mod sentinel;
mod world;
