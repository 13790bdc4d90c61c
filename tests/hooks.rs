//! Cleaning hooks: once, in order, not in the drop, before anyone else has the memory, whatever has become of the reclaimer.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::panic;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Once};
use std::task::Poll;
use std::thread;

use bytes::BufMut;
use futures::executor::block_on;
use offheap::{Cleaned, DirectBytes, FaultKind, Pool};

use by_hand::ByHand;
use starved::starved;
use watchdog::within;

const LIMIT: usize = 64 << 10;

fn pool() -> Pool {
    Pool::builder().limit(LIMIT).build().unwrap()
}

fn told() -> (Sender<u32>, Receiver<u32>) {
    channel()
}

fn tell(sender: &Sender<u32>, n: u32) -> impl FnOnce(&mut [u8]) + Send + 'static {
    let sender = sender.clone();
    move |_| sender.send(n).unwrap()
}

/// Panics that are meant are not printed.
fn silence(text: &'static str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let meant = info.payload().downcast_ref::<&str>() == Some(&text);
            if !meant {
                before(info);
            }
        }));
    });
}

#[test]
fn they_run_once_in_order_and_see_the_whole_block() {
    within(60, || {
        let pool = pool();
        let (sender, told) = channel();
        let mut buf = pool.try_reserve(1000).unwrap();
        buf.put_slice(b"first and last");
        let capacity = buf.capacity();
        buf.on_clean({
            let sender = sender.clone();
            move |memory| {
                memory[0] = b'F';
                sender.send((1, memory.to_vec())).unwrap();
            }
        });
        let mut last = buf.freeze().slice(10..);
        last.on_clean(move |memory| sender.send((2, memory.to_vec())).unwrap());
        drop(last);
        let (first, memory) = told.recv().unwrap();
        assert_eq!((first, memory.len()), (1, capacity));
        assert_eq!(&memory[..14], b"First and last");
        let (second, memory) = told.recv().unwrap();
        assert_eq!((second, &memory[..5]), (2, &b"First"[..]));
        assert!(told.recv().is_err(), "run once, and dropped then");
    });
}

/// The reclaimer has no turn, so that whatever runs, runs in the drop.
#[test]
fn not_in_the_drop_and_live_until_then() {
    let (pool, runtime) = starved(Pool::builder().limit(LIMIT));
    let (sender, told) = told();
    let mut buf = pool.try_reserve(LIMIT).unwrap();
    buf.on_clean(tell(&sender, 1));
    drop(buf);
    assert!(told.try_recv().is_err(), "run in the drop");
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.live), (1, LIMIT as u64));
    assert!(pool.try_reserve(1).is_err(), "used before it was clean");
    assert!(told.try_recv().is_err(), "run in try_reserve");
    // The runtime gets its turn.
    runtime.block_on(tokio::task::yield_now());
    assert_eq!(told.try_recv(), Ok(1));
    let stats = pool.stats();
    assert_eq!(
        (stats.buffers, stats.live, stats.reclaimed_total),
        (0, 0, 1)
    );
    pool.try_reserve(LIMIT).unwrap();
}

#[test]
fn whoever_waits_runs_them_when_the_reclaimer_is_starved() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let (sender, told) = told();
    let mut buf = pool.try_reserve(LIMIT).unwrap();
    buf.on_clean(tell(&sender, 1));
    let mut waiting = ByHand::new(Box::pin(pool.reserve(LIMIT)));
    assert!(waiting.poll().is_pending());
    drop(buf);
    assert!(told.try_recv().is_err(), "run in the drop");
    assert!(waiting.take_woken(), "nobody was called");
    let Poll::Ready(Ok(mut next)) = waiting.poll() else {
        panic!("not served");
    };
    assert_eq!(told.try_recv(), Ok(1));
    // Dropped before anyone waits: the next who does finds it.
    next.on_clean(tell(&sender, 2));
    drop(next);
    let mut waiting = ByHand::new(Box::pin(pool.reserve(LIMIT)));
    assert!(waiting.poll().is_ready());
    assert_eq!(told.try_recv(), Ok(2));
}

#[test]
fn they_run_when_the_runtime_is_gone() {
    within(60, || {
        let (pool, runtime) = starved(Pool::builder().limit(LIMIT));
        let (sender, told) = told();
        let mut before = pool.try_reserve(100).unwrap();
        let mut after = pool.try_reserve(100).unwrap();
        before.on_clean(tell(&sender, 1));
        after.on_clean(tell(&sender, 2));
        drop(before);
        drop(runtime);
        assert_eq!(told.recv(), Ok(1));
        drop(after);
        assert_eq!(told.recv(), Ok(2));
    });
}

#[test]
fn they_run_when_the_pool_is_gone() {
    within(60, || {
        for buffers in 1..4u32 {
            let (sender, told) = told();
            let pool = pool();
            let hooked = (0..buffers).map(|n| {
                let mut buf = pool.try_reserve(100).unwrap();
                buf.on_clean(tell(&sender, n));
                buf
            });
            let mut hooked: Vec<_> = hooked.collect();
            // One goes before the pool does, one is registered after that.
            let first = hooked.pop().unwrap();
            drop(first);
            drop(pool);
            if let Some(last) = hooked.last_mut() {
                last.on_clean(tell(&sender, 100));
            }
            let more = u32::from(!hooked.is_empty());
            drop(hooked);
            drop(sender);
            assert_eq!(told.iter().count() as u32, buffers + more);
        }
    });
}

#[test]
fn closed_waits_for_them() {
    within(60, || {
        let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
        let (sender, told) = told();
        let mut buf = pool.try_reserve(100).unwrap();
        buf.on_clean(tell(&sender, 1));
        let mut closed = ByHand::new(Box::pin(pool.closed()));
        assert!(closed.poll().is_pending());
        drop(buf);
        assert!(closed.take_woken(), "nobody was called");
        assert!(closed.poll().is_ready());
        assert_eq!(told.try_recv(), Ok(1));
    });
}

#[test]
fn explicit_clean() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let (sender, told) = told();
    let mut buf = pool.try_reserve(LIMIT).unwrap();
    buf.put_slice(&[1; 100]);
    buf.on_clean(tell(&sender, 1));
    let one = buf.freeze();
    let two = one.slice(5..);
    assert_eq!(one.clean(), Cleaned::Shared);
    assert!(told.try_recv().is_err());
    assert_eq!(two.clean(), Cleaned::Now);
    assert_eq!(told.try_recv(), Ok(1));
    // Reusable at once, and without hooks the same.
    assert_eq!(pool.try_reserve(LIMIT).unwrap().clean(), Cleaned::Now);
    assert_eq!(
        pool.try_reserve(LIMIT).unwrap().freeze().clean(),
        Cleaned::Now
    );
    assert_eq!(DirectBytes::new().clean(), Cleaned::Now);
    assert_eq!(pool.stats().live, 0);
}

/// Of many who clean at the same time, one is told that it was the last.
#[test]
fn one_of_many_cleans() {
    within(120, || {
        let pool = pool();
        for _ in 0..500 {
            let ran = Arc::new(AtomicUsize::new(0));
            let mut buf = pool.try_reserve(100).unwrap();
            buf.put_u8(1);
            buf.on_clean({
                let ran = ran.clone();
                move |_| _ = ran.fetch_add(1, Ordering::SeqCst)
            });
            let bytes = buf.freeze();
            let threads: Vec<_> = (0..3)
                .map(|_| bytes.clone())
                .map(|bytes| thread::spawn(|| bytes.clean()))
                .collect();
            let mut now = usize::from(bytes.clean() == Cleaned::Now);
            for thread in threads {
                now += usize::from(thread.join().unwrap() == Cleaned::Now);
            }
            assert_eq!((now, ran.load(Ordering::SeqCst)), (1, 1));
        }
    });
}

/// They stay with the block when it becomes writable again, and with the parts when it is split.
#[test]
fn they_stay_with_the_block() {
    let (pool, runtime) = starved(Pool::builder().limit(LIMIT));
    let (sender, told) = told();
    let mut bytes = pool.try_copy_from_slice(&[1; 1000]).unwrap();
    bytes.on_clean(tell(&sender, 1));
    let mut buf = bytes.try_into_mut().unwrap();
    let back = buf.split_off(500);
    drop(buf);
    runtime.block_on(tokio::task::yield_now());
    assert!(told.try_recv().is_err(), "run though a part is left");
    drop(back);
    runtime.block_on(tokio::task::yield_now());
    assert_eq!(told.try_recv(), Ok(1));
}

#[test]
fn without_memory_at_once() {
    let (sender, told) = told();
    DirectBytes::new().on_clean(tell(&sender, 1));
    assert_eq!(told.try_recv(), Ok(1));
    offheap::DirectBytesMut::default().on_clean(|memory| assert!(memory.is_empty()));
}

/// A hook may use the pool: nothing is locked.
#[test]
fn they_may_use_the_pool() {
    within(60, || {
        let pool = pool();
        let (sender, told) = told();
        let mut buf = pool.try_reserve(100).unwrap();
        buf.on_clean({
            let pool = pool.clone();
            let done = tell(&sender, 1);
            move |memory| {
                let mut inner = pool.try_reserve(100).unwrap();
                inner.on_clean(done);
                pool.trim();
                assert!(pool.stats().buffers > 0);
                memory.fill(7);
            }
        });
        drop(buf);
        assert_eq!(told.recv(), Ok(1));
        // `closed` has nothing to wait for.
        block_on(pool.closed());
    });
}

/// A hundred thousand panics: each is counted and reported, and the memory is there again each time.
#[test]
fn hooks_that_panic() {
    const PANICS: u64 = 100_000;
    silence("meant to panic");
    within(300, || {
        let reported = Arc::new(AtomicU64::new(0));
        let pool = Pool::builder()
            .limit(LIMIT)
            .on_fault({
                let reported = reported.clone();
                move |fault| {
                    assert_eq!(fault.kind, FaultKind::HookPanicked);
                    assert_eq!(fault.location.file(), file!());
                    assert_eq!(fault.message.as_deref(), Some("meant to panic"));
                    reported.fetch_add(1, Ordering::SeqCst);
                }
            })
            .build()
            .unwrap();
        let ran = Arc::new(AtomicU64::new(0));
        for _ in 0..PANICS {
            // As large as the limit: it is to be had only when the last one is clean.
            let mut buf = block_on(pool.reserve(LIMIT)).unwrap();
            buf.on_clean(|_| panic!("meant to panic"));
            buf.on_clean({
                let ran = ran.clone();
                move |_| _ = ran.fetch_add(1, Ordering::SeqCst)
            });
        }
        block_on(pool.closed());
        let stats = pool.stats();
        assert_eq!(stats.hook_panics_total, PANICS);
        assert_eq!(
            (reported.load(Ordering::SeqCst), ran.load(Ordering::SeqCst)),
            (PANICS, PANICS)
        );
        assert_eq!((stats.live, stats.buffers, stats.waiting), (0, 0, 0));
        assert_eq!(
            (stats.reserved_total, stats.reclaimed_total),
            (PANICS, PANICS)
        );
    });
}

/// What a hook panics with is dropped, once, and may panic itself.
#[test]
fn payloads_of_panics_are_not_leaked() {
    struct Payload(Arc<AtomicU64>);

    impl Drop for Payload {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("meant to panic");
        }
    }

    silence("meant to panic");
    within(30, || {
        let dropped = Arc::new(AtomicU64::new(0));
        let pool = pool();
        for _ in 0..3 {
            let mut buf = pool.try_reserve(100).unwrap();
            // Empty bytes would pin nothing, and not be the last handle.
            buf.put_u8(1);
            let payload = Payload(dropped.clone());
            buf.on_clean(move |_| panic::resume_unwind(Box::new(payload)));
            assert_eq!(buf.freeze().clean(), Cleaned::Now);
        }
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        assert_eq!(pool.stats().hook_panics_total, 3);
    });
}
