//! After `fork` the memory is the parent's and the child's own copy. A child must not use its parent's pools; one that only reads and
//! drops the buffers it inherited, or exits, does the parent no harm.
#![cfg(target_os = "linux")]

use bytes::BufMut;
use offheap::{Cleaned, DirectBytes, Pool, Zero};

#[path = "support/starved.rs"]
mod starved;

use starved::starved;

/// Marks the process in which this test runs alone: a child of a process with other threads could find any lock taken.
const ALONE: &str = "OFFHEAP_FORKS";

fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    false
}

/// Runs `child` in a child process, and answers how that ended.
fn in_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only runs `child` and ends; the test harness waits for us in another thread and holds no lock of ours.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends this process at once, without the harness's own end.
            unsafe { libc::_exit(done.unwrap_or(101)) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: our own child, and a place for its status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status), "the child was killed: {status:#x}");
            libc::WEXITSTATUS(status)
        }
    }
}

fn buffers(pool: &Pool) -> Vec<DirectBytes> {
    [256, 3000, 4096, 100_000]
        .iter()
        .flat_map(|&n| (0..4).map(move |i| (n, i)))
        .map(|(n, i)| {
            let mut buffer = pool.try_reserve(n).unwrap();
            buffer.put_bytes(i as u8 + 1, n);
            buffer.freeze()
        })
        .collect()
}

fn assert_unharmed(pool: &Pool, held: Vec<DirectBytes>) {
    for (i, buffer) in held.iter().enumerate() {
        let stamp = i as u8 % 4 + 1;
        assert!(
            buffer.iter().all(|byte| *byte == stamp),
            "the child changed it"
        );
    }
    // Whoever wants more than there is wipes what was dropped.
    assert!(pool.try_reserve(1 << 20).is_err());
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.waiting), (held.len() as u64, 0));
    drop(held);
    let all = pool.try_reserve(1 << 20).expect("everything is there");
    assert_eq!(pool.stats().live, all.block_len() as u64);
    // A drop would leave it live until someone wipes it, and there is no one.
    assert_eq!(all.clean(), Cleaned::Now);
    pool.trim();
    assert_eq!(pool.stats().committed, 0);
}

#[test]
fn a_child_that_drops_and_exits_does_no_harm() {
    if !alone("a_child_that_drops_and_exits_does_no_harm") {
        return;
    }
    for zero in [Zero::Never, Zero::OnReclaim] {
        let (pool, _runtime) = starved(Pool::builder().limit(1 << 20).zero(zero));
        // So often that this thread has its own stack, which is copied too.
        for _ in 0..500 {
            drop(pool.try_reserve(4096).unwrap());
        }
        let held = buffers(&pool);
        // It drops what it inherited, the pool's handles last.
        let status = in_child(|| {
            let (pool, held) = (pool.clone(), held.clone());
            let right = held
                .iter()
                .zip((1..=4).cycle())
                .all(|(b, stamp)| b.iter().all(|byte| *byte == stamp));
            drop((held, pool));
            i32::from(!right)
        });
        assert_eq!(status, 0);
        // It drops the last handle of a buffer, so that the block is queued in its copy of the pool.
        let mut held = held;
        let last = held.pop().unwrap();
        let again = last.clone();
        let status = in_child(move || {
            drop((last, again));
            0
        });
        assert_eq!(status, 0);
        // The parent's handles to it went with the closure.
        assert_unharmed(&pool, held);
    }
}

#[test]
fn a_child_may_build_a_pool_of_its_own() {
    if !alone("a_child_may_build_a_pool_of_its_own") {
        return;
    }
    let (pool, _runtime) = starved(Pool::builder().limit(1 << 20));
    let held = buffers(&pool);
    let status = in_child(|| {
        let own = Pool::builder().limit(1 << 20).build().unwrap();
        let full: Vec<_> = std::iter::from_fn(|| own.try_reserve(4096).ok()).collect();
        let count = full.len();
        drop(full);
        drop(own.reserve_blocking(1 << 20).unwrap());
        i32::from(count != 256)
    });
    assert_eq!(status, 0);
    assert_unharmed(&pool, held);
}
