//! Invariants 6 and 9: nothing is stranded, and a block has one owner at a time (loom's cell in the header sees two).

use loom::thread;

use super::*;
use crate::arena::Class;
use crate::sync::{own_shard, set_shard};

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

/// A pool of one page whose shard this thread owns. With `own`, the thread has its own stack there, and the page is on it.
fn owner_of_a_page(own: bool) -> Pool {
    let pool = Pool::new(1);
    own_shard(0);
    // The first drop opens the class, the second asks for the stack.
    drop(pool.take(PAGE));
    if own {
        drop(pool.take(PAGE));
    }
    let owned = pool.engine().arena().touched().any(Class::is_owned);
    assert_eq!(owned, own, "not where the model wants it");
    pool
}

/// A push to the owner's stack against a reservation that parks: either the push sees that the stack is disowned, or the one
/// who parks sees the block.
#[test]
fn owned_push_against_park() {
    model("owned_push_against_park", 3, || {
        let pool = owner_of_a_page(true);
        let held = pool.take(PAGE);
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || drop(pool.reserve(PAGE).expect("granted"))
        });
        drop(held);
        waiter.join().unwrap();
        pool.check(0);
        drop(pool.take(PAGE));
    });
}

/// The owner's stack is being opened while a reservation parks.
#[test]
fn due_against_park() {
    model("due_against_park", 3, || {
        let pool = owner_of_a_page(false);
        let held = pool.take(PAGE);
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || drop(pool.reserve(PAGE).expect("granted"))
        });
        drop(held);
        waiter.join().unwrap();
        pool.check(0);
        drop(pool.take(PAGE));
    });
}

/// A pop from the owner's stack against a thief: one of them has the block.
#[test]
fn owned_pop_against_steal() {
    model("owned_pop_against_steal", 3, || {
        let pool = owner_of_a_page(true);
        let thief = thread::spawn({
            let pool = pool.clone();
            move || drop(pool.try_take(PAGE))
        });
        drop(pool.try_take(PAGE));
        thief.join().unwrap();
        pool.check(0);
        drop(pool.take(PAGE));
    });
}

/// A push to the owner's stack against the end of the pool: the memory is freed once, and after the push.
#[test]
fn owned_push_against_the_last_handle() {
    model("owned_push_against_the_last_handle", 3, || {
        let pool = owner_of_a_page(true);
        let held = pool.take(PAGE);
        let last = thread::spawn(move || drop(pool));
        drop(held);
        last.join().unwrap();
    });
}
