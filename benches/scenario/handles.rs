//! Handles to one buffer: cloned, sliced and dropped, by one thread or by two; and buffers that become shareable.
//!
//! The same for [`DirectBytes`] and [`Bytes`], both of 4 KiB with 1000 bytes in them. Of a `Bytes` there is always a second handle, so
//! that it counts references as it does when it is shared.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use offheap::{DirectBytes, DirectBytesMut, Pool};

const SIZE: usize = 4 << 10;
const FILLED: usize = 1000;
/// Buffers that are frozen between two looks at the clock.
const BATCH: usize = 256;

/// A kind of buffers.
pub trait Buffers: Sync + Sized {
    /// What the tables call it.
    const NAME: &'static str;

    /// A writable buffer.
    type Unique;
    /// A shared one.
    type Shared: Clone + Send + Sync;

    /// Room for what the scenarios need.
    fn new() -> Self;

    /// A buffer of 4 KiB with 1000 bytes in it.
    fn filled(&self) -> Self::Unique;

    /// Makes it shareable.
    fn freeze(buffer: Self::Unique) -> Self::Shared;

    /// A handle to a part.
    fn slice(buffer: &Self::Shared, begin: usize, end: usize) -> Self::Shared;
}

/// Ours.
#[derive(Debug)]
pub struct Pooled(Pool);

impl Buffers for Pooled {
    const NAME: &'static str = "DirectBytes";

    type Unique = DirectBytesMut;
    type Shared = DirectBytes;

    fn new() -> Self {
        let limit = 4 * BATCH * SIZE;
        Pooled(Pool::builder().limit(limit).build().expect("address space"))
    }

    fn filled(&self) -> DirectBytesMut {
        let mut buffer = self.0.try_reserve(SIZE).expect("room");
        buffer.put_bytes(7, FILLED);
        buffer
    }

    #[inline]
    fn freeze(buffer: DirectBytesMut) -> DirectBytes {
        buffer.freeze()
    }

    #[inline]
    fn slice(buffer: &DirectBytes, begin: usize, end: usize) -> DirectBytes {
        buffer.slice(begin..end)
    }
}

/// Those of `bytes`.
#[derive(Debug)]
pub struct Heap;

impl Buffers for Heap {
    const NAME: &'static str = "Bytes";

    type Unique = BytesMut;
    type Shared = Bytes;

    fn new() -> Self {
        Heap
    }

    fn filled(&self) -> BytesMut {
        let mut buffer = BytesMut::with_capacity(SIZE);
        buffer.put_bytes(7, FILLED);
        buffer
    }

    #[inline]
    fn freeze(buffer: BytesMut) -> Bytes {
        buffer.freeze()
    }

    #[inline]
    fn slice(buffer: &Bytes, begin: usize, end: usize) -> Bytes {
        buffer.slice(begin..end)
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A clone, and its drop.
    Clone,
    /// A slice of 90 bytes, and its drop.
    Slice,
    /// A clone, and its drop, by two threads at the same buffer.
    CloneByTwo,
    /// A writable buffer becomes a shared one. Making it and dropping it do not count.
    Freeze,
}

impl Deed {
    /// All of them.
    pub const ALL: [Deed; 4] = [Deed::Clone, Deed::Slice, Deed::Freeze, Deed::CloneByTwo];

    /// What the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Deed::Clone => "clone + drop",
            Deed::Slice => "slice + drop",
            Deed::CloneByTwo => "clone + drop, two threads on the same buffer",
            Deed::Freeze => "freeze",
        }
    }

    /// How long it takes `times` times, on each thread.
    pub fn time<B: Buffers>(self, buffers: &B, times: u64) -> Duration {
        match self {
            Deed::Freeze => freeze(buffers, times),
            Deed::CloneByTwo => {
                let shared = B::freeze(buffers.filled());
                let barrier = Barrier::new(2);
                let one = |shared: B::Shared| {
                    barrier.wait();
                    self.repeat::<B>(&shared, times)
                };
                let (here, there) = (shared.clone(), shared.clone());
                thread::scope(|scope| {
                    let there = scope.spawn(|| one(there));
                    one(here).max(there.join().expect("no panic"))
                })
            }
            Deed::Clone | Deed::Slice => {
                let shared = B::freeze(buffers.filled());
                let _other = shared.clone();
                self.repeat::<B>(&shared, times)
            }
        }
    }

    fn repeat<B: Buffers>(self, shared: &B::Shared, times: u64) -> Duration {
        let start = Instant::now();
        if self == Deed::Slice {
            for _ in 0..times {
                let (begin, end) = black_box((10, 100));
                drop(black_box(B::slice(black_box(shared), begin, end)));
            }
        } else {
            for _ in 0..times {
                drop(black_box(black_box(shared).clone()));
            }
        }
        start.elapsed()
    }
}

fn freeze<B: Buffers>(buffers: &B, times: u64) -> Duration {
    let (mut unique, mut shared) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut elapsed = Duration::ZERO;
    let batches = times.div_ceil(BATCH as u64);
    for _ in 0..batches {
        unique.extend((0..BATCH).map(|_| buffers.filled()));
        let start = Instant::now();
        shared.extend(unique.drain(..).map(B::freeze));
        elapsed += start.elapsed();
        black_box(&shared);
        shared.clear();
    }
    // Of as many as were asked for.
    elapsed.mul_f64(times as f64 / (batches * BATCH as u64) as f64)
}
