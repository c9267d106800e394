//! The parts of the dashboard example; `main` puts them together.
//!
//! Dispatch statistics come from a [`dispatch`] database, read once for everybody who looks ([`board`]). Stock ticks come from an [`exchange`] (a
//! simulated one) through a bridge in Python that [`bridge`] keeps running, and reach pages over the frames of [`stocks`]. [`live`] is the
//! broker; [`api`] what pages and the bridge ask over HTTP; [`failures`] lets parts fail on request.

pub mod api;
pub mod board;
pub mod bridge;
pub mod dispatch;
pub mod exchange;
pub mod failures;
pub mod live;
pub mod machine;
pub mod stocks;
pub mod tokens;
