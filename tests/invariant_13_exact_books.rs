//! Invariant 13: the books are exact. At rest live, queued and waiting are what they are; `closed` returns when live is 0, and
//! says who still holds what while it waits. No figure ever goes below zero.

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
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use offheap::{Pool, Stats};
use proptest::prelude::*;

use by_hand::ByHand;
use config::cases;
use machine::{Machine, Mix};
use random::Random;
use watchdog::within;

proptest! {
    #![proptest_config(cases(1))]

    /// All that can be done, step by step beside a model that counts too.
    #[test]
    fn the_books_are_exact_after_every_step(plan in Mix::ALL.plans(256 << 10, 60)) {
        let mut machine = Machine::new(256 << 10);
        for op in &plan {
            machine.step(op);
        }
        machine.finish();
    }
}

/// What must hold between the figures of any snapshot, also while buffers come and go.
fn check(stats: &Stats) {
    assert_eq!(stats.committed, stats.live + stats.queued, "{stats:?}");
    assert!(stats.committed <= stats.limit, "{stats:?}");
    assert!(stats.stranded <= stats.queued, "{stats:?}");
    assert!(stats.requested <= stats.live, "{stats:?}");
    assert!(stats.live <= stats.peak_live, "{stats:?}");
    assert_eq!(
        stats.reserved_total,
        stats.reclaimed_total + stats.buffers,
        "{stats:?}"
    );
}

/// Threads reserve and drop, keep and pass on, while another looks; in the end nothing is left, and nothing was lost.
#[test]
fn snapshots_add_up_while_threads_work() {
    const ROUNDS: u64 = 3000;
    within(60, || {
        let pool = Pool::builder().limit(1 << 20).build().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..3)
                .map(|seed| {
                    let pool = &pool;
                    scope.spawn(move || {
                        let mut random = Random::new(seed + 1);
                        let mut kept = Vec::new();
                        for _ in 0..ROUNDS {
                            let n = 1 + random.below(50_000);
                            kept.extend(pool.try_reserve(n).ok());
                            if kept.len() > 5 {
                                kept.swap_remove(random.below(5));
                            }
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                let mut total = 0;
                while !done.load(Ordering::Relaxed) {
                    let stats = pool.stats();
                    check(&stats);
                    assert!(stats.reclaimed_total >= total, "a counter went back");
                    total = stats.reclaimed_total;
                }
            });
            workers
                .into_iter()
                .for_each(|worker| worker.join().unwrap());
            done.store(true, Ordering::Relaxed);
        });
        let stats = pool.stats();
        check(&stats);
        assert_eq!(
            (stats.live, stats.requested, stats.buffers, stats.waiting),
            (0, 0, 0, 0)
        );
        assert_eq!(stats.reserved_total, stats.reclaimed_total);
    });
}

/// Each place in the code is one holder, and together they hold what is live.
#[test]
fn holders_are_all_who_hold() {
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    let few: Vec<_> = (0..3).map(|_| pool.try_reserve(1000).unwrap()).collect();
    let many: Vec<_> = (0..5).map(|_| pool.try_reserve(20_000).unwrap()).collect();
    // Handles are not counted, blocks are.
    let shared = pool.try_copy_from_slice(b"shared").unwrap();
    let clones = [shared.clone(), shared.slice(1..3)];
    let holders = pool.holders();
    let stats = pool.stats();
    assert_eq!(holders.len(), 3);
    assert_eq!(
        holders.iter().map(|h| h.count).collect::<Vec<_>>(),
        [5, 3, 1]
    );
    assert_eq!(holders.iter().map(|h| h.bytes).sum::<u64>(), stats.live);
    assert!(holders.iter().all(|h| h.location.file() == file!()));
    assert!(holders[0].location.line() > holders[1].location.line());
    drop((few, many, shared, clones));
    assert!(pool.holders().is_empty());
}

/// `closed` is done with the last buffer and not before, and knows who it waits for.
#[test]
fn closed_waits_for_the_last_buffer() {
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    let first = pool.try_reserve(1).unwrap();
    let second = pool.try_copy_from_slice(&[7; 100_000]).unwrap();
    let (one, two) = (second.slice(..10), second.slice(50..));
    let mut closed = ByHand::new(Box::pin(pool.closed()));
    assert!(closed.poll().is_pending());
    assert!(pool.is_closed());
    for part in [second, one] {
        drop(part);
        assert!(!closed.take_woken() && closed.poll().is_pending());
    }
    drop(first);
    assert!(closed.poll().is_pending());
    assert_eq!(pool.holders().len(), 1);
    assert_eq!(two[0], 7, "live buffers stay valid");
    drop(two);
    assert!(closed.take_woken());
    assert_eq!(closed.poll(), Poll::Ready(()));
    assert_eq!(pool.stats().live, 0);
}

/// Several may wait for the end; one that gives up keeps nobody else from it; after the end nobody waits.
#[test]
fn closed_for_several() {
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    let buffer = pool.try_reserve(1).unwrap();
    let mut waits: Vec<_> = (0..40)
        .map(|_| ByHand::new(Box::pin(pool.closed())))
        .collect();
    assert!(waits.iter_mut().all(|wait| wait.poll().is_pending()));
    drop(waits.remove(20));
    drop(buffer);
    assert!(waits.iter().all(|wait| wait.take_woken()));
    assert!(waits.iter_mut().all(|wait| wait.poll().is_ready()));
    assert!(ByHand::new(Box::pin(pool.closed())).poll().is_ready());
}

/// A grant that no one has fetched yet is live: someone has it.
#[test]
fn a_grant_is_live() {
    let pool = Pool::builder().limit(16 << 10).build().unwrap();
    let held = pool.try_reserve(16 << 10).unwrap();
    let mut waiter = ByHand::new(Box::pin(pool.reserve(16 << 10)));
    assert!(waiter.poll().is_pending());
    assert_eq!(
        (pool.stats().waiting, pool.stats().waiting_bytes),
        (1, 16 << 10)
    );
    drop(held);
    let stats = pool.stats();
    assert_eq!((stats.live, stats.queued, stats.buffers), (16 << 10, 0, 1));
    assert_eq!(
        (stats.waiting, stats.waiting_bytes, stats.handed_over_total),
        (0, 0, 1)
    );
    drop(waiter);
    assert_eq!((pool.stats().live, pool.stats().cancelled_total), (0, 1));
}
