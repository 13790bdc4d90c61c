//! Invariant 12, buffers outlive the pool: every handle to the pool may go; the last buffer unmaps the memory.

#[path = "support/config.rs"]
mod config;
#[path = "support/sizes.rs"]
mod sizes;
#[cfg(target_os = "linux")]
#[path = "support/smaps.rs"]
mod smaps;

use std::fs;
use std::ops::Range;
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use offheap::{DirectBytes, DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;

use config::cases;
use sizes::sizes;

const LIMIT: usize = 1 << 20;

/// What one test unmaps, another's pool may map again: they look at `/proc/self/maps` one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the pool that had these addresses is still mapped. A stray thread's stack may lie there by now; a pool's address
/// space is far larger.
fn is_mapped(range: &Range<usize>) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let address = |text| usize::from_str_radix(text, 16).unwrap();
    let mapped: usize = maps
        .lines()
        .filter_map(|line| line.split_once(' ')?.0.split_once('-'))
        .map(|(start, end)| address(start).max(range.start)..address(end).min(range.end))
        .map(|part| part.len())
        .sum();
    mapped > range.len() / 2
}

/// Whether it is unmapped, or will be at once: the reclaimer's thread may be just about to let go of the pool.
fn is_unmapped(range: &Range<usize>) -> bool {
    let start = Instant::now();
    while is_mapped(range) {
        if start.elapsed() > Duration::from_secs(10) {
            return false;
        }
        thread::yield_now();
    }
    true
}

#[derive(Debug)]
enum Any {
    Unique(DirectBytesMut),
    Shared(DirectBytes),
    Foreign(Bytes),
}

impl Any {
    fn new(buffer: DirectBytesMut, kind: usize) -> Any {
        match kind {
            0 => Any::Unique(buffer),
            1 => Any::Shared(buffer.freeze()),
            _ => Any::Foreign(buffer.freeze().into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Any::Unique(buffer) => buffer,
            Any::Shared(buffer) => buffer,
            Any::Foreign(buffer) => buffer,
        }
    }
}

proptest! {
    #![proptest_config(cases(2))]

    /// Buffers of all kinds, dropped in any order, some before the pool and some after.
    #[test]
    fn the_last_buffer_unmaps(
        plan in vec((sizes(LIMIT / 8), 0..3_usize, any::<bool>(), any::<u32>()), 1..20),
        threads in 1..4_usize,
    ) {
        let _alone = alone();
        let pool = Pool::builder().limit(LIMIT).build()?;
        let range = pool.address_range();
        let mut held = Vec::new();
        for (at, &(n, kind, before, order)) in plan.iter().enumerate() {
            if let Ok(mut buffer) = pool.try_reserve(n.max(1)) {
                buffer.resize(n.max(1), at as u8);
                if !before {
                    held.push((order, at, Any::new(buffer, kind)));
                }
            }
        }
        prop_assert!(is_mapped(&range));
        drop(pool);
        let as_it_should_be = if held.is_empty() { is_unmapped(&range) } else { is_mapped(&range) };
        prop_assert!(as_it_should_be);

        held.sort_by_key(|&(order, ..)| order);
        while let Some((_, at, mut buffer)) = held.pop() {
            prop_assert!(is_mapped(&range));
            prop_assert!(buffer.bytes().iter().all(|&byte| byte == at as u8));
            if let Any::Unique(buffer) = &mut buffer {
                // Still writable.
                buffer.resize(buffer.capacity(), 1);
            }
            if held.len() % threads == 0 {
                drop(buffer);
            } else {
                thread::spawn(move || drop(buffer)).join().unwrap();
            }
        }
        prop_assert!(is_unmapped(&range));
    }
}

#[test]
fn an_unused_pool_is_unmapped_with_its_last_handle() {
    let _alone = alone();
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    let (range, other) = (pool.address_range(), pool.clone());
    drop(pool);
    assert!(is_mapped(&range));
    assert!(other.try_reserve(1).is_ok());
    drop(other);
    assert!(is_unmapped(&range));
}

/// A reservation that owns its pool is a handle to it, also while it waits.
#[test]
fn a_waiting_reservation_keeps_the_pool() {
    let _alone = alone();
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    let range = pool.address_range();
    let all = pool.try_reserve(LIMIT).unwrap();
    let mut reserve = Box::pin(pool.reserve_owned(LIMIT));
    assert!(reserve.as_mut().now_or_never().is_none());
    drop(pool);
    drop(all);
    let buffer = reserve.as_mut().now_or_never().unwrap().unwrap();
    drop(reserve);
    assert!(is_mapped(&range));
    drop(buffer);
    assert!(is_unmapped(&range));
}

/// The pool's last handle and its last buffers go at the same time, on several threads.
#[test]
fn all_go_at_once() {
    let _alone = alone();
    for round in 0..300 {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let range = pool.address_range();
        if round % 2 == 0 {
            // Open magazines, and with something in them.
            drop(pool.try_reserve(4096).unwrap());
        }
        let buffers: Vec<_> = (0..3).map(|_| pool.try_reserve(4096).unwrap()).collect();
        let start = Barrier::new(4);
        thread::scope(|scope| {
            let start = &start;
            for buffer in buffers {
                scope.spawn(move || {
                    start.wait();
                    drop(buffer);
                });
            }
            start.wait();
            drop(pool);
        });
        assert!(is_unmapped(&range), "round {round}");
    }
}

/// What is queued goes back to the OS with the pool's last handle, not only with the last buffer.
#[test]
fn one_buffer_keeps_only_itself() {
    let _alone = alone();
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    let range = pool.address_range();
    let mut buffers: Vec<_> = (0..16)
        .map(|_| pool.try_reserve(LIMIT / 16).unwrap())
        .collect();
    for buffer in &mut buffers {
        buffer.resize(LIMIT / 16, 1);
    }
    let last = buffers.pop();
    drop(buffers);
    drop(pool);
    assert!(is_mapped(&range));
    assert!(last.unwrap().iter().all(|&byte| byte == 1));
    assert!(is_unmapped(&range));
}

/// Nobody can use what comes back after the last handle to the pool, so it goes to the OS at once.
#[cfg(target_os = "linux")]
#[test]
fn an_orphan_keeps_only_what_its_buffers_hold() {
    let _alone = alone();
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    let range = pool.address_range();
    let mut buffers = [LIMIT / 2, LIMIT / 4].map(|n| pool.try_reserve(n).unwrap());
    for buffer in &mut buffers {
        buffer.resize(buffer.capacity(), 1);
    }
    let [large, small] = buffers;
    drop(pool);
    let both = smaps::resident(&range);
    drop(large);
    let one = smaps::resident(&range);
    assert!(both - one >= LIMIT as u64 / 2, "{both} bytes, then {one}");
    drop(small);
    assert!(is_unmapped(&range));
}
