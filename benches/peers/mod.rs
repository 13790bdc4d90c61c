//! Whom the pool is compared with.
//!
//! Each peer hands out leases of memory. All of them are kept as cheap as their kind allows: the home-made ones borrow a
//! leaked semaphore or counter instead of counting references to it, and nobody clears memory.

mod backoff;
mod direct;
mod floor;
mod heap;
mod pool;
#[cfg(feature = "peers")]
mod recycle;
mod semaphore;

use std::future::Future;
use std::hint::black_box;
use std::mem::MaybeUninit;

use bytes::BytesMut;

pub use backoff::Backoff;
pub use direct::{Calls, Direct, Jemalloc, Malloc, Raw};
pub use floor::{Floor, Slot};
pub use heap::Heap;
pub use pool::Offheap;
pub use semaphore::{Permits, Semaphore};

#[cfg(feature = "peers")]
pub use direct::{Mimalloc, Snmalloc};
#[cfg(feature = "peers")]
pub use recycle::{
    BytePool, Deadpool, Fresh, Frozen, LockFree, ObjectPool, Opool, Queue, Queued, Ruapc, Sharded,
};

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The pool itself.
    Ours,
    /// It has a limit, at which one waits.
    Bounded,
    /// An allocator by direct calls.
    Allocator,
    /// A container with memory of the system's allocator.
    Container,
    /// It keeps what was dropped, and has no limit.
    Recycler,
    /// Nothing: what the rest of a scenario costs.
    Floor,
}

/// Something to do with each peer.
pub trait Visitor {
    /// The same for all of them.
    fn visit<P: Peer>(&mut self);
}

/// Visits all peers, ours first.
pub fn visit(visitor: &mut impl Visitor) {
    visitor.visit::<Offheap>();
    visitor.visit::<Direct<Malloc>>();
    visitor.visit::<Direct<Jemalloc>>();
    #[cfg(feature = "peers")]
    {
        visitor.visit::<Direct<Mimalloc>>();
        visitor.visit::<Direct<Snmalloc>>();
    }
    visitor.visit::<Heap>();
    visitor.visit::<Semaphore>();
    visitor.visit::<Backoff>();
    #[cfg(feature = "peers")]
    {
        visitor.visit::<Queue>();
        visitor.visit::<ObjectPool>();
        visitor.visit::<LockFree>();
        visitor.visit::<Opool>();
        visitor.visit::<BytePool>();
        visitor.visit::<Sharded>();
        visitor.visit::<Deadpool>();
        visitor.visit::<Ruapc>();
        visitor.visit::<Frozen>();
    }
    visitor.visit::<Floor>();
}

/// What there is to say about a peer.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// See [`Peer::NAME`].
    pub name: &'static str,
    /// See [`Peer::KIND`].
    pub kind: Kind,
    /// See [`Peer::LIMIT`].
    pub limit: &'static str,
    /// See [`Peer::CRATES`].
    pub crates: &'static [&'static str],
}

/// All peers, as [`visit`] goes round.
pub fn about() -> Vec<About> {
    struct List(Vec<About>);
    impl Visitor for List {
        fn visit<P: Peer>(&mut self) {
            self.0.push(About {
                name: P::NAME,
                kind: P::KIND,
                limit: P::LIMIT,
                crates: P::CRATES,
            });
        }
    }
    let mut list = List(Vec::new());
    visit(&mut list);
    list.0
}

/// A way to get buffers. Clones are the same peer.
pub trait Peer: Clone + Send + Sync + 'static {
    /// What the tables call it.
    const NAME: &'static str;

    /// What it is.
    const KIND: Kind;

    /// What limit it keeps, in a few words.
    const LIMIT: &'static str;

    /// The crates it comes from.
    const CRATES: &'static [&'static str];

    /// A buffer, given back when it is dropped.
    type Lease: Lease;

    /// A peer with room for `limit` bytes, taken `size` at a time; those without a limit, or for any size, ignore it.
    fn new(limit: usize, size: usize) -> Self;

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
    #[inline(always)]
    fn touch(&mut self) {
        let memory = self.memory();
        if let Some(first) = memory.first_chunk_mut::<8>() {
            *first = [MaybeUninit::new(1); 8];
        }
        // The memory and not the lease: that would force the lease itself through memory, word by word.
        black_box(memory.as_mut_ptr());
    }

    /// Reads them, as whoever is sent a buffer does.
    #[inline(always)]
    fn look(&mut self) {
        if let Some(first) = self.memory().first_chunk_mut::<8>() {
            black_box(*first);
        }
    }
}

impl Lease for BytesMut {
    #[inline(always)]
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
    #[inline(always)]
    fn new(n: usize, charge: C) -> Self {
        Charged {
            buffer: BytesMut::with_capacity(n),
            _charge: charge,
        }
    }
}

impl<C: Send + 'static> Lease for Charged<C> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.buffer.memory()
    }
}
