//! io_uring: the pool's buffers for `tokio-uring`, which the kernel reads into and writes from while it owns them.
//!
//! A buffer's memory does not move when the handle does, and stays as long as the handle lives: that is all that `tokio-uring` asks.
//! [`register_fixed`] makes fixed buffers of some, whose pages the kernel pins once instead of for each operation.

use std::io;

use tokio_uring::buf::fixed::FixedBufPool;
use tokio_uring::buf::{IoBuf, IoBufMut};

use crate::{DirectBytes, DirectBytesMut, Pool};

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

/// Reserves `count` buffers for `size` bytes each, and registers them with this thread's ring as fixed buffers.
///
/// `None` where the kernel does not allow to pin that much memory (`RLIMIT_MEMLOCK`): then buffers of the pool are used as they are, and
/// nothing is held. Registered buffers count as live until the result and all that was checked out of it are dropped.
///
/// # Errors
///
/// Those of [`Pool::reserve_many`] as [`io::Error`], and what the kernel says for other reasons.
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
) -> io::Result<Option<FixedBufPool<DirectBytesMut>>> {
    let buffers = pool.reserve_many(vec![size; count]).await?;
    let fixed = FixedBufPool::new(buffers);
    match fixed.register() {
        Ok(()) => Ok(Some(fixed)),
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
