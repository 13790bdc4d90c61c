//! Invariant 7, progress needs no one task: if the reclaimer is starved, panics, or its runtime is gone, reservations still
//! make progress. A pool built outside a runtime works, and so does one shared by several runtimes that come and go.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/config.rs"]
mod config;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::FutureExt;
use offheap::{DirectBytesMut, Pool};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use by_hand::ByHand;
use config::cases;
use machine::{Machine, Mix};
use sizes::sizes;
use starved::starved;
use watchdog::within;

const LIMIT: usize = 256 << 10;

/// What has become of the reclaimer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reclaimer {
    /// A thread of its own.
    Thread,
    /// A task of a runtime that never runs.
    Starved,
    /// A task of a runtime that ended before the task's first turn.
    NeverStarted,
    /// A task of a runtime that ended later.
    RuntimeGone,
    /// A task that panicked: its runtime has no timers.
    Panicked,
}

const ALL: [Reclaimer; 5] = [
    Reclaimer::Thread,
    Reclaimer::Starved,
    Reclaimer::NeverStarted,
    Reclaimer::RuntimeGone,
    Reclaimer::Panicked,
];

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn build() -> Pool {
    // Never due while the test runs.
    let idle = Duration::from_secs(3600);
    Pool::builder()
        .limit(LIMIT)
        .decommit_after(idle)
        .build()
        .unwrap()
}

impl Reclaimer {
    fn build(self) -> (Pool, Option<Runtime>) {
        let yielding = async {
            let pool = build();
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            pool
        };
        match self {
            Reclaimer::Thread => (build(), None),
            Reclaimer::Starved => {
                let (pool, runtime) = starved(Pool::builder().limit(LIMIT));
                (pool, Some(runtime))
            }
            Reclaimer::NeverStarted => (runtime().block_on(async { build() }), None),
            Reclaimer::RuntimeGone => (runtime().block_on(yielding), None),
            Reclaimer::Panicked => {
                let runtime = Builder::new_current_thread().build().unwrap();
                let pool = runtime.block_on(yielding);
                (pool, Some(runtime))
            }
        }
    }
}

fn fill(pool: &Pool, n: usize) -> Vec<DirectBytesMut> {
    std::iter::from_fn(|| pool.try_reserve(n).ok()).collect()
}

proptest! {
    #![proptest_config(cases(1))]

    /// The dropping thread and the waiting one do all that the reclaimer does.
    #[test]
    fn without_the_reclaimer_nothing_is_missing(
        plan in Mix { limit: 8, ..Mix::ALL }.plans(LIMIT, 60)
    ) {
        let mut machine = Machine::new(LIMIT);
        plan.iter().for_each(|op| machine.step(op));
        machine.finish();
    }
}

proptest! {
    #![proptest_config(cases(8))]

    /// Everything of one size, then a waiter for another, whatever has become of the reclaimer.
    #[test]
    fn a_waiter_is_served_whatever_became_of_the_reclaimer(
        reclaimer in proptest::sample::select(ALL.to_vec()),
        first in sizes(LIMIT),
        second in sizes(LIMIT),
    ) {
        let capacity = within(30, move || {
            let (pool, _runtime) = reclaimer.build();
            let full = fill(&pool, first.max(1));
            let mut waiter = Box::pin(pool.reserve(second.max(1)));
            // Where there is room left, it does not wait at all.
            if let Some(buffer) = waiter.as_mut().now_or_never() {
                return buffer.unwrap().capacity();
            }
            // The last drop comes from another thread, after the waiter parked.
            let dropper = thread::spawn(move || drop(full));
            let capacity = block_on(waiter).unwrap().capacity();
            dropper.join().unwrap();
            capacity
        });
        prop_assert!(capacity >= second);
    }
}

#[test]
fn threads_make_progress_whatever_became_of_the_reclaimer() {
    for reclaimer in ALL {
        within(60, move || {
            let (pool, _runtime) = reclaimer.build();
            thread::scope(|scope| {
                for (n, pool) in [
                    (300, &pool),
                    (5000, &pool),
                    (64 << 10, &pool),
                    (LIMIT, &pool),
                ] {
                    scope.spawn(move || {
                        for _ in 0..100 {
                            drop(pool.reserve_blocking(n).unwrap());
                        }
                    });
                }
            });
            let stats = pool.stats();
            assert_eq!((stats.live, stats.waiting), (0, 0), "{reclaimer:?}");
        });
    }
}

/// A debt is paid by whoever wants to reserve, without waiting too.
#[test]
fn a_debt_is_paid_without_the_reclaimer() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let full = fill(&pool, 16 << 10);
    pool.set_limit(LIMIT / 2).unwrap();
    drop(full);
    // All that was queued is free for the taking, once it is cleaned.
    let buffer = pool.try_reserve(16 << 10);
    assert!(buffer.is_ok(), "{} {:?}", buffer.unwrap_err(), pool.stats());
}

/// As before, but in waiting.
#[test]
fn a_debt_is_paid_by_the_one_who_waits() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let full = fill(&pool, 16 << 10);
    pool.set_limit(LIMIT / 2).unwrap();
    let mut waiter = ByHand::new(Box::pin(pool.reserve(LIMIT / 2)));
    assert!(waiter.poll().is_pending());
    drop(full);
    assert!(waiter.take_woken());
    assert!(waiter.poll().is_ready());
}

/// Closing needs no reclaimer either.
#[test]
fn a_pool_closes_without_the_reclaimer() {
    for reclaimer in ALL {
        within(30, move || {
            let (pool, _runtime) = reclaimer.build();
            let full = fill(&pool, 5000);
            let mut closed = Box::pin(pool.closed());
            assert!(closed.as_mut().now_or_never().is_none());
            let dropper = thread::spawn(move || drop(full));
            block_on(closed);
            assert_eq!(pool.stats().live, 0, "{reclaimer:?}");
            dropper.join().unwrap();
        });
    }
}

/// Supervised: someone ages memory again when its runtime ended or it panicked. (A starved one is not replaced.)
#[test]
fn the_reclaimer_is_started_again() {
    let cases = [
        Reclaimer::NeverStarted,
        Reclaimer::RuntimeGone,
        Reclaimer::Panicked,
    ];
    for reclaimer in cases {
        let build = || {
            let idle = Duration::from_millis(200);
            Pool::builder()
                .limit(LIMIT)
                .decommit_after(idle)
                .build()
                .unwrap()
        };
        let yielding = async {
            let pool = build();
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            pool
        };
        let (pool, _runtime) = match reclaimer {
            Reclaimer::NeverStarted => (runtime().block_on(async { build() }), None),
            Reclaimer::RuntimeGone => (runtime().block_on(yielding), None),
            _ => {
                let runtime = Builder::new_current_thread().build().unwrap();
                (runtime.block_on(yielding), Some(runtime))
            }
        };
        drop(fill(&pool, 4096));
        let start = Instant::now();
        while pool.stats().queued > 0 {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{reclaimer:?}: nobody gives the memory back"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The head of the queue and the reclaimer sit in one runtime, and its only thread is stuck. Whoever is behind the head is
/// served all the same: what has to be cleaned is cleaned by who drops.
#[test]
fn a_stuck_runtime_holds_up_nobody_else() {
    within(30, || {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let pool = runtime.block_on(async { Pool::builder().limit(LIMIT).build().unwrap() });
        let small: Vec<_> = (0..LIMIT / 4096)
            .map(|_| pool.try_reserve(4096).unwrap())
            .collect();
        let (stuck, is_stuck) = std::sync::mpsc::channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        thread::scope(|scope| {
            let pool = &pool;
            scope.spawn(move || {
                runtime.block_on(async {
                    let mut head = Box::pin(pool.reserve(LIMIT / 2));
                    assert!(head.as_mut().now_or_never().is_none());
                    let first = futures::poll!(head.as_mut());
                    assert!(first.is_pending());
                    stuck.send(()).unwrap();
                    // Nothing in this runtime gets a turn until the other one is served.
                    wait.recv().unwrap();
                    drop(head.await.unwrap());
                });
            });
            is_stuck.recv().unwrap();
            let second = scope.spawn(move || drop(pool.reserve_blocking(LIMIT / 2).unwrap()));
            while pool.stats().waiting < 2 {
                thread::yield_now();
            }
            drop(small);
            second.join().unwrap();
            go.send(()).unwrap();
        });
    });
}
