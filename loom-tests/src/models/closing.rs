//! Invariants 8, 12 and 13: closing fails who waits and counts exactly; buffers outlive the pool.

use loom::thread;

use super::*;
use crate::budget::{Node, Status};

/// Waits, on this thread, until a closed pool has all its buffers back.
fn closed(pool: &Pool) {
    let node = Box::pin(Node::new(()));
    loom::future::block_on(poll_fn(|cx| {
        let engine = pool.engine();
        match node.status() {
            Status::Idle => {
                engine.close();
                // SAFETY: pinned, and `Done` before it is dropped.
                if unsafe { engine.await_closed(&node, cx.waker().clone()) } {
                    return Poll::Ready(());
                }
                Poll::Pending
            }
            Status::Waiting => {
                engine.renew_closer(&node, cx.waker().clone());
                match node.status() {
                    Status::Waiting => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            }
            Status::Done => Poll::Ready(()),
        }
    }));
}

/// The last drop against close: whoever comes second completes it, and the count ends at zero.
#[test]
fn last_drop_against_close() {
    model("last_drop_against_close", 3, || {
        let pool = Pool::new(2);
        drop(pool.take(PAGE));
        let held = [pool.take(PAGE), pool.take(PAGE)];
        let dropper = thread::spawn(move || drop(held));
        closed(&pool);
        assert_eq!(pool.engine().outstanding(), 0);
        assert!(matches!(pool.reserve(PAGE), Err(Refused::Closed)));
        dropper.join().unwrap();
        pool.check(0);
    });
}

/// A reservation under way against close: it is served or refused, and close waits for what it was served.
#[test]
fn reserve_against_close() {
    model("reserve_against_close", 3, || {
        let pool = Pool::new(1);
        let user = thread::spawn({
            let pool = pool.clone();
            move || drop(pool.reserve(PAGE))
        });
        closed(&pool);
        pool.check(0);
        user.join().unwrap();
        assert_eq!(pool.engine().outstanding(), 0);
    });
}

/// A waiter against close: it fails, it does not hang.
#[test]
fn waiter_against_close() {
    model("waiter_against_close", 3, || {
        let pool = Pool::new(1);
        let held = pool.take(PAGE);
        let closer = thread::spawn({
            let pool = pool.clone();
            move || pool.engine().close()
        });
        assert!(matches!(pool.reserve(PAGE), Err(Refused::Closed)));
        closer.join().unwrap();
        drop(held);
        assert_eq!(pool.engine().outstanding(), 0);
    });
}

/// Cleaning against close: pages and blocks that the cleaner has in hand are counted until they are back.
#[test]
fn trim_against_close() {
    model("trim_against_close", 3, || {
        let pool = Pool::new(2);
        drop([pool.take(PAGE), pool.take(PAGE)]);
        let cleaner = thread::spawn({
            let pool = pool.clone();
            move || pool.engine().trim()
        });
        closed(&pool);
        cleaner.join().unwrap();
        assert_eq!(pool.engine().outstanding(), 0);
        pool.check(0);
    });
}

/// The last buffers against the last handle to the pool: the memory is freed once, by whoever is last. Freed twice, or
/// touched after, it crashes; not freed, loom reports the leak of its objects.
#[test]
fn last_drops_against_the_last_handle() {
    model("last_drops_against_the_last_handle", 3, || {
        let pool = Pool::new(2);
        drop(pool.take(PAGE));
        let one = pool.take(PAGE);
        let two = pool.take(PAGE);
        let first = thread::spawn(move || drop(one));
        let second = thread::spawn(move || drop(two));
        drop(pool);
        first.join().unwrap();
        second.join().unwrap();
    });
}
