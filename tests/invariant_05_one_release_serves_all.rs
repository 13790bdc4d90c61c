//! Invariant 5, one release serves all it can: freeing 64 MiB wakes every waiter at the head that now fits, not one.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/config.rs"]
mod config;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::future::Future;
use std::task::Poll;

use offheap::Pool;
use proptest::collection::vec;
use proptest::prelude::*;

use by_hand::ByHand;
use config::cases;
use sizes::sizes;
use starved::starved;
use watchdog::within;

const PAGE: usize = 4096;

/// Polls whoever is woken until nobody is; answers what they got, and who is left.
fn go_on<F: Future>(mut waiters: Vec<ByHand<F>>) -> (Vec<F::Output>, Vec<ByHand<F>>) {
    let mut served = Vec::new();
    while let Some(at) = waiters.iter().position(ByHand::take_woken) {
        if let Poll::Ready(done) = waiters[at].poll() {
            served.push(done);
            waiters.remove(at);
        }
    }
    (served, waiters)
}

/// Pages of the block that serves `n` bytes in a page-aligned pool: four sizes per doubling, in whole pages.
fn pages(n: usize) -> usize {
    let quarter = n.next_power_of_two() / 8;
    if n <= PAGE {
        return 1;
    }
    (n.div_ceil(quarter) * quarter).div_ceil(PAGE)
}

proptest! {
    #![proptest_config(cases(1))]

    /// Everything is freed by one drop. Those at the head who fit together are served, the next one is not.
    #[test]
    fn all_who_fit_are_served(sizes in vec(sizes(256 << 10), 1..50)) {
        let limit = 256 << 10;
        let (pool, _runtime) = starved(Pool::builder().limit(limit).page_aligned(true));
        let all = pool.try_reserve(limit)?;
        let mut waiters: Vec<_> = sizes
            .iter()
            .map(|&n| ByHand::new(Box::pin(pool.reserve(n.max(1)))))
            .collect();
        for waiter in &mut waiters {
            prop_assert!(waiter.poll().is_pending());
        }

        let mut held = vec![all];
        let mut rest = &sizes[..];
        while !rest.is_empty() {
            held.clear();
            let (served, left) = go_on(waiters);
            waiters = left;
            held = served.into_iter().collect::<Result<_, _>>()?;
            let mut free = limit / PAGE;
            let fits = |n: &&usize| {
                let pages = pages((**n).max(1)).min(limit / PAGE);
                let fits = pages <= free;
                free = free.saturating_sub(pages);
                fits
            };
            let fitting = rest.iter().take_while(fits).count();
            prop_assert_eq!(held.len(), fitting, "of {:?}", rest);
            rest = &rest[fitting..];
        }
    }

    /// A raised limit is a release too.
    #[test]
    fn a_raised_limit_serves_all_who_fit(low in 0..16_usize, more in 1..48_usize) {
        let (pool, _runtime) = starved(Pool::builder().limit(low * PAGE).max_limit(64 * PAGE));
        let _held: Vec<_> = (0..low).map(|_| pool.try_reserve(PAGE).ok()).collect();
        // The limit is only lower for as long as nobody has to wait: one page at least has to be possible.
        pool.set_limit(low.max(1) * PAGE)?;
        let _more = pool.try_reserve(PAGE).ok();
        let mut waiters: Vec<_> = (0..64)
            .map(|_| ByHand::new(Box::pin(pool.reserve(PAGE))))
            .collect();
        for waiter in &mut waiters {
            prop_assert!(waiter.poll().is_pending());
        }
        pool.set_limit((low.max(1) + more) * PAGE)?;
        let woken = waiters.iter().filter(|waiter| waiter.take_woken()).count();
        prop_assert_eq!(woken, more);
    }
}

/// 64 MiB freed at once, by one drop: 1024 of 1025 waiters of 64 KiB are served. The one at the head has to clean for it;
/// with that, all are woken.
#[test]
fn freed_64_mib_serve_every_waiter_that_fits() {
    let (pool, _runtime) = starved(Pool::builder().limit(64 << 20));
    let all = pool.try_reserve(64 << 20).unwrap();
    let mut waiters: Vec<_> = (0..1025)
        .map(|_| ByHand::new(Box::pin(pool.reserve(64 << 10))))
        .collect();
    for waiter in &mut waiters {
        assert!(waiter.poll().is_pending());
    }
    drop(all);
    assert!(waiters[0].take_woken());
    let Poll::Ready(Ok(_first)) = waiters[0].poll() else {
        panic!("the head was called, and not served");
    };
    let woken: Vec<bool> = waiters.iter().map(ByHand::take_woken).collect();
    assert_eq!(woken[1..1024], [true; 1023]);
    assert!(!woken[1024], "one does not fit");
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.committed), (1, 64 << 20));
}

/// The same 64 MiB in a thousand pieces, none of which is large enough for anyone.
#[test]
fn freed_64_mib_in_pieces_serve_every_waiter_that_fits() {
    let (pool, _runtime) = starved(Pool::builder().limit(64 << 20));
    let pieces: Vec<_> = (0..1024)
        .map(|_| pool.try_reserve(64 << 10).unwrap())
        .collect();
    let mut waiters: Vec<_> = (0..513)
        .map(|_| ByHand::new(Box::pin(pool.reserve(128 << 10))))
        .collect();
    for waiter in &mut waiters {
        assert!(waiter.poll().is_pending());
    }
    drop(pieces);
    let (served, left) = go_on(waiters);
    assert_eq!((served.len(), left.len()), (512, 1), "{:?}", pool.stats());
}

/// Of the same size, nothing has to be cleaned, and the drop itself hands over.
#[test]
fn a_block_goes_straight_to_a_waiter_of_its_size() {
    let (pool, _runtime) = starved(Pool::builder().limit(64 << 10));
    let held: Vec<_> = (0..4)
        .map(|_| pool.try_reserve(16 << 10).unwrap())
        .collect();
    let mut waiters: Vec<_> = (0..4)
        .map(|_| ByHand::new(Box::pin(pool.reserve(16 << 10))))
        .collect();
    for waiter in &mut waiters {
        assert!(waiter.poll().is_pending());
    }
    drop(held);
    for waiter in &mut waiters {
        assert!(waiter.take_woken());
    }
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.handed_over_total), (0, 4));
    assert_eq!(stats.cleaned_bytes_total, 0);
}

/// The same with tasks on threads, a reclaimer that runs, and mixed sizes.
#[test]
fn tasks_are_served_by_one_release() {
    within(60, || {
        let limit = 64 << 20;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let pool = Pool::builder().limit(limit).build().unwrap();
            let all = pool.reserve(limit).await.unwrap();
            // Each waits for all the others to have theirs before it lets go: one that is not served stops all.
            let sizes = [256, 5000, 16 << 10, 100_000].repeat(200);
            let together = std::sync::Arc::new(tokio::sync::Barrier::new(sizes.len()));
            let tasks: Vec<_> = sizes
                .into_iter()
                .map(|n| {
                    let (reserve, together) = (pool.reserve_owned(n), together.clone());
                    tokio::spawn(async move {
                        let buffer = reserve.await.unwrap();
                        together.wait().await;
                        drop(buffer);
                    })
                })
                .collect();
            while pool.stats().waiting < 800 {
                tokio::task::yield_now().await;
            }
            drop(all);
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}
