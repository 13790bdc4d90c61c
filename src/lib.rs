//! An async-aware pool of off-heap ("direct") buffers under a hard byte limit.
//!
//! [`Pool::reserve`]`(n).await` hands out a writable buffer from memory outside the heap. The memory that may be resident
//! never passes the pool's limit: when there is no room the reservation *parks*, first come, first served, until a
//! dropped buffer makes room for it. Nothing sleeps, backs off or polls, and nothing fails because others were faster.
//!
//! Buffers are reference-counted, sliceable, and become [`bytes::Bytes`](::bytes::Bytes) without a copy. The drop of the last handle queues
//! the block for the next reservation, in calm without a lock, a system call or an allocation.
//!
//! ```
//! use bytes::BufMut;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = offheap::Pool::builder()
//!     .name("ingress")
//!     .limit(offheap::parse_bytes("64MiB")?)
//!     .build()?;
//!
//! let mut buf = pool.reserve(16 << 10).await?; // parks while 64 MiB are in use
//! buf.put_slice(b"PING\r\n");
//! let all = buf.freeze(); // shared from here on
//! let word = all.slice(..4); // no copy
//! let bytes: bytes::Bytes = word.into(); // no copy either
//! assert_eq!(bytes, "PING");
//! println!("{:?}", pool.stats());
//! # Ok(())
//! # }
//! ```
//!
//! # Reading from a socket
//!
//! Wait for readiness first and for memory second, and a connection that says nothing holds nothing. The module `io` does so,
//! with readers, writers, frames, and relays:
//!
//! ```no_run
//! # #[cfg(all(unix, feature = "io"))]
//! /// Sends back what comes, in memory that idle connections do not hold.
//! async fn echo(mut stream: tokio::net::TcpStream, pool: offheap::Pool) -> std::io::Result<()> {
//!     use tokio::io::AsyncWriteExt;
//!
//!     loop {
//!         let bytes = offheap::io::read_pooled(&mut stream, &pool, 16 << 10).await?;
//!         if bytes.is_empty() {
//!             return Ok(());
//!         }
//!         stream.write_all(&bytes).await?;
//!     }
//! }
//! ```
//!
//! # What waits for what
//!
//! A reservation waits for other buffers to be dropped. So a task that holds a buffer while it waits for another one can,
//! together with others that do the same, wait for ever: the limit can not be passed, and first come, first served can not
//! be bent. Take all that a step needs at once with [`Pool::reserve_many`], or let go of what is held before waiting. A
//! time limit is `tokio::time::timeout(duration, pool.reserve(n))`; dropping a waiting reservation loses nothing.
//!
//! # What is counted
//!
//! Memory is charged in *spans*: one block for sizes that are whole pages, a few pages for blocks smaller than that. Sizes come
//! in classes, four per doubling from 256 bytes to the limit, and the whole class is usable. [`Stats::live`] is what users
//! hold, [`Stats::queued`] is what waits to be used again, and both together are [`Stats::committed`], which never passes the
//! limit. Queued memory serves other sizes when they need it, and goes back to the OS when no one has used it for
//! [a while](PoolBuilder::decommit_after). A handle to a single byte pins its whole block; [`Pool::holders`] tells who pins what.
//!
//! Block headers are not counted: 64 bytes per block that was ever used, see [`Stats::metadata`].
//!
#![doc = include_str!("bytes/guide.md")]
//! # After the drop
//!
//! What the JVM's reclamation offers for direct buffers is here, off the drop's path: [cleaning hooks](DirectBytes::on_clean) and
//! [explicit cleaning](DirectBytes::clean), [reference queues](ReferenceQueue) of what has been reclaimed, [weak handles](WeakBytes),
//! soft caches, [callbacks](Pool::on_pressure) as a last resort before a reservation waits, and the
//! [level of pressure](Pool::pressure). What is used by no one costs nothing.
//!
//! # Platforms
//!
//! On 64-bit Linux (and Android) a pool is one mapping with a range as large as `max_limit` for each size class: about a hundred
//! times `max_limit` of address space, which costs nothing until it is used. Limits up to about 1 TiB fit x86-64. Under
//! `ulimit -v` a pool may fail to build, and says so. Elsewhere blocks come from the heap, span by span; everything else is the same.
//!
//! # Forking
//!
//! After `fork` a child must not use its parent's pools, nor wait for them: the pools' threads are not there, and a lock that another
//! thread had stays locked. The memory is the parent's and the child's own copy from then on, so a child that only drops the buffers it
//! inherited while the pool is calm, executes another program or exits does no harm. Children build pools of their own.
//!
//! # Features
//!
//! None of these costs a reservation that finds memory, or a drop, anything.
//!
//! - `cache` (default): `SoftCache`, pooled bytes by key that are taken back when memory is needed.
//! - `io` (default, unix): tokio I/O over pooled buffers, [`io`].
//! - `io-uring`: the pool's buffers for `tokio-uring`, on Linux.
//! - `serde`: buffers as byte strings, read into a pool's memory.
//! - `metrics`: [`Pool::publish_metrics`](Pool#method.publish_metrics) hands figures to the `metrics` facade, for Prometheus and others.
//! - `inspector`: `Inspector` is a live page of what pools do, as an axum router.
//! - `tracing`: a span for each parked reservation; events for pressure, faults and closing; while [`Pool::closed`] waits, the pool
//!   says each second who still holds what.
//! - `test-util`, for tests: makes a pool refuse, or the operating system, or the reclaimer fail, when a test wants it so.

mod arena;
mod budget;
mod bytes;
mod engine;
mod error;
#[cfg(all(unix, feature = "io"))]
pub mod io;
mod observe;
mod pool;
mod prefault;
mod reclaim;
mod reserve;
mod sync;
mod sys;
#[cfg(feature = "test-util")]
pub mod test_util;
mod units;
mod watch;

#[cfg(feature = "serde")]
pub use crate::bytes::InPool;
#[cfg(feature = "cache")]
pub use crate::bytes::{CacheStats, SoftCache};
pub use crate::bytes::{
    CapacityError, Cleaned, DirectBytes, DirectBytesMut, DirectRope, Grow, Parts, ToContiguous,
    WeakBytes,
};
pub use crate::error::{LimitError, Refusal, ReserveError, TryReserveError};
#[cfg(feature = "inspector")]
pub use crate::observe::Inspector;
pub use crate::observe::{ClassStats, Holder, LeakGuard, LeakReport, Stats};
#[cfg(feature = "metrics")]
pub use crate::observe::{BATCH_BLOCKS_BUCKETS, WAIT_SECONDS_BUCKETS};
pub use crate::pool::{Closed, Pool, PoolBuilder, PressureGuard, Zero};
pub use crate::reclaim::{
    Fault, FaultKind, Need, Pressure, ReferenceHandle, ReferenceQueue, Urgency,
};
pub use crate::reserve::{CopyFromSlice, PollReserve, Reserve, ReserveMany, ReserveOwned};
/// The machine whose cores the crate is simulated on.
#[cfg(offheap_counted)]
pub use crate::sync::machine;
pub use crate::units::{parse_bytes, ParseBytesError};
pub use crate::watch::PressureWatch;

/// Auto traits are part of the contract.
const _: () = {
    const fn send_sync<T: Send + Sync>() {}
    const fn send<T: Send>() {}
    const fn unpin<T: Unpin>() {}
    send_sync::<Pool>();
    send_sync::<DirectBytes>();
    send_sync::<DirectBytesMut>();
    send_sync::<DirectRope>();
    send_sync::<WeakBytes>();
    send_sync::<PressureGuard>();
    send_sync::<ReferenceHandle<u32>>();
    send_sync::<ReferenceQueue<u32>>();
    send_sync::<ReserveError>();
    send_sync::<TryReserveError>();
    send::<Reserve<'static>>();
    send::<ReserveOwned>();
    send::<ReserveMany<'static>>();
    send::<CopyFromSlice<'static>>();
    send::<Grow<'static>>();
    send::<ToContiguous<'static>>();
    send::<PollReserve>();
    send::<Closed<'static>>();
    unpin::<PollReserve>();
    unpin::<DirectBytesMut>();
    unpin::<ReferenceQueue<std::marker::PhantomPinned>>();
};

/// Futures with a node that others reach must not be `Unpin`: for one that is, the call below is ambiguous.
const _: () = {
    trait Movable<A> {
        fn check() {}
    }
    struct IsUnpin;
    impl<T: ?Sized> Movable<()> for T {}
    impl<T: ?Sized + Unpin> Movable<IsUnpin> for T {}
    let _ = <Reserve<'static> as Movable<_>>::check;
    let _ = <ReserveOwned as Movable<_>>::check;
    let _ = <ReserveMany<'static> as Movable<_>>::check;
    let _ = <CopyFromSlice<'static> as Movable<_>>::check;
    let _ = <Grow<'static> as Movable<_>>::check;
    let _ = <ToContiguous<'static> as Movable<_>>::check;
    let _ = <Closed<'static> as Movable<_>>::check;
};
