//! Whom the pool is compared with.
//!
//! Each peer hands out leases of memory. All of them are kept as cheap as their kind allows: the home-made ones borrow a
//! leaked semaphore or counter instead of counting references to it, and nobody clears memory.

mod backoff;
mod heap;
mod jemalloc;
mod pool;
mod semaphore;

use std::future::Future;
use std::hint::black_box;
use std::mem::MaybeUninit;

use bytes::BytesMut;

pub use backoff::Backoff;
pub use heap::Heap;
pub use jemalloc::{JeLease, Jemalloc};
pub use pool::Offheap;
pub use semaphore::{Permits, Semaphore};

/// A way to get buffers. Clones are the same peer.
pub trait Peer: Clone + Send + Sync + 'static {
    /// What the tables call it.
    const NAME: &'static str;

    /// A buffer, given back when it is dropped.
    type Lease: Lease;

    /// A peer with room for `limit` bytes; those without a limit ignore it.
    fn new(limit: usize) -> Self;

    /// `n` bytes, without waiting.
    ///
    /// # Panics
    ///
    /// If there is no room: scenarios call this only where there must be.
    fn try_take(&self, n: usize) -> Self::Lease;
}

/// A peer with a limit, at which one waits.
pub trait Limited: Peer {
    /// `n` bytes, waiting for them.
    fn take(&self, n: usize) -> impl Future<Output = Result<Self::Lease, Failed>> + Send;

    /// The same for a plain thread.
    fn take_blocking(&self, n: usize) -> Result<Self::Lease, Failed>;
}

/// The peer gave up waiting.
#[derive(Debug)]
pub struct Failed;

/// A buffer of any kind.
pub trait Lease: Send + 'static {
    /// The memory; empty for a peer that only counts.
    fn memory(&mut self) -> &mut [MaybeUninit<u8>];

    /// Writes the first 8 bytes: the least that a user does.
    #[inline]
    fn touch(&mut self) {
        let memory = self.memory();
        if let Some(first) = memory.first_chunk_mut::<8>() {
            *first = [MaybeUninit::new(1); 8];
        }
        // The memory and not the lease: that would force the lease itself through memory, word by word.
        black_box(memory.as_mut_ptr());
    }
}

impl Lease for BytesMut {
    #[inline]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.spare_capacity_mut()
    }
}

/// A buffer and what was charged for it. The memory is free before the charge is given back.
#[derive(Debug)]
pub struct Charged<C> {
    buffer: BytesMut,
    _charge: C,
}

impl<C> Charged<C> {
    #[inline]
    fn new(n: usize, charge: C) -> Self {
        Charged {
            buffer: BytesMut::with_capacity(n),
            _charge: charge,
        }
    }
}

impl<C: Send + 'static> Lease for Charged<C> {
    #[inline]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.buffer.memory()
    }
}
