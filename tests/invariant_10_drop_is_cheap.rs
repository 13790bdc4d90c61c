//! Invariant 10, drop is cheap and never runs user code: no lock in calm, no system call, no allocation, no panic.
//!
//! Allocations are counted. Locks and system calls are seen by what they leave behind in `/proc`: a thread that waits for
//! a lock switches context, and memory that was given back to the OS faults when it is touched again.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/config.rs"]
mod config;
#[path = "support/counting.rs"]
mod counting;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/starved.rs"]
mod starved;

use std::cell::RefCell;
use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread;

use futures::FutureExt;
use offheap::{DirectBytes, DirectBytesMut, Pool, ReferenceQueue, Zero};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use by_hand::ByHand;
use config::cases;
use counting::allocations;
use sizes::sizes;
use starved::starved;

const LIMIT: usize = 4 << 20;

fn pool() -> Pool {
    Pool::builder().limit(LIMIT).build().unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    TryReserve(usize),
    Reserve(usize),
    Split(Index),
    Freeze(Index),
    Clone(Index),
    Slice(Index),
    IntoMut(Index),
    Drop(Index),
    DropShared(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        4 => sizes(64 << 10).prop_map(Step::TryReserve),
        4 => sizes(64 << 10).prop_map(Step::Reserve),
        1 => index().prop_map(Step::Split),
        2 => index().prop_map(Step::Freeze),
        2 => index().prop_map(Step::Clone),
        2 => index().prop_map(Step::Slice),
        1 => index().prop_map(Step::IntoMut),
        3 => index().prop_map(Step::Drop),
        5 => index().prop_map(Step::DropShared),
    ]
}

/// What a test holds, in room that was made before.
struct Hands {
    unique: Vec<DirectBytesMut>,
    shared: Vec<DirectBytes>,
}

impl Hands {
    fn pick<T>(from: &mut Vec<T>, index: &Index) -> Option<T> {
        (!from.is_empty()).then(|| from.swap_remove(index.index(from.len())))
    }

    fn step(&mut self, pool: &Pool, step: &Step) {
        let Hands { unique, shared } = self;
        match step {
            Step::TryReserve(n) => unique.extend(pool.try_reserve(*n)),
            Step::Reserve(n) => {
                let reserved = pool.reserve(*n).now_or_never();
                unique.push(reserved.expect("there is room").unwrap());
            }
            Step::Split(index) => {
                if let Some(mut buffer) = Self::pick(unique, index) {
                    buffer.resize(buffer.capacity() / 2, 7);
                    unique.push(buffer.split());
                    unique.push(buffer);
                }
            }
            Step::Freeze(index) => {
                if let Some(mut buffer) = Self::pick(unique, index) {
                    buffer.resize(buffer.capacity(), 7);
                    shared.push(buffer.freeze());
                }
            }
            Step::Clone(index) => {
                if let Some(buffer) = Self::pick(shared, index) {
                    shared.push(buffer.clone());
                    shared.push(buffer);
                }
            }
            Step::Slice(index) => {
                if let Some(buffer) = Self::pick(shared, index) {
                    shared.push(buffer.slice(buffer.len() / 2..));
                    shared.push(buffer);
                }
            }
            Step::IntoMut(index) => {
                if let Some(buffer) = Self::pick(shared, index) {
                    match buffer.try_into_mut() {
                        Ok(buffer) => unique.push(buffer),
                        Err(buffer) => shared.push(buffer),
                    }
                }
            }
            Step::Drop(index) => drop(Self::pick(unique, index)),
            Step::DropShared(index) => drop(Self::pick(shared, index)),
        }
    }
}

proptest! {
    #![proptest_config(cases(2))]

    /// Once the sizes have been used, nothing that is done with buffers allocates.
    #[test]
    fn nothing_allocates(steps in vec(step(), 1..60)) {
        let (pool, _runtime) = starved(Pool::builder().limit(64 << 20));
        let mut hands = Hands {
            unique: Vec::with_capacity(200),
            shared: Vec::with_capacity(200),
        };
        let mut run = || {
            let (count, ()) = allocations(|| steps.iter().for_each(|step| hands.step(&pool, step)));
            hands.unique.clear();
            hands.shared.clear();
            count
        };
        // The first time, classes that were never used make their magazines.
        run();
        prop_assert_eq!(run(), 0);
        prop_assert_eq!(pool.stats().live, 0);
    }
}

/// Context switches by this thread's own will, and page faults without I/O.
fn switches_and_faults() -> (u64, u64) {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let switches = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .unwrap();
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The name in brackets may have spaces; minflt is the eighth field after it.
    let fields = stat.rsplit_once(')').unwrap().1;
    let faults = fields.split_ascii_whitespace().nth(7).unwrap();
    (switches.trim().parse().unwrap(), faults.parse().unwrap())
}

/// Other threads take the waiters' lock again and again, which `Debug` does; this one never waits for it. What it queues it
/// gets back as it was: touching it again does not fault.
#[test]
fn calm_needs_no_lock_and_no_system_call() {
    let pool = pool();
    let come_and_go = || {
        for n in [256, 4096, 16 << 10, 64 << 10] {
            let mut buffer = pool.try_reserve(n).unwrap();
            buffer.resize(n, 1);
            let shared = buffer.freeze();
            drop((shared.clone(), shared.slice(1..)));
        }
    };
    for _ in 0..100 {
        come_and_go();
    }
    let (count, ()) = allocations(come_and_go);
    assert_eq!(count, 0);

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::black_box(format!("{pool:?}"));
                }
            });
        }
        let before = switches_and_faults();
        for _ in 0..50_000 {
            come_and_go();
        }
        let after = switches_and_faults();
        done.store(true, Ordering::Relaxed);
        // Neither has to happen at all. One lock in a round would show as a dozen switches.
        let (switches, faults) = (after.0 - before.0, after.1 - before.1);
        assert!(switches < 5, "{switches} context switches");
        assert!(faults < 50, "{faults} page faults");
    });
    assert_eq!(pool.stats().cleaned_bytes_total, 0);
}

/// A drop that serves someone is not calm, but it allocates nothing either.
#[test]
fn a_drop_that_serves_a_waiter_allocates_nothing() {
    let (pool, _runtime) = starved(Pool::builder().limit(64 << 10));
    for n in [300, 4096, 16 << 10] {
        let warm = pool.try_reserve(n).unwrap();
        drop(warm);
        // The same size, and another that has to be cleaned for.
        for wanted in [n, 64 << 10] {
            let mut full: Vec<_> = std::iter::from_fn(|| pool.try_reserve(n).ok()).collect();
            let mut waiter = ByHand::new(Box::pin(pool.reserve(wanted)));
            assert!(waiter.poll().is_pending());
            let (count, ()) = allocations(|| full.clear());
            assert_eq!(count, 0, "{n} for {wanted}");
            assert!(waiter.take_woken());
            assert!(waiter.poll().is_ready());
        }
    }
}

/// Hooks, tokens, weak handles and wiping make a drop longer, but not dear, and none of it is done there.
#[test]
fn marked_drops_allocate_nothing_and_run_nothing() {
    for zero in [Zero::Never, Zero::OnReclaim] {
        let (pool, runtime) = starved(Pool::builder().limit(LIMIT).zero(zero));
        let (mut queue, handle) = ReferenceQueue::new();
        let ran = Arc::new(AtomicBool::new(false));
        let mut weak = Vec::new();
        let mut buffers = Vec::new();
        for n in 0..64 {
            let mut bytes = pool.try_copy_from_slice(&[1; 1000]).unwrap();
            match n % 3 {
                0 => weak.push(bytes.downgrade()),
                1 => bytes.notify(&handle, n),
                _ => bytes.on_clean({
                    let ran = ran.clone();
                    move |_| ran.store(true, Ordering::SeqCst)
                }),
            }
            buffers.push(bytes);
        }
        let (count, ()) = allocations(|| buffers.clear());
        assert_eq!(count, 0, "{zero:?}");
        assert!(!ran.load(Ordering::SeqCst), "user code in a drop");
        assert!(queue.is_empty(), "told in a drop");
        assert!(weak.iter().all(|weak| weak.upgrade().is_none()));
        runtime.block_on(async {
            while pool.stats().live > 0 {
                tokio::task::yield_now().await;
            }
        });
        assert!(ran.load(Ordering::SeqCst) && queue.pop().is_some());
    }
}

/// Waiting allocates nothing: the place in the queue is part of the future.
#[test]
fn waiting_and_giving_up_allocates_nothing() {
    let (pool, _runtime) = starved(Pool::builder().limit(64 << 10));
    let _all = pool.try_reserve(64 << 10).unwrap();
    let waker = futures::task::noop_waker();
    let mut cx = Context::from_waker(&waker);
    for _ in 0..3 {
        let (count, ()) = allocations(|| {
            let mut first = std::pin::pin!(pool.reserve(1000));
            let mut second = std::pin::pin!(pool.reserve_owned(1000));
            assert!(first.as_mut().poll_unpin(&mut cx).is_pending());
            assert!(second.as_mut().poll_unpin(&mut cx).is_pending());
        });
        assert_eq!(count, 0);
    }
    assert_eq!(pool.stats().cancelled_total, 6);
}

/// A waker that panics whatever is done with it.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("the waker's panic");
    }
}

/// A waker that panics keeps nobody else from being woken, and does not unwind into the one who drops.
#[test]
fn a_panicking_waker() {
    let (pool, _runtime) = starved(Pool::builder().limit(64 << 10));
    for wanted in [16 << 10, 32 << 10] {
        let full: Vec<_> = (0..4)
            .map(|_| pool.try_reserve(16 << 10).unwrap())
            .collect();
        let mut first = Box::pin(pool.reserve(wanted));
        let waker = Waker::from(Arc::new(Panics));
        assert!(first
            .poll_unpin(&mut Context::from_waker(&waker))
            .is_pending());
        let mut second = ByHand::new(Box::pin(pool.reserve(wanted)));
        assert!(second.poll().is_pending());
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(full)));
        assert!(dropped.is_ok(), "the panic came out of a drop");

        // The first has its memory, or will have when it is polled as its waker said in vain.
        let noop = futures::task::noop_waker();
        let first = first.poll_unpin(&mut Context::from_waker(&noop));
        assert!(first.is_ready());
        assert!(second.take_woken());
        assert!(second.poll().is_ready());
    }
}

/// A thread's last drops come when its thread-locals are going away.
#[test]
fn drop_while_a_thread_ends() {
    thread_local! {
        static HELD: RefCell<Vec<DirectBytesMut>> = const { RefCell::new(Vec::new()) };
    }
    let pool = pool();
    // Opens the magazines.
    drop(pool.try_reserve(4096).unwrap());
    let ended = thread::spawn({
        let pool = pool.clone();
        move || {
            HELD.with(|held| {
                let buffers = (0..200).map(|_| pool.try_reserve(4096).unwrap());
                held.borrow_mut().extend(buffers);
            });
        }
    });
    ended.join().unwrap();
    assert_eq!(pool.stats().live, 0);
    assert!(pool.try_reserve(LIMIT).is_ok());
}

/// The first thing that a thread ever does with a pool may be a drop at its end.
#[test]
fn drop_while_a_thread_unwinds() {
    let pool = pool();
    let buffer = pool.try_reserve(4096).unwrap();
    let ended = thread::spawn(move || {
        let _held = buffer;
        // Without a message on the terminal.
        std::panic::resume_unwind(Box::new("unwinds"));
    });
    assert!(ended.join().is_err());
    assert_eq!(pool.stats().live, 0);
}
