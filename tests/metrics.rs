//! What a pool publishes: the names, that they agree with `stats()`, and that publishing disturbs nothing.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use metrics::{
    with_local_recorder, Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use offheap::{Pool, PoolBuilder, Stats, BATCH_BLOCKS_BUCKETS, WAIT_SECONDS_BUCKETS};
use tokio::runtime::Builder;

use by_hand::ByHand;
use recorder::{Memory, Value};
use starved::starved;
use watchdog::within;

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/recorder.rs"]
mod recorder;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

const KIB: usize = 1 << 10;

const GAUGES: [&str; 9] = [
    "offheap_limit_bytes",
    "offheap_committed_bytes",
    "offheap_live_bytes",
    "offheap_requested_bytes",
    "offheap_queued_bytes",
    "offheap_stranded_bytes",
    "offheap_buffers",
    "offheap_waiting",
    "offheap_waiting_bytes",
];

const COUNTERS: [&str; 7] = [
    "offheap_reserved_total",
    "offheap_reclaimed_total",
    "offheap_parked_total",
    "offheap_cancelled_total",
    "offheap_cleaned_bytes_total",
    "offheap_helped_total",
    "offheap_hook_panics_total",
];

const HISTOGRAMS: [&str; 2] = [
    "offheap_reserve_wait_seconds",
    "offheap_reclaim_batch_blocks",
];

const REASONS: [&str; 4] = ["too_large", "closed", "exhausted", "os"];

fn gauges(stats: &Stats) -> [u64; 9] {
    [
        stats.limit,
        stats.committed,
        stats.live,
        stats.requested,
        stats.queued,
        stats.stranded,
        stats.buffers,
        stats.waiting,
        stats.waiting_bytes,
    ]
}

fn counters(stats: &Stats) -> [u64; 7] {
    [
        stats.reserved_total,
        stats.reclaimed_total,
        stats.parked_total,
        stats.cancelled_total,
        stats.cleaned_bytes_total,
        stats.helped_total,
        0,
    ]
}

fn pool(limit: usize) -> PoolBuilder {
    Pool::builder().name("p").limit(limit).shards(1)
}

fn publish(pool: &Pool, memory: &Memory) {
    with_local_recorder(memory, || pool.publish_metrics());
}

fn reserve(pool: &Pool, n: usize) -> ByHand<offheap::ReserveOwned> {
    ByHand::new(Box::pin(pool.reserve_owned(n)))
}

fn rejected(memory: &Memory) -> [u64; 4] {
    REASONS
        .map(|reason| memory.counter(&format!("offheap_rejected_total{{pool=p,reason={reason}}}")))
}

#[test]
fn every_name_is_there_with_unit_and_description_and_nothing_else() {
    let (pool, _runtime) = starved(pool(1 << 20));
    let memory = Memory::default();
    publish(&pool, &memory);

    let oldest = ["offheap_oldest_wait_seconds"];
    let plain = [&GAUGES[..], &COUNTERS[..], &HISTOGRAMS[..], &oldest].concat();
    let mut expected: Vec<_> = plain
        .iter()
        .map(|name| format!("{name}{{pool=p}}"))
        .collect();
    expected
        .extend(REASONS.map(|reason| format!("offheap_rejected_total{{pool=p,reason={reason}}}")));
    expected.sort();
    assert_eq!(memory.keys(), expected);

    for name in plain.into_iter().chain(["offheap_rejected_total"]) {
        let (kind, unit, text) = memory.described(name).expect(name);
        assert!(text.ends_with('.') && text.len() > 10, "{name}: {text:?}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert_eq!(unit == Some(Unit::Bytes), name.contains("_bytes"), "{name}");
        assert_eq!(
            unit == Some(Unit::Seconds),
            name.ends_with("_seconds"),
            "{name}"
        );
    }
}

#[test]
fn what_is_published_is_what_stats_says() {
    let (pool, _runtime) = starved(pool(256 * KIB));
    let memory = Memory::default();

    let mut held: Vec<_> = [300, 5000, 5000, 60 * KIB]
        .map(|n| pool.try_reserve(n).unwrap())
        .into();
    drop(held.swap_remove(1));
    let _large = pool.try_reserve(128 * KIB).unwrap();
    let mut first = reserve(&pool, 100 * KIB);
    let mut second = reserve(&pool, 1);
    assert!(first.poll().is_pending() && second.poll().is_pending());
    publish(&pool, &memory);

    let stats = pool.stats();
    assert_eq!(
        (stats.waiting, stats.waiting_bytes),
        (2, 100 * KIB as u64 + 1)
    );
    assert!(stats.stranded > 0 && stats.queued > stats.stranded - 1);
    for (name, value) in GAUGES.iter().zip(gauges(&stats)) {
        assert_eq!(
            memory.gauge(&format!("{name}{{pool=p}}")),
            value as f64,
            "{name}"
        );
    }
    for (name, value) in COUNTERS.iter().zip(counters(&stats)) {
        assert_eq!(
            memory.counter(&format!("{name}{{pool=p}}")),
            value,
            "{name}"
        );
    }

    // Once more, after everything has moved.
    drop((held, first));
    assert!(second.take_woken() && second.poll().is_ready());
    pool.trim();
    publish(&pool, &memory);
    let stats = pool.stats();
    assert_eq!((stats.parked_total, stats.cancelled_total), (2, 1));
    assert!(stats.cleaned_bytes_total > 0);
    for (name, value) in GAUGES.iter().zip(gauges(&stats)) {
        assert_eq!(
            memory.gauge(&format!("{name}{{pool=p}}")),
            value as f64,
            "{name}"
        );
    }
    for (name, value) in COUNTERS.iter().zip(counters(&stats)) {
        assert_eq!(
            memory.counter(&format!("{name}{{pool=p}}")),
            value,
            "{name}"
        );
    }
}

#[test]
fn rejections_are_counted_by_reason() {
    let (pool, _runtime) = starved(pool(64 * KIB));
    let memory = Memory::default();
    let held = pool.try_reserve(64 * KIB).unwrap();
    assert!(pool.try_reserve(1).is_err());
    assert!(pool.try_reserve(1).is_err());
    assert!(pool.try_reserve(65 * KIB).is_err());
    let mut waiting = reserve(&pool, 1);
    assert!(waiting.poll().is_pending());
    publish(&pool, &memory);
    assert_eq!(rejected(&memory), [1, 0, 2, 0]);

    pool.close();
    assert!(matches!(waiting.poll(), Poll::Ready(Err(_))));
    assert!(pool.try_reserve(0).is_err());
    publish(&pool, &memory);
    assert_eq!(rejected(&memory), [1, 2, 2, 0]);
    drop(held);
}

#[test]
fn waits_are_published_once_and_only_those_that_got_their_memory() {
    let (pool, _runtime) = starved(pool(64 * KIB));
    let memory = Memory::default();
    let held = pool.try_reserve(64 * KIB).unwrap();
    let mut served = [reserve(&pool, 1), reserve(&pool, 2)];
    let mut cancelled = reserve(&pool, 3);
    for waiting in served.iter_mut().chain([&mut cancelled]) {
        assert!(waiting.poll().is_pending());
    }
    publish(&pool, &memory);
    let key = "offheap_reserve_wait_seconds{pool=p}";
    assert_eq!(memory.histogram(key), [], "nobody has its memory yet");
    let oldest = || memory.gauge("offheap_oldest_wait_seconds{pool=p}");
    assert!(oldest() > 0.0);

    drop((cancelled, held));
    for waiting in &mut served {
        assert!(waiting.poll().is_ready());
    }
    publish(&pool, &memory);
    let waits = memory.histogram(key);
    assert_eq!(
        waits.iter().map(|(_, count)| count).sum::<usize>(),
        2,
        "{waits:?}"
    );
    assert!(waits.iter().all(|(seconds, _)| *seconds > 0.0), "{waits:?}");
    assert_eq!(oldest(), 0.0, "nobody waits any more");

    // A reservation that never parked is none, and what was published is not published again.
    drop(pool.try_reserve(1).unwrap());
    publish(&pool, &memory);
    assert_eq!(memory.histogram(key), waits);
}

#[test]
fn batches_count_the_blocks_that_went_back_to_the_os() {
    let (pool, _runtime) = starved(pool(1 << 20));
    let memory = Memory::default();
    drop([(); 5].map(|()| pool.try_reserve(16 * KIB).unwrap()));
    assert_eq!(pool.trim(), 80 * KIB);
    publish(&pool, &memory);
    // Five blocks are in the bucket above four; its mean is their number.
    let key = "offheap_reclaim_batch_blocks{pool=p}";
    assert_eq!(memory.histogram(key), [(5.0, 1)]);
    assert!(BATCH_BLOCKS_BUCKETS.contains(&4.0) && !BATCH_BLOCKS_BUCKETS.contains(&5.0));
}

#[test]
fn buckets_are_those_of_the_counts() {
    assert_eq!(WAIT_SECONDS_BUCKETS[..3], [1e-6, 2.5e-6, 5e-6]);
    assert_eq!(WAIT_SECONDS_BUCKETS.last(), Some(&10.0));
    assert!(WAIT_SECONDS_BUCKETS.is_sorted() && BATCH_BLOCKS_BUCKETS.is_sorted());
}

#[test]
fn classes_only_where_asked_for() {
    let (pool, _runtime) = starved(pool(1 << 20).publish_classes(true));
    let memory = Memory::default();
    let held = [5000, 5000, 30_000].map(|n| pool.try_reserve(n).unwrap());
    publish(&pool, &memory);
    assert_eq!(
        memory.gauge("offheap_class_live_blocks{pool=p,class=5120}"),
        2.0
    );
    assert_eq!(
        memory.gauge("offheap_class_live_blocks{pool=p,class=32768}"),
        1.0
    );
    drop(held);
    publish(&pool, &memory);
    assert_eq!(
        memory.gauge("offheap_class_live_blocks{pool=p,class=5120}"),
        0.0
    );
    assert_eq!(
        memory.gauge("offheap_class_queued_blocks{pool=p,class=32768}"),
        1.0
    );
    let by_class = memory
        .keys()
        .into_iter()
        .filter(|key| key.contains("class="));
    assert_eq!(
        by_class.count(),
        4,
        "classes that were never used are not published"
    );
}

#[cfg(target_os = "linux")]
#[cfg(not(offheap_heap))]
#[test]
fn resident_is_what_the_kernel_says() {
    let (pool, _runtime) = starved(pool(1 << 20).publish_resident(true));
    let memory = Memory::default();
    let resident = || memory.gauge("offheap_resident_bytes{pool=p}");
    publish(&pool, &memory);
    assert_eq!(resident(), 0.0);

    let mut buffer = pool.try_reserve(64 * KIB).unwrap();
    assert_eq!(pool.stats().committed, 64 * KIB as u64);
    publish(&pool, &memory);
    assert_eq!(resident(), 0.0, "committed, and not written to yet");
    buffer.resize(10 * KIB, 1);
    publish(&pool, &memory);
    assert_eq!(resident(), (12 * KIB) as f64, "whole pages");
    buffer.resize(64 * KIB, 1);
    assert_eq!(pool.resident(), Some(pool.stats().committed));

    drop(buffer);
    assert_eq!(pool.resident(), Some(64 * KIB as u64), "queued");
    pool.trim();
    assert_eq!(pool.resident(), Some(0));
}

/// Checks what must hold of every snapshot, while buffers of all sizes come and go.
#[test]
fn snapshots_are_consistent_and_counters_never_go_back() {
    within(120, || {
        let limit = 128 * KIB;
        let pool = pool(limit).shards(4).build().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let loads: Vec<_> = (1..=3_usize)
            .map(|id| {
                let (pool, stop) = (pool.clone(), stop.clone());
                thread::spawn(move || {
                    let mut n = id;
                    let mut held = None;
                    while !stop.load(Ordering::Relaxed) {
                        n = (n * 7919 + id) % (90 * KIB);
                        // Nothing is held while it waits, so that no one waits for ever.
                        drop(held.take());
                        held = Some(pool.reserve_blocking(n + 1).unwrap());
                    }
                })
            })
            .collect();
        let memory = Memory::default();
        let mut before = [0; 7];
        let mut rounds = 0;
        while rounds < 300 || memory.counter("offheap_parked_total{pool=p}") < 100 {
            publish(&pool, &memory);
            let value = |name: &str| memory.gauge(&format!("offheap_{name}{{pool=p}}"));
            assert_eq!(
                value("committed_bytes"),
                value("live_bytes") + value("queued_bytes")
            );
            assert!(value("stranded_bytes") <= value("queued_bytes"));
            assert!(value("requested_bytes") <= value("live_bytes"));
            assert!(value("committed_bytes") <= limit as f64);
            for name in GAUGES {
                let value = memory.gauge(&format!("{name}{{pool=p}}"));
                assert!((0.0..=1e9).contains(&value), "{name} is {value}");
            }
            let now = COUNTERS.map(|name| memory.counter(&format!("{name}{{pool=p}}")));
            assert!(
                before.iter().zip(&now).all(|(before, now)| before <= now),
                "{before:?} {now:?}"
            );
            before = now;
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        loads.into_iter().for_each(|load| load.join().unwrap());

        publish(&pool, &memory);
        let stats = pool.stats();
        assert_eq!((stats.live, stats.waiting), (0, 0));
        let now = COUNTERS.map(|name| memory.counter(&format!("{name}{{pool=p}}")));
        assert_eq!(now, counters(&stats));
        let waits = memory.histogram("offheap_reserve_wait_seconds{pool=p}");
        let waits: usize = waits.iter().map(|(_, count)| count).sum();
        assert_eq!(waits as u64, stats.parked_total - stats.cancelled_total);
    });
}

/// Runs the reclaimer, and whoever else, on this thread, with a recorder.
fn with_reclaimer(recorder: &dyn Recorder, f: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    with_local_recorder(recorder, || runtime.block_on(f));
}

#[test]
fn the_reclaimer_publishes_where_it_is_told_to() {
    let memory = Memory::default();
    with_reclaimer(&memory, async {
        let pool = pool(1 << 20)
            .publish_every(Duration::from_secs(3))
            .build()
            .unwrap();
        let _held = pool.try_reserve(16 * KIB).unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(memory.gauge("offheap_live_bytes{pool=p}"), 16384.0);
        let _more = pool.try_reserve(16 * KIB).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(
            memory.gauge("offheap_live_bytes{pool=p}"),
            16384.0,
            "not before it is time"
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(memory.gauge("offheap_live_bytes{pool=p}"), 32768.0);
    });
}

#[test]
fn nothing_is_published_where_no_one_asks() {
    let memory = Memory::default();
    with_reclaimer(&memory, async {
        let pool = pool(1 << 20).build().unwrap();
        drop(pool.try_reserve(16 * KIB).unwrap());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(memory.keys(), [""; 0]);
        pool.publish_metrics();
        assert!(!memory.keys().is_empty());
    });
}

/// Passes everything on, after calling `f`.
struct Meddling<F> {
    memory: Memory,
    f: F,
}

impl<F: Fn()> Recorder for Meddling<F> {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.memory.describe_counter(key, unit, text);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.memory.describe_gauge(key, unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.memory.describe_histogram(key, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        (self.f)();
        self.memory.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        (self.f)();
        self.memory.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        (self.f)();
        self.memory.register_histogram(key, metadata)
    }
}

#[test]
fn a_recorder_that_panics_stops_nothing_and_is_counted() {
    let panics = AtomicU64::new(0);
    let recorder = Meddling {
        memory: Memory::default(),
        f: || {
            if panics.fetch_add(1, Ordering::Relaxed) < 2 {
                panic!("a recorder's defect");
            }
        },
    };
    with_reclaimer(&recorder, async {
        let pool = pool(1 << 20)
            .publish_every(Duration::from_secs(1))
            .build()
            .unwrap();
        drop(pool.try_reserve(16 * KIB).unwrap());
        tokio::time::sleep(Duration::from_secs(60)).await;
        let count = recorder.memory.counter("offheap_hook_panics_total{pool=p}");
        assert_eq!(count, 2);
    });
}

#[test]
fn the_recorder_is_called_without_locks() {
    within(60, || {
        let pool = pool(64 * KIB).build().unwrap();
        let held = Mutex::new(Some(pool.try_reserve(64 * KIB).unwrap()));
        let mut waiting = reserve(&pool, 1);
        assert!(waiting.poll().is_pending());
        let memory = Memory::default();
        let recorder = Meddling {
            memory: memory.clone(),
            f: || {
                // All that takes a lock of the pool's.
                assert!(pool.stats().waiting <= 1);
                assert!(pool.try_reserve(65 * KIB).is_err());
                pool.set_limit(64 * KIB).unwrap();
                drop(held.lock().unwrap().take());
                with_local_recorder(&Memory::default(), || pool.publish_metrics());
            },
        };
        with_local_recorder(&recorder, || pool.publish_metrics());
        assert!(waiting.poll().is_ready());
        assert!(matches!(
            memory.get("offheap_waiting{pool=p}"),
            Some(Value::Gauge(_))
        ));
    });
}
