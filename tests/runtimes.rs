//! One pool, and the runtimes and threads that come and go around it; and a machine that has no address space for it.

#[path = "support/watchdog.rs"]
mod watchdog;

use std::thread;
use std::time::Duration;

use offheap::Pool;
use tokio::runtime::{Builder, Runtime};

use watchdog::within;

const PAGE: usize = 4096;

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}

/// Reserves and drops, with more tasks than there is room for; answers how many were served.
async fn work(pool: Pool) -> usize {
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for n in 1..20 {
                    let buffer = pool.reserve(n * 700 + number).await.unwrap();
                    tokio::task::yield_now().await;
                    drop(buffer);
                }
            })
        })
        .collect();
    let mut served = 0;
    for task in tasks {
        task.await.unwrap();
        served += 1;
    }
    served
}

/// A plain thread, a current-thread runtime and two multi-thread ones share a pool that was built in none of them.
#[test]
fn a_pool_used_from_everywhere() {
    within(60, || {
        let pool = Pool::builder().limit(8 * PAGE).build().unwrap();
        thread::scope(|scope| {
            let runtimes = [0, 1, 2].map(|workers| {
                let pool = pool.clone();
                scope.spawn(move || match workers {
                    0 => current_thread().block_on(work(pool)),
                    _ => multi_thread(workers).block_on(work(pool)),
                })
            });
            for n in 1..200 {
                drop(pool.reserve_blocking(n * 100).unwrap());
            }
            for runtime in runtimes {
                assert_eq!(runtime.join().unwrap(), 16);
            }
        });
        assert_eq!((pool.stats().live, pool.stats().waiting), (0, 0));
    });
}

/// A runtime ends while its tasks wait: their places are given up, and whoever waits elsewhere is served.
#[test]
fn a_runtime_that_ends_with_waiters_parked() {
    within(60, || {
        let pool = Pool::builder().limit(PAGE).build().unwrap();
        let held = pool.try_reserve(PAGE).unwrap();
        for _ in 0..3 {
            let runtime = multi_thread(2);
            for _ in 0..10 {
                runtime.spawn(pool.reserve_owned(PAGE));
            }
            while pool.stats().waiting < 10 {
                thread::yield_now();
            }
            runtime.shutdown_timeout(Duration::from_secs(10));
            assert_eq!(pool.stats().waiting, 0);
        }
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || pool.reserve_blocking(PAGE).map(drop)
        });
        drop(held);
        waiter.join().unwrap().unwrap();
        assert_eq!(pool.stats().cancelled_total, 30);
    });
}

/// The pool outlives the runtime that it was built in; memory still ages, on a thread now.
#[test]
fn a_pool_that_outlives_its_runtime() {
    within(60, || {
        let runtime = current_thread();
        let pool = runtime.block_on(async {
            let idle = Duration::from_millis(200);
            let pool = Pool::builder()
                .limit(16 * PAGE)
                .decommit_after(idle)
                .build()
                .unwrap();
            drop(pool.reserve(PAGE).await.unwrap());
            pool
        });
        drop(runtime);
        drop(pool.try_reserve(16 * PAGE).unwrap());
        while pool.stats().committed > 0 {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(current_thread().block_on(work(pool)), 16);
    });
}

/// The name of the variable that makes the test below the child.
#[cfg(target_os = "linux")]
const CHILD: &str = "OFFHEAP_TEST_WITHOUT_ADDRESS_SPACE";

/// Under `ulimit -v` a pool that is too large is refused with advice; a smaller one works.
#[cfg(target_os = "linux")]
#[test]
fn an_address_space_that_can_not_be_had() {
    if std::env::var_os(CHILD).is_some() {
        let pool = Pool::builder().name("huge").limit(1 << 30).build();
        // From the heap nothing is reserved ahead.
        if !cfg!(offheap_heap) {
            println!("{}", pool.unwrap_err());
        }
        let pool = Pool::builder().limit(1 << 20).build().unwrap();
        assert!(pool.try_reserve(1 << 20).is_ok());
        return;
    }
    let child = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["an_address_space_that_can_not_be_had", "--exact"])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}{errors}");
    if !cfg!(offheap_heap) {
        for part in [
            "\"huge\"",
            "address space",
            "ulimit -v",
            "max_limit = 1073741824",
        ] {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
    }
}
