//! How the transport behaves, seen from outside.

mod reading;
mod serving;
