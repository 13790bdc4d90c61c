//! What can be seen from outside: figures, and who holds what.
//!
//! Reserving and dropping keep no statistics: a counter that all threads share would cost more than all the rest. What
//! is asked for here is read off the block headers and the account when it is asked for.

mod holders;
mod stats;

pub use holders::Holder;
pub use stats::Stats;

pub(crate) use holders::{holders, Recent};
pub(crate) use stats::stats;
