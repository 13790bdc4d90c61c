//! What looking at a pool costs: `cargo bench -p offheap-benches --features metrics --bench scrape`
//!
//! A pool with a million live blocks is scraped as an exporter does it: figures are published, and rendered as text. First by
//! itself, for how long that takes; then by another thread without a pause while this one reserves and drops, for what
//! reservations notice of it. Beside the scraping thread stands one that only spins, because a busy neighbour costs something on
//! most machines, whatever it does.

use std::hint::black_box;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use offheap::{DirectBytesMut, Pool, BATCH_BLOCKS_BUCKETS, WAIT_SECONDS_BUCKETS};
use offheap_benches::figures::{interleave, time, times, Ratio, Runner, Table};

const BLOCKS: usize = 1_000_000;
/// Small blocks, which share their pages, and large ones. No memory is touched, so that little is resident.
const SIZES: [usize; 2] = [256, 16 << 10];
/// What the pairs are made of.
const PAIR: usize = 4 << 10;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let recorder = recorder();
    let mut alone = Table::new(&[
        "a million live blocks of",
        "stats",
        "publish",
        "publish and render",
        "bytes of text",
    ]);
    let mut beside = Table::new(&[
        "a million live blocks of",
        "pair, neighbour idle",
        "neighbour spins",
        "neighbour scrapes",
        "scrapes / idle",
        "scrapes / spins",
    ]);
    for size in SIZES {
        let limit = (BLOCKS + 1024) * size;
        let pool = Pool::builder()
            .name("bench")
            .limit(limit)
            .build()
            .expect("address space");
        let take = |_| pool.try_reserve(size).expect("room");
        let held: Vec<DirectBytesMut> = (0..BLOCKS).map(take).collect();
        assert_eq!(pool.stats().buffers, BLOCKS as u64);
        by_itself(&pool, &recorder, size, quick, &mut alone);
        with_pairs(&pool, &recorder, size, quick, &mut beside);
        drop(held);
    }
    alone.print("A scrape by itself");
    beside.print("What reservations notice of it");
}

fn recorder() -> PrometheusHandle {
    let waits = Matcher::Full("offheap_reserve_wait_seconds".into());
    let batches = Matcher::Full("offheap_reclaim_batch_blocks".into());
    PrometheusBuilder::new()
        .set_buckets_for_metric(waits, &WAIT_SECONDS_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(batches, &BATCH_BLOCKS_BUCKETS))
        .and_then(PrometheusBuilder::install_recorder)
        .expect("the only recorder")
}

fn nanos(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_nanos() as f64
}

fn by_itself(
    pool: &Pool,
    recorder: &PrometheusHandle,
    size: usize,
    quick: bool,
    table: &mut Table,
) {
    let mut text = 0;
    let scrape = || {
        pool.publish_metrics();
        text = recorder.render().len();
    };
    let mut runners = [
        runner("stats", || nanos(|| _ = black_box(pool.stats()))),
        runner("publish", || nanos(|| pool.publish_metrics())),
        runner("scrape", {
            let mut scrape = scrape;
            move || nanos(&mut scrape)
        }),
    ];
    let all = interleave(if quick { 5 } else { 41 }, &mut runners);
    drop(runners);
    let medians = all.iter().map(|series| time(series.median(|&ns| ns)));
    let head = std::iter::once(format!("{size} bytes"));
    table.row(head.chain(medians).chain([text.to_string()]));
}

fn runner<'a>(name: &'static str, run: impl FnMut() -> f64 + 'a) -> Runner<'a, f64> {
    Runner {
        name,
        run: Box::new(run),
    }
}

/// What the neighbour does.
const IDLE: u8 = 0;
const SPIN: u8 = 1;
const SCRAPE: u8 = 2;
const END: u8 = 3;

fn with_pairs(
    pool: &Pool,
    recorder: &PrometheusHandle,
    size: usize,
    quick: bool,
    table: &mut Table,
) {
    let order = AtomicU8::new(IDLE);
    thread::scope(|scope| {
        scope.spawn(|| loop {
            match order.load(Ordering::Acquire) {
                IDLE => thread::sleep(Duration::from_micros(200)),
                SPIN => (0..1000).for_each(|_| std::hint::spin_loop()),
                SCRAPE => {
                    pool.publish_metrics();
                    black_box(recorder.render());
                }
                _ => return,
            }
        });
        let pairs = |what: u8| {
            let (order, pool) = (&order, pool);
            move || {
                order.store(what, Ordering::Release);
                // The neighbour needs a moment to see it.
                thread::sleep(Duration::from_millis(2));
                let ns = mean_pair(pool, if quick { 10 } else { 50 });
                order.store(IDLE, Ordering::Release);
                ns
            }
        };
        let mut runners = [
            runner("idle", pairs(IDLE)),
            runner("spins", pairs(SPIN)),
            runner("scrapes", pairs(SCRAPE)),
        ];
        let all = interleave(if quick { 5 } else { 61 }, &mut runners);
        order.store(END, Ordering::Release);
        let figures: Vec<_> = all.iter().map(|series| series.figures(|&ns| ns)).collect();
        let medians = all.iter().map(|series| time(series.median(|&ns| ns)));
        let ratios = [0, 1].map(|other| times(Ratio::of(&figures[2], &figures[other]).median));
        let head = std::iter::once(format!("{size} bytes"));
        table.row(head.chain(medians).chain(ratios));
    });
}

/// The mean time of a pair, over some milliseconds.
fn mean_pair(pool: &Pool, millis: u64) -> f64 {
    const BATCH: u32 = 1000;
    let mut pairs = 0;
    let start = Instant::now();
    loop {
        for _ in 0..BATCH {
            drop(black_box(pool.try_reserve(PAIR).expect("room")));
        }
        pairs += BATCH;
        let elapsed = start.elapsed();
        if elapsed >= Duration::from_millis(millis) {
            return elapsed.as_nanos() as f64 / f64::from(pairs);
        }
    }
}
