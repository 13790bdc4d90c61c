//! A reclaimer that is dead, dies, is slow or gets no turn; runtimes that are dropped at any moment; threads that end with full
//! magazines; hooks and wakers that panic. Nobody waits for ever, and the books stay exact.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/panics.rs"]
mod panics;
#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::future::Future;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BufMut;
use futures::executor::block_on;
use offheap::test_util::{Faults, Point, When};
use offheap::{DirectBytesMut, Pool, PoolBuilder};
use tokio::runtime::{Builder, Runtime};

use by_hand::ByHand;
use panics::attempt;
use random::Random;
use watchdog::within;

const PAGE: usize = 4096;
const LIMIT: usize = 64 * PAGE;

/// The reclaimer's panics are meant, and so not printed.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let meant = info.payload().downcast_ref::<&str>();
            if meant.is_none_or(|text| !text.contains("asked for")) {
                before(info);
            }
        }));
    });
}

fn builder(faults: &Faults) -> PoolBuilder {
    silence();
    Pool::builder()
        .limit(LIMIT)
        .decommit_after(Duration::from_millis(200))
        .faults(faults.clone())
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn fill(pool: &Pool, n: usize) -> Vec<DirectBytesMut> {
    std::iter::from_fn(|| pool.try_reserve(n).ok()).collect()
}

/// All that there is, in any order, by threads of their own; then nothing is left.
fn work(pool: &Pool) {
    let ran = AtomicU64::new(0);
    thread::scope(|scope| {
        for (seed, n) in [(1, 300), (2, 5000), (3, 16 * PAGE), (4, LIMIT)] {
            let ran = &ran;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..100 {
                    let mut buffer = pool.reserve_blocking(1 + random.below(n)).unwrap();
                    buffer.put_u8(1);
                    assert!(pool.stats().committed <= LIMIT as u64);
                    if random.below(4) == 0 {
                        buffer.on_clean(|_| ());
                    }
                    ran.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(ran.load(Ordering::Relaxed), 400);
    wait_until("hooks are run", || pool.stats().live == 0);
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.waiting), (0, 0), "{stats:?}");
    assert_eq!(stats.reserved_total, stats.reclaimed_total);
}

/// How a pool is built: where its reclaimer is a thread, and where it is a task.
fn both(test: impl Fn(&dyn Fn(PoolBuilder) -> Pool) + Send + Sync + 'static) {
    within(240, move || {
        test(&|builder| builder.build().unwrap());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        test(&|builder| {
            let _entered = runtime.enter();
            builder.build().unwrap()
        });
    });
}

/// It panics at each turn, is started again eight times, and is given up: the others do its work.
#[test]
fn a_dead_reclaimer() {
    both(|build| {
        let faults = Faults::new(1);
        faults.set(Point::Turn, When::Always);
        let pool = build(builder(&faults));
        wait_until("the reclaimer is given up", || {
            faults.struck(Point::Turn) == 9
        });
        work(&pool);
        assert_eq!(faults.struck(Point::Turn), 9, "one more than there may be");
        let last = pool.try_reserve(PAGE).unwrap();
        let closed = thread::spawn({
            let pool = pool.clone();
            move || block_on(pool.closed())
        });
        drop(last);
        closed.join().unwrap();
    });
}

/// It panics at one of its turns and is started again: what is queued still goes back in the end.
#[test]
fn a_reclaimer_that_dies_once() {
    both(|build| {
        for nth in [1, 2, 3, 7] {
            let faults = Faults::new(1);
            faults.set(Point::Turn, When::Nth(nth));
            let pool = build(builder(&faults));
            drop(fill(&pool, PAGE));
            // So many turns need so many rings.
            while faults.struck(Point::Turn) == 0 {
                let mut buffer = pool.reserve_blocking(PAGE).unwrap();
                buffer.on_clean(|_| ());
                drop(buffer);
                thread::sleep(Duration::from_millis(1));
            }
            work(&pool);
            wait_until("memory goes back", || pool.stats().committed == 0);
        }
    });
}

/// Late at every turn: whoever waits does its work, and it comes round in the end.
#[test]
fn a_slow_reclaimer() {
    both(|build| {
        let faults = Faults::new(1);
        faults.slow_reclaimer(Duration::from_millis(20));
        let pool = build(builder(&faults));
        work(&pool);
        wait_until("memory goes back", || pool.stats().committed == 0);
    });
}

/// Rung and never there, from one moment to another: as above, but nothing ages meanwhile, and hooks are run by who waits.
#[test]
fn a_stalled_reclaimer() {
    both(|build| {
        let faults = Faults::new(1);
        let pool = build(builder(&faults));
        faults.stall_reclaimer(true);
        let mut buffer = pool.try_reserve(LIMIT).unwrap();
        let ran = Arc::new(AtomicU64::new(0));
        buffer.on_clean({
            let ran = ran.clone();
            move |_| _ = ran.fetch_add(1, Ordering::SeqCst)
        });
        // Whatever turn was under way is over by then.
        thread::sleep(Duration::from_millis(300));
        drop(buffer);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(
            (ran.load(Ordering::SeqCst), pool.stats().live),
            (0, LIMIT as u64)
        );
        drop(pool.reserve_blocking(LIMIT).unwrap());
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        thread::sleep(Duration::from_millis(500));
        assert_eq!(pool.stats().queued, LIMIT as u64, "someone had a turn");
        faults.stall_reclaimer(false);
        wait_until("memory goes back", || pool.stats().committed == 0);
        work(&pool);
    });
}

fn runtime(random: &mut Random) -> Runtime {
    let mut builder = match random.below(2) {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(2).enable_all().build().unwrap()
}

async fn come_and_go(pool: Pool, mut random: Random) {
    loop {
        let most = [300, PAGE, 8 * PAGE, LIMIT][random.below(4)];
        let n = 1 + random.below(most);
        match random.below(5) {
            0 => drop(pool.try_reserve(n)),
            1 => {
                let patience = Duration::from_micros(random.below(300) as u64);
                drop(tokio::time::timeout(patience, pool.reserve(n)).await);
            }
            2 => drop(pool.reserve_many([n / 4 + 1, 300, n / 8 + 1]).await),
            3 => {
                let mut buffer = pool.reserve(n).await.unwrap();
                buffer.on_clean(|memory| memory.fill(0));
                drop(buffer.freeze());
            }
            _ => {
                let buffer = pool.reserve(n).await.unwrap().freeze();
                let clone = buffer.clone();
                tokio::task::yield_now().await;
                drop((buffer, clone));
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Runtimes full of tasks that hold, wait, and have just been granted, are dropped after a random number of steps; one of them had the
/// reclaimer. What they had is there again for whoever waits elsewhere.
#[test]
fn runtimes_dropped_at_random_moments() {
    within(240, || {
        for seed in 0..60 {
            let mut random = Random::new(seed);
            let faults = Faults::new(seed);
            let (first, second) = (runtime(&mut random), runtime(&mut random));
            let pool = first.block_on(async { builder(&faults).build().unwrap() });
            if random.below(2) == 0 {
                faults.set(Point::Reserve, When::Chance(0.1));
            }
            for runtime in [&first, &second] {
                for _ in 0..8 {
                    let task = Random::new(random.below(1 << 30) as u64);
                    runtime.spawn(come_and_go(pool.clone(), task));
                }
            }
            let outside = thread::spawn({
                let pool = pool.clone();
                move || (0..20).for_each(|_| drop(pool.reserve_blocking(LIMIT / 2).unwrap()))
            });
            let mut runtimes = [first, second];
            if random.below(2) == 0 {
                runtimes.swap(0, 1);
            }
            for runtime in runtimes {
                let steps = random.below(200);
                runtime.block_on(async {
                    for _ in 0..steps {
                        tokio::task::yield_now().await;
                    }
                });
                if random.below(2) == 0 {
                    drop(runtime);
                } else {
                    runtime.shutdown_timeout(Duration::from_secs(10));
                }
            }
            outside.join().unwrap();
            wait_until("all buffers come back", || pool.stats().live == 0);
            let stats = pool.stats();
            assert_eq!(
                (stats.buffers, stats.waiting),
                (0, 0),
                "seed {seed}: {stats:?}"
            );
            assert_eq!(stats.reserved_total, stats.reclaimed_total, "seed {seed}");
            drop(pool.reserve_blocking(LIMIT).unwrap());
            wait_until("memory goes back", || pool.stats().committed == 0);
        }
    });
}

/// What ended threads had queued for themselves is found by who needs it, by another size and in one piece: those that returned and
/// those that panicked.
#[test]
fn threads_that_end_with_full_magazines() {
    within(120, || {
        let faults = Faults::new(1);
        faults.stall_reclaimer(true);
        let pool = builder(&faults).build().unwrap();
        for round in 0..50 {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let pool = pool.clone();
                    thread::spawn(move || {
                        // So often that the thread has its own stack.
                        for _ in 0..200 {
                            drop(pool.try_reserve(PAGE));
                        }
                        let held: Vec<_> =
                            (0..8).map_while(|_| pool.try_reserve(PAGE).ok()).collect();
                        let panics = thread % 2 == 0 && round % 2 == 0;
                        let ended = attempt(move || {
                            let _held = held;
                            assert!(!panics, "meant to panic");
                        });
                        assert_eq!(ended.is_none(), panics);
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(pool.stats().live, 0);
            assert!(pool.stats().queued > 0);
            let all = pool
                .try_reserve(LIMIT)
                .expect("queued memory is out of reach");
            assert_eq!(pool.stats().committed, all.block_len() as u64);
        }
        faults.clear();
    });
}

struct Panics(AtomicU64);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a waker, as asked for");
    }
}

/// A waker's panic stays where it is: the drop that woke goes on, and so do the others who wait.
#[test]
fn wakers_that_panic() {
    within(60, || {
        let pool = builder(&Faults::new(1)).build().unwrap();
        let panics = Arc::new(Panics(AtomicU64::new(0)));
        let waker = Waker::from(panics.clone());
        let mut cx = Context::from_waker(&waker);
        for round in 1..=100 {
            let mut held = fill(&pool, PAGE);
            let mut bad: Vec<_> = (0..3).map(|_| Box::pin(pool.reserve(PAGE))).collect();
            assert!(bad
                .iter_mut()
                .all(|waiter| waiter.as_mut().poll(&mut cx).is_pending()));
            let mut good = ByHand::new(Box::pin(pool.reserve(PAGE)));
            assert!(good.poll().is_pending());
            // Each drop hands its block to the head of the queue, and wakes it.
            held.truncate(held.len() - 4);
            assert_eq!(panics.0.load(Ordering::SeqCst), 3 * round);
            assert!(good.take_woken(), "a lost wake-up");
            assert!(matches!(good.poll(), Poll::Ready(Ok(_))));
            assert!(bad
                .iter_mut()
                .all(|waiter| waiter.as_mut().poll(&mut cx).is_ready()));
            drop((bad, good, held));
            let stats = pool.stats();
            assert_eq!((stats.live, stats.waiting), (0, 0));
        }
    });
}

/// Hooks, and who is told of them, panic while there is no reclaimer: each is counted, and the memory is there again.
#[test]
fn hooks_that_panic_where_no_reclaimer_is() {
    both(|build| {
        const HOOKS: u64 = 200;
        let faults = Faults::new(1);
        faults.set(Point::Turn, When::Always);
        let pool = build(builder(&faults).on_fault(|_| panic!("a handler, as asked for")));
        wait_until("the reclaimer is given up", || {
            faults.struck(Point::Turn) == 9
        });
        for _ in 0..HOOKS {
            let mut buffer = pool.reserve_blocking(LIMIT).unwrap();
            buffer.on_clean(|_| panic!("a hook, as asked for"));
        }
        wait_until("hooks are run", || pool.stats().live == 0);
        let stats = pool.stats();
        assert_eq!((stats.hook_panics_total, stats.waiting), (HOOKS, 0));
        assert_eq!(
            (stats.reserved_total, stats.reclaimed_total),
            (HOOKS, HOOKS)
        );
    });
}
