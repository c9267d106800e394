//! The parts of the dashboard example; `main` puts them together with a broker.

pub mod board;
pub mod change;
pub mod live;
pub mod machine;
pub mod page;
pub mod statistics;
