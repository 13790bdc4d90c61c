//! Reference queues: each token once, after its memory is there again, and an end.

#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;

use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use offheap::{DirectBytes, Pool, ReferenceQueue};

use starved::starved;
use watchdog::within;

const LIMIT: usize = 64 << 10;

#[test]
fn a_token_says_that_the_memory_is_there() {
    within(60, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let (mut queue, handle) = ReferenceQueue::new();
        for n in 0..100 {
            let buf = pool.try_reserve(LIMIT).expect("told too soon");
            buf.notify(&handle, n);
            drop(buf.freeze());
            // `freeze` of nothing lets go at once.
            assert_eq!(block_on(queue.next()), Some(n));
        }
        assert!(queue.is_empty());
    });
}

#[test]
fn not_before_the_last_handle_and_the_hooks() {
    let (pool, runtime) = starved(Pool::builder().limit(LIMIT));
    let (mut queue, handle) = ReferenceQueue::new();
    let mut bytes = pool.try_copy_from_slice(&[1; 1000]).unwrap();
    bytes.notify(&handle, "gone");
    let ran = Arc::new(AtomicUsize::new(0));
    bytes.on_clean({
        let ran = ran.clone();
        move |_| _ = ran.fetch_add(1, Ordering::SeqCst)
    });
    let part = bytes.slice(1..2);
    drop(bytes);
    runtime.block_on(tokio::task::yield_now());
    assert_eq!(queue.pop(), None);
    drop(part);
    assert_eq!(queue.pop(), None, "told in the drop");
    runtime.block_on(tokio::task::yield_now());
    assert_eq!((queue.pop(), ran.load(Ordering::SeqCst)), (Some("gone"), 1));
}

#[test]
fn it_ends_when_nothing_can_come_any_more() {
    within(60, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let (mut queue, handle) = ReferenceQueue::new();
        let first = pool.try_reserve(100).unwrap();
        let second = pool.try_reserve(100).unwrap();
        first.notify(&handle, 1);
        second.notify(&handle.clone(), 2);
        drop(handle);
        assert_eq!(queue.next().now_or_never(), None, "buffers are left");
        drop(first);
        assert_eq!(block_on(queue.next()), Some(1));
        drop(second);
        assert_eq!(block_on(queue.next()), Some(2));
        assert_eq!(block_on(queue.next()), None);
        // A buffer without memory is gone already.
        let (mut queue, handle) = ReferenceQueue::new();
        DirectBytes::new().notify(&handle, 3);
        drop(handle);
        assert_eq!(queue.iter().collect::<Vec<_>>(), [3]);
    });
}

#[test]
fn blocking_iterator() {
    within(60, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let (queue, handle) = ReferenceQueue::new();
        let producer = thread::spawn(move || {
            for n in 0..1000 {
                let buf = pool.reserve_blocking(LIMIT / 4).unwrap();
                buf.notify(&handle, n);
            }
        });
        let mut tokens: Vec<i32> = queue.into_iter().collect();
        producer.join().unwrap();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..1000).collect::<Vec<_>>());
    });
}

/// Many threads, with clones and slices that outlive each other: each token comes out once.
#[test]
fn each_exactly_once() {
    const THREADS: usize = 4;
    const EACH: usize = 5_000;
    within(120, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let (queue, handle) = ReferenceQueue::new();
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (pool, handle) = (pool.clone(), handle.clone());
                thread::spawn(move || {
                    let mut held = Vec::new();
                    for n in 0..EACH {
                        let bytes = block_on(pool.copy_from_slice(&[1; 64])).unwrap();
                        bytes.notify(&handle, thread * EACH + n);
                        held.push(bytes.slice(n % 64..));
                        if held.len() > 16 {
                            held.swap_remove(n % 16);
                        }
                    }
                })
            })
            .collect();
        drop(handle);
        let mut seen = HashSet::new();
        for token in queue {
            assert!(seen.insert(token), "{token} came twice");
        }
        assert_eq!(seen.len(), THREADS * EACH);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(pool.stats().live, 0);
    });
}

/// A queue that is gone keeps no tokens, and no buffer from being reclaimed.
#[test]
fn the_queue_may_go_first() {
    struct Counting(Arc<AtomicUsize>);
    impl Drop for Counting {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    within(60, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let drops = Arc::new(AtomicUsize::new(0));
        let (queue, handle) = ReferenceQueue::new();
        let buffers: Vec<_> = (0..10).map(|_| pool.try_reserve(100).unwrap()).collect();
        for buf in &buffers {
            buf.notify(&handle, Counting(drops.clone()));
        }
        drop(queue);
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(buffers);
        block_on(pool.closed());
        // Tokens go after the memory is there.
        while drops.load(Ordering::SeqCst) < 10 {
            thread::yield_now();
        }
    });
}
