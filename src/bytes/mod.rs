//! What a user gets: [`DirectBytesMut`], unique and writable, and [`DirectBytes`], shared and immutable.
//!
//! Both are a handle to a block and a range of it. All they know of the pool is the block's header: the last handle's drop
//! queues the block, wherever the pool's own handles are by then.

mod cleaning;
mod compare;
mod direct_bytes;
mod direct_bytes_mut;
mod format;
mod growth;
mod range;
mod read;
mod rope;
#[cfg(feature = "serde")]
mod serde;
#[cfg(feature = "cache")]
mod soft;
mod typed;
mod weak;

#[cfg(feature = "serde")]
pub use self::serde::InPool;
pub use cleaning::Cleaned;
pub use direct_bytes::DirectBytes;
pub use direct_bytes_mut::{CapacityError, DirectBytesMut};
pub use growth::Grow;
pub use rope::{DirectRope, Parts, ToContiguous};
#[cfg(feature = "cache")]
pub use soft::{CacheStats, SoftCache};
pub use weak::WeakBytes;
