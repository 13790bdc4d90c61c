//! `Zero::OnReclaim`: no byte of one user reaches the next.

#[path = "support/random.rs"]
mod random;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::thread;

use bytes::BufMut;
use futures::executor::block_on;
use offheap::{Cleaned, DirectBytesMut, Pool, Zero};

use random::Random;
use starved::starved;
use watchdog::within;

fn assert_blank(buf: &mut DirectBytesMut) {
    let capacity = buf.capacity();
    // SAFETY: memory of a pool comes zeroed, so that each byte has a value; a test that reads others' bytes would see them.
    unsafe { buf.set_len(capacity) };
    assert!(buf.iter().all(|byte| *byte == 0), "bytes of another");
    buf.clear();
}

fn dirty(buf: &mut DirectBytesMut) {
    let all = buf.capacity() - buf.len();
    buf.put_bytes(0xAA, all);
}

/// No reclaimer: who reserves wipes what it needs, without waiting, and nobody fails because something is to be wiped.
#[test]
fn reservations_wipe_for_themselves() {
    let limit = 1 << 20;
    let (pool, _runtime) = starved(Pool::builder().limit(limit).zero(Zero::OnReclaim));
    for size in [limit, 4096, 300, 100_000, limit, 1, limit / 2] {
        let mut held = Vec::new();
        while let Ok(mut buf) = pool.try_reserve(size) {
            assert_blank(&mut buf);
            dirty(&mut buf);
            held.push(buf);
        }
        assert!(!held.is_empty(), "{size} bytes: nothing to be had");
        assert!(pool.stats().committed <= limit as u64);
        drop(held);
    }
    let mut buf = block_on(pool.reserve(limit)).unwrap();
    assert_blank(&mut buf);
    dirty(&mut buf);
    assert_eq!(buf.clean(), Cleaned::Now);
    assert_eq!(pool.stats().live, 0);
    assert_blank(&mut pool.try_reserve(limit).unwrap());
}

/// By the reclaimer, in slices.
#[test]
fn the_reclaimer_wipes() {
    within(60, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let pool = Pool::builder()
                .limit(64 << 20)
                .zero(Zero::OnReclaim)
                .build()
                .unwrap();
            let mut buf = pool.try_reserve(32 << 20).unwrap();
            dirty(&mut buf);
            drop(buf.freeze());
            let mut turns = 0;
            while pool.stats().live > 0 {
                tokio::task::yield_now().await;
                turns += 1;
            }
            assert!(turns > 4, "32 MiB at one go");
            assert_blank(&mut pool.try_reserve(32 << 20).unwrap());
        });
    });
}

/// Hooks see what the user wrote, what they write does not reach the next, and the reclaimer's own order is kept.
#[test]
fn hooks_come_before() {
    within(60, || {
        let pool = Pool::builder()
            .limit(4096)
            .zero(Zero::OnReclaim)
            .build()
            .unwrap();
        for _ in 0..100 {
            let mut buf = block_on(pool.reserve(4096)).unwrap();
            assert_blank(&mut buf);
            dirty(&mut buf);
            buf.on_clean(|memory| {
                assert!(memory.iter().all(|byte| *byte == 0xAA));
                memory.fill(0xBB);
            });
        }
        block_on(pool.closed());
        assert_eq!(pool.stats().hook_panics_total, 0);
    });
}

#[test]
fn many_threads() {
    within(120, || {
        let pool = Pool::builder()
            .limit(256 << 10)
            .zero(Zero::OnReclaim)
            .build()
            .unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let mut random = Random::new(thread);
                    for _ in 0..2_000 {
                        let size = 1 + random.below(32 << 10);
                        let mut buf = block_on(pool.reserve(size)).unwrap();
                        assert_blank(&mut buf);
                        dirty(&mut buf);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        block_on(pool.closed());
        let stats = pool.stats();
        assert_eq!(
            (stats.live, stats.reserved_total, stats.reclaimed_total),
            (0, 8_000, 8_000)
        );
    });
}

/// When the pool is gone, nobody wipes any more, and nothing is lost.
#[test]
fn after_the_pool() {
    let pool = Pool::builder()
        .limit(1 << 20)
        .zero(Zero::OnReclaim)
        .build()
        .unwrap();
    let buffers: Vec<_> = (0..10).map(|_| pool.try_reserve(4096).unwrap()).collect();
    drop(pool);
    drop(buffers);
}
