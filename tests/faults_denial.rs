//! Denied reservations: refused or made to wait though there is memory, and nothing is lost by it.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/random.rs"]
mod random;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::BufMut;
use futures::FutureExt;
use offheap::test_util::{Faults, Point, When};
use offheap::{PollReserve, Pool, PoolBuilder, ReserveError, TryReserveError};

use by_hand::ByHand;
use random::Random;
use starved::starved;
use watchdog::within;

const PAGE: usize = 4096;
const LIMIT: usize = 64 * PAGE;

fn builder(faults: &Faults) -> PoolBuilder {
    Pool::builder()
        .name("denied")
        .limit(LIMIT)
        .faults(faults.clone())
}

fn is_exhausted<T>(result: Result<T, TryReserveError>) -> bool {
    matches!(result, Err(TryReserveError::Exhausted { .. }))
}

/// Also what lies in this thread's magazine, and what its owner has for itself, is asked for in vain.
#[test]
fn every_try_is_asked() {
    let faults = Faults::new(1);
    let pool = builder(&faults).build().unwrap();
    // So often that the thread gets a stack of its own.
    for _ in 0..500 {
        drop(pool.try_reserve(PAGE).unwrap());
    }
    let before = pool.stats();
    assert_eq!((before.queued, before.live), (PAGE as u64, 0));

    faults.set(Point::Reserve, When::Always);
    for n in [1, PAGE, 5000, LIMIT] {
        assert!(is_exhausted(pool.try_reserve(n)), "{n}");
        assert!(is_exhausted(pool.try_copy_from_slice(&vec![1; n])), "{n}");
    }
    assert_eq!(
        (
            faults.reached(Point::Reserve),
            faults.struck(Point::Reserve)
        ),
        (8, 8)
    );
    assert_eq!(
        pool.stats(),
        before,
        "a denied reservation changed the books"
    );

    faults.clear();
    drop(pool.try_reserve(PAGE).unwrap());
    let after = pool.stats();
    assert_eq!(
        (after.committed, after.queued),
        (before.committed, before.queued)
    );
    assert_eq!(
        after.cleaned_bytes_total, 0,
        "what was queued is used again"
    );
}

/// While it may deny and does not, memory is used again, and what is dropped goes back in the end.
#[test]
fn a_pool_that_may_deny_works() {
    within(60, || {
        let faults = Faults::new(1);
        let pool = builder(&faults)
            .decommit_after(Duration::from_millis(200))
            .build()
            .unwrap();
        faults.set(Point::Reserve, When::Nth(u64::MAX));
        for n in [300, PAGE, 5000, LIMIT] {
            for _ in 0..100 {
                let buffers: Vec<_> = (0..LIMIT / n.next_multiple_of(PAGE).max(2 * PAGE))
                    .map(|_| pool.try_reserve(n).unwrap())
                    .collect();
                assert!(pool.stats().committed <= LIMIT as u64);
                drop(buffers);
            }
        }
        assert!(
            pool.stats().cleaned_bytes_total < 8 * LIMIT as u64,
            "{:?}",
            pool.stats()
        );
        while pool.stats().committed > 0 {
            thread::sleep(Duration::from_millis(10));
        }
    });
}

/// What can not be served is refused for that reason; what needs no memory is not asked.
#[test]
fn denial_comes_last() {
    let faults = Faults::new(1);
    let pool = builder(&faults).build().unwrap();
    faults.set(Point::Reserve, When::Always);
    let too_large = pool.try_reserve(LIMIT + 1);
    assert!(matches!(too_large, Err(TryReserveError::TooLarge { .. })));
    let too_large = pool.reserve(LIMIT + 1).now_or_never().unwrap();
    assert!(matches!(too_large, Err(ReserveError::TooLarge { .. })));
    assert!(pool.try_reserve(0).is_ok());
    assert!(pool.reserve(0).now_or_never().unwrap().is_ok());
    assert!(pool.reserve_many([0, 0]).now_or_never().unwrap().is_ok());
    pool.close();
    let closed = pool.reserve(1).now_or_never().unwrap();
    assert!(matches!(closed, Err(ReserveError::Closed { .. })));
    assert!(matches!(
        pool.try_reserve(1),
        Err(TryReserveError::Closed { .. })
    ));
    assert_eq!(faults.reached(Point::Reserve), 0);
}

/// It waits for one poll, in its place, and is granted as always.
#[test]
fn a_denied_reservation_waits_in_its_place() {
    let faults = Faults::new(1);
    let (pool, _runtime) = starved(builder(&faults));
    faults.set(Point::Reserve, When::Nth(1));
    let mut first = ByHand::new(Box::pin(pool.reserve(PAGE)));
    assert!(first.poll().is_pending(), "not denied");
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.waiting_bytes), (1, PAGE as u64));
    assert_eq!((stats.live, stats.committed, stats.parked_total), (0, 0, 1));
    // Not denied, but behind one who is.
    assert!(is_exhausted(pool.try_reserve(1)), "overtook someone");
    let mut second = ByHand::new(Box::pin(pool.reserve(PAGE)));
    assert!(second.poll().is_pending(), "overtook someone");

    assert!(first.take_woken(), "nobody will poll it again");
    assert!(!second.take_woken());
    assert!(matches!(first.poll(), Poll::Ready(Ok(_))));
    assert!(second.take_woken());
    assert!(matches!(second.poll(), Poll::Ready(Ok(_))));
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.live, stats.buffers), (0, 0, 0));
    assert_eq!((stats.parked_total, stats.cancelled_total), (2, 0));
    assert!(pool.try_reserve(LIMIT).is_ok());
}

/// Whoever gives up passes on what others wait for behind it.
#[test]
fn a_denied_reservation_that_is_dropped_holds_up_nobody() {
    let faults = Faults::new(1);
    let (pool, _runtime) = starved(builder(&faults));
    faults.set(Point::Reserve, When::Nth(1));
    let mut first = ByHand::new(Box::pin(pool.reserve(LIMIT)));
    let mut second = ByHand::new(Box::pin(pool.reserve(LIMIT)));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    drop(first);
    assert!(second.take_woken(), "a lost wake-up");
    assert!(matches!(second.poll(), Poll::Ready(Ok(_))));
    assert_eq!(pool.stats().cancelled_total, 1);
}

/// What was denied is granted though the faults have ended meanwhile; by the reclaimer, if it is not polled.
#[test]
fn a_denied_reservation_is_granted_after_the_faults() {
    within(60, || {
        let faults = Faults::new(1);
        let pool = builder(&faults).build().unwrap();
        faults.stall_reclaimer(true);
        faults.set(Point::Reserve, When::Always);
        let mut denied = ByHand::new(Box::pin(pool.reserve(PAGE)));
        assert!(denied.poll().is_pending());
        faults.clear();
        while pool.stats().waiting > 0 {
            thread::yield_now();
        }
        assert!(denied.take_woken() && denied.poll().is_ready());
    });
}

/// All ways to wait are made to wait, once each.
#[test]
fn every_way_to_wait_waits() {
    let faults = Faults::new(1);
    let (pool, _runtime) = starved(builder(&faults));
    let mut small = pool.try_reserve(256).unwrap();
    small.put_bytes(b'x', 256);
    faults.set(Point::Reserve, When::Always);

    let mut owned = ByHand::new(Box::pin(pool.reserve_owned(PAGE)));
    assert!(owned.poll().is_pending());
    let Poll::Ready(Ok(owned)) = owned.poll() else {
        panic!("waits for ever");
    };
    let mut zeroed = ByHand::new(Box::pin(pool.reserve_zeroed(PAGE)));
    assert!(zeroed.poll().is_pending());
    assert!(matches!(zeroed.poll(), Poll::Ready(Ok(buffer)) if buffer.len() == PAGE));
    let mut many = ByHand::new(Box::pin(pool.reserve_many([PAGE, 0, 300])));
    assert!(many.poll().is_pending());
    assert!(matches!(many.poll(), Poll::Ready(Ok(buffers)) if buffers.len() == 3));
    let mut copy = ByHand::new(Box::pin(pool.copy_from_slice(b"hello")));
    assert!(copy.poll().is_pending());
    assert!(matches!(copy.poll(), Poll::Ready(Ok(copy)) if copy == b"hello"[..]));
    assert!(is_exhausted(small.try_grow(PAGE)));
    let mut grow = ByHand::new(Box::pin(small.grow(PAGE)));
    assert!(grow.poll().is_pending());
    assert!(matches!(grow.poll(), Poll::Ready(Ok(()))));
    drop(grow);
    assert!(small.len() == 256 && small.iter().all(|byte| *byte == b'x'));
    let waker = futures::task::noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut again = PollReserve::new(pool.clone());
    for _ in 0..3 {
        assert!(again.poll_reserve(&mut cx, PAGE).is_pending());
        assert!(matches!(
            again.poll_reserve(&mut cx, PAGE),
            Poll::Ready(Ok(_))
        ));
    }
    assert!(again.poll_reserve(&mut cx, PAGE).is_pending());
    again.cancel();
    drop((owned, small));
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.live, stats.buffers), (0, 0, 0));
    assert_eq!(stats.committed, stats.queued);
}

/// The same seed, the same refusals.
#[test]
fn seeds_are_reproducible() {
    let run = |seed| {
        let faults = Faults::new(seed);
        let (pool, _runtime) = starved(builder(&faults));
        faults.set(Point::Reserve, When::Chance(0.3));
        let mut kept = Vec::new();
        let mut random = Random::new(9);
        let plan: Vec<_> = (0..300)
            .map(|_| {
                let got = pool.try_reserve(1 + random.below(LIMIT / 16));
                let ok = got.is_ok();
                kept.extend(got);
                if kept.len() > 8 {
                    kept.swap_remove(random.below(8));
                }
                ok
            })
            .collect();
        let stats = pool.stats();
        assert_eq!(stats.buffers, kept.len() as u64);
        assert_eq!(
            stats.live,
            kept.iter().map(|b| b.block_len() as u64).sum::<u64>()
        );
        plan
    };
    let plan = run(3);
    let denied = plan.iter().filter(|ok| !**ok).count();
    assert!((50..150).contains(&denied), "{denied}");
    assert_eq!(plan, run(3));
    assert_ne!(plan, run(4));
}

/// Threads that are denied one time in three, by all ways in: everyone is served, the limit holds, and the books are exact.
#[test]
fn threads_under_denial() {
    for seed in 0..4 {
        within(120, move || {
            let faults = Faults::new(seed);
            let pool = builder(&faults)
                .decommit_after(Duration::from_secs(3600))
                .build()
                .unwrap();
            faults.set(Point::Reserve, When::Chance(0.3));
            let served = AtomicU64::new(0);
            thread::scope(|scope| {
                for thread in 0..4 {
                    let (pool, served, faults) = (&pool, &served, &faults);
                    scope.spawn(move || {
                        let mut random = Random::new(seed * 8 + thread);
                        for round in 0..400 {
                            let most = [300, PAGE, 8 * PAGE, LIMIT][random.below(4)];
                            let n = 1 + random.below(most);
                            match random.below(3) {
                                0 => drop(pool.try_reserve(n)),
                                1 => drop(pool.reserve(n).now_or_never()),
                                _ => {
                                    let mut buffer = pool.reserve_blocking(n).unwrap();
                                    buffer.put_u8(1);
                                    served.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                            assert!(pool.stats().committed <= LIMIT as u64);
                            // Ends and begins while others are at it.
                            if thread == 0 && round % 100 == 50 {
                                faults.set(Point::Reserve, When::Never);
                            } else if thread == 0 && round % 100 == 99 {
                                faults.set(Point::Reserve, When::Chance(0.3));
                            }
                        }
                    });
                }
            });
            assert!(served.load(Ordering::Relaxed) > 100);
            let stats = pool.stats();
            assert_eq!((stats.live, stats.buffers, stats.waiting), (0, 0, 0));
            assert_eq!(stats.reserved_total, stats.reclaimed_total);
            pool.trim();
            assert_eq!(pool.stats().committed, 0);
        });
    }
}
