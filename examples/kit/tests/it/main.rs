//! What the kit promises to the examples: its pages load nothing from elsewhere and are asked for again, its balancer finds the node that works.

mod balancing;
mod pages;
