//! Figures of a pool.

use super::census::Census;
use crate::engine::Engine;
use crate::sync::Ordering;

/// A pool's figures at one moment: bytes unless a field says otherwise. From [`Pool::stats`](crate::Pool::stats).
///
/// `committed = live + queued`, and `stranded` is the part of `queued` that can not be given to another size. Live blocks are
/// counted one by one, so that while buffers come and go the snapshot is consistent in itself, and exact when they rest.
///
/// The JDK's `BufferPoolMXBean` maps onto it: Count is `buffers`, TotalCapacity is `requested`, MemoryUsed is `live`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The hard bound on `committed`.
    pub limit: u64,
    /// Memory that may be resident, in whole spans: `live + queued`. Above `limit` only after the limit was lowered.
    pub committed: u64,
    /// Blocks in users' hands, at their class's size.
    pub live: u64,
    /// What the users asked for when they reserved those blocks.
    pub requested: u64,
    /// Blocks that wait for the next reservation.
    pub queued: u64,
    /// Queued blocks of small classes whose span is still partly in use: only their own class can use them. Below 64 KiB a
    /// span (28 KiB with pages of 4 KiB).
    pub stranded: u64,
    /// Block headers, magazines and tables: not part of `committed`.
    pub metadata: u64,
    /// The highest `live` so far, sampled whenever memory is committed, a reservation parks, or figures are read.
    pub peak_live: u64,
    /// The part of `live` that is registered with an io_uring as fixed buffers, and pinned by the kernel. 0 where that was refused,
    /// and without the feature `io-uring`.
    pub registered: u64,
    /// Live blocks (a number).
    pub buffers: u64,
    /// Parked reservations (a number).
    pub waiting: u64,
    /// What the parked reservations ask for.
    pub waiting_bytes: u64,
    /// Blocks handed out so far (a number).
    pub reserved_total: u64,
    /// Blocks whose last handle has gone so far (a number).
    pub reclaimed_total: u64,
    /// Reservations that had to park so far (a number).
    pub parked_total: u64,
    /// Parked reservations that were dropped before they had their memory in hand, also after the grant (a number).
    pub cancelled_total: u64,
    /// Reservations that got along by taking from other shards or by cleaning, so far (a number).
    pub helped_total: u64,
    /// Memory that was given back to the OS so far.
    pub cleaned_bytes_total: u64,
    /// Queued blocks of small classes that were looked at so far, to find spans that are queued as a whole (a number).
    pub searched_total: u64,
    /// Blocks that went straight to a parked reservation so far (a number).
    pub handed_over_total: u64,
    /// Cleaning hooks that panicked so far (a number).
    pub hook_panics_total: u64,
    /// Callbacks for pressure that panicked so far (a number).
    pub pressure_panics_total: u64,
    /// Callbacks for pressure that took longer than a tenth of a second so far (a number).
    pub pressure_slow_total: u64,
    /// What callbacks for pressure say that they have given back so far.
    pub pressure_freed_bytes_total: u64,
}

/// One look at every block that was ever used: O(blocks).
pub(crate) fn stats(engine: &Engine) -> Stats {
    let (waiting, waiting_bytes) = engine.waiting();
    let counters = &engine.counters;
    let counter = |counter: &crate::sync::AtomicU64| counter.load(Ordering::Relaxed);
    let mut stats = Stats {
        limit: engine.limit(),
        metadata: engine.arena().metadata(),
        registered: counter(&counters.registered),
        waiting,
        waiting_bytes,
        parked_total: counter(&counters.parked),
        cancelled_total: counter(&counters.cancelled),
        helped_total: counter(&counters.helped),
        cleaned_bytes_total: counter(&counters.cleaned_bytes),
        searched_total: counter(&counters.searched),
        handed_over_total: counter(&counters.handed_over),
        hook_panics_total: counter(&counters.hook_panics),
        pressure_panics_total: counter(&counters.pressure_panics),
        pressure_slow_total: counter(&counters.pressure_slow),
        pressure_freed_bytes_total: counter(&counters.pressure_freed_bytes),
        ..Stats::default()
    };
    for class in engine.arena().touched() {
        let census = Census::of(class);
        let size = class.size() as u64;
        stats.buffers += census.live;
        stats.live += census.live * size;
        stats.requested += census.requested;
        stats.stranded += census.stranded * size;
        stats.reclaimed_total += census.reclaimed;
    }
    // Memory may move between classes while the blocks are counted; what it adds up to is what the account says.
    stats.committed = engine.committed();
    stats.live = stats.live.min(stats.committed);
    stats.requested = stats.requested.min(stats.live);
    stats.queued = stats.committed - stats.live;
    stats.stranded = stats.stranded.min(stats.queued);
    stats.reserved_total = stats.reclaimed_total + stats.buffers;
    let peak = &counters.peak_live;
    let before = peak.fetch_max(stats.live, Ordering::Relaxed);
    stats.peak_live = before.max(stats.live);
    stats
}
