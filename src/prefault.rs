//! Memory ahead of its use.

use crate::engine::{HasEngine, Refused};
use crate::error::TryReserveError;
use crate::pool::Pool;

impl Pool {
    /// Commits memory ahead of its use and faults it in, so that the next `count` reservations of `n` bytes find buffers that were
    /// never touched by a user and yet cost no page fault.
    ///
    /// The buffers are *queued*, as if they had been used and dropped, in the part of the queue that all threads share: charged against the
    /// limit, given up where a reservation of another size needs the memory, and aged. What of them is not used within
    /// [`decommit_after`](crate::PoolBuilder::decommit_after) goes back to the OS, except for what
    /// [`floor`](crate::PoolBuilder::floor) keeps: a pool that is to stay warm has a floor at least as large as what is prefaulted.
    ///
    /// What is queued of this size already counts, so that calling this again commits nothing more. Queued memory of other sizes
    /// is cleaned where the limit has no room otherwise. 0 bytes and a `count` of 0 need nothing.
    ///
    /// Blocks the thread while the kernel clears the memory: about 0.1 to 0.3 ms for each MiB. Meant for start-up; in a running
    /// program call it by `spawn_blocking`. Uses `MADV_POPULATE_WRITE`, and a write to each page where the kernel (before Linux 5.14)
    /// has no such call. With [`huge_pages`](crate::PoolBuilder::huge_pages) large buffers are faulted in by huge pages.
    ///
    /// # Errors
    ///
    /// As for [`try_reserve`](Pool::try_reserve): `TooLarge` where the limit can never hold so much, `Exhausted` where it has no room
    /// now, or others wait, and `Os` where the kernel has no memory. What was committed by then stays queued.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = offheap::Pool::builder()
    ///     .limit(64 << 20)
    ///     .floor(16 << 20) // stays, though no one uses it
    ///     .build()?;
    /// pool.prefault(16 << 10, 1024)?;
    /// assert_eq!(pool.stats().queued, 16 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefault(&self, n: usize, count: usize) -> Result<(), TryReserveError> {
        let engine = self.engine();
        let done = match (n, count) {
            (0, _) | (_, 0) if engine.is_closed() => Err(Refused::Closed),
            (0, _) | (_, 0) => Ok(()),
            _ => engine.prefault(n, count),
        };
        let requested = (n as u64).saturating_mul(count as u64);
        done.map_err(|why| TryReserveError::new(engine, requested, 0, why))
    }
}
