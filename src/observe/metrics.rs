//! Figures for the `metrics` facade.
//!
//! Nothing is counted for this: what is published is a snapshot of the same figures that [`Stats`] has, taken when someone
//! asks or when the reclaimer is told to. So reserving and dropping cost the same with the feature and without it.
//!
//! The recorder behind the facade is user code. It is called without any lock held, and never where a buffer is dropped.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, Label, Unit,
};

use super::{classes, resident, stats, Stats};
use crate::engine::{Engine, Histogram, BATCH_EDGES, WAIT_EDGES};
use crate::sync::Ordering;

/// Buckets for `offheap_reserve_wait_seconds`: from 1 µs to 10 s, three per decade. Waits are counted in just these, so that an
/// exporter that is told of them loses nothing.
pub const WAIT_SECONDS_BUCKETS: [f64; WAIT_EDGES.len()] = scaled(&WAIT_EDGES, NANOS);

/// Buckets for `offheap_reclaim_batch_blocks`: powers of four from 1 to 2²⁰. Batches are counted in just these.
pub const BATCH_BLOCKS_BUCKETS: [f64; BATCH_EDGES.len()] = scaled(&BATCH_EDGES, 1.0);

const NANOS: f64 = 1e9;

const fn scaled<const N: usize>(edges: &[u64; N], scale: f64) -> [f64; N] {
    let mut scaled = [0.0; N];
    let mut bucket = 0;
    while bucket < N {
        scaled[bucket] = edges[bucket] as f64 / scale;
        bucket += 1;
    }
    scaled
}

/// What a pool publishes beyond the usual.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras {
    /// Gauges for each size class.
    pub(crate) classes: bool,
    /// What the kernel says is resident.
    pub(crate) resident: bool,
}

/// What a pool's publishing remembers.
#[derive(Debug)]
pub(crate) struct Publisher {
    extras: Extras,
    /// How much of the histograms was published already. Never held while the recorder is called.
    published: Mutex<Published>,
}

impl Publisher {
    pub(crate) fn new(extras: Extras) -> Self {
        Publisher {
            extras,
            published: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Published {
    waits: Vec<(u64, u64)>,
    batches: Vec<(u64, u64)>,
}

type Figure<T> = (&'static str, Unit, &'static str, fn(&T) -> u64);

const GAUGES: [Figure<Stats>; 9] = [
    (
        "offheap_limit_bytes",
        Unit::Bytes,
        "Hard bound on committed memory.",
        |stats| stats.limit,
    ),
    (
        "offheap_committed_bytes",
        Unit::Bytes,
        "Memory that may be resident: live and queued together.",
        |stats| stats.committed,
    ),
    (
        "offheap_live_bytes",
        Unit::Bytes,
        "Blocks in users' hands, at their class's size.",
        |stats| stats.live,
    ),
    (
        "offheap_requested_bytes",
        Unit::Bytes,
        "What users asked for when they reserved the live blocks.",
        |stats| stats.requested,
    ),
    (
        "offheap_queued_bytes",
        Unit::Bytes,
        "Dropped blocks that wait for the next reservation.",
        |stats| stats.queued,
    ),
    (
        "offheap_stranded_bytes",
        Unit::Bytes,
        "The part of queued that only its own size class can use, because its span is partly live.",
        |stats| stats.stranded,
    ),
    ("offheap_buffers", Unit::Count, "Live blocks.", |stats| {
        stats.buffers
    }),
    (
        "offheap_waiting",
        Unit::Count,
        "Parked reservations.",
        |stats| stats.waiting,
    ),
    (
        "offheap_waiting_bytes",
        Unit::Bytes,
        "What the parked reservations ask for.",
        |stats| stats.waiting_bytes,
    ),
];

const COUNTERS: [Figure<(Stats, u64)>; 7] = [
    (
        "offheap_reserved_total",
        Unit::Count,
        "Blocks handed out.",
        |(stats, _)| stats.reserved_total,
    ),
    (
        "offheap_reclaimed_total",
        Unit::Count,
        "Blocks whose last handle has gone.",
        |(stats, _)| stats.reclaimed_total,
    ),
    (
        "offheap_parked_total",
        Unit::Count,
        "Reservations that had to park.",
        |(stats, _)| stats.parked_total,
    ),
    (
        "offheap_cancelled_total",
        Unit::Count,
        "Parked reservations that were dropped before they had their memory in hand.",
        |(stats, _)| stats.cancelled_total,
    ),
    (
        "offheap_cleaned_bytes_total",
        Unit::Bytes,
        "Memory that was given back to the operating system.",
        |(stats, _)| stats.cleaned_bytes_total,
    ),
    (
        "offheap_helped_total",
        Unit::Count,
        "Reservations that got along by taking from other shards or by cleaning.",
        |(stats, _)| stats.helped_total,
    ),
    (
        "offheap_hook_panics_total",
        Unit::Count,
        "User code that the reclaimer called and that panicked.",
        |(_, panics)| *panics,
    ),
];

const REJECTED: &str = "offheap_rejected_total";
const WAITS: &str = "offheap_reserve_wait_seconds";
const BATCHES: &str = "offheap_reclaim_batch_blocks";
const OLDEST: &str = "offheap_oldest_wait_seconds";
const RESIDENT: &str = "offheap_resident_bytes";
const CLASS_LIVE: &str = "offheap_class_live_blocks";
const CLASS_QUEUED: &str = "offheap_class_queued_blocks";

/// Publishes one snapshot. O(blocks).
pub(crate) fn publish(publisher: &Publisher, name: &Arc<str>, engine: &Engine) {
    let Publisher { extras, published } = publisher;
    let pool = Label::new("pool", name.clone());
    let labels = || vec![pool.clone()];
    let labelled = |key: &'static str, value: String| vec![pool.clone(), Label::new(key, value)];
    let tallies = &engine.counters.tallies;

    let stats = stats(engine);
    let oldest = engine.oldest_wait();
    for (name, unit, help, figure) in GAUGES {
        describe_gauge!(name, unit, help);
        gauge!(name, labels()).set(figure(&stats) as f64);
    }
    describe_gauge!(
        OLDEST,
        Unit::Seconds,
        "How long the head of the queue has been parked."
    );
    gauge!(OLDEST, labels()).set(oldest.as_secs_f64());
    let totals = (stats, engine.counters.hook_panics.load(Ordering::Relaxed));
    for (name, unit, help, figure) in COUNTERS {
        describe_counter!(name, unit, help);
        counter!(name, labels()).absolute(figure(&totals));
    }
    describe_counter!(
        REJECTED,
        Unit::Count,
        "Reservations that failed, by reason."
    );
    for (reason, count) in tallies.rejected() {
        counter!(REJECTED, labelled("reason", reason.to_owned())).absolute(count);
    }

    let (waits, batches) = {
        let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
        (
            news(&mut published.waits, &tallies.waits),
            news(&mut published.batches, &tallies.batches),
        )
    };
    describe_histogram!(
        WAITS,
        Unit::Seconds,
        "How long parked reservations waited until they had their memory in hand."
    );
    record(&histogram!(WAITS, labels()), waits, &WAIT_EDGES, NANOS);
    describe_histogram!(
        BATCHES,
        Unit::Count,
        "Blocks that one round of cleaning gave back to the operating system."
    );
    record(&histogram!(BATCHES, labels()), batches, &BATCH_EDGES, 1.0);

    if let Some(resident) = extras.resident.then(|| resident(engine)).flatten() {
        describe_gauge!(
            RESIDENT,
            Unit::Bytes,
            "Memory behind the pool's blocks, says the kernel."
        );
        gauge!(RESIDENT, labels()).set(resident as f64);
    }
    if extras.classes {
        describe_gauge!(CLASS_LIVE, Unit::Count, "Live blocks of a size class.");
        describe_gauge!(CLASS_QUEUED, Unit::Count, "Queued blocks of a size class.");
        for class in classes(engine) {
            let labels = labelled("class", class.size.to_string());
            gauge!(CLASS_LIVE, labels.clone()).set(class.live as f64);
            gauge!(CLASS_QUEUED, labels).set(class.queued as f64);
        }
    }
}

/// What came into each bucket since the last time: how many values, and their sum.
fn news(published: &mut Vec<(u64, u64)>, histogram: &Histogram) -> Vec<(u64, u64)> {
    let now: Vec<_> = histogram.totals().collect();
    published.resize(now.len(), (0, 0));
    let news = now
        .iter()
        .zip(published.iter())
        .map(|(now, before)| (now.0 - before.0, now.1 - before.1))
        .collect();
    *published = now;
    news
}

/// Passes on what a bucket got as so many times its mean: count, sum and bucket are then as they were.
fn record(histogram: &metrics::Histogram, news: Vec<(u64, u64)>, edges: &[u64], scale: f64) {
    for (bucket, (count, sum)) in news.into_iter().enumerate() {
        if count > 0 {
            // Counts and sums are not read at one moment, so that a mean may be a little off.
            let least = bucket.checked_sub(1).map_or(0, |below| edges[below] + 1);
            let most = edges.get(bucket).copied().unwrap_or(u64::MAX);
            let mean = (sum as f64 / count as f64).clamp(least as f64, most as f64);
            histogram.record_many(mean / scale, count as usize);
        }
    }
}
