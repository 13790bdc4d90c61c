//! Weak handles: the same bytes as long as anyone keeps them, and nothing else ever.

#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::BufMut;
use offheap::{DirectBytes, Pool, WeakBytes};

use watchdog::within;

fn pool() -> Pool {
    Pool::builder().limit(64 << 10).build().unwrap()
}

#[test]
fn upgrade_gives_the_same_range() {
    let pool = pool();
    let bytes = pool.try_copy_from_slice(b"hello world").unwrap();
    let weak = bytes.slice(6..).downgrade();
    let clone = weak.clone();
    let world = weak.upgrade().unwrap();
    assert_eq!(world, b"world"[..]);
    assert_eq!(world.as_ptr(), bytes[6..].as_ptr());
    drop((bytes, weak));
    // The upgraded one keeps the block.
    assert_eq!(clone.upgrade().unwrap(), b"world"[..]);
    drop(world);
    assert!(clone.upgrade().is_none());
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn never_a_recycled_block() {
    let pool = pool();
    let bytes = pool.try_copy_from_slice(b"secret").unwrap();
    let place = bytes.as_ptr();
    let weak = bytes.downgrade();
    drop(bytes);
    let other = pool.try_copy_from_slice(b"others").unwrap();
    assert_eq!(other.as_ptr(), place, "the test is about the same block");
    assert!(weak.upgrade().is_none());
    let own = other.downgrade();
    assert!(weak.upgrade().is_none());
    assert_eq!(own.upgrade().unwrap(), b"others"[..]);
}

#[test]
fn writable_again_is_another_buffer() {
    let pool = pool();
    let bytes = pool.try_copy_from_slice(b"hello").unwrap();
    let weak = bytes.downgrade();
    let upgraded = weak.upgrade().unwrap();
    let bytes = bytes.try_into_mut().unwrap_err();
    drop(upgraded);
    let mut buf = bytes.try_into_mut().unwrap();
    assert!(weak.upgrade().is_none());
    buf[0] = b'J';
    let bytes = buf.freeze();
    assert!(weak.upgrade().is_none(), "for good");
    assert_eq!(bytes.downgrade().upgrade().unwrap(), b"Jello"[..]);
    drop(bytes);
    let stats = pool.stats();
    assert_eq!((stats.reserved_total, stats.reclaimed_total), (1, 1));
}

/// What was frozen and let go may become part of a writable buffer again: then a weak handle must not reach it.
#[test]
fn not_what_a_buffer_has_grown_over() {
    let pool = pool();
    let mut buf = pool.try_reserve(256).unwrap();
    buf.put_slice(b"frozen, then free");
    let mut front = buf.split();
    front.put_slice(b"");
    let weak = front.freeze().downgrade();
    // The rest of the block is still held.
    assert_eq!(weak.upgrade().unwrap(), b"frozen, then free"[..]);
    buf.put_slice(b"x");
    assert!(buf.try_reclaim(240), "the whole block is there");
    buf.put_bytes(0, 240);
    assert!(weak.upgrade().is_none());
}

#[test]
fn without_a_block() {
    let empty = DirectBytes::new().downgrade();
    assert!(empty.upgrade().unwrap().is_empty());
    let fixed = DirectBytes::from_static(b"static").downgrade();
    assert_eq!(fixed.upgrade().unwrap(), b"static"[..]);
}

/// A weak handle that outlives buffers and pool, and what it costs: nothing of the limit.
#[test]
fn after_the_pool() {
    let pool = pool();
    let bytes = pool.try_copy_from_slice(b"hello").unwrap();
    let weak = bytes.downgrade();
    drop(pool);
    assert!(weak.upgrade().is_some());
    drop(bytes);
    assert!(weak.upgrade().is_none());
    drop(weak.clone());
    assert!(weak.upgrade().is_none());
}

/// Two threads at one block that is recycled for ten million generations: whatever an upgrade gives was written in the generation
/// that the weak handle is of, and none is ever writable at the same time.
#[test]
fn ten_million_generations() {
    const GENERATIONS: u64 = 10_000_000;
    within(900, || {
        let pool = Pool::builder()
            .limit(4096)
            .page_aligned(true)
            .build()
            .unwrap();
        let latest: Arc<Mutex<Option<(u64, WeakBytes)>>> = Arc::default();
        let done = Arc::new(AtomicBool::new(false));
        let upgraded = Arc::new(AtomicU64::new(0));
        let hammer = thread::spawn({
            let (latest, done, upgraded) = (latest.clone(), done.clone(), upgraded.clone());
            move || {
                let mut kept: Vec<(u64, WeakBytes)> = Vec::new();
                let mut round = 0usize;
                while !done.load(Ordering::Relaxed) {
                    round += 1;
                    if round % 64 == 0 {
                        // Old ones stay for a while.
                        let next = latest.lock().unwrap().take();
                        kept.extend(next);
                        if kept.len() > 8 {
                            kept.swap_remove(round / 64 % 8);
                        }
                    }
                    for (generation, weak) in &kept {
                        if let Some(bytes) = weak.upgrade() {
                            let written = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
                            assert_eq!(written, *generation, "a false upgrade");
                            upgraded.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
        let mut generation = 0;
        while generation < GENERATIONS {
            // Taken while the other thread has it for a moment.
            let Ok(mut buf) = pool.try_reserve(8) else {
                continue;
            };
            generation += 1;
            buf.put_slice(&generation.to_ne_bytes());
            if generation % 16 == 0 {
                let bytes = buf.freeze();
                let weak = bytes.downgrade();
                let old = latest.lock().unwrap().replace((generation, weak));
                drop(old);
                if generation % 64 == 0 {
                    // Sometimes it is written to once more.
                    if let Ok(mut buf) = bytes.try_into_mut() {
                        buf[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
                    }
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        hammer.join().unwrap();
        *latest.lock().unwrap() = None;
        let stats = pool.stats();
        assert_eq!((stats.live, stats.buffers), (0, 0));
        assert_eq!(stats.reclaimed_total, GENERATIONS);
        println!("{} upgrades", upgraded.load(Ordering::Relaxed));
    });
}
