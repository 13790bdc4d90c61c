//! A limit that changes while the pool is in use: up, down, and into debt.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/starved.rs"]
mod starved;

use std::task::Poll;

use offheap::{Pool, ReserveError, TryReserveError};

use by_hand::ByHand;
use starved::starved;

const PAGE: usize = 4096;

#[test]
fn a_raised_limit_serves_who_waits() {
    let pool = Pool::builder()
        .limit(PAGE)
        .max_limit(4 * PAGE)
        .build()
        .unwrap();
    let _held = pool.try_reserve(PAGE).unwrap();
    let mut waiters: Vec<_> = (0..3)
        .map(|_| ByHand::new(Box::pin(pool.reserve(PAGE))))
        .collect();
    assert!(waiters.iter_mut().all(|waiter| waiter.poll().is_pending()));
    pool.set_limit(3 * PAGE).unwrap();
    assert_eq!(pool.limit(), 3 * PAGE);
    let woken: Vec<_> = waiters.iter().map(ByHand::take_woken).collect();
    assert_eq!(
        woken,
        [true, true, false],
        "two fit, first come, first served"
    );
    pool.set_limit(4 * PAGE).unwrap();
    assert!(waiters.pop().unwrap().poll().is_ready());
}

#[test]
fn a_limit_above_the_highest_is_refused_and_changes_nothing() {
    let pool = Pool::builder()
        .limit(PAGE)
        .max_limit(2 * PAGE)
        .build()
        .unwrap();
    let error = pool.set_limit(2 * PAGE + 1).unwrap_err();
    assert_eq!((error.requested, error.max_limit), (8193, 8192));
    assert!(error.to_string().contains("max_limit"), "{error}");
    assert_eq!(pool.limit(), PAGE);
}

/// Nothing is granted until dropped buffers have paid, not even to a newcomer for whom a block is queued.
#[test]
fn a_debt_is_paid_before_anything_is_granted() {
    let (pool, _runtime) = starved(Pool::builder().limit(8 * PAGE));
    let mut held: Vec<_> = (0..8).map(|_| pool.try_reserve(PAGE).unwrap()).collect();
    pool.set_limit(4 * PAGE).unwrap();
    assert_eq!(pool.stats().committed, 8 * PAGE as u64, "in debt");
    for left in (4..8).rev() {
        held.pop();
        assert!(matches!(
            pool.try_reserve(PAGE),
            Err(TryReserveError::Exhausted { .. })
        ));
        assert_eq!(pool.stats().committed, left * PAGE as u64);
    }
    let mut waiter = ByHand::new(Box::pin(pool.reserve(PAGE)));
    assert!(waiter.poll().is_pending());
    held.pop();
    assert!(waiter.poll().is_ready());
    assert!(pool.stats().committed <= 4 * PAGE as u64);
}

/// What is queued goes back to the OS at once.
#[test]
fn a_lowered_limit_takes_what_is_queued() {
    let pool = Pool::builder().limit(8 * PAGE).build().unwrap();
    let full: Vec<_> = (0..8).map(|_| pool.try_reserve(PAGE).unwrap()).collect();
    drop(full);
    pool.set_limit(2 * PAGE).unwrap();
    assert!(pool.stats().committed <= 2 * PAGE as u64);
    assert_eq!(pool.max_reserve(), 2 * PAGE);
    assert!(matches!(
        pool.try_reserve(3 * PAGE),
        Err(TryReserveError::TooLarge { .. })
    ));
    pool.set_limit(0).unwrap();
    assert_eq!((pool.stats().committed, pool.max_reserve()), (0, 0));
    assert_eq!(pool.try_reserve(0).unwrap().capacity(), 0);
    pool.set_limit(8 * PAGE).unwrap();
    assert!(pool.try_reserve(8 * PAGE).is_ok());
}

/// Whoever waits for what can not come any more is told at once, and whoever stood behind moves up.
#[test]
fn a_waiter_that_becomes_impossible_fails_at_once() {
    let pool = Pool::builder().limit(8 * PAGE).build().unwrap();
    let held = pool.try_reserve(PAGE).unwrap();
    let mut large = ByHand::new(Box::pin(pool.reserve(8 * PAGE)));
    let mut small = ByHand::new(Box::pin(pool.reserve(PAGE)));
    assert!(large.poll().is_pending() && small.poll().is_pending());
    pool.set_limit(4 * PAGE).unwrap();
    assert!(large.take_woken() && small.take_woken());
    assert!(matches!(
        large.poll(),
        Poll::Ready(Err(ReserveError::TooLarge { .. }))
    ));
    assert!(matches!(small.poll(), Poll::Ready(Ok(_))));
    drop(held);
}

/// Memory counts in whole pages, and so does a limit.
#[test]
fn limits_count_in_whole_pages() {
    let pool = Pool::builder().limit(3 * PAGE - 1).build().unwrap();
    assert_eq!((pool.limit(), pool.max_reserve()), (3 * PAGE - 1, 2 * PAGE));
    let whole = pool.try_reserve(2 * PAGE).unwrap();
    assert!(pool.try_reserve(1).is_err());
    drop(whole);
    let tiny = Pool::builder().limit(PAGE - 1).build().unwrap();
    assert_eq!(tiny.max_reserve(), 0);
    assert!(matches!(
        tiny.try_reserve(1),
        Err(TryReserveError::TooLarge { .. })
    ));
}
