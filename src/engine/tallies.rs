//! Tallies for those who look on: failures by reason, and how long waits and how large batches were, in buckets.
//!
//! Like the pool's other counters they are plain atomics that order nothing, and off the fast path.

use super::Refused;
use crate::sync::{AtomicU64, Ordering};

/// What was counted since the pool was built.
#[derive(Debug)]
pub(crate) struct Tallies {
    /// Reservations that failed, in the order of [`REASONS`].
    rejected: [AtomicU64; REASONS.len()],
    /// Nanoseconds from parking until the memory was in hand.
    #[cfg(feature = "_waits")]
    pub(crate) waits: Histogram,
    /// Blocks that one round of cleaning gave back to the OS.
    pub(crate) batches: Histogram,
    /// Whether the log says that the pool is pressed.
    #[cfg(feature = "tracing")]
    pub(crate) said_pressed: std::sync::atomic::AtomicBool,
}

/// Why reservations fail, in one word each.
pub(crate) const REASONS: [&str; 4] = ["too_large", "closed", "exhausted", "os"];

/// Edges of the buckets for waits, in nanoseconds: from 1 µs to 10 s, three per decade.
#[cfg(feature = "_waits")]
pub(crate) const WAIT_EDGES: [u64; 22] = {
    let mut edges = [0; 22];
    let mut decade = 1_000;
    let mut bucket = 0;
    while bucket < edges.len() {
        edges[bucket] = match bucket % 3 {
            0 => decade,
            1 => decade / 10 * 25,
            _ => decade * 5,
        };
        if bucket % 3 == 2 {
            decade *= 10;
        }
        bucket += 1;
    }
    edges
};

/// Edges of the buckets for batches, in blocks: powers of four up to a million.
pub(crate) const BATCH_EDGES: [u64; 11] = {
    let mut edges = [1; 11];
    let mut bucket = 1;
    while bucket < edges.len() {
        edges[bucket] = edges[bucket - 1] * 4;
        bucket += 1;
    }
    edges
};

impl Default for Tallies {
    fn default() -> Self {
        Tallies {
            rejected: Default::default(),
            #[cfg(feature = "_waits")]
            waits: Histogram::new(&WAIT_EDGES),
            batches: Histogram::new(&BATCH_EDGES),
            #[cfg(feature = "tracing")]
            said_pressed: Default::default(),
        }
    }
}

#[cfg(feature = "metrics")]
impl super::Engine {
    /// User code that the reclaimer called has panicked.
    pub(crate) fn hook_panicked(&self, _hook: &str) {
        self.counters.hook_panics.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "tracing")]
        tracing::error!(
            pool = &**crate::pool::Label::of(self).name(),
            hook = _hook,
            "user code panicked; the pool goes on"
        );
    }
}

impl Tallies {
    /// A reservation fails.
    pub(crate) fn reject(&self, why: &Refused) {
        let reason = match why {
            Refused::TooLarge => 0,
            Refused::Closed => 1,
            Refused::Full => 2,
            Refused::Os(_) => 3,
        };
        self.rejected[reason].fetch_add(1, Ordering::Relaxed);
    }

    /// Reservations that failed so far, by reason.
    #[cfg(any(feature = "metrics", feature = "inspector"))]
    pub(crate) fn rejected(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|reason| {
            let count = self.rejected[reason].load(Ordering::Relaxed);
            (REASONS[reason], count)
        })
    }
}

/// Values counted in buckets.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// A bucket holds the values up to and with its edge; one more bucket holds the values above the last edge.
    edges: &'static [u64],
    buckets: Box<[Bucket]>,
}

#[derive(Debug, Default)]
struct Bucket {
    count: AtomicU64,
    sum: AtomicU64,
}

impl Histogram {
    fn new(edges: &'static [u64]) -> Self {
        Histogram {
            edges,
            buckets: (0..=edges.len()).map(|_| Bucket::default()).collect(),
        }
    }

    /// Counts a value. Two uncontended additions.
    pub(crate) fn record(&self, value: u64) {
        let bucket = self.edges.partition_point(|&edge| edge < value);
        let bucket = &self.buckets[bucket];
        bucket.count.fetch_add(1, Ordering::Relaxed);
        bucket.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Count and sum of each bucket so far.
    #[cfg(any(feature = "metrics", feature = "inspector"))]
    pub(crate) fn totals(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().map(|bucket| {
            (
                bucket.count.load(Ordering::Relaxed),
                bucket.sum.load(Ordering::Relaxed),
            )
        })
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn waits_are_counted_from_a_microsecond_to_ten_seconds() {
        assert_eq!(WAIT_EDGES[..4], [1_000, 2_500, 5_000, 10_000]);
        assert_eq!(WAIT_EDGES.last(), Some(&10_000_000_000));
        assert!(WAIT_EDGES.is_sorted());
    }

    #[test]
    fn a_bucket_holds_what_is_up_to_its_edge() {
        let histogram = Histogram::new(&BATCH_EDGES);
        for value in [1, 2, 4, 5, u64::MAX >> 1] {
            histogram.record(value);
        }
        let totals: Vec<_> = histogram.totals().collect();
        assert_eq!(totals.len(), BATCH_EDGES.len() + 1);
        assert_eq!(totals[..3], [(1, 1), (2, 6), (1, 5)]);
        assert_eq!(totals.last(), Some(&(1, u64::MAX >> 1)));
    }
}
