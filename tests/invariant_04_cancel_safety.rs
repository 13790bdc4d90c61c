//! Invariant 4, cancel safety: a parked future dropped at any moment, also after its grant and before its next poll, loses
//! nothing: the grant passes on, and the next waiter is woken.

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

use std::task::Poll;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use futures::FutureExt;
use offheap::{PollReserve, Pool};
use proptest::prelude::*;

use by_hand::ByHand;
use config::cases;
use machine::{Machine, Mix};
use random::Random;
use watchdog::within;

const LIMIT: usize = 64 << 10;

fn pool() -> Pool {
    Pool::builder().limit(LIMIT).build().unwrap()
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn whoever_gives_up_loses_nothing(
        plan in Mix { reserve: 50, many: 10, cancel: 20, ..Mix::ALL }.plans(4 * LIMIT, 60)
    ) {
        let mut machine = Machine::new(4 * LIMIT);
        plan.iter().for_each(|op| machine.step(op));
        machine.finish();
    }

    /// Of many who wait for the whole pool, any may leave at any moment. Those who stay are served in turn.
    #[test]
    fn a_grant_passes_on(
        stay in prop::collection::vec(any::<bool>(), 1..20),
        before in any::<bool>(),
    ) {
        let pool = pool();
        let all = pool.try_reserve(LIMIT)?;
        let mut waiters: Vec<_> = stay
            .iter()
            .map(|_| ByHand::new(Box::pin(pool.reserve(LIMIT))))
            .collect();
        for waiter in &mut waiters {
            prop_assert!(waiter.poll().is_pending());
        }
        let mut all = Some(all);
        if !before {
            drop(all.take());
        }
        let mut left = 0;
        for (at, &stays) in stay.iter().enumerate() {
            if !stays {
                // Granted or not: whoever is next notices.
                drop(waiters.remove(at - left));
                left += 1;
            }
        }
        drop(all);
        for mut waiter in waiters {
            prop_assert!(waiter.take_woken());
            prop_assert!(waiter.poll().is_ready());
        }
        let stats = pool.stats();
        prop_assert_eq!((stats.live, stats.waiting), (0, 0));
        prop_assert_eq!(stats.cancelled_total, left as u64);
    }
}

#[test]
fn a_grant_that_nobody_fetches_passes_on() {
    let pool = pool();
    let all = pool.try_reserve(LIMIT).unwrap();
    let mut first = ByHand::new(Box::pin(pool.reserve(LIMIT)));
    let mut second = ByHand::new(Box::pin(pool.reserve(LIMIT)));
    assert!(first.poll().is_pending());
    assert!(second.poll().is_pending());
    drop(all);
    assert!(first.take_woken());
    assert!(!second.take_woken());
    drop(first);
    assert!(second.take_woken(), "the grant is lost");
    assert!(second.poll().is_ready());
    assert_eq!(pool.stats().cancelled_total, 1);
}

/// Another size than was granted: the memory has to be cleaned on the way.
#[test]
fn a_grant_passes_on_to_another_size() {
    within(30, || {
        let pool = pool();
        let all = pool.try_reserve(LIMIT).unwrap();
        let mut first = Box::pin(pool.reserve(LIMIT));
        let mut others: Vec<_> = (0..4).map(|_| Box::pin(pool.reserve(LIMIT / 4))).collect();
        assert!(first.as_mut().now_or_never().is_none());
        for other in &mut others {
            assert!(other.as_mut().now_or_never().is_none());
        }
        drop(all);
        drop(first);
        for served in block_on(join_all(others)) {
            assert_eq!(served.unwrap().capacity(), LIMIT / 4);
        }
    });
}

#[test]
fn a_head_that_leaves_makes_way_for_who_fits() {
    let pool = pool();
    let _half = pool.try_reserve(LIMIT / 2).unwrap();
    let mut head = ByHand::new(Box::pin(pool.reserve(LIMIT)));
    let mut next: Vec<_> = (0..3)
        .map(|_| ByHand::new(Box::pin(pool.reserve(LIMIT / 4))))
        .collect();
    assert!(head.poll().is_pending());
    for waiter in &mut next {
        assert!(waiter.poll().is_pending());
    }
    drop(head);
    let woken: Vec<_> = next.iter().map(ByHand::take_woken).collect();
    assert_eq!(woken, [true, true, false]);
}

/// `reserve_many` has some of its blocks in hand when it gives up.
#[test]
fn reserve_many_gives_back_what_it_has_so_far() {
    let pool = pool();
    let mut held: Vec<_> = (0..4).map(|_| pool.try_reserve(LIMIT / 4).ok()).collect();
    let mut many = ByHand::new(Box::pin(pool.reserve_many([LIMIT / 4; 3])));
    let mut next = ByHand::new(Box::pin(pool.reserve_many([LIMIT / 4; 2])));
    assert!(many.poll().is_pending());
    assert!(next.poll().is_pending());
    held[0] = None;
    held[1] = None;
    assert!(many.poll().is_pending());
    drop(many);
    assert!(next.take_woken());
    let Poll::Ready(Ok(buffers)) = next.poll() else {
        panic!("the blocks are lost");
    };
    assert_eq!(buffers.len(), 2);
    assert_eq!(pool.stats().live, LIMIT as u64);
    drop((buffers, held));
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn poll_reserve_gives_up_by_cancel_by_another_size_and_by_drop() {
    let pool = pool();
    for way in 0..3 {
        let all = pool.try_reserve(LIMIT).unwrap();
        let mut first = PollReserve::new(pool.clone());
        let mut poll = |n| {
            let waker = futures::task::noop_waker();
            let poll = first.poll_reserve(&mut std::task::Context::from_waker(&waker), n);
            assert!(poll.is_pending());
        };
        poll(LIMIT);
        let mut second = ByHand::new(Box::pin(pool.reserve(LIMIT)));
        assert!(second.poll().is_pending());
        drop(all);
        assert!(!second.take_woken());
        match way {
            0 => first.cancel(),
            1 => poll(LIMIT / 2),
            _ => drop(first),
        }
        assert!(second.take_woken(), "way {way}");
        assert!(second.poll().is_ready(), "way {way}");
    }
    let stats = pool.stats();
    assert_eq!((stats.live, stats.waiting), (0, 0));
}

/// Timeouts and `select!`, on two threads, and no drop but theirs: were one wake-up lost, all would hang.
#[test]
fn timeouts_lose_no_memory() {
    within(60, || {
        let pool = pool();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..32)
                .map(|seed| tokio::spawn(impatient(pool.clone(), Random::new(seed))))
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            // Nothing was lost: all of it is still there.
            drop(pool.reserve(LIMIT).await.unwrap());
        });
        let stats = pool.stats();
        assert_eq!((stats.live, stats.waiting), (0, 0));
        assert_eq!(stats.queued, stats.committed);
        assert_eq!(stats.reserved_total, stats.reclaimed_total);
        assert!(stats.cancelled_total > 0 && stats.cancelled_total <= stats.parked_total);
    });
}

async fn impatient(pool: Pool, mut random: Random) {
    for round in 0..100 {
        let n = [1000, 4096, 20_000, LIMIT][random.below(4)];
        let patience = Duration::from_micros(random.below(3000) as u64);
        let got = match random.below(3) {
            0 => tokio::time::timeout(patience, pool.reserve(n)).await.ok(),
            1 => tokio::select! {
                biased;
                () = tokio::time::sleep(patience) => None,
                got = pool.reserve_owned(n) => Some(got),
            },
            // Some wait as long as it takes.
            _ => Some(pool.reserve(n).await),
        };
        if let Some(got) = got {
            let buffer = got.unwrap();
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            drop(buffer);
        }
    }
}

/// Tasks that are aborted wherever they stand.
#[test]
fn aborted_tasks_lose_no_memory() {
    within(60, || {
        let pool = pool();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut random = Random::new(4);
            for _ in 0..50 {
                let tasks: Vec<_> = (0..16)
                    .map(|_| {
                        let reserve = pool.reserve_owned(1 + random.below(LIMIT));
                        tokio::spawn(async move { drop(reserve.await) })
                    })
                    .collect();
                if random.below(2) == 0 {
                    tokio::task::yield_now().await;
                }
                for task in &tasks {
                    if random.below(2) == 0 {
                        task.abort();
                    }
                }
                for task in tasks {
                    let _ = task.await;
                }
            }
        });
        assert!(pool.try_reserve(LIMIT).is_ok(), "{:?}", pool.stats());
    });
}
