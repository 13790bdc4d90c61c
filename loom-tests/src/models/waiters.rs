//! Invariants 3, 4 and 5: first come first served, cancel safety, one release serves all it can.

use std::pin::pin;

use loom::thread;

use super::*;

/// Invariant 7, no lost wake-up: a drop against a reservation that is about to park.
///
/// Seen to fail when `Engine::settle` does not shut the classes.
#[test]
fn drop_against_park() {
    model("drop_against_park", 3, || {
        let pool = Pool::new(1);
        let held = pool.take(PAGE);
        // Opens the class, so that the drop below takes the magazine's path.
        drop(held);
        let held = pool.take(PAGE);
        let dropper = thread::spawn(move || drop(held));
        let got = pool.reserve(PAGE).expect("granted");
        dropper.join().unwrap();
        pool.check(PAGE as u64);
        drop(got);
        pool.check(0);
    });
}

/// The same across classes: what is dropped has to be cleaned first. No reclaimer listens, so that the dropping thread
/// or the waiting one does it.
#[test]
fn drop_of_another_size_against_park() {
    model("drop_of_another_size_against_park", 3, || {
        let pool = Pool::new(2);
        drop(pool.take(PAGE));
        let held = [pool.take(PAGE), pool.take(PAGE)];
        let dropper = thread::spawn(move || drop(held));
        let got = pool.reserve(2 * PAGE).expect("granted");
        dropper.join().unwrap();
        pool.check(2 * PAGE as u64);
        drop(got);
    });
}

/// Invariant 4: a waiter that goes away after its grant and before its next poll passes the grant on.
#[test]
fn cancel_after_grant() {
    model("cancel_after_grant", 2, || {
        let pool = Pool::new(1);
        let held = pool.take(PAGE);
        let mut first = Box::pin(pool.wait(PAGE));
        park(first.as_mut());
        let dropper = thread::spawn(move || drop(held));
        let canceller = thread::spawn(move || drop(first));
        let got = pool.reserve(PAGE).expect("granted");
        dropper.join().unwrap();
        canceller.join().unwrap();
        pool.check(PAGE as u64);
        drop(got);
    });
}

/// Invariant 4: a waiter that goes away in mid-queue takes no one else's place.
#[test]
fn cancel_in_mid_queue() {
    model("cancel_in_mid_queue", 2, || {
        let pool = Pool::new(1);
        let held = pool.take(PAGE);
        let mut first = Box::pin(pool.wait(PAGE));
        let mut second = Box::pin(pool.wait(PAGE));
        let mut third = Box::pin(pool.wait(PAGE));
        park(first.as_mut());
        park(second.as_mut());
        park(third.as_mut());
        let dropper = thread::spawn(move || drop(held));
        let canceller = thread::spawn(move || drop(second));
        let served = |mut wait: Pin<Box<Wait<Pool>>>| {
            loom::future::block_on(poll_fn(move |cx| poll(wait.as_mut(), cx))).expect("granted")
        };
        drop(served(first));
        let got = served(third);
        dropper.join().unwrap();
        canceller.join().unwrap();
        pool.check(PAGE as u64);
        drop(got);
    });
}

/// Invariant 5: one release serves every waiter that it can, not just the first.
#[test]
fn one_release_for_many_waiters() {
    model("one_release_for_many_waiters", 2, || {
        let pool = Pool::new(2);
        let held = pool.take(2 * PAGE);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || pool.reserve(PAGE).expect("granted"))
            })
            .collect();
        drop(held);
        // Both hold at the same time.
        let got: Vec<_> = waiters.into_iter().map(|w| w.join().unwrap()).collect();
        pool.check(2 * PAGE as u64);
        drop(got);
    });
}

/// Invariant 3: a newcomer that does not wait is not served before one who waits.
#[test]
fn try_reserve_against_a_waiter() {
    model("try_reserve_against_a_waiter", 3, || {
        let pool = Pool::new(1);
        let held = pool.take(PAGE);
        let mut waiter = Box::pin(pool.wait(PAGE));
        park(waiter.as_mut());
        let newcomer = thread::spawn({
            let pool = pool.clone();
            move || pool.try_take(PAGE).is_some()
        });
        let dropper = thread::spawn(move || drop(held));
        assert!(!newcomer.join().unwrap(), "barged");
        dropper.join().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let got = poll(waiter.as_mut(), &mut cx);
        assert!(matches!(got, Poll::Ready(Ok(_))), "not served");
    });
}

/// Invariant 3, with memory in another thread's magazine and a waiter that wants more than that: the newcomer, who would
/// be content with it, comes after the waiter all the same.
#[test]
fn newcomer_against_a_large_waiter() {
    model("newcomer_against_a_large_waiter", 3, || {
        let pool = Pool::new(2);
        drop(pool.take(PAGE));
        let held = pool.take(PAGE);
        let mut waiter = Box::pin(pool.wait(2 * PAGE));
        park(waiter.as_mut());
        let newcomer = thread::spawn({
            let pool = pool.clone();
            move || pool.try_take(PAGE).is_some()
        });
        drop(held);
        assert!(!newcomer.join().unwrap(), "barged");
        let mut cx = Context::from_waker(Waker::noop());
        let got = poll(waiter.as_mut(), &mut cx);
        assert!(matches!(got, Poll::Ready(Ok(_))), "not served");
    });
}

/// Trimming has in hand what a waiter wants, and tells it.
#[test]
fn trim_against_park() {
    model("trim_against_park", 2, || {
        let pool = Pool::new(2);
        drop([pool.take(PAGE), pool.take(PAGE)]);
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.engine().trim()
        });
        let got = pool.reserve(2 * PAGE).expect("granted");
        other.join().unwrap();
        pool.check(2 * PAGE as u64);
        drop(got);
    });
}

/// The last two blocks of a span come back while someone waits for its page, on two threads that both clean for the one who waits: a look
/// in vain, with a part of the span in hand, must not be taken for the last word.
#[test]
fn last_two_of_a_span() {
    model("last_two_of_a_span", 2, || {
        let config = Config {
            page_aligned: false,
            ..Pool::config(1, 1, 1)
        };
        let pool = Pool::build(config);
        let mut halves = [pool.take(PAGE / 2), pool.take(PAGE / 2)].into_iter();
        let one = halves.next();
        let dropper = thread::spawn(move || drop(one));
        let two = halves.next();
        let other = thread::spawn(move || drop(two));
        let got = pool.reserve(PAGE).expect("granted");
        dropper.join().unwrap();
        other.join().unwrap();
        pool.check(PAGE as u64);
        drop(got);
    });
}

/// Two newcomers want a part each of what is queued in another size: one cleans, and must tell the other, who parks
/// meanwhile, of what it puts back.
#[test]
fn two_who_clean() {
    model("two_who_clean", 2, || {
        let pool = Pool::new(4);
        let all: [Handle; 4] = std::array::from_fn(|_| pool.take(PAGE));
        drop(all);
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.try_take(2 * PAGE)
        });
        let got = pool.reserve(2 * PAGE).expect("granted");
        let other = other.join().unwrap();
        pool.check(2 * PAGE as u64 * (1 + u64::from(other.is_some())));
        drop((got, other));
    });
}
