//! The pool under threads and tasks: nobody hangs, nothing is lost, and the books are exact when it is quiet again.
//!
//! All of it is random and bounded. What would hang for ever in a pool that loses a wake-up is stopped by a watchdog.

#[path = "support/random.rs"]
mod random;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use offheap::Pool;

use random::Random;
use starved::starved;
use watchdog::within;

const PAGE: usize = 4096;

/// Ageing is never due while a test runs: the reclaimer's rounds would end a hang.
const NEVER: Duration = Duration::from_secs(3600);

fn pool(limit: usize) -> Pool {
    Pool::builder()
        .limit(limit)
        .decommit_after(NEVER)
        .build()
        .unwrap()
}

/// A newcomer cleans a part of what is queued while somebody parks. What it puts back, or gives back, is the waiter's.
#[test]
fn whoever_cleans_in_calm_tells_who_parked_meanwhile() {
    within(60, || {
        let pool = pool(64 * PAGE);
        let mut random = Random::new(1);
        for _ in 0..2000 {
            // Everything is queued, as blocks of one page.
            let full: Vec<_> = (0..64).map(|_| pool.try_reserve(PAGE).unwrap()).collect();
            drop(full);
            let delays = [random.below(500), random.below(500)];
            let (start, served) = (Barrier::new(2), Barrier::new(2));
            thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    (0..delays[0]).for_each(|_| std::hint::spin_loop());
                    // Both fit, so that the waiter does not need what the newcomer holds.
                    let newcomer = pool.try_reserve(16 * PAGE);
                    served.wait();
                    drop(newcomer);
                });
                start.wait();
                (0..delays[1]).for_each(|_| std::hint::spin_loop());
                let waiter = pool.reserve_blocking(32 * PAGE);
                served.wait();
                drop(waiter);
            });
        }
    });
}

/// Four threads of four sizes, each alone in need of more than the others leave. New pools, because the reclaimer's first
/// turn comes while they are at it.
#[test]
fn threads_of_all_sizes() {
    for starve in [false, true] {
        within(60, move || {
            for _ in 0..100 {
                let builder = Pool::builder().limit(64 * PAGE).decommit_after(NEVER);
                let (pool, _runtime) = if starve {
                    let (pool, runtime) = starved(builder);
                    (pool, Some(runtime))
                } else {
                    (builder.build().unwrap(), None)
                };
                thread::scope(|scope| {
                    for (n, pool) in [300, 5000, 16 * PAGE, 64 * PAGE].map(|n| (n, &pool)) {
                        scope.spawn(move || {
                            for _ in 0..100 {
                                drop(pool.reserve_blocking(n).unwrap());
                            }
                        });
                    }
                });
                quiet(&pool);
            }
        });
    }
}

/// Tasks on two threads: all sizes, several at a time, timeouts, limits that change, memory given back all the time.
#[test]
fn tasks_do_everything_at_once() {
    within(100, || {
        let pool = pool(64 * PAGE);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut tasks: Vec<_> = (0..24)
                .map(|seed| tokio::spawn(reserve_and_drop(pool.clone(), Random::new(seed))))
                .collect();
            tasks.push(tokio::spawn(disturb(pool.clone(), Random::new(99))));
            for task in tasks {
                task.await.unwrap();
            }
        });
        quiet(&pool);
    });
}

async fn reserve_and_drop(pool: Pool, mut random: Random) {
    const SIZES: [usize; 7] = [200, 1000, 5000, PAGE, 4 * PAGE, 10 * PAGE, 32 * PAGE];
    for _ in 0..150 {
        let most = SIZES[random.below(7)];
        let n = 1 + random.below(most);
        match random.below(6) {
            0 => drop(pool.try_reserve(n)),
            1 => {
                let patience = Duration::from_micros(random.below(1000) as u64);
                drop(tokio::time::timeout(patience, pool.reserve(n)).await);
            }
            2 => {
                let sizes = [n, 1 + random.below(n), 300];
                drop(pool.reserve_many(sizes).await);
            }
            _ => {
                let shared = pool.copy_from_slice(&[7; 100]).await.unwrap();
                // One small buffer in hand can not keep anyone from half of the limit.
                let large = pool.reserve_owned(n);
                drop(shared);
                let large = large.await.unwrap();
                tokio::task::yield_now().await;
                // Home from another thread than it came to.
                tokio::task::spawn_blocking(move || drop(large))
                    .await
                    .unwrap();
            }
        }
    }
}

async fn disturb(pool: Pool, mut random: Random) {
    for _ in 0..300 {
        match random.below(3) {
            0 => drop(pool.trim()),
            // Never less than what all of them ask for at the most.
            1 => pool.set_limit((33 + random.below(32)) * PAGE).unwrap(),
            _ => drop(pool.holders()),
        }
        tokio::task::yield_now().await;
    }
    pool.set_limit(64 * PAGE).unwrap();
}

/// Buffers that are dropped elsewhere: one side reserves, the other drops, through a channel that holds more than the pool.
#[test]
fn producers_and_consumers() {
    within(60, || {
        let pool = pool(64 * PAGE);
        let (send, receive) = std::sync::mpsc::channel();
        let receive = std::sync::Mutex::new(receive);
        thread::scope(|scope| {
            for seed in 0..2 {
                let (pool, send) = (&pool, send.clone());
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    for _ in 0..5_000 {
                        let most = [300, 5000, 8 * PAGE][random.below(3)];
                        let n = 1 + random.below(most);
                        send.send(pool.reserve_blocking(n).unwrap()).unwrap();
                    }
                });
            }
            drop(send);
            for _ in 0..2 {
                let receive = &receive;
                scope.spawn(move || loop {
                    let buffer = receive.lock().unwrap().recv();
                    match buffer {
                        Ok(buffer) => drop(buffer),
                        Err(_) => break,
                    }
                });
            }
        });
        quiet(&pool);
    });
}

/// The books of a pool that nobody uses, and all of whose memory can be had.
fn quiet(pool: &Pool) {
    let stats = pool.stats();
    assert_eq!((stats.live, stats.buffers, stats.requested), (0, 0, 0));
    assert_eq!((stats.waiting, stats.waiting_bytes), (0, 0));
    assert_eq!((stats.queued, stats.stranded), (stats.committed, 0));
    assert_eq!(stats.reserved_total, stats.reclaimed_total);
    assert!(stats.committed <= stats.limit && stats.peak_live <= stats.limit);
    assert!(stats.cancelled_total <= stats.parked_total);
    assert!(pool.holders().is_empty());
    drop(pool.reserve_blocking(pool.max_reserve()).unwrap());
}
