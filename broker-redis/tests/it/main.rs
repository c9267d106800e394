//! The backplane against a real Redis: each test has its own.

mod checks;
mod cluster;
mod conformance;
mod control;
mod data;
mod load;
mod network;
mod nodes;
mod presence;
mod sentinel;
mod world;
mod writing;
