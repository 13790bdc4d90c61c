//! Invariants 6 and 9: nothing is stranded, and a block has one owner at a time (loom's cell in the header sees two).

use loom::thread;

use super::*;
use crate::sync::set_shard;

/// A push against a thief from another shard.
#[test]
fn push_against_steal() {
    model("push_against_steal", 3, || {
        let pool = Pool::with(1, 1, 2);
        drop(pool.take(PAGE));
        let held = pool.take(PAGE);
        let thief = thread::spawn({
            let pool = pool.clone();
            move || {
                set_shard(1);
                pool.try_take(PAGE).is_some()
            }
        });
        drop(held);
        let stolen = thief.join().unwrap();
        pool.check(0);
        // Stolen, used and dropped, or still there: reachable from any shard.
        let _ = stolen;
        set_shard(1);
        drop(pool.take(PAGE));
    });
}

/// Two threads of one shard pop and push the same magazine (ABA).
#[test]
fn pops_and_pushes_of_one_shard() {
    model("pops_and_pushes_of_one_shard", 3, || {
        let pool = Pool::new(2);
        drop(pool.take(PAGE));
        drop([pool.take(PAGE), pool.take(PAGE)]);
        let work = |pool: Pool| {
            let first = pool.try_take(PAGE);
            let second = pool.try_take(PAGE);
            drop(first);
            drop(second);
        };
        let other = thread::spawn({
            let pool = pool.clone();
            move || work(pool)
        });
        work(pool.clone());
        other.join().unwrap();
        pool.check(0);
        // Both can be had again: nothing was lost on the way.
        drop([pool.take(PAGE), pool.take(PAGE)]);
    });
}

/// The reclaimer goes to sleep, which shuts all magazines, against a push: the block is reachable, and the reclaimer knows
/// of it.
#[test]
fn shut_against_push() {
    model("shut_against_push", 3, || {
        let pool = Pool::new(1);
        drop(pool.take(PAGE));
        let held = pool.take(PAGE);
        let sleeper = thread::spawn({
            let pool = pool.clone();
            move || pool.engine().fall_asleep()
        });
        drop(held);
        sleeper.join().unwrap();
        pool.check(0);
        assert!(
            !pool.engine().is_asleep(),
            "asleep though a block is queued"
        );
        drop(pool.take(PAGE));
    });
}

/// Spills in flight against a waiter that shuts the magazines: what the spilling thread has in hand reaches the waiter.
#[test]
fn shut_against_spill() {
    model("shut_against_spill", 3, || {
        // The models' magazines keep one block of this size, and set one aside.
        const SIZE: usize = 2 * PAGE;
        let pool = Pool::new(8);
        let [a, b, c, d] = std::array::from_fn(|_| pool.take(SIZE));
        drop(a);
        drop(b);
        drop(c);
        let dropper = thread::spawn(move || drop(d));
        let got = pool.reserve(4 * SIZE).expect("granted");
        dropper.join().unwrap();
        pool.check(4 * SIZE as u64);
        drop(got);
    });
}

/// Cleaning (trim, ageing) against a reservation of the same class: the block is in one hand, and the books add up.
#[test]
fn clean_against_take() {
    model("clean_against_take", 3, || {
        let pool = Pool::new(1);
        drop(pool.take(PAGE));
        let cleaner = thread::spawn({
            let pool = pool.clone();
            move || pool.engine().trim()
        });
        let got = pool.reserve(PAGE).expect("granted");
        cleaner.join().unwrap();
        pool.check(PAGE as u64);
        drop(got);
        pool.check(0);
    });
}
