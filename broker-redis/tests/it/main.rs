//! The backplane against a real Redis: each test has its own.

mod conformance;
mod control;
mod data;
mod network;
mod nodes;
mod presence;
mod world;
