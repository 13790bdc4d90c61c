//! Queued memory goes back to the OS when no one has used it for a while, and not before; nothing runs when there is none.

#[cfg(target_os = "linux")]
#[path = "support/smaps.rs"]
mod smaps;

use std::thread;
use std::time::{Duration, Instant};

use bytes::BufMut;
use offheap::Pool;

const IDLE: Duration = Duration::from_millis(400);
/// Far more than the slowest machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes to `count` buffers of `n` bytes, and drops them all.
fn burst(pool: &Pool, n: usize, count: usize) {
    let mut buffers: Vec<_> = (0..count).map(|_| pool.try_reserve(n).unwrap()).collect();
    for buffer in &mut buffers {
        buffer.put_bytes(1, n);
    }
}

fn until_nothing_is_committed(pool: &Pool) {
    let started = Instant::now();
    while pool.stats().committed > 0 {
        assert!(
            started.elapsed() < PATIENCE,
            "still there: {:?}",
            pool.stats()
        );
        thread::sleep(Duration::from_millis(20));
    }
    #[cfg(target_os = "linux")]
    {
        let resident = smaps::resident(&pool.address_range());
        assert!(
            resident <= pool.stats().metadata,
            "{resident} bytes are resident"
        );
    }
}

/// By the reclaimer's thread, for blocks of small classes, middling and large ones.
#[test]
fn what_no_one_uses_goes_back() {
    let pool = Pool::builder()
        .limit(16 << 20)
        .decommit_after(IDLE)
        .build()
        .unwrap();
    for _ in 0..2 {
        let started = Instant::now();
        burst(&pool, 300, 1000);
        burst(&pool, 16 << 10, 200);
        burst(&pool, 1 << 20, 4);
        assert!(pool.stats().queued > 4 << 20);
        until_nothing_is_committed(&pool);
        assert!(started.elapsed() >= IDLE, "went back too soon");
    }
}

/// By the reclaimer's task.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_no_one_uses_goes_back_in_a_runtime() {
    let pool = Pool::builder()
        .limit(16 << 20)
        .decommit_after(IDLE)
        .build()
        .unwrap();
    tokio::task::spawn_blocking(move || {
        burst(&pool, 4096, 100);
        until_nothing_is_committed(&pool);
    })
    .await
    .unwrap();
}

/// What is in use all the time stays.
#[test]
fn what_is_used_stays() {
    let pool = Pool::builder()
        .limit(1 << 20)
        .decommit_after(IDLE)
        .build()
        .unwrap();
    burst(&pool, 64 << 10, 8);
    let started = Instant::now();
    let mut faults = 0;
    while started.elapsed() < 4 * IDLE {
        let before = pool.stats().committed;
        burst(&pool, 64 << 10, 2);
        faults += u32::from(before < 2 * (64 << 10));
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(faults, 0, "memory in use was given back");
    let stats = pool.stats();
    assert!(
        stats.committed < 8 * (64 << 10),
        "the rest was not: {stats:?}"
    );
}

/// With everything live there is nothing to age, and the reclaimer sleeps; the first drop wakes it.
#[test]
fn the_first_drop_wakes_the_reclaimer() {
    let pool = Pool::builder()
        .limit(1 << 20)
        .decommit_after(IDLE)
        .build()
        .unwrap();
    let held = pool.try_reserve(64 << 10).unwrap();
    thread::sleep(3 * IDLE);
    drop(held);
    until_nothing_is_committed(&pool);
}

#[test]
fn trim_gives_back_at_once() {
    let pool = Pool::builder().limit(16 << 20).build().unwrap();
    burst(&pool, 1000, 100);
    burst(&pool, 100_000, 10);
    let kept = pool.try_reserve(1000).unwrap();
    let before = pool.stats();
    let freed = pool.trim() as u64;
    let after = pool.stats();
    assert_eq!(before.committed - after.committed, freed);
    assert_eq!(
        (after.live, after.queued),
        (1024, after.stranded),
        "all but the kept buffer's span"
    );
    drop(kept);
    pool.trim();
    until_nothing_is_committed(&pool);
}

/// Pressure ends the reclaimer's sleep, and what was queued under it is aged as well.
#[test]
fn what_is_left_after_pressure_goes_back() {
    let pool = Pool::builder()
        .limit(16 << 10)
        .decommit_after(IDLE)
        .build()
        .unwrap();
    let held = pool.try_reserve(16 << 10).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.reserve_blocking(4096).unwrap());
        while pool.stats().waiting == 0 {
            thread::yield_now();
        }
        drop(held);
        drop(waiter.join().unwrap());
    });
    until_nothing_is_committed(&pool);
}

/// The clock of a runtime may be a test's.
#[tokio::test(start_paused = true)]
async fn a_paused_clock_ages_nothing_until_it_moves() {
    let hour = Duration::from_secs(3600);
    let pool = Pool::builder()
        .limit(1 << 20)
        .decommit_after(hour)
        .build()
        .unwrap();
    burst(&pool, 16 << 10, 8);
    assert!(pool.stats().queued > 0);
    // The runtime moves a paused clock on to the next timer whenever there is nothing else to do. What comes back is
    // still judged by the pool's own clock, so an hour of the test's does not take away what was used a moment ago.
    tokio::time::sleep(2 * hour).await;
    assert!(pool.stats().queued > 0, "went back too soon");
    assert_eq!(pool.trim(), 8 * (16 << 10));
}

#[test]
fn never_is_a_time_too() {
    let pool = Pool::builder()
        .limit(1 << 20)
        .decommit_after(Duration::MAX)
        .build()
        .unwrap();
    burst(&pool, 16 << 10, 8);
    assert_eq!(pool.stats().queued, 8 * (16 << 10));
    drop(pool);
}

/// A floor stays however long no one uses it, the reclaimer runs no timer for it, and all above it goes within two periods.
#[test]
fn a_floor_stays() {
    const FLOOR: usize = 1 << 20;
    let pool = Pool::builder()
        .limit(16 << 20)
        .page_aligned(true)
        .decommit_after(IDLE)
        .floor(FLOOR)
        .build()
        .unwrap();
    burst(&pool, 16 << 10, 500);
    assert!(pool.stats().queued > 4 << 20);
    let started = Instant::now();
    while pool.stats().committed > FLOOR as u64 {
        assert!(
            started.elapsed() < PATIENCE,
            "still there: {:?}",
            pool.stats()
        );
        thread::sleep(Duration::from_millis(20));
    }
    // Two more periods change nothing.
    thread::sleep(2 * IDLE);
    assert_eq!(pool.stats().committed, FLOOR as u64);
    #[cfg(target_os = "linux")]
    {
        let resident = smaps::resident(&pool.address_range());
        let floor = FLOOR as u64;
        assert!(
            (floor..=floor + pool.stats().metadata).contains(&resident),
            "{resident} bytes are resident"
        );
    }
    // It can be used, by other sizes too, and given back.
    drop(pool.try_reserve(16 << 20).unwrap());
    pool.trim();
    assert_eq!(pool.stats().committed, 0);
}

/// A burst in each period finds the memory of the last one: nothing goes back and nothing is faulted in again, though no burst needs
/// all of it all the time.
#[test]
fn a_burst_in_each_period_finds_its_memory() {
    const N: usize = 16 << 10;
    let pool = Pool::builder()
        .limit(16 << 20)
        .decommit_after(2 * IDLE)
        .build()
        .unwrap();
    burst(&pool, N, 200);
    let first = pool.stats();
    for _ in 0..4 {
        thread::sleep(IDLE);
        burst(&pool, N, 200);
    }
    let stats = pool.stats();
    assert_eq!(stats.committed, first.committed);
    assert_eq!(
        stats.cleaned_bytes_total, 0,
        "was given back, and fetched again"
    );
    until_nothing_is_committed(&pool);
}

/// Fills this thread's magazine, and the part of it that is the thread's own.
fn fill_magazine(pool: &Pool) {
    const N: usize = 4096;
    (0..500).for_each(|_| burst(pool, N, 1));
    burst(pool, N, 60);
    assert!(pool.stats().queued >= 60 * N as u64);
}

/// Nothing stays with a thread that sleeps, or has ended, or is one of a runtime's blocking pool: others find it at once, and it
/// goes back to the OS when no one does.
#[test]
fn nothing_stays_with_a_thread() {
    const LIMIT: usize = 1 << 20;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let builder = || {
        let builder = Pool::builder().limit(LIMIT).decommit_after(IDLE);
        builder.shards(2).build().unwrap()
    };
    // Outside any runtime, so that the reclaimer has a thread.
    let pools = [builder(), builder(), builder()];
    let [sleeps, ended, blocking] = &pools;
    thread::scope(|scope| {
        let (wake, sleep) = std::sync::mpsc::channel::<()>();
        let (filled, is_filled) = std::sync::mpsc::channel();
        scope.spawn(move || {
            fill_magazine(sleeps);
            filled.send(()).unwrap();
            let _ = sleep.recv();
            // Still of use to it.
            fill_magazine(sleeps);
        });
        is_filled.recv().unwrap();
        let fill = |pool: &Pool| {
            let pool = pool.clone();
            move || fill_magazine(&pool)
        };
        thread::spawn(fill(ended)).join().unwrap();
        runtime
            .block_on(runtime.spawn_blocking(fill(blocking)))
            .unwrap();
        for pool in [ended, blocking] {
            let queued = pool.stats().queued as usize;
            let all: Vec<_> = (0..queued / 4096)
                .map(|_| pool.try_reserve(4096).unwrap())
                .collect();
            assert_eq!(pool.stats().cleaned_bytes_total, 0);
            drop(all);
            drop(pool.try_reserve(LIMIT).unwrap());
        }
        thread::spawn(fill(ended)).join().unwrap();
        runtime
            .block_on(runtime.spawn_blocking(fill(blocking)))
            .unwrap();
        pools.iter().for_each(until_nothing_is_committed);
        drop(wake);
    });
}
