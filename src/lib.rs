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
//! Wait for readiness first and for memory second, and a connection that says nothing holds nothing:
//!
//! ```no_run
//! use std::io;
//! use tokio::net::TcpStream;
//!
//! /// The next bytes of the stream; `None` at its end.
//! async fn read(stream: &TcpStream, pool: &offheap::Pool) -> io::Result<Option<offheap::DirectBytes>> {
//!     loop {
//!         stream.readable().await?;
//!         let mut buf = pool.reserve(16 << 10).await?;
//!         match stream.try_read_buf(&mut buf) {
//!             Ok(0) => return Ok(None),
//!             Ok(_) => return Ok(Some(buf.freeze())),
//!             // Not ready after all: the buffer goes back while we wait.
//!             Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
//!             Err(error) => return Err(error),
//!         }
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
//!
//! # Platforms
//!
//! On 64-bit Linux (and Android) a pool is one mapping with a range as large as `max_limit` for each size class: about a hundred
//! times `max_limit` of address space, which costs nothing until it is used. Limits up to about 1 TiB fit x86-64. Under
//! `ulimit -v` a pool may fail to build, and says so. Elsewhere blocks come from the heap, span by span; everything else is the same.
//!
//! # Features
//!
//! `serde`: buffers as byte strings, read into a pool's memory. `tracing`: while [`Pool::closed`] waits, the pool says each second who
//! still holds what. Nothing is on by default.

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

#[cfg(feature = "serde")]
pub use crate::bytes::InPool;
pub use crate::bytes::{
    CapacityError, DirectBytes, DirectBytesMut, DirectRope, Grow, Parts, ToContiguous,
};
pub use crate::error::{LimitError, Refusal, ReserveError, TryReserveError};
pub use crate::observe::{Holder, Stats};
pub use crate::pool::{Closed, Pool, PoolBuilder};
pub use crate::reserve::{CopyFromSlice, PollReserve, Reserve, ReserveMany, ReserveOwned};
pub use crate::units::{parse_bytes, ParseBytesError};

/// Auto traits are part of the contract.
const _: () = {
    const fn send_sync<T: Send + Sync>() {}
    const fn send<T: Send>() {}
    const fn unpin<T: Unpin>() {}
    send_sync::<Pool>();
    send_sync::<DirectBytes>();
    send_sync::<DirectBytesMut>();
    send_sync::<DirectRope>();
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
