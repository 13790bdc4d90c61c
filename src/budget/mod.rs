//! How much memory there may be, and who is next when there is none.
//!
//! The [`Account`] holds limit and committed pages in one word and never lets the second pass the first. The
//! [`Queue`] is the intrusive FIFO of parked reservations. Neither knows what a block is.

mod account;
mod waiters;

pub(crate) use account::{Account, Charge};
pub(crate) use waiters::{discard, wake, Node, Queue, Status, WakeList};
