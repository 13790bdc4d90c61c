//! Invariant 1, hard limit: `committed ≤ limit` at every instant, in any mix of sizes, and the resident memory of the
//! pool's addresses agrees with it. Metadata is counted apart.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/config.rs"]
mod config;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/random.rs"]
mod random;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/smaps.rs"]
mod smaps;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use offheap::{DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use config::cases;
use machine::{Machine, Mix};
use random::Random;
use sizes::sizes;
use smaps::resident;
use watchdog::within;

const LIMIT: usize = 1 << 20;

/// Writes every byte, so that the memory is resident.
fn touch(buffer: &mut DirectBytesMut) {
    buffer.resize(buffer.capacity(), 0xA5);
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(usize),
    Drop(Index),
    DropAll,
    Trim,
    SetLimit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => sizes(LIMIT).prop_map(Step::Reserve),
        10 => any::<Index>().prop_map(Step::Drop),
        1 => Just(Step::DropAll),
        1 => Just(Step::Trim),
        2 => (0..=LIMIT).prop_map(Step::SetLimit),
    ];
    vec(step, 1..60)
}

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn resident_memory_agrees_with_committed(steps in steps()) {
        let pool = Pool::builder().limit(LIMIT).build()?;
        let range = pool.address_range();
        let mut buffers = Vec::new();
        let mut before = pool.stats();
        for step in steps {
            match step {
                Step::Reserve(n) => {
                    if let Ok(mut buffer) = pool.try_reserve(n) {
                        touch(&mut buffer);
                        buffers.push(buffer);
                    }
                }
                Step::Drop(_) if buffers.is_empty() => {}
                Step::Drop(index) => drop(buffers.swap_remove(index.index(buffers.len()))),
                Step::DropAll => buffers.clear(),
                Step::Trim => drop(pool.trim()),
                Step::SetLimit(limit) => pool.set_limit(limit)?,
            }
            // The reclaimer may be paying a debt at this moment: what is resident lies between two looks at the books.
            let stats = pool.stats();
            let resident = resident(&range);
            let after = pool.stats();
            prop_assert!(after.live <= resident, "{resident} resident, {after:?}");
            let most = stats.committed + stats.metadata;
            prop_assert!(resident <= most, "{resident} resident, {stats:?}");
            // In debt the pool grants nothing and gives back what it can.
            let most = stats.limit.max(before.committed);
            prop_assert!(stats.committed <= most, "more than {most}: {stats:?}");
            before = stats;
        }
    }
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn no_step_commits_past_the_limit(
        plan in Mix { limit: 20, trim: 5, ..Mix::ALL }.plans(LIMIT / 4, 60)
    ) {
        let mut machine = Machine::new(LIMIT / 4);
        plan.iter().for_each(|op| machine.step(op));
        machine.finish();
    }
}

/// Where huge pages are *always* on, one touched block would make 2 MiB resident.
#[test]
fn one_touched_block_makes_only_itself_resident() {
    let pool = Pool::builder().limit(64 << 20).build().unwrap();
    let range = pool.address_range();
    assert_eq!(resident(&range), 0, "an unused pool is resident");
    let mut buffer = pool.try_reserve(16 << 10).unwrap();
    touch(&mut buffer);
    let expected = 16 << 10;
    let stats = pool.stats();
    assert_eq!((stats.live, stats.committed), (expected, expected));
    assert!(resident(&range) <= expected + stats.metadata);

    drop(buffer);
    assert!(resident(&range) >= expected, "queued memory stays resident");
    assert_eq!(pool.trim(), expected as usize);
    assert!(resident(&range) <= pool.stats().metadata);
}

/// Small blocks are charged by the span, and a span is what becomes resident.
#[test]
fn what_is_reserved_but_not_touched_is_charged_all_the_same() {
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    let buffers: Vec<_> = std::iter::from_fn(|| pool.try_reserve(1000).ok()).collect();
    let stats = pool.stats();
    assert_eq!(buffers.len(), LIMIT / 1024);
    assert_eq!((stats.committed, stats.live), (LIMIT as u64, LIMIT as u64));
    assert!(resident(&pool.address_range()) <= stats.metadata);
}

/// Threads and tasks reserve, write and drop all sizes, limits change, waiters give up; two samplers watch.
#[test]
fn samplers_never_see_more_than_the_limit() {
    within(60, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let samplers = [stats_sampler, smaps_sampler].map(|sample| {
            let (pool, done) = (pool.clone(), done.clone());
            thread::spawn(move || {
                let mut samples = 0;
                while !done.load(Ordering::Relaxed) {
                    sample(&pool);
                    samples += 1;
                }
                samples
            })
        });

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..16)
                .map(|seed| tokio::spawn(come_and_go(pool.clone(), Random::new(seed))))
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });

        done.store(true, Ordering::Relaxed);
        for sampler in samplers {
            assert!(sampler.join().unwrap() > 0);
        }
        let stats = pool.stats();
        assert_eq!(
            (stats.live, stats.waiting, stats.queued),
            (0, 0, stats.committed)
        );
        assert_eq!(stats.reserved_total, stats.reclaimed_total);
        assert!(stats.peak_live <= stats.limit);
    });
}

async fn come_and_go(pool: Pool, mut random: Random) {
    let mut held = Vec::new();
    for _ in 0..150 {
        let n = [300, 5000, 16 << 10, 100_000, LIMIT / 2, LIMIT][random.below(6)];
        let n = 1 + random.below(n);
        if n > LIMIT / 8 {
            // Whoever waits for much while he holds something may wait for himself.
            held.clear();
        }
        let patience = Duration::from_micros(random.below(2000) as u64);
        if let Ok(buffer) = tokio::time::timeout(patience, pool.reserve(n)).await {
            let mut buffer = buffer.unwrap();
            touch(&mut buffer);
            held.push(buffer);
        }
        if random.below(3) == 0 {
            held.clear();
        }
        if random.below(4) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn stats_sampler(pool: &Pool) {
    let stats = pool.stats();
    assert!(stats.committed <= stats.limit, "{stats:?}");
    assert_eq!(stats.live + stats.queued, stats.committed);
}

fn smaps_sampler(pool: &Pool) {
    // The kernel looks at one mapping after the other, and may meet the same memory in two size classes if it moves
    // meanwhile. Too much three times in a row is not that.
    let too_much = || {
        let resident = resident(&pool.address_range());
        (resident > LIMIT as u64 + pool.stats().metadata).then_some(resident)
    };
    if let (Some(a), Some(b), Some(c)) = (too_much(), too_much(), too_much()) {
        panic!("{a}, {b} and {c} bytes resident, the limit is {LIMIT}");
    }
}
