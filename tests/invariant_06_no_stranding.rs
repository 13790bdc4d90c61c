//! Invariant 6, no stranding: whatever is queued anywhere, on an idle thread too, is reachable by a reservation that needs
//! it.

#[path = "support/config.rs"]
mod config;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::mpsc::channel;
use std::thread;

use offheap::{DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;

use config::cases;
use sizes::sizes;
use watchdog::within;

const LIMIT: usize = 256 << 10;

fn fill(pool: &Pool, n: usize) -> Vec<DirectBytesMut> {
    std::iter::from_fn(|| pool.try_reserve(n).ok()).collect()
}

/// Runs `f` while the given buffers lie in the magazines of threads that sleep: each drops its share, and then does nothing
/// more for as long as `f` runs.
fn with_sleepers<R>(shares: Vec<Vec<DirectBytesMut>>, f: impl FnOnce() -> R) -> R {
    thread::scope(|scope| {
        let (dropped, all_dropped) = channel();
        let sleepers: Vec<_> = shares
            .into_iter()
            .map(|share| {
                let dropped = dropped.clone();
                let (wake, sleep) = channel::<()>();
                scope.spawn(move || {
                    drop(share);
                    dropped.send(()).unwrap();
                    let _ = sleep.recv();
                });
                wake
            })
            .collect();
        for _ in &sleepers {
            all_dropped.recv().unwrap();
        }
        let result = f();
        drop(sleepers);
        result
    })
}

fn shares(buffers: Vec<DirectBytesMut>, count: usize) -> Vec<Vec<DirectBytesMut>> {
    let mut shares: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    for (at, buffer) in buffers.into_iter().enumerate() {
        shares[at % count].push(buffer);
    }
    shares
}

/// Opens the magazines of a size: in calm, the first drop does.
fn warm(pool: &Pool, n: usize) {
    for _ in 0..3 {
        drop(pool.try_reserve(n));
    }
}

proptest! {
    #![proptest_config(cases(4))]

    /// Everything is queued on sleeping threads. A newcomer gets all of it, of the same size and of another.
    #[test]
    fn a_newcomer_reaches_what_sleepers_queue(
        sizes_before in vec(sizes(LIMIT), 1..4),
        n in sizes(LIMIT),
        shards in 1..8_usize,
        threads in 1..6_usize,
    ) {
        let pool = Pool::builder().limit(LIMIT).shards(shards).build()?;
        let mut buffers = Vec::new();
        for (left, &size) in sizes_before.iter().enumerate().rev() {
            let size = size.max(1);
            warm(&pool, size);
            // A part of what is left, and the last one all.
            let mut some = fill(&pool, size);
            some.truncate(some.len() / (left + 1));
            buffers.append(&mut some);
        }
        with_sleepers(shares(buffers, threads), || -> Result<(), TestCaseError> {
            let expected = {
                let new = Pool::builder().limit(LIMIT).build()?;
                fill(&new, n.max(1)).len()
            };
            prop_assert_eq!(fill(&pool, n.max(1)).len(), expected);
            prop_assert!(pool.try_reserve(LIMIT).is_ok());
            Ok(())
        })?;
    }
}

/// All queued on a thread that sleeps for ever: whoever comes later gets all of it, waiting or not.
#[test]
fn all_queued_on_a_thread_that_sleeps_for_ever() {
    within(60, || {
        for n in [1024, 4096, 16 << 10, LIMIT / 2] {
            let pool = Pool::builder().limit(LIMIT).shards(4).build().unwrap();
            warm(&pool, n);
            let full = fill(&pool, n);
            let count = full.len();
            assert!(count >= 2);
            with_sleepers(vec![full], || {
                let stats = pool.stats();
                assert_eq!((stats.live, stats.queued), (0, stats.committed));
                // The same size: blocks change hands, and nothing is given back to the OS for it.
                let again: Vec<_> = (0..count).map(|_| pool.try_reserve(n).unwrap()).collect();
                assert_eq!(pool.stats().cleaned_bytes_total, stats.cleaned_bytes_total);
                drop(again);
                // All of it as one block.
                drop(pool.reserve_blocking(LIMIT).unwrap());
            });
        }
    });
}

/// The sleeper drops while someone waits already.
#[test]
fn a_waiter_is_served_by_a_thread_that_then_sleeps_for_ever() {
    within(60, || {
        let pool = Pool::builder().limit(LIMIT).shards(4).build().unwrap();
        warm(&pool, 4096);
        let full = fill(&pool, 4096);
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || pool.reserve_blocking(LIMIT).unwrap().capacity()
        });
        while pool.stats().waiting == 0 {
            thread::yield_now();
        }
        with_sleepers(shares(full, 3), || {
            assert_eq!(waiter.join().unwrap(), LIMIT);
        });
    });
}

/// Threads that come, fill a magazine and end.
#[test]
fn what_dead_threads_queued_is_reachable() {
    let pool = Pool::builder().limit(LIMIT).shards(4).build().unwrap();
    warm(&pool, 1024);
    for _ in 0..8 {
        let share = fill(&pool, 1024);
        assert_eq!(share.len(), LIMIT / 1024);
        thread::spawn(move || drop(share)).join().unwrap();
    }
    assert!(pool.try_reserve(LIMIT).is_ok());
}
