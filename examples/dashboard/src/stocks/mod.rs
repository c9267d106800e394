//! The stock socket: clients register items by frames and get their ticks. Pure; the exchange and the page's socket speak the same frames.

mod frames;
mod registrar;

pub use self::{
    frames::{ITEMS, Item, KINDS, Mistake, Order, Registration, Request, read, tick},
    registrar::{Registrar, snapshot},
};
