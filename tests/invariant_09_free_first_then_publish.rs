//! Invariant 9, free first, then publish: memory is reusable or decommitted before its bytes are granted to anyone. So no
//! byte of the limit is ever resident twice, however sizes change.

#[path = "support/config.rs"]
mod config;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/smaps.rs"]
mod smaps;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures::executor::block_on;
use futures::FutureExt;
use offheap::{DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;

use config::cases;
use sizes::sizes;
use smaps::resident;
use watchdog::within;

const LIMIT: usize = 1 << 20;

fn touch(mut buffer: DirectBytesMut) -> DirectBytesMut {
    buffer.resize(buffer.capacity(), 0xA5);
    buffer
}

/// As many touched buffers of `n` bytes as there is room for.
fn fill(pool: &Pool, n: usize) -> Vec<DirectBytesMut> {
    std::iter::from_fn(|| pool.try_reserve(n).ok().map(touch)).collect()
}

proptest! {
    #![proptest_config(cases(4))]

    /// All of one size, then all of the next. Each buffer is written at once, so that whatever was not given back before it
    /// was granted is resident together with it.
    #[test]
    fn no_byte_is_resident_twice_when_sizes_change(
        rounds in vec((sizes(LIMIT).prop_map(|n| n.max(4096)), 0.0..1.0), 2..6)
    ) {
        let pool = Pool::builder().limit(LIMIT).build()?;
        let range = pool.address_range();
        let mut held = Vec::new();
        for (n, part) in rounds {
            held.append(&mut fill(&pool, n));
            let (resident, stats) = (resident(&range), pool.stats());
            prop_assert!(
                resident <= LIMIT as u64 + stats.metadata,
                "{} resident, {:?}", resident, stats
            );
            let keep = (held.len() as f64 * part) as usize;
            held.truncate(keep);
        }
    }
}

/// When a waiter has its grant, what makes room for it is gone already.
#[test]
fn a_grant_comes_after_the_memory_is_free() {
    within(60, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let small = fill(&pool, 4096);
        let mut reserve = Box::pin(pool.reserve(LIMIT / 2));
        assert!(reserve.as_mut().now_or_never().is_none());
        drop(small);
        let buffer = block_on(reserve).unwrap();
        // Granted and not yet written: only what is still queued is resident.
        let (resident, stats) = (resident(&pool.address_range()), pool.stats());
        assert_eq!(stats.live, LIMIT as u64 / 2);
        assert!(
            resident <= stats.queued + stats.metadata,
            "{resident} resident, {stats:?}"
        );
        drop(buffer);
    });
}

/// Two threads that take turns with two sizes, each of which needs most of the limit, and one that watches.
#[test]
fn no_byte_is_resident_twice_while_threads_take_turns() {
    within(60, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let range = pool.address_range();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let turns = [600 << 10, 900 << 10].map(|n| {
                let pool = &pool;
                scope.spawn(move || {
                    for _ in 0..200 {
                        drop(touch(pool.reserve_blocking(n).unwrap()));
                    }
                })
            });
            let watch = scope.spawn(|| {
                // Mappings are looked at one after the other. One look may meet the same memory before and after it moved;
                // three looks in a row do not.
                let mut in_a_row = 0;
                while !done.load(Ordering::Relaxed) {
                    let too_much = resident(&range) > LIMIT as u64 + pool.stats().metadata;
                    in_a_row = if too_much { in_a_row + 1 } else { 0 };
                    assert!(in_a_row < 3, "more than the limit is resident");
                }
            });
            for turn in turns {
                turn.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
            watch.join().unwrap();
        });
    });
}
