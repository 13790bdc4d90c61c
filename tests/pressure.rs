//! The last resort, and the level of pressure.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use futures::FutureExt;
use offheap::{DirectBytesMut, FaultKind, Need, Pool, Pressure, Urgency};

use by_hand::ByHand;
use starved::starved;
use watchdog::within;

const BLOCK: usize = 4096;

fn pool(blocks: usize) -> Pool {
    let builder = Pool::builder().limit(blocks * BLOCK).page_aligned(true);
    builder.build().unwrap()
}

/// Something to give up.
type Spare = Arc<Mutex<Vec<DirectBytesMut>>>;

fn spare(pool: &Pool, blocks: usize) -> Spare {
    let buffers = (0..blocks).map(|_| pool.try_reserve(BLOCK).unwrap());
    Arc::new(Mutex::new(buffers.collect()))
}

fn give(spare: &Spare) -> usize {
    let given = spare.lock().unwrap().pop();
    given.map_or(0, |buffer| buffer.block_len())
}

#[test]
fn the_cheapest_first_until_no_one_waits() {
    within(60, || {
        let pool = pool(3);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let callback = |name: &'static str, spare: Spare| {
            let calls = calls.clone();
            move |need: Need| {
                calls
                    .lock()
                    .unwrap()
                    .push((name, need.bytes, need.contiguous));
                give(&spare)
            }
        };
        let (cheap, dear) = (spare(&pool, 1), spare(&pool, 2));
        let destructive = pool.on_pressure_as(
            Urgency::Destructive,
            callback(
                "destructive",
                spare(&Pool::builder().limit(0).build().unwrap(), 0),
            ),
        );
        let idle = pool.on_pressure_as(Urgency::Idle, callback("idle", dear.clone()));
        let first = pool.on_pressure(callback("first", Spare::default()));
        let benign = pool.on_pressure_as(Urgency::Benign, callback("benign", cheap.clone()));
        let got = block_on(pool.reserve(2 * BLOCK)).unwrap();
        let expected = [
            ("first", 2 * BLOCK, 2 * BLOCK),
            ("benign", 2 * BLOCK, 2 * BLOCK),
            ("idle", BLOCK, 2 * BLOCK),
        ];
        assert_eq!(*calls.lock().unwrap(), expected);
        drop((destructive, idle, first, benign));
        // What the last one freed served us before it could say how much that was.
        while pool.stats().pressure_freed_bytes_total as usize != 2 * BLOCK {
            std::thread::yield_now();
        }
        drop(got);
    });
}

#[test]
fn once_in_each_episode_and_not_when_the_guard_is_gone() {
    within(60, || {
        let pool = pool(1);
        let (sender, called) = channel();
        let guard = pool.on_pressure(move |_| {
            sender.send(()).unwrap();
            0
        });
        for _ in 0..3 {
            let held = pool.try_reserve(BLOCK).unwrap();
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let pool = pool.clone();
                    thread::spawn(move || drop(block_on(pool.reserve(BLOCK)).unwrap()))
                })
                .collect();
            called.recv().unwrap();
            while pool.stats().waiting < 3 {
                thread::yield_now();
            }
            drop(held);
            for waiter in waiters {
                waiter.join().unwrap();
            }
            assert!(called.try_recv().is_err(), "twice in one episode");
        }
        drop(guard);
        assert!(called.recv().is_err(), "the callback went with its guard");
        let held = pool.try_reserve(BLOCK).unwrap();
        assert!(pool.reserve(BLOCK).now_or_never().is_none());
        drop(held);
    });
}

/// A callback that panics or is slow keeps no other from being called, is counted, and named.
#[test]
fn bad_callbacks_are_contained() {
    within(60, || {
        let (sender, faults) = channel();
        let pool = Pool::builder()
            .limit(BLOCK)
            .page_aligned(true)
            .on_fault(move |fault| sender.send(fault.clone()).unwrap())
            .build()
            .unwrap();
        let spare = spare(&pool, 1);
        let line = line!() + 1;
        let panics = pool.on_pressure(|_| std::panic::resume_unwind(Box::new("meant")));
        let slow = pool.on_pressure(|_| {
            thread::sleep(Duration::from_millis(150));
            0
        });
        let good = pool.on_pressure(move |_| give(&spare));
        drop(block_on(pool.reserve(BLOCK)).unwrap());
        let fault = faults.recv().unwrap();
        assert_eq!(fault.kind, FaultKind::PressurePanicked);
        assert_eq!(
            (fault.location.file(), fault.location.line()),
            (file!(), line)
        );
        assert_eq!(fault.message.as_deref(), Some("meant"));
        assert!(fault.to_string().contains("tests/pressure.rs"));
        let fault = faults.recv().unwrap();
        assert_eq!(
            (fault.kind, fault.location.line()),
            (FaultKind::PressureSlow, line + 1)
        );
        let stats = pool.stats();
        assert_eq!(
            (stats.pressure_panics_total, stats.pressure_slow_total),
            (1, 1)
        );
        drop((panics, slow, good));
    });
}

/// Callbacks may register, deregister and use the pool, and guards may go in any order, also their own, also after the pool.
#[test]
fn callbacks_may_do_anything() {
    within(60, || {
        let pool = pool(2);
        let spare = spare(&pool, 2);
        let guards: Arc<Mutex<Vec<offheap::PressureGuard>>> = Arc::default();
        let callback = {
            let (pool, guards) = (pool.clone(), guards.clone());
            move |_| {
                let inner = pool.on_pressure(|_| 0);
                pool.trim();
                assert!(pool.try_reserve(1).is_err());
                guards.lock().unwrap().clear();
                drop(inner);
                give(&spare)
            }
        };
        let guard = pool.on_pressure(callback);
        guards.lock().unwrap().push(guard);
        let held = block_on(pool.reserve(BLOCK)).unwrap();
        assert!(guards.lock().unwrap().is_empty());
        let late = pool.on_pressure(|_| 0);
        drop((held, pool));
        drop(late);
    });
}

/// The reclaimer's runtime never runs: whoever is first in line calls, once it is polled again, and once in the episode.
#[test]
fn whoever_waits_calls_when_the_reclaimer_is_starved() {
    let (pool, _runtime) = starved(Pool::builder().limit(2 * BLOCK).page_aligned(true));
    let (spare, calls) = (spare(&pool, 1), Arc::new(AtomicUsize::new(0)));
    let guard = pool.on_pressure({
        let (spare, calls) = (spare.clone(), calls.clone());
        move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            give(&spare)
        }
    });
    let held = pool.try_reserve(BLOCK).unwrap();
    for episode in 0..3 {
        let mut first = ByHand::new(Box::pin(pool.reserve(BLOCK)));
        assert!(first.poll().is_pending());
        assert_eq!(
            calls.load(Ordering::SeqCst),
            episode,
            "the reclaimer goes first"
        );
        assert!(first.take_woken(), "nobody will call");
        // Neither a drop nor `try_reserve` calls.
        let mut second = ByHand::new(Box::pin(pool.reserve(BLOCK)));
        assert!(second.poll().is_pending() && pool.try_reserve(1).is_err());
        assert_eq!(calls.load(Ordering::SeqCst), episode);
        let got = match first.poll() {
            std::task::Poll::Ready(got) => got.unwrap(),
            std::task::Poll::Pending => panic!("the callback was not called"),
        };
        assert_eq!(calls.load(Ordering::SeqCst), episode + 1);
        // The episode goes on as long as anyone waits.
        assert!(second.poll().is_pending());
        assert_eq!(calls.load(Ordering::SeqCst), episode + 1);
        drop(second);
        spare.lock().unwrap().push(got);
    }
    drop((guard, held));
}

/// A reclaimer that gets its turns is who calls, not the task that waits.
#[tokio::test]
async fn the_reclaimer_calls_when_it_has_its_turns() {
    let pool = pool(1);
    let spare = spare(&pool, 1);
    let called_by = Arc::new(Mutex::new(None));
    let guard = pool.on_pressure({
        let called_by = called_by.clone();
        move |_| {
            *called_by.lock().unwrap() = Some(tokio::task::try_id());
            give(&spare)
        }
    });
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { drop(pool.reserve(BLOCK).await.unwrap()) }
    });
    let id = waiting.id();
    waiting.await.unwrap();
    let called_by = called_by.lock().unwrap().expect("called");
    assert!(
        called_by.is_some_and(|by| by != id),
        "called by {called_by:?}"
    );
    drop(guard);
}

/// Ten thousand that come and go without pressure leave nothing behind.
#[test]
fn entries_vanish_with_their_guards() {
    struct Counting(Arc<AtomicUsize>);
    impl Drop for Counting {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let pool = pool(1);
    let drops = Arc::new(AtomicUsize::new(0));
    for n in 0..10_000 {
        let counting = Counting(drops.clone());
        let guard = pool.on_pressure(move |_| {
            let _keep = &counting;
            0
        });
        drop(guard);
        assert_eq!(drops.load(Ordering::SeqCst), n + 1);
    }
}

#[test]
fn levels() {
    within(60, || {
        let pool = Pool::builder()
            .limit(100 * BLOCK)
            .page_aligned(true)
            .high_water(0.5)
            .build()
            .unwrap();
        let mut watch = pool.pressure();
        assert_eq!(watch.level(), Pressure::Calm);
        let mut held: Vec<_> = (0..49).map(|_| pool.try_reserve(BLOCK).unwrap()).collect();
        assert_eq!(watch.level(), Pressure::Calm);
        held.push(pool.try_reserve(BLOCK).unwrap());
        assert_eq!(block_on(watch.changed()), Pressure::High);
        held.truncate(26);
        assert_eq!(watch.level(), Pressure::High);
        assert!(watch.changed().now_or_never().is_none());
        // Unseen by anyone but those who look.
        held.truncate(20);
        assert_eq!(block_on(watch.changed()), Pressure::Calm);
        // Within what is committed, nobody passes by.
        held.extend((0..30).map(|_| pool.try_reserve(BLOCK).unwrap()));
        assert_eq!(block_on(watch.changed()), Pressure::High);
        held.extend((0..50).map(|_| pool.try_reserve(BLOCK).unwrap()));
        let mut waiting = Box::pin(pool.reserve(BLOCK));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(block_on(watch.changed()), Pressure::Parked);
        assert!(watch == Pressure::Parked);
        drop(waiting);
        assert_eq!(block_on(watch.changed()), Pressure::High);
        assert!((0.0..=1.0).contains(&watch.value()));
        drop(held);
        assert_eq!(block_on(watch.changed()), Pressure::Calm);
    });
}
