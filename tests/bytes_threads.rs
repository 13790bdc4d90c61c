//! Handles to the same blocks in the hands of many threads: they are counted right whoever clones and whoever drops, the last one
//! alone becomes writable, and every block comes back.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use bytes::{Bytes, BytesMut};
use offheap::{DirectBytes, Pool};

const THREADS: usize = 4;

fn pool() -> Pool {
    Pool::builder().limit(1 << 20).build().unwrap()
}

struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(RandomState::new().build_hasher().finish() | 1)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }
}

/// Threads clone, slice, shrink, drop, pass on, and take back as writable what they find in a common heap of handles. A block is
/// filled with one value; whoever gets it as writable fills it with another one. So any reader sees one value all over.
#[test]
fn handles_that_go_from_hand_to_hand() {
    let pool = pool();
    let heap: Mutex<Vec<DirectBytes>> = Mutex::new(Vec::new());
    let writable = AtomicUsize::new(0);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut random = Random::new();
                barrier.wait();
                for round in 0..20_000 {
                    let mut handle = {
                        let mut heap = heap.lock().unwrap();
                        let n = heap.len();
                        (n > 0 && random.below(4) > 0).then(|| heap.swap_remove(random.below(n)))
                    }
                    .unwrap_or_else(|| {
                        let mut fresh = pool.try_reserve(4096).unwrap();
                        fresh.resize(4096, round as u8);
                        fresh.freeze()
                    });
                    let value = handle[0];
                    assert!(handle.iter().all(|&byte| byte == value));
                    let keep = match random.below(8) {
                        0..=1 => Some(handle.clone()),
                        2 => {
                            let end = 1 + random.below(handle.len());
                            Some(handle.slice(..end))
                        }
                        3 => {
                            handle.truncate(1 + random.below(handle.len()));
                            None
                        }
                        4 => {
                            Some(handle.split_off(handle.len() / 2)).filter(|part| !part.is_empty())
                        }
                        _ => None,
                    };
                    if random.below(3) == 0 {
                        handle = match handle.try_into_mut() {
                            Ok(mut buffer) => {
                                writable.fetch_add(1, Ordering::Relaxed);
                                buffer.fill(value.wrapping_add(1));
                                assert!(keep.is_none(), "two handles");
                                buffer.freeze()
                            }
                            Err(same) => same,
                        };
                    }
                    let mut heap = heap.lock().unwrap();
                    heap.extend(keep);
                    if random.below(2) == 0 && heap.len() < 40 && !handle.is_empty() {
                        heap.push(handle);
                    }
                }
            });
        }
    });
    assert!(writable.into_inner() > 0);
    drop(heap);
    assert_eq!(pool.stats().buffers, 0);
}

/// Of all threads that try at the same time as they drop their clones, at most one gets a block as writable, and without clones
/// one does.
#[test]
fn one_at_most_becomes_writable() {
    let pool = pool();
    for _ in 0..500 {
        let all = pool.try_copy_from_slice(&[1; 256]).unwrap();
        let barrier = Barrier::new(THREADS);
        let winners = AtomicUsize::new(0);
        thread::scope(|scope| {
            for handle in vec![all; THREADS] {
                scope.spawn(|| {
                    let handle = handle;
                    barrier.wait();
                    drop(handle.clone());
                    if let Ok(mut buffer) = handle.try_into_mut() {
                        buffer.fill(2);
                        winners.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(winners.into_inner() <= 1);
        assert_eq!(pool.stats().buffers, 0);
    }
}

/// As `Bytes`, whose clones count themselves: the block comes back when the last of them goes, on whatever thread.
#[test]
fn clones_as_bytes_keep_the_block_until_the_last() {
    let pool = pool();
    for i in 0..200_u8 {
        let direct = pool.try_copy_from_slice(&[i; 1000]).unwrap();
        let part = direct.slice(500..);
        let bytes = [Bytes::from(direct), Bytes::from(part)];
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let bytes = bytes.clone();
                thread::spawn(move || bytes.iter().all(|b| b.iter().all(|&byte| byte == i)))
            })
            .collect();
        drop(bytes);
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        assert_eq!(pool.stats().buffers, 0);
    }
}

/// The thread that cloned most is gone when the last handles are dropped elsewhere.
#[test]
fn handles_outlive_the_thread_that_cloned_them() {
    let pool = pool();
    for _ in 0..100 {
        let all = pool.try_copy_from_slice(&[7; 300]).unwrap();
        let clones = thread::spawn(move || vec![all; 100]).join().unwrap();
        let more = thread::spawn(move || {
            let more = clones.to_vec();
            drop(clones);
            more
        });
        let mut more = more.join().unwrap();
        assert_eq!(pool.stats().buffers, 1);
        let last = more.pop().unwrap();
        assert!(!last.is_unique());
        drop(more);
        assert!(last.is_unique());
        assert_eq!(last.try_into_mut().unwrap()[..], [7; 300]);
        assert_eq!(pool.stats().buffers, 0);
    }
}

/// Parts of one unique buffer are written at the same time, and joined again.
#[test]
fn parts_are_written_side_by_side() {
    let pool = pool();
    for _ in 0..50 {
        let mut rest = pool.try_reserve(4096).unwrap();
        rest.resize(4096, 0);
        let parts: Vec<_> = (0..THREADS).map(|_| rest.split_to(1024)).collect();
        let threads = parts.into_iter().zip(1_u8..).map(|(mut part, value)| {
            thread::spawn(move || {
                part.fill(value);
                part
            })
        });
        let threads: Vec<_> = threads.collect();
        let mut parts = threads.into_iter().map(|thread| thread.join().unwrap());
        let mut all = parts.next().unwrap();
        for part in parts {
            assert!(all.try_unsplit(part).is_ok());
        }
        let expected: BytesMut = (1_u8..=4).flat_map(|value| [value; 1024]).collect();
        assert_eq!(all, expected);
        drop(rest);
        assert!(all.try_reclaim(0));
    }
    assert_eq!(pool.stats().buffers, 0);
}

/// What is shared by reference is cloned by all at once.
#[test]
fn many_clone_one_reference() {
    let pool = pool();
    let all = Arc::new(pool.try_copy_from_slice(&[3; 5000]).unwrap());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut held = Vec::new();
                for i in 0..5000 {
                    held.push(if i % 3 == 0 {
                        all.slice(i % 7..)
                    } else {
                        DirectBytes::clone(&all)
                    });
                    if i % 5 == 0 {
                        held.clear();
                    }
                }
            });
        }
    });
    assert!(all.is_unique());
    drop(all);
    assert_eq!(pool.stats().buffers, 0);
}
