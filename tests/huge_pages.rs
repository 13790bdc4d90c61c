//! Huge pages: the limit holds as it does without, and large buffers have them where the kernel has any.
#![cfg(all(target_os = "linux", not(offheap_heap)))]

#[path = "support/config.rs"]
mod config;
#[path = "support/smaps.rs"]
mod smaps;

use std::ptr;

use bytes::BufMut;
use offheap::{DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use config::cases;
use smaps::{huge, resident};

const MIB: usize = 1 << 20;
const HUGE: usize = 2 * MIB;
const LIMIT: usize = 24 * MIB;

fn pool(limit: usize) -> Pool {
    let builder = Pool::builder().limit(limit).huge_pages(true);
    builder.build().unwrap()
}

/// Whether the kernel gives a huge page to whoever asks for one just now.
fn granted() -> bool {
    const LEN: usize = 2 * HUGE;
    // SAFETY: a fresh mapping of our own, of which one byte is written, and which nobody knows when it is unmapped.
    unsafe {
        let (access, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let start = libc::mmap(ptr::null_mut(), LEN, access, flags, -1, 0);
        assert_ne!(start, libc::MAP_FAILED);
        libc::madvise(start, LEN, libc::MADV_HUGEPAGE);
        let first = (start as usize).next_multiple_of(HUGE);
        *(first as *mut u8) = 1;
        let granted = huge(&(first..first + 1)) > 0;
        libc::munmap(start, LEN);
        granted
    }
}

/// One byte in the middle: all that it takes to make a huge page resident.
fn touch(buffer: &mut DirectBytesMut) {
    let middle = buffer.capacity() / 2;
    buffer.put_bytes(1, 1);
    buffer.resize(middle, 0);
    buffer.put_bytes(1, 1);
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(usize),
    Drop(Index),
    DropAll,
    Trim,
    SetLimit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = prop_oneof![
        2 => 1..64_usize << 10,
        2 => 1..LIMIT,
        4 => (1..13_usize).prop_map(|n| n * HUGE),
        2 => (1..13_usize, 0..3_usize).prop_map(|(n, side)| n * HUGE + side - 1),
    ];
    let step = prop_oneof![
        20 => sizes.prop_map(Step::Reserve),
        12 => any::<Index>().prop_map(Step::Drop),
        1 => Just(Step::DropAll),
        1 => Just(Step::Trim),
        2 => (0..=LIMIT).prop_map(Step::SetLimit),
    ];
    vec(step, 1..40)
}

proptest! {
    #![proptest_config(cases(8))]

    /// What is resident never passes what is committed, and that never the limit, though a byte makes 2 MiB resident.
    #[test]
    fn the_limit_holds(steps in steps()) {
        let pool = pool(LIMIT);
        let range = pool.address_range();
        let mut buffers = Vec::new();
        let mut before = pool.stats();
        for step in steps {
            match step {
                Step::Reserve(n) => {
                    if let Ok(mut buffer) = pool.try_reserve(n) {
                        touch(&mut buffer);
                        buffers.push(buffer);
                    }
                }
                Step::Drop(_) if buffers.is_empty() => {}
                Step::Drop(index) => drop(buffers.swap_remove(index.index(buffers.len()))),
                Step::DropAll => buffers.clear(),
                Step::Trim => drop(pool.trim()),
                Step::SetLimit(limit) => pool.set_limit(limit)?,
            }
            // The reclaimer may be paying a debt at this moment: what is resident lies between two looks at the books.
            let stats = pool.stats();
            let resident = resident(&range);
            let most = stats.committed + stats.metadata;
            prop_assert!(resident <= most, "{resident} resident, {stats:?}");
            let most = stats.limit.max(before.committed);
            prop_assert!(stats.committed <= most, "more than {most}: {stats:?}");
            before = stats;
        }
    }
}

#[test]
fn large_buffers_have_them_and_small_ones_do_not() {
    let granted = granted();
    let pool = pool(LIMIT);
    let range = pool.address_range();
    for n in [4096, 16 << 10, MIB, HUGE + HUGE / 2, 3 * MIB] {
        let mut buffer = pool.try_reserve(n).unwrap();
        touch(&mut buffer);
    }
    assert_eq!(huge(&range), 0, "a size that is no whole huge page has one");
    for n in [HUGE, 2 * HUGE, 8 * MIB] {
        let mut buffer = pool.try_reserve(n).unwrap();
        assert_eq!(buffer.capacity(), n);
        touch(&mut buffer);
        assert!(!granted || huge(&range) >= HUGE as u64);
        drop(buffer);
        assert!(pool.trim() >= n);
        assert_eq!(huge(&range), 0, "given back in part");
        assert!(resident(&range) <= pool.stats().metadata);
    }
    // The top class is the limit itself.
    let mut all = pool.try_reserve(LIMIT).unwrap();
    touch(&mut all);
    assert!(!granted || huge(&range) >= 2 * HUGE as u64);
    assert!(resident(&range) <= LIMIT as u64 + pool.stats().metadata);
}

/// Ahead of their use, all of them.
#[test]
fn prefaulted() {
    let granted = granted();
    let pool = pool(LIMIT);
    pool.prefault(2 * HUGE, 3).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.queued, stats.live), (6 * HUGE as u64, 0));
    let range = pool.address_range();
    let resident = resident(&range);
    assert!((stats.queued..=stats.queued + stats.metadata).contains(&resident));
    // The kernel may have had some, but not that many.
    assert!(!granted || huge(&range) >= HUGE as u64);
}

/// Not asked for, not given.
#[test]
fn none_by_default() {
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    let mut buffer = pool.try_reserve(4 * HUGE).unwrap();
    touch(&mut buffer);
    assert_eq!(huge(&pool.address_range()), 0);
}

/// Limits that are no multiple of anything, and pools side by side.
#[test]
fn odd_limits() {
    for limit in [0, 4096, HUGE - 1, HUGE, 5 * HUGE + 12_345, 64 * MIB + 4096] {
        let pools = [pool(limit), pool(limit)];
        for pool in &pools {
            let n = pool.max_reserve();
            assert_eq!(n, limit / 4096 * 4096);
            if n > 0 {
                let mut all = pool.try_reserve(n).unwrap();
                touch(&mut all);
                let most = n as u64 + pool.stats().metadata;
                assert!(resident(&pool.address_range()) <= most);
            }
        }
    }
}
