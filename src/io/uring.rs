//! io_uring: the pool's buffers for `tokio-uring`, which the kernel reads into and writes from while it owns them.
//!
//! A buffer's memory does not move when the handle does, and stays as long as the handle lives: that is all that `tokio-uring` asks.
//! [`register_fixed`] makes fixed buffers of some, whose pages the kernel pins once instead of for each operation.
//!
//! It registers buffers that are live, and not the address space that blocks come from, because the kernel keeps the pages that it has pinned:
//! a block that is decommitted would have other pages behind it than the ring, which would then read and write where nobody
//! looks, in memory that the pool no longer counts. Live blocks are never decommitted.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use tokio_uring::buf::fixed::FixedBufPool;
use tokio_uring::buf::{IoBuf, IoBufMut};

use crate::engine::HasEngine;
use crate::sync::Ordering;
use crate::{DirectBytes, DirectBytesMut, Pool};

/// As many fixed buffers as tokio-uring takes: more would be dropped without a word.
const MOST: usize = libc::UIO_MAXIOV as usize;

// SAFETY: the block does not move and lives as long as the handle; an empty buffer has no bytes that anyone could look at.
unsafe impl IoBuf for DirectBytes {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

// SAFETY: as for `DirectBytes`; the first `len` bytes are initialised.
unsafe impl IoBuf for DirectBytesMut {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.capacity()
    }
}

// SAFETY: as for `IoBuf`; the whole capacity belongs to this handle alone.
unsafe impl IoBufMut for DirectBytesMut {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, pos: usize) {
        if self.len() < pos {
            // SAFETY: the caller vouches for the first `pos` bytes, and the kernel was given no more than the capacity.
            unsafe { self.set_len(pos) };
        }
    }
}

/// One of the buffers that [`register_fixed`] registers: what its collection is a collection of.
#[derive(Debug)]
pub struct FixedBuffer {
    buffer: DirectBytesMut,
    /// Dropped with the last one of the collection.
    _registered: Rc<Registered>,
}

/// What a collection adds to the pool's figures while it lives.
#[derive(Debug)]
struct Registered {
    pool: Pool,
    bytes: Cell<u64>,
}

impl Registered {
    fn count(&self, bytes: u64) {
        self.bytes.set(bytes);
        let registered = &self.pool.engine().counters.registered;
        registered.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let registered = &self.pool.engine().counters.registered;
        registered.fetch_sub(self.bytes.get(), Ordering::Relaxed);
    }
}

// SAFETY: as for `DirectBytesMut`, whose answers these are.
unsafe impl IoBuf for FixedBuffer {
    fn stable_ptr(&self) -> *const u8 {
        self.buffer.stable_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.buffer.bytes_init()
    }

    fn bytes_total(&self) -> usize {
        self.buffer.bytes_total()
    }
}

// SAFETY: as for `DirectBytesMut`, whose answers these are.
unsafe impl IoBufMut for FixedBuffer {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.buffer.stable_mut_ptr()
    }

    unsafe fn set_init(&mut self, pos: usize) {
        // SAFETY: the caller vouches for the same.
        unsafe { self.buffer.set_init(pos) };
    }
}

/// Reserves `count` buffers for `size` bytes each, and registers them with this thread's ring as fixed buffers.
///
/// `None` where the kernel does not allow to pin that much memory (`RLIMIT_MEMLOCK`): then buffers of the pool are used as they are, and
/// nothing is held. Registered buffers count as [`live`](crate::Stats::live), and as [`registered`](crate::Stats::registered), until
/// the result, all that was checked out of it, and the runtime or the registration are gone.
///
/// A ring has one such collection at a time, of at most 1,024 buffers; the rest of the pool serves other operations of the same ring.
///
/// # Errors
///
/// Those of [`Pool::reserve_many`] as [`io::Error`]; `InvalidInput` for more than 1,024 buffers; and what the kernel says for other
/// reasons, as where a collection is registered already.
///
/// # Panics
///
/// Outside of `tokio_uring::start`.
///
/// # Cancel safety
///
/// Dropping the future gives the reservation up.
pub async fn register_fixed(
    pool: &Pool,
    count: usize,
    size: usize,
) -> io::Result<Option<FixedBufPool<FixedBuffer>>> {
    if count > MOST {
        let text = format!("{count} buffers are too many: a ring has {MOST} of them at most");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let buffers = pool.reserve_many(vec![size; count]).await?;
    let bytes = buffers.iter().map(|buffer| buffer.block_len() as u64).sum();
    let registered = Rc::new(Registered {
        pool: pool.clone(),
        bytes: Default::default(),
    });
    let fixed = FixedBufPool::new(buffers.into_iter().map(|buffer| FixedBuffer {
        buffer,
        _registered: registered.clone(),
    }));
    match fixed.register() {
        Ok(()) => {
            registered.count(bytes);
            Ok(Some(fixed))
        }
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOMEM | libc::EPERM | libc::EAGAIN)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
