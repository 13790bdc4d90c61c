//! Soft caches: the least recently used goes first, before anyone parks, no more than is needed, and nothing that others hold.
#![cfg(feature = "cache")]

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/random.rs"]
mod random;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use futures::executor::block_on;
use futures::FutureExt;
use offheap::{DirectBytes, Pool, SoftCache};

use by_hand::ByHand;
use random::Random;
use starved::starved;
use watchdog::within;

const BLOCK: usize = 4096;
const BLOCKS: usize = 16;

fn pool() -> Pool {
    let builder = Pool::builder().limit(BLOCKS * BLOCK).page_aligned(true);
    // Whatever happens, happens in the test's own hands.
    builder.build().unwrap()
}

fn page(pool: &Pool, n: u32) -> DirectBytes {
    let bytes = n.to_ne_bytes().repeat(BLOCK / 4);
    let page = pool.copy_from_slice(&bytes).now_or_never();
    page.expect("parked").unwrap()
}

fn full(pool: &Pool) -> SoftCache<u32> {
    let cache = SoftCache::new(pool);
    for n in 0..BLOCKS as u32 {
        assert!(cache.insert(n, page(pool, n)).is_none());
    }
    assert_eq!((cache.len(), cache.bytes()), (BLOCKS, BLOCKS * BLOCK));
    cache
}

fn keys(cache: &SoftCache<u32>) -> Vec<u32> {
    // Not by `get`, which counts as a use.
    let all = 0..1000;
    all.filter(|key| {
        cache
            .remove(key)
            .map(|bytes| cache.insert(*key, bytes))
            .is_some()
    })
    .collect()
}

#[test]
fn the_least_recently_used_goes_first_and_no_more_than_is_needed() {
    let pool = pool();
    let cache = full(&pool);
    for n in [0, 2, 1] {
        assert_eq!(cache.get(&n).unwrap()[..4], n.to_ne_bytes());
    }
    assert!(cache.get(&99).is_none());
    // 3, 4 and 5 are the oldest now.
    let held: Vec<_> = (0..3).map(|_| page(&pool, 7)).collect();
    let stats = cache.stats();
    assert_eq!(
        (stats.hits_total, stats.misses_total, stats.evicted_total),
        (3, 1, 3)
    );
    assert_eq!(keys(&cache), [0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(cache.bytes(), 13 * BLOCK);
    assert_eq!(pool.stats().parked_total, 0);
    drop(held);
    // What is free is used first.
    drop(page(&pool, 8));
    assert_eq!(cache.len(), 13);
}

/// A large reservation needs many; at most one more goes.
#[test]
fn as_many_as_a_large_one_needs() {
    let pool = pool();
    let cache = full(&pool);
    let large = pool
        .reserve(5 * BLOCK)
        .now_or_never()
        .expect("parked")
        .unwrap();
    let left = BLOCKS - 5;
    assert!((left - 1..=left).contains(&cache.len()), "{}", cache.len());
    assert_eq!(cache.stats().evicted_total as usize, BLOCKS - cache.len());
    drop(large);
    let all = pool
        .reserve_many([BLOCK; BLOCKS])
        .now_or_never()
        .expect("parked")
        .unwrap();
    assert_eq!((all.len(), cache.len(), cache.bytes()), (BLOCKS, 0, 0));
}

/// `try_reserve` runs no last resort.
#[test]
fn not_for_those_who_do_not_wait() {
    let pool = pool();
    let cache = full(&pool);
    assert!(pool.try_reserve(BLOCK).is_err());
    assert_eq!(cache.len(), BLOCKS);
}

#[test]
fn never_one_that_others_hold() {
    let (pool, _runtime) = starved(Pool::builder().limit(BLOCKS * BLOCK).page_aligned(true));
    let cache = full(&pool);
    let held: Vec<Bytes> = (0..BLOCKS as u32)
        .map(|n| cache.get(&n).unwrap().into())
        .collect();
    let mut waiting = ByHand::new(Box::pin(pool.reserve(2 * BLOCK)));
    assert!(waiting.poll().is_pending());
    assert_eq!((cache.len(), cache.stats().evicted_total), (BLOCKS, 0));
    // As soon as they let go, whoever waits gets it.
    let mut held = held.into_iter();
    drop(held.next());
    assert!(waiting.take_woken(), "nobody was told");
    assert!(waiting.poll().is_pending());
    assert_eq!(cache.len(), BLOCKS - 1);
    drop(held.next());
    assert!(waiting.take_woken(), "nobody was told");
    assert!(waiting.poll().is_ready());
    assert_eq!(cache.len(), BLOCKS - 2);
    assert!(held.all(|bytes| bytes.len() == BLOCK));
}

/// What is inserted while someone waits is of use at once.
#[test]
fn insert_while_someone_waits() {
    let (pool, _runtime) = starved(Pool::builder().limit(BLOCK).page_aligned(true));
    let cache = SoftCache::<String>::new(&pool);
    let bytes = page(&pool, 1);
    let mut waiting = ByHand::new(Box::pin(pool.reserve(BLOCK)));
    assert!(waiting.poll().is_pending());
    cache.insert("one".into(), bytes);
    assert!(waiting.take_woken(), "nobody was told");
    assert!(waiting.poll().is_ready());
    assert!(cache.get("one").is_none() && cache.is_empty());
}

#[test]
fn insert_and_remove_give_the_buffers_back() {
    let pool = pool();
    let cache = SoftCache::new(&pool);
    assert!(cache.insert("key", page(&pool, 1)).is_none());
    let old = cache.insert("key", page(&pool, 2)).unwrap();
    assert_eq!(old[..4], 1u32.to_ne_bytes());
    assert_eq!((cache.len(), cache.bytes()), (1, BLOCK));
    let other = cache.clone();
    assert_eq!(other.remove("key").unwrap()[..4], 2u32.to_ne_bytes());
    assert!(other.remove("key").is_none() && cache.is_empty());
    cache.insert("a", page(&pool, 1));
    cache.insert("b", page(&pool, 2));
    cache.clear();
    drop(old);
    assert_eq!((cache.len(), cache.bytes(), pool.stats().live), (0, 0, 0));
}

/// Several caches of one pool are one queue.
#[test]
fn the_oldest_of_all_caches() {
    let pool = pool();
    let (one, two) = (SoftCache::new(&pool), SoftCache::new(&pool));
    for n in 0..BLOCKS as u32 {
        let cache = if n % 2 == 0 { &one } else { &two };
        cache.insert(n, page(&pool, n));
    }
    one.get(&0);
    let held: Vec<_> = (0..4).map(|_| page(&pool, 7)).collect();
    assert_eq!(
        (keys(&one), keys(&two)),
        (vec![0, 6, 8, 10, 12, 14], vec![5, 7, 9, 11, 13, 15])
    );
    drop((one, held));
    let _all = pool
        .reserve_many([BLOCK; BLOCKS])
        .now_or_never()
        .expect("parked");
    assert_eq!(two.len(), 0);
}

/// What is only cached keeps no one waiting for the end.
#[test]
fn closing_empties_it() {
    let pool = pool();
    let cache = full(&pool);
    let kept = cache.get(&3).unwrap();
    assert!(pool.closed().now_or_never().is_none());
    assert_eq!(cache.len(), 1);
    drop((kept, cache.remove(&3)));
    block_on(pool.closed());
}

/// A cache larger than the limit, and live traffic of several threads: no reservation parks, as long as what is live would
/// fit, and the books are exact in the end.
#[test]
fn no_one_parks_while_the_cache_holds_anything() {
    const THREADS: u64 = 3;
    within(240, || {
        let pool = Pool::builder()
            .limit(256 * BLOCK)
            .page_aligned(true)
            .build()
            .unwrap();
        let cache = SoftCache::<u64>::new(&pool);
        let wrong = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (pool, cache, wrong) = (pool.clone(), cache.clone(), wrong.clone());
                thread::spawn(move || {
                    let mut random = Random::new(thread);
                    let mut live = Vec::new();
                    for _ in 0..30_000 {
                        let key = random.below(1024) as u64;
                        match cache.get(&key) {
                            Some(bytes) => {
                                let right = bytes[..8] == key.to_ne_bytes();
                                wrong.fetch_or(!right, Ordering::Relaxed);
                            }
                            None => {
                                let data = key.to_ne_bytes().repeat(BLOCK / 8);
                                let page = block_on(pool.copy_from_slice(&data)).unwrap();
                                cache.insert(key, page);
                            }
                        }
                        live.push(block_on(pool.reserve(BLOCK)).unwrap());
                        if live.len() > 8 {
                            live.swap_remove(random.below(8));
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(!wrong.load(Ordering::Relaxed), "another key's bytes");
        let stats = pool.stats();
        assert_eq!(
            stats.parked_total, 0,
            "parked though the cache held something"
        );
        assert!(cache.stats().evicted_total > 1000 && cache.stats().hits_total > 1000);
        assert_eq!(stats.live as usize, cache.bytes());
        assert_eq!(stats.buffers as usize, cache.len());
        drop(cache);
        assert_eq!(pool.stats().live, 0);
    });
}

/// What has become evictable is told to the head of the queue. Where that one goes before it has looked, the next is told.
#[test]
fn the_next_is_told_when_the_head_goes() {
    for served in [false, true] {
        let (pool, _runtime) = starved(Pool::builder().limit(2 * BLOCK).page_aligned(true));
        let cache = SoftCache::new(&pool);
        let cached = page(&pool, 1);
        assert!(cache.insert(1, cached.clone()).is_none());
        let held = page(&pool, 2);
        let mut first = ByHand::new(Box::pin(pool.reserve(BLOCK)));
        let mut second = ByHand::new(Box::pin(pool.reserve(BLOCK)));
        assert!(first.poll().is_pending() && second.poll().is_pending());

        drop(cached);
        assert!(first.take_woken());
        let mut kept = None;
        if served {
            drop(held);
            kept = Some(first.poll());
        } else {
            drop(first);
        }
        assert!(second.take_woken(), "served: {served}");
        assert!(second.poll().is_ready());
        assert_eq!(cache.len(), 0);
        assert!(kept.is_none_or(|first| first.is_ready()));
    }
}
