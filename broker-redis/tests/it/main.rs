//! The backplane against a real Redis: each test has its own.

mod conformance;
mod data;
mod network;
mod world;
