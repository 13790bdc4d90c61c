//! An async-aware pool of off-heap buffers under a hard byte limit.

mod arena;
mod budget;
mod bytes;
mod engine;
mod error;
mod observe;
mod pool;
mod reclaim;
mod reserve;
mod sync;
mod sys;
mod units;

pub use crate::bytes::{CapacityError, DirectBytes, DirectBytesMut};
pub use crate::error::{LimitError, Refusal, ReserveError, TryReserveError};
pub use crate::observe::{Holder, Stats};
pub use crate::pool::{Closed, Pool, PoolBuilder};
pub use crate::reserve::{CopyFromSlice, PollReserve, Reserve, ReserveMany, ReserveOwned};
pub use crate::units::{parse_bytes, ParseBytesError};
