//! Memory ahead of its use: exact books, no page faults later, and what ageing leaves of it.

#[path = "support/by_hand.rs"]
mod by_hand;
#[cfg(all(target_os = "linux", not(offheap_heap)))]
#[path = "support/smaps.rs"]
mod smaps;

use std::thread;
use std::time::{Duration, Instant};

use bytes::BufMut;
use offheap::{DirectBytesMut, Pool, TryReserveError};

use by_hand::ByHand;

const BLOCK: usize = 16 << 10;
const COUNT: usize = 64;
const IDLE: Duration = Duration::from_millis(400);
/// Far more than the slowest machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

fn books(pool: &Pool) -> (usize, usize, usize) {
    let stats = pool.stats();
    assert!(stats.peak_live >= stats.live);
    (
        stats.committed as usize,
        stats.queued as usize,
        stats.live as usize,
    )
}

#[test]
fn it_is_queued_and_charged_and_counts_once() {
    let pool = pool(4 << 20);
    for _ in 0..2 {
        pool.prefault(BLOCK, COUNT).unwrap();
        assert_eq!(books(&pool), (COUNT * BLOCK, COUNT * BLOCK, 0));
    }
    assert_eq!(pool.stats().peak_live, 0);
    #[cfg(all(target_os = "linux", not(offheap_heap)))]
    {
        let stats = pool.stats();
        let resident = smaps::resident(&pool.address_range());
        assert!((stats.committed..=stats.committed + stats.metadata).contains(&resident));
    }
    let held: Vec<_> = (0..COUNT)
        .map(|_| pool.try_reserve(BLOCK).unwrap())
        .collect();
    assert_eq!(books(&pool), (COUNT * BLOCK, 0, COUNT * BLOCK));
    // More than is queued: only what is missing.
    pool.prefault(BLOCK, 2).unwrap();
    drop(held);
    pool.prefault(BLOCK, COUNT + 5).unwrap();
    assert_eq!(books(&pool), ((COUNT + 5) * BLOCK, (COUNT + 5) * BLOCK, 0));
    assert_eq!(pool.trim(), (COUNT + 5) * BLOCK);
    assert_eq!(books(&pool), (0, 0, 0));
}

/// Small blocks come in whole spans; zero needs nothing.
#[test]
fn all_sizes() {
    for n in [1, 300, 1000, 4096, 5000, 100_000, 1 << 20] {
        let pool = pool(8 << 20);
        pool.prefault(n, 7).unwrap();
        let before = pool.stats();
        let held: Vec<_> = (0..7).map(|_| pool.try_reserve(n).unwrap()).collect();
        let after = pool.stats();
        assert_eq!(before.committed, after.committed, "{n} bytes");
        assert_eq!(after.live, before.queued - after.queued);
        let blank = |buffer: &DirectBytesMut| buffer.is_empty() && buffer.capacity() >= n;
        assert!(held.iter().all(blank));
    }
    let pool = pool(0);
    pool.prefault(0, usize::MAX).unwrap();
    pool.prefault(usize::MAX, 0).unwrap();
    assert_eq!(books(&pool), (0, 0, 0));
}

/// Whoever reserves then and writes to all of it has no page fault for it, on any thread.
#[cfg(all(target_os = "linux", not(offheap_heap)))]
#[test]
fn no_page_faults_afterwards() {
    fn faults() -> i64 {
        // SAFETY: all-zero bytes are a valid `rusage`, and the call writes to that alone.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let done = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
        assert_eq!(done, 0);
        usage.ru_minflt
    }
    /// Page faults of writing to `COUNT` new buffers.
    fn use_all(pool: &Pool) -> i64 {
        let mut held = Vec::with_capacity(COUNT);
        // What is not the pool's is there before the count begins.
        held.extend((0..COUNT / 8).map(|_| pool.try_reserve(BLOCK).unwrap()));
        held.iter_mut()
            .for_each(|buffer| buffer.put_bytes(1, BLOCK));
        held.clear();
        let before = faults();
        held.extend((0..COUNT).map(|_| pool.try_reserve(BLOCK).unwrap()));
        held.iter_mut()
            .for_each(|buffer| buffer.put_bytes(1, BLOCK));
        faults() - before
    }
    let pages = (COUNT * BLOCK / 4096) as i64;
    let cold = pool(8 << 20);
    assert!(use_all(&cold) >= pages / 2, "nothing to save");
    let warm = pool(8 << 20);
    warm.prefault(BLOCK, 2 * COUNT).unwrap();
    for _ in 0..2 {
        let faults = thread::scope(|scope| scope.spawn(|| use_all(&warm)).join().unwrap());
        assert!(faults < pages / 16, "{faults} page faults");
    }
    assert_eq!(warm.stats().committed as usize, 2 * COUNT * BLOCK);
}

/// Several threads find it, and none commits more.
#[test]
fn all_threads_find_it() {
    let pool = pool(64 << 20);
    pool.prefault(BLOCK, 8).unwrap();
    let held: Vec<_> = (0..8)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || pool.try_reserve(BLOCK).unwrap())
        })
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(books(&pool), (8 * BLOCK, 0, 8 * BLOCK));
    drop(held);
}

#[test]
fn it_makes_room_among_what_is_queued_in_other_sizes() {
    let pool = pool(COUNT * BLOCK);
    drop(
        (0..256)
            .map(|_| pool.try_reserve(4096).unwrap())
            .collect::<Vec<_>>(),
    );
    assert_eq!(pool.stats().queued as usize, 256 * 4096);
    pool.prefault(BLOCK, COUNT).unwrap();
    assert_eq!(books(&pool), (COUNT * BLOCK, COUNT * BLOCK, 0));
    assert_eq!(
        pool.classes()
            .iter()
            .filter(|class| class.queued > 0)
            .count(),
        1
    );
}

#[test]
fn errors_say_why_and_commit_nothing() {
    let pool = pool(COUNT * BLOCK);
    for (n, count) in [
        (BLOCK, COUNT + 1),
        (BLOCK, usize::MAX),
        (COUNT * BLOCK + 1, 1),
        (usize::MAX, usize::MAX),
    ] {
        let error = pool.prefault(n, count).unwrap_err();
        assert!(matches!(error, TryReserveError::TooLarge { .. }), "{error}");
        assert_eq!(books(&pool), (0, 0, 0));
    }
    let held = pool.try_reserve(BLOCK).unwrap();
    let error = pool.prefault(BLOCK, COUNT).unwrap_err();
    assert!(
        matches!(error, TryReserveError::Exhausted { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains(&(COUNT * BLOCK).to_string()),
        "{error}"
    );
    assert_eq!(books(&pool), (BLOCK, 0, BLOCK));
    // It passes nobody who waits.
    let mut waiting = ByHand::new(Box::pin(pool.reserve(COUNT * BLOCK)));
    assert!(waiting.poll().is_pending());
    let error = pool.prefault(BLOCK, 1).unwrap_err();
    assert!(
        matches!(error, TryReserveError::Exhausted { .. }),
        "{error}"
    );
    drop(waiting);
    pool.prefault(BLOCK, 1).unwrap();
    drop(held);
    pool.close();
    for (n, count) in [(BLOCK, 1), (0, 1)] {
        let error = pool.prefault(n, count).unwrap_err();
        assert!(matches!(error, TryReserveError::Closed { .. }), "{error}");
    }
    assert_eq!(books(&pool), (0, 0, 0));
}

/// Ageing takes what no one uses, not before its time, and leaves the floor.
#[test]
fn ageing_leaves_the_floor() {
    for floor in [0, COUNT / 2 * BLOCK, COUNT * BLOCK] {
        let pool = Pool::builder()
            .limit(4 << 20)
            .decommit_after(IDLE)
            .floor(floor)
            .build()
            .unwrap();
        let started = Instant::now();
        pool.prefault(BLOCK, COUNT).unwrap();
        while pool.stats().committed > floor as u64 {
            assert!(started.elapsed() < PATIENCE, "{:?}", pool.stats());
            thread::sleep(Duration::from_millis(10));
        }
        let early = floor < COUNT * BLOCK && started.elapsed() < IDLE;
        assert!(!early, "went back too soon");
        thread::sleep(2 * IDLE);
        assert_eq!(books(&pool), (floor, floor, 0));
    }
}

/// Hooks, wiping and the like know nothing of it: what is prefaulted is as blank as fresh memory.
#[test]
fn it_reads_as_zero() {
    let pool = Pool::builder()
        .limit(1 << 20)
        .zero(offheap::Zero::OnReclaim)
        .build()
        .unwrap();
    pool.prefault(5000, 12).unwrap();
    for _ in 0..12 {
        let mut buffer = pool.try_reserve(5000).unwrap();
        buffer.resize(5000, 0);
        assert!(buffer.iter().all(|&byte| byte == 0));
    }
}
