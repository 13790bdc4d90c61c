//! Invariant 1: the hard limit, while it changes.

use loom::thread;

use super::*;

/// A raised limit against a release: the waiter, who needs both, is served.
#[test]
fn set_limit_against_a_release() {
    model("set_limit_against_a_release", 2, || {
        let pool = Pool::with(2, 3, 1);
        let held = pool.take(PAGE);
        let kept = pool.take(PAGE);
        let raiser = thread::spawn({
            let pool = pool.clone();
            move || pool.engine().set_limit(3 * PAGE as u64)
        });
        let dropper = thread::spawn(move || drop(held));
        let got = pool.reserve(2 * PAGE).expect("granted");
        raiser.join().unwrap();
        dropper.join().unwrap();
        pool.check(3 * PAGE as u64);
        drop((got, kept));
    });
}

/// A lowered limit against a reservation: once `set_limit` has returned nothing is charged against the old one.
#[test]
fn lowered_limit_against_a_reservation() {
    model("lowered_limit_against_a_reservation", 3, || {
        let pool = Pool::with(2, 2, 1);
        let held = pool.take(PAGE);
        let user = thread::spawn({
            let pool = pool.clone();
            move || pool.try_take(PAGE)
        });
        pool.engine().set_limit(PAGE as u64);
        // In debt only if the reservation came first; from now on it can only shrink.
        let after = pool.engine().committed();
        let second = user.join().unwrap();
        assert!(
            pool.engine().committed() <= after,
            "charged against the old limit"
        );
        assert_eq!(second.is_some(), after > PAGE as u64);
        drop(held);
        drop(second);
        assert!(
            pool.engine().committed() <= PAGE as u64,
            "debt was not paid"
        );
        drop(pool.take(PAGE));
    });
}

/// Two that charge what only one can have.
#[test]
fn charges_race_for_the_last_page() {
    model("charges_race_for_the_last_page", 3, || {
        let pool = Pool::new(1);
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.try_take(PAGE)
        });
        let mine = pool.try_take(PAGE);
        let other = other.join().unwrap();
        assert_eq!(u32::from(mine.is_some()) + u32::from(other.is_some()), 1);
        pool.check(PAGE as u64);
    });
}
