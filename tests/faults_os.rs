//! An operating system that refuses: `mmap`, `mprotect`, `madvise`. Whoever asked is told, the books stay exact, and nobody else
//! waits for ever.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/random.rs"]
mod random;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use bytes::BufMut;
use offheap::test_util::{Faults, Point, When};
use offheap::{Pool, PoolBuilder, ReserveError, TryReserveError};

use by_hand::ByHand;
use random::Random;
use starved::starved;
use watchdog::within;

const PAGE: usize = 4096;
const LIMIT: usize = 256 * PAGE;

fn builder(faults: &Faults) -> PoolBuilder {
    Pool::builder()
        .name("refused")
        .limit(LIMIT)
        .faults(faults.clone())
}

fn assert_clean(pool: &Pool) {
    let stats = pool.stats();
    assert_eq!(
        (stats.live, stats.buffers, stats.waiting),
        (0, 0, 0),
        "{stats:?}"
    );
    assert_eq!(stats.reserved_total, stats.reclaimed_total);
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.committed, stats.queued), (0, 0), "{stats:?}");
}

#[cfg(not(offheap_heap))]
#[test]
fn address_space_that_can_not_be_had() {
    let faults = Faults::new(1);
    faults.set(Point::Mmap, When::Nth(1));
    let error = builder(&faults).build().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    for part in [
        "\"refused\"",
        "address space",
        "ulimit -v",
        "max_limit = 1048576",
    ] {
        assert!(
            error.to_string().contains(part),
            "{part:?} is missing: {error}"
        );
    }
    let pool = builder(&faults).build().unwrap();
    assert!(pool.try_reserve(LIMIT).is_ok());
}

/// The refusal says what happened and what to do, and has the system's own error inside.
#[test]
fn the_error_says_who_refused() {
    let faults = Faults::new(1);
    let pool = builder(&faults).build().unwrap();
    faults.set(Point::Mprotect, When::Always);
    let error = pool.try_reserve(PAGE).unwrap_err();
    let text = error.to_string();
    for part in [
        "\"refused\"",
        "operating system refused",
        "overcommit",
        "live 0 bytes",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    let TryReserveError::Os { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), io::ErrorKind::OutOfMemory);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::OutOfMemory);
    faults.clear();
    assert!(pool.try_reserve(PAGE).is_ok());
}

/// The k-th `mprotect` fails, for every k that there is, under the same plan: whoever asked is told, and nothing else changes.
#[test]
fn any_mprotect_may_fail() {
    let sizes = [1, 300, PAGE, 5000, 5 * PAGE, LIMIT / 4, LIMIT / 2];
    let run = |when| {
        let faults = Faults::new(1);
        let (pool, _runtime) = starved(builder(&faults));
        faults.set(Point::Mprotect, when);
        let (mut held, mut refused) = (Vec::new(), 0);
        let mut random = Random::new(5);
        for _ in 0..200 {
            let n = sizes[random.below(sizes.len())];
            let before = pool.stats();
            match pool.try_reserve(n) {
                Ok(mut buffer) => {
                    buffer.put_bytes(7, buffer.capacity());
                    held.push(buffer);
                }
                Err(TryReserveError::Os { .. }) => {
                    refused += 1;
                    let after = pool.stats();
                    // It may have cleaned for itself.
                    assert!(
                        after.committed <= before.committed,
                        "a refused charge was kept"
                    );
                    assert_eq!((after.live, after.buffers), (before.live, before.buffers));
                    assert_eq!(after.committed, after.live + after.queued);
                }
                Err(TryReserveError::Exhausted { .. }) => {
                    held.swap_remove(random.below(held.len()));
                }
                Err(other) => panic!("{other}"),
            }
            assert!(pool.stats().committed <= LIMIT as u64);
            assert_eq!(pool.stats().buffers, held.len() as u64);
        }
        assert!(held
            .iter()
            .all(|buffer| buffer.iter().all(|byte| *byte == 7)));
        drop(held);
        assert_clean(&pool);
        assert_eq!(
            faults.struck(Point::Mprotect),
            refused,
            "a refusal that no one heard of"
        );
        faults.reached(Point::Mprotect)
    };
    let calls = run(When::Never);
    assert!(calls >= 2 * sizes.len() as u64 - 2, "{calls}");
    for k in 1..=calls {
        run(When::Nth(k));
    }
    run(When::Every(2));
    run(When::Chance(0.5));
}

/// A waiter's own grant fails: it is told, and whoever stands behind it is served.
#[test]
fn a_waiter_whose_grant_is_refused() {
    let faults = Faults::new(1);
    let (pool, _runtime) = starved(builder(&faults));
    let held = pool.try_reserve(LIMIT).unwrap();
    let mut first = ByHand::new(Box::pin(pool.reserve(5 * PAGE)));
    let mut second = ByHand::new(Box::pin(pool.reserve(6 * PAGE)));
    let mut third = ByHand::new(Box::pin(pool.reserve(LIMIT / 2)));
    for waiter in [&mut first, &mut second, &mut third] {
        assert!(waiter.poll().is_pending());
    }
    faults.set(Point::Mprotect, When::Nth(1));
    drop(held);
    assert!(first.take_woken(), "a lost wake-up");
    let Poll::Ready(Err(error)) = first.poll() else {
        panic!("not told");
    };
    assert!(matches!(error, ReserveError::Os { .. }), "{error}");
    assert!(second.take_woken() && third.take_woken(), "a lost wake-up");
    assert!(matches!(second.poll(), Poll::Ready(Ok(_))));
    assert!(matches!(third.poll(), Poll::Ready(Ok(_))));
    drop(first);
    assert_eq!(faults.struck(Point::Mprotect), 1);
    assert_clean(&pool);
}

/// All or nothing, also where the system refuses the last of many: at once, and after waiting.
#[test]
fn one_of_many_is_refused() {
    for waits in [false, true] {
        for nth in 1..=6 {
            let faults = Faults::new(1);
            let (pool, _runtime) = starved(builder(&faults));
            let held = waits.then(|| pool.try_reserve(LIMIT).unwrap());
            let mut many = ByHand::new(Box::pin(pool.reserve_many([5 * PAGE, 6 * PAGE, 1, 300])));
            if waits {
                assert!(many.poll().is_pending());
            }
            faults.set(Point::Mprotect, When::Nth(nth));
            drop(held);
            match many.poll() {
                Poll::Ready(Ok(buffers)) => {
                    assert_eq!((buffers.len(), faults.struck(Point::Mprotect)), (4, 0))
                }
                Poll::Ready(Err(ReserveError::Os { .. })) => assert_eq!(pool.stats().live, 0),
                other => panic!("{other:?}"),
            }
            drop(many);
            assert_clean(&pool);
        }
    }
}

/// Memory that can not be given back stays queued and charged: the limit holds, and nothing is counted twice.
#[test]
fn memory_that_does_not_go_back() {
    let faults = Faults::new(1);
    let (pool, _runtime) = starved(builder(&faults));
    for n in [300, PAGE, 5 * PAGE] {
        let all: Vec<_> = std::iter::from_fn(|| pool.try_reserve(n).ok()).collect();
        drop(all);
        faults.set(Point::Madvise, When::Always);
        let before = pool.stats();
        assert!(before.queued > LIMIT as u64 / 2);
        assert_eq!(pool.trim(), 0);
        assert!(matches!(
            pool.try_reserve(LIMIT),
            Err(TryReserveError::Exhausted { .. })
        ));
        let after = pool.stats();
        assert_eq!(
            (after.committed, after.queued, after.live),
            (before.committed, before.queued, 0)
        );
        // Its own size can use it all the same.
        let all: Vec<_> = std::iter::from_fn(|| pool.try_reserve(n).ok()).collect();
        assert_eq!(pool.stats().live, before.queued);
        drop(all);
        faults.clear();
        assert!(pool.try_reserve(LIMIT).is_ok());
    }
    assert_clean(&pool);
}

/// Every other span goes back, at each try: what was cleaned counts, and the rest is found again.
#[test]
fn some_memory_does_not_go_back() {
    let faults = Faults::new(1);
    let (pool, _runtime) = starved(builder(&faults));
    faults.set(Point::Madvise, When::Every(2));
    for round in 0..40 {
        let n = [300, 700, PAGE, 2 * PAGE, 5 * PAGE, 16 * PAGE][round % 6];
        let all: Vec<_> = std::iter::from_fn(|| pool.try_reserve(n).ok()).collect();
        assert!(!all.is_empty());
        let stats = pool.stats();
        assert!(stats.committed <= LIMIT as u64);
        assert_eq!(
            stats.live,
            all.iter().map(|b| b.block_len() as u64).sum::<u64>()
        );
        if let Some(resident) = pool.resident() {
            assert!(resident <= stats.committed, "{resident} {stats:?}");
        }
    }
    assert!(faults.struck(Point::Madvise) > 10);
    faults.clear();
    assert_clean(&pool);
}

/// A debt stays while memory can not be given back, and is paid when it can.
#[test]
fn a_debt_that_can_not_be_paid() {
    let faults = Faults::new(1);
    let (pool, _runtime) = starved(builder(&faults));
    drop(pool.try_reserve(LIMIT / 2).unwrap());
    faults.set(Point::Madvise, When::Always);
    pool.set_limit(LIMIT / 4).unwrap();
    assert_eq!(pool.stats().committed, LIMIT as u64 / 2);
    assert!(matches!(
        pool.try_reserve(1),
        Err(TryReserveError::Exhausted { .. })
    ));
    let mut waiter = ByHand::new(Box::pin(pool.reserve(1)));
    assert!(waiter.poll().is_pending());
    faults.clear();
    assert!(waiter.poll().is_ready(), "what it can clean itself");
    drop(waiter);
    assert!(pool.stats().committed <= LIMIT as u64 / 4);
    assert_clean(&pool);
}

/// Whoever waits because nothing could be given back is served when it can be, though nobody drops anything and it is not polled.
#[test]
fn no_one_waits_for_ever_when_it_is_over() {
    within(60, || {
        let faults = Faults::new(1);
        let pool = builder(&faults)
            .decommit_after(Duration::from_millis(200))
            .build()
            .unwrap();
        let pages: Vec<_> = (0..LIMIT / PAGE)
            .map(|_| pool.try_reserve(PAGE).unwrap())
            .collect();
        faults.set(Point::Madvise, When::Always);
        drop(pages);
        let mut waiter = ByHand::new(Box::pin(pool.reserve(LIMIT)));
        assert!(waiter.poll().is_pending());
        thread::sleep(Duration::from_millis(100));
        assert_eq!(pool.stats().waiting, 1);
        faults.clear();
        while !waiter.take_woken() || waiter.poll().is_pending() {
            thread::sleep(Duration::from_millis(5));
        }
    });
}

/// Threads while calls fail now and then: the limit holds at every instant, in the books and in the kernel's, and when it is over
/// everything is there again.
#[test]
fn threads_under_a_failing_system() {
    for seed in 0..3 {
        within(120, move || {
            let faults = Faults::new(seed);
            let pool = builder(&faults)
                .decommit_after(Duration::from_millis(200))
                .build()
                .unwrap();
            faults.set(Point::Madvise, When::Chance(0.2));
            faults.set(Point::Mprotect, When::Chance(0.5));
            let done = AtomicBool::new(false);
            let mut refused = 0;
            thread::scope(|scope| {
                let workers: Vec<_> = (0..3)
                    .map(|thread| {
                        let pool = &pool;
                        scope.spawn(move || {
                            let mut random = Random::new(seed * 8 + thread);
                            let (mut refused, mut kept) = (0, Vec::new());
                            for _ in 0..1500 {
                                let most = [300, PAGE, 8 * PAGE, LIMIT / 4][random.below(4)];
                                let n = 1 + random.below(most);
                                match pool.try_reserve(n) {
                                    Ok(mut buffer) => {
                                        buffer.put_bytes(thread as u8, n);
                                        kept.push(buffer);
                                    }
                                    Err(TryReserveError::Os { .. }) => refused += 1,
                                    Err(_) => kept.clear(),
                                }
                                if kept.len() > 4 {
                                    let gone = kept.swap_remove(random.below(4));
                                    assert!(gone.iter().all(|byte| *byte == thread as u8));
                                }
                            }
                            kept.clear();
                            for n in [300, PAGE, LIMIT / 4] {
                                match pool.reserve_blocking(n) {
                                    Ok(_) => {}
                                    Err(ReserveError::Os { .. }) => refused += 1,
                                    Err(other) => panic!("{other}"),
                                }
                            }
                            refused
                        })
                    })
                    .collect();
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let stats = pool.stats();
                        assert!(stats.committed <= LIMIT as u64, "{stats:?}");
                        assert_eq!(stats.committed, stats.live + stats.queued);
                    }
                });
                for worker in workers {
                    refused += worker.join().unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            assert_eq!(
                faults.struck(Point::Mprotect),
                refused,
                "a refusal that no one heard of"
            );
            assert!(faults.struck(Point::Madvise) > 0);
            if let Some(resident) = pool.resident() {
                assert!(resident <= pool.stats().committed);
            }
            faults.clear();
            assert!(pool.try_reserve(LIMIT).is_ok());
            assert_clean(&pool);
        });
    }
}
