//! What can be seen from outside: figures, and who holds what.
//!
//! Reserving and dropping keep no statistics: a counter that all threads share would cost more than all the rest. What
//! is asked for here is read off the block headers and the account when it is asked for.

mod census;
mod classes;
mod holders;
#[cfg(feature = "inspector")]
mod inspector;
mod leaks;
#[cfg(feature = "metrics")]
mod metrics;
mod resident;
mod stats;

pub use classes::ClassStats;
pub use holders::Holder;
#[cfg(feature = "inspector")]
pub use inspector::Inspector;
pub use leaks::{LeakGuard, LeakReport};
#[cfg(feature = "metrics")]
pub use metrics::{BATCH_BLOCKS_BUCKETS, WAIT_SECONDS_BUCKETS};
pub use stats::Stats;

pub(crate) use classes::classes;
pub(crate) use holders::{holders, Recent};
#[cfg(feature = "metrics")]
pub(crate) use metrics::{publish, Extras, Publisher};
pub(crate) use resident::resident;
pub(crate) use stats::stats;
