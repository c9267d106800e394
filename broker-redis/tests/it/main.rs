//! The backplane against a real Redis.

mod conformance;
