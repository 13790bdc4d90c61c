//! Pools from crates.io, and the one that everybody writes: what was dropped is kept and handed out again.
//!
//! Pools that make objects on demand do so here, so that each has as many as are live at a time and all of them are warm. They are
//! leaked, so that their guards can borrow them; guards that count references to the pool are slower with all of them.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::slice;
use std::sync::Arc;

use byte_pool::{Block, BytePool as Bytes};
use crossbeam_queue::ArrayQueue;
use deadpool::unmanaged;
use frozen_core::bufpool::{BufPool, BufPoolAllocation, BufPoolCfg};
use frozen_core::utils::BufferSize;
use lockfree_object_pool::{LinearObjectPool, LinearReusable};
use ruapc_bufpool::{BufferPool, BufferPoolBuilder, EmptyDevices};

use super::{Kind, Lease, Peer};

/// How many buffers a pool of fixed ones has: more than any scenario of pairs holds.
fn room(limit: usize, size: usize) -> usize {
    (limit / size).clamp(8, 512)
}

fn leak<T>(pool: T) -> &'static T {
    Box::leak(Box::new(pool))
}

/// Initialised memory, as leases show it.
///
/// Whoever gets it must not write anything uninitialised, which no scenario does.
#[inline(always)]
fn uninit(memory: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    let (start, len) = (memory.as_mut_ptr(), memory.len());
    // SAFETY: the same memory for the same time; scenarios write plain bytes only.
    unsafe { slice::from_raw_parts_mut(start.cast(), len) }
}

type Bytebox = Box<[MaybeUninit<u8>]>;

/// `ArrayQueue<Box<[u8]>>`, with an allocation where it is empty.
#[derive(Debug, Clone)]
pub struct Queue(&'static ArrayQueue<Bytebox>);

/// A box that goes back.
#[derive(Debug)]
pub struct Queued {
    buffer: ManuallyDrop<Bytebox>,
    queue: &'static ArrayQueue<Bytebox>,
}

impl Peer for Queue {
    const NAME: &'static str = "ArrayQueue of boxes";
    const KIND: Kind = Kind::Recycler;
    const LIMIT: &'static str = "none, recycles";
    const CRATES: &'static [&'static str] = &["crossbeam-queue"];

    type Lease = Queued;

    fn new(limit: usize, size: usize) -> Self {
        Queue(leak(ArrayQueue::new(room(limit, size))))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Queued {
        let buffer = self.0.pop().unwrap_or_else(|| Box::new_uninit_slice(n));
        Queued {
            buffer: ManuallyDrop::new(buffer),
            queue: self.0,
        }
    }
}

impl Lease for Queued {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.buffer
    }
}

impl Drop for Queued {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the lease goes away, and nothing uses the field after this.
        let buffer = unsafe { ManuallyDrop::take(&mut self.buffer) };
        let _full = self.queue.push(buffer);
    }
}

/// `object_pool::Pool`: a mutex around a stack.
#[derive(Clone)]
pub struct ObjectPool(&'static object_pool::Pool<Vec<u8>>);

impl Peer for ObjectPool {
    const NAME: &'static str = "object-pool";
    const KIND: Kind = Kind::Recycler;
    const LIMIT: &'static str = "none, recycles";
    const CRATES: &'static [&'static str] = &["object-pool"];

    type Lease = object_pool::Reusable<'static, Vec<u8>>;

    fn new(_limit: usize, _size: usize) -> Self {
        ObjectPool(leak(object_pool::Pool::new(0, Vec::new)))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Self::Lease {
        self.0.pull(|| Vec::with_capacity(n))
    }
}

impl Lease for object_pool::Reusable<'static, Vec<u8>> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.spare_capacity_mut()
    }
}

/// `LinearObjectPool`: pages of 64 objects with a bit for each.
#[derive(Clone)]
pub struct LockFree(&'static LinearObjectPool<Vec<u8>>);

impl Peer for LockFree {
    const NAME: &'static str = "lockfree-object-pool";
    const KIND: Kind = Kind::Recycler;
    const LIMIT: &'static str = "none, recycles";
    const CRATES: &'static [&'static str] = &["lockfree-object-pool"];

    type Lease = LinearReusable<'static, Vec<u8>>;

    fn new(_limit: usize, size: usize) -> Self {
        let fresh = move || Vec::with_capacity(size);
        LockFree(leak(LinearObjectPool::new(fresh, |_| {})))
    }

    #[inline(always)]
    fn try_take(&self, _n: usize) -> Self::Lease {
        self.0.pull()
    }
}

impl Lease for LinearReusable<'static, Vec<u8>> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.spare_capacity_mut()
    }
}

/// How `opool` makes its objects.
#[derive(Debug)]
pub struct Fresh(usize);

impl opool::PoolAllocator<Vec<u8>> for Fresh {
    #[inline]
    fn allocate(&self) -> Vec<u8> {
        Vec::with_capacity(self.0)
    }
}

/// `opool::Pool`: an `ArrayQueue` of objects.
#[derive(Clone)]
pub struct Opool(&'static opool::Pool<Fresh, Vec<u8>>);

impl Peer for Opool {
    const NAME: &'static str = "opool";
    const KIND: Kind = Kind::Recycler;
    const LIMIT: &'static str = "none, recycles";
    const CRATES: &'static [&'static str] = &["opool"];

    type Lease = opool::RefGuard<'static, Fresh, Vec<u8>>;

    fn new(limit: usize, size: usize) -> Self {
        Opool(leak(opool::Pool::new(room(limit, size), Fresh(size))))
    }

    #[inline(always)]
    fn try_take(&self, _n: usize) -> Self::Lease {
        self.0.get()
    }
}

impl Lease for opool::RefGuard<'static, Fresh, Vec<u8>> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.spare_capacity_mut()
    }
}

/// `byte_pool::BytePool`: two `SegQueue`s, for small buffers and for large ones.
#[derive(Debug, Clone)]
pub struct BytePool(&'static Bytes<Vec<u8>>);

impl Peer for BytePool {
    const NAME: &'static str = "byte-pool";
    const KIND: Kind = Kind::Recycler;
    const LIMIT: &'static str = "none, recycles";
    const CRATES: &'static [&'static str] = &["byte-pool"];

    type Lease = Block<'static, Vec<u8>>;

    fn new(_limit: usize, _size: usize) -> Self {
        BytePool(leak(Bytes::new()))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Self::Lease {
        self.0.alloc(n)
    }
}

impl Lease for Block<'static, Vec<u8>> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        uninit(self)
    }
}

/// As many shards as its owner uses in `quiche`.
const SHARDS: usize = 8;

/// `buffer_pool::Pool`: shards by turns, each a `SegQueue`, with gauges.
#[derive(Debug, Clone)]
pub struct Sharded(&'static buffer_pool::Pool<SHARDS, Vec<u8>>);

impl Peer for Sharded {
    const NAME: &'static str = "buffer-pool";
    const KIND: Kind = Kind::Recycler;
    const LIMIT: &'static str = "none, recycles";
    const CRATES: &'static [&'static str] = &["buffer-pool"];

    type Lease = buffer_pool::Pooled<Vec<u8>>;

    fn new(limit: usize, size: usize) -> Self {
        let room = SHARDS * room(limit, size);
        Sharded(leak(buffer_pool::Pool::<SHARDS, _>::new(
            room, size, "bench",
        )))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Self::Lease {
        self.0.get_with(|buffer| buffer.reserve_exact(n))
    }
}

impl Lease for buffer_pool::Pooled<Vec<u8>> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.spare_capacity_mut()
    }
}

/// `deadpool::unmanaged::Pool`: a semaphore, and a mutex around a stack.
#[derive(Debug, Clone)]
pub struct Deadpool(unmanaged::Pool<Vec<u8>>);

impl Peer for Deadpool {
    const NAME: &'static str = "deadpool";
    const KIND: Kind = Kind::Bounded;
    const LIMIT: &'static str = "a number of buffers, waits";
    const CRATES: &'static [&'static str] = &["deadpool"];

    type Lease = unmanaged::Object<Vec<u8>>;

    fn new(limit: usize, size: usize) -> Self {
        let buffers = (0..room(limit, size)).map(|_| Vec::with_capacity(size));
        Deadpool(unmanaged::Pool::from(buffers.collect::<Vec<_>>()))
    }

    #[inline(always)]
    fn try_take(&self, _n: usize) -> Self::Lease {
        self.0.try_get().expect("room")
    }
}

impl Lease for unmanaged::Object<Vec<u8>> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.spare_capacity_mut()
    }
}

/// `ruapc_bufpool::BufferPool`, without devices to register memory with. What is smaller than 16 KiB gets 16 KiB.
#[derive(Debug, Clone)]
pub struct Ruapc(Arc<BufferPool>);

impl Peer for Ruapc {
    const NAME: &'static str = "ruapc-bufpool";
    const KIND: Kind = Kind::Bounded;
    const LIMIT: &'static str = "blocks of 64 MiB, waits";
    const CRATES: &'static [&'static str] = &["ruapc-bufpool"];

    type Lease = ruapc_bufpool::Buffer;

    fn new(limit: usize, _size: usize) -> Self {
        const BLOCK: usize = 64 << 20;
        let limit = limit.next_multiple_of(BLOCK) + BLOCK;
        Ruapc(
            BufferPoolBuilder::new(Arc::new(EmptyDevices))
                .max_memory(limit)
                .build(),
        )
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Self::Lease {
        self.0.allocate(n).expect("room")
    }
}

impl Lease for ruapc_bufpool::Buffer {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        uninit(self.as_mut_slice())
    }
}

/// `frozen_core::bufpool::BufPool`: a byte count that blocks the thread, in front of the system's allocator.
#[derive(Debug, Clone)]
pub struct Frozen {
    pool: &'static BufPool,
    unit: usize,
}

impl Peer for Frozen {
    const NAME: &'static str = "frozen-core";
    const KIND: Kind = Kind::Bounded;
    const LIMIT: &'static str = "bytes, blocks the thread";
    const CRATES: &'static [&'static str] = &["frozen-core"];

    type Lease = BufPoolAllocation;

    /// It counts in buffers of one size, of which an allocation has any number.
    fn new(limit: usize, size: usize) -> Self {
        let (buffer_size, unit) = match size {
            size if size % 4096 == 0 => (BufferSize::S4096, 4096),
            _ => (BufferSize::S256, 256),
        };
        let pool = leak(BufPool::new(BufPoolCfg {
            buffer_size,
            max_memory: limit,
        }));
        Frozen { pool, unit }
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Self::Lease {
        self.pool.allocate(n.div_ceil(self.unit))
    }
}

impl Lease for BufPoolAllocation {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the allocation has so many bytes from there on, and the lease is their only way in.
        unsafe { slice::from_raw_parts_mut(self.first().cast(), self.allocated_bytes()) }
    }
}
