//! The dashboard as clients meet it, over real sockets on a free loopback port: statistics and alerts at their old addresses, stocks by frames.

mod dispatch;
mod parts;
mod stocks;
