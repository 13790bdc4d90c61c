//! Who has not let go: for the end of a test, or of a program.

use std::fmt;

use super::holders::{holders, Holder};
use crate::engine::HasEngine;
use crate::pool::Pool;
use crate::units::Bytes;

/// The buffers that are left. From [`Pool::leak_report`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeakReport {
    /// The pool's name.
    pub pool: String,
    /// Live blocks.
    pub buffers: u64,
    /// Bytes of those blocks.
    pub bytes: u64,
    /// Who holds them, largest first.
    pub holders: Vec<Holder>,
}

impl LeakReport {
    /// Whether all buffers are back.
    pub fn is_empty(&self) -> bool {
        self.buffers == 0
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeakReport { pool, buffers, .. } = self;
        if self.is_empty() {
            return write!(f, "pool {pool:?} has all its buffers back");
        }
        let s = if *buffers == 1 { "" } else { "s" };
        write!(
            f,
            "pool {pool:?} still has {buffers} buffer{s}, {}",
            Bytes(self.bytes)
        )?;
        self.holders
            .iter()
            .try_for_each(|holder| write!(f, "\n  {holder}"))
    }
}

impl Pool {
    /// Which buffers are left, and who holds them. Blocks whose hooks are still to be run are cleaned first, on this thread;
    /// one that the reclaimer is at counts as left. O(blocks).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = offheap::Pool::builder().name("ingress").limit(1 << 20).build()?;
    /// let leak = pool.try_reserve(5000).unwrap();
    /// let report = pool.leak_report();
    /// assert_eq!((report.buffers, report.bytes), (1, leak.block_len() as u64));
    /// assert!(report.to_string().contains(file!()));
    /// drop(leak);
    /// assert!(pool.leak_report().is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn leak_report(&self) -> LeakReport {
        let engine = self.engine();
        while engine.clean_one() {}
        let holders = holders(engine);
        LeakReport {
            pool: self.name().to_owned(),
            buffers: holders.iter().map(|holder| holder.count).sum(),
            bytes: holders.iter().map(|holder| holder.bytes).sum(),
            holders,
        }
    }
}

/// Fails a test when buffers of a pool remain: its drop panics with the [report](Pool::leak_report), unless the thread is panicking
/// already. Make it before the buffers, so that it is dropped after them; and do not drop it within a hook, for which it would wait.
///
/// # Examples
///
/// ```should_panic
/// let pool = offheap::Pool::builder().limit(1 << 20).build().unwrap();
/// let _guard = offheap::LeakGuard::new(&pool);
/// std::mem::forget(pool.try_reserve(5000).unwrap());
/// ```
#[derive(Debug)]
#[must_use = "looks for leaks when it is dropped"]
pub struct LeakGuard {
    pool: Pool,
}

impl LeakGuard {
    /// Looks at `pool` when it is dropped.
    pub fn new(pool: &Pool) -> Self {
        LeakGuard { pool: pool.clone() }
    }
}

impl Drop for LeakGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.pool.engine().clean_all();
        let report = self.pool.leak_report();
        assert!(report.is_empty(), "{report}");
    }
}
