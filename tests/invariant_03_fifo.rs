//! Invariant 3, FIFO, no barging: while anyone waits no newcomer is served before it, not even by `try_reserve`.

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

use std::cell::{Cell, RefCell};
use std::future::{poll_fn, Future};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use offheap::{Pool, TryReserveError};
use proptest::collection::vec;
use proptest::prelude::*;

use by_hand::ByHand;
use config::cases;
use machine::{Machine, Mix};
use sizes::sizes;
use watchdog::within;

const LIMIT: usize = 256 << 10;

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn nobody_is_overtaken(
        plan in Mix { reserve: 50, many: 10, cancel: 3, ..Mix::ALL }.plans(LIMIT, 60)
    ) {
        let mut machine = Machine::new(LIMIT);
        plan.iter().for_each(|op| machine.step(op));
        machine.finish();
    }

    /// All wait behind the one who holds everything; then each gets its turn, in the order of arrival.
    #[test]
    fn grants_come_in_the_order_of_arrival(sizes in vec(sizes(LIMIT), 1..20)) {
        let pool = pool(LIMIT);
        let all = pool.try_reserve(LIMIT)?;
        let mut waiters: Vec<_> = sizes
            .iter()
            .map(|&n| ByHand::new(Box::pin(pool.reserve(n.max(1)))))
            .collect();
        for waiter in &mut waiters {
            prop_assert!(waiter.poll().is_pending());
        }
        drop(all);
        // Whoever is polled out of turn cleans for the head if there is need, and waits on.
        let start = Instant::now();
        while !waiters.is_empty() {
            prop_assert!(start.elapsed() < Duration::from_secs(30), "hangs");
            let ready: Vec<bool> = (0..waiters.len())
                .rev()
                .map(|at| matches!(waiters[at].poll(), Poll::Ready(Ok(_))))
                .collect();
            let served = ready.iter().rev().take_while(|&&ready| ready).count();
            let all_served = ready.iter().filter(|&&ready| ready).count();
            prop_assert_eq!(served, all_served, "served out of turn: {:?}", ready);
            waiters.drain(..served);
        }
    }
}

#[test]
fn try_reserve_does_not_barge() {
    let pool = pool(64 << 10);
    let held = pool.try_reserve(32 << 10).unwrap();
    // There is room for a newcomer, but not for the one who waits.
    let mut waiter = ByHand::new(Box::pin(pool.reserve(48 << 10)));
    assert!(waiter.poll().is_pending());
    let error = pool.try_reserve(1).unwrap_err();
    assert!(
        matches!(error, TryReserveError::Exhausted { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("others wait"), "{error}");
    let error = pool.try_copy_from_slice(b"x").unwrap_err();
    assert!(
        matches!(error, TryReserveError::Exhausted { .. }),
        "{error}"
    );
    assert!(
        pool.try_reserve(0).is_ok(),
        "0 bytes take nothing from anyone"
    );

    drop(waiter);
    assert!(pool.try_reserve(1).is_ok());
    drop(held);
}

#[test]
fn a_waiter_who_would_fit_waits_behind_one_who_does_not() {
    let pool = pool(64 << 10);
    let held = pool.try_reserve(48 << 10).unwrap();
    let mut large = ByHand::new(Box::pin(pool.reserve(32 << 10)));
    let mut small = ByHand::new(Box::pin(pool.reserve(100)));
    assert!(large.poll().is_pending());
    assert!(small.poll().is_pending());
    assert!(
        small.poll().is_pending(),
        "16 KiB are free, but it is not its turn"
    );
    // When the large one gives up, it is.
    drop(large);
    assert!(small.take_woken());
    assert!(small.poll().is_ready());
    drop(held);
}

/// Wakes whoever it stands for, and notes when.
struct Notes {
    inner: Waker,
    clock: Arc<AtomicU64>,
    woken: Arc<AtomicU64>,
}

impl Wake for Notes {
    fn wake(self: Arc<Self>) {
        let now = self.clock.fetch_add(1, Ordering::SeqCst);
        self.woken.store(now, Ordering::SeqCst);
        self.inner.wake_by_ref();
    }
}

/// One waiter of 60 KiB against 64 tasks that come and go with 1 KiB each. Kafka's `BufferPool` overtook such a one
/// 648,952 times.
#[test]
fn the_60_kib_waiter_against_64_tasks_of_1_kib() {
    let overtakes = within(60, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, run_60_kib_against_64_tasks())
    });
    assert_eq!(overtakes, 0);
}

async fn run_60_kib_against_64_tasks() -> usize {
    const ROUNDS: usize = 100;
    let pool = pool(64 << 10);
    // Counts events. One thread does everything, so that their order is the order in which things happened.
    let clock = Arc::new(AtomicU64::new(0));
    let tick = |clock: &Arc<AtomicU64>| clock.fetch_add(1, Ordering::SeqCst);
    let done = Rc::new(Cell::new(false));
    // When small reservations were made and when they were served.
    let served = Rc::new(RefCell::new(Vec::new()));
    let smalls: Vec<_> = (0..64)
        .map(|_| {
            let (pool, clock, done) = (pool.clone(), clock.clone(), done.clone());
            let served = served.clone();
            tokio::task::spawn_local(async move {
                let mut count = 0;
                while !done.get() {
                    let asked = tick(&clock);
                    let buffer = pool.reserve(1024).await.unwrap();
                    served.borrow_mut().push((asked, tick(&clock)));
                    tokio::task::yield_now().await;
                    drop(buffer);
                    count += 1;
                }
                count
            })
        })
        .collect();

    let mut overtakes = 0;
    for _ in 0..ROUNDS {
        // Until all 64 have theirs, which is the whole pool.
        while pool.stats().buffers < 64 {
            tokio::task::yield_now().await;
        }
        served.borrow_mut().clear();
        let woken = Arc::new(AtomicU64::new(0));
        let mut large = std::pin::pin!(pool.reserve(60 << 10));
        let mut parked = None;
        let buffer = poll_fn(|cx| {
            let waker = Waker::from(Arc::new(Notes {
                inner: cx.waker().clone(),
                clock: clock.clone(),
                woken: woken.clone(),
            }));
            let poll = large.as_mut().poll(&mut Context::from_waker(&waker));
            parked.get_or_insert_with(|| tick(&clock));
            poll
        })
        .await
        .unwrap();
        // It was woken last when it got its memory.
        let (parked, granted) = (parked.unwrap(), woken.load(Ordering::SeqCst));
        assert!(parked < granted, "it did not have to wait");
        overtakes += served
            .borrow()
            .iter()
            .filter(|&&(asked, served)| parked < asked && served < granted)
            .count();
        drop(buffer);
        tokio::task::yield_now().await;
    }
    done.set(true);
    for small in smalls {
        assert!(small.await.unwrap() >= ROUNDS / 2, "a task was not served");
    }
    overtakes
}

/// The same with threads: whoever is large is served at all, though there is never a quiet moment.
#[test]
fn large_waiters_are_not_starved_by_threads_of_small_ones() {
    within(60, || {
        let pool = pool(64 << 10);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = std::collections::VecDeque::new();
                    while !done.load(Ordering::Relaxed) {
                        // Full hands while it can, so that there is never enough left; empty ones before it waits.
                        match pool.try_reserve(1024) {
                            Ok(buffer) => held.push_back(buffer),
                            Err(_) => {
                                held.clear();
                                held.push_back(pool.reserve_blocking(1024).unwrap());
                            }
                        }
                        if held.len() > 16 {
                            held.pop_front();
                        }
                    }
                });
            }
            for _ in 0..200 {
                drop(pool.reserve_blocking(60 << 10).unwrap());
            }
            done.store(true, Ordering::Relaxed);
        });
        let stats = pool.stats();
        assert_eq!((stats.live, stats.waiting), (0, 0));
    });
}

/// A waiter's place does not depend on who polls it, or how often.
#[test]
fn polling_again_keeps_the_place() {
    let pool = pool(64 << 10);
    let all = pool.try_reserve(64 << 10).unwrap();
    let mut first = ByHand::new(Box::pin(pool.reserve(64 << 10)));
    let mut second = ByHand::new(Box::pin(pool.reserve(64 << 10)));
    assert!(first.poll().is_pending());
    assert!(second.poll().is_pending());
    for _ in 0..3 {
        assert!(first.poll().is_pending());
    }
    drop(all);
    let Poll::Ready(Ok(_held)) = first.poll() else {
        panic!("the first is served first");
    };
    assert!(second.poll().is_pending());
}
