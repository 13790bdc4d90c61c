//! Invariant 11: a weak handle never revives a recycled block, and never sees one that someone writes to.

use loom::thread;

use super::*;
use crate::sync::set_number;

/// Memory that only a unique handle may write to.
struct Memory(loom::cell::UnsafeCell<u32>);

// SAFETY: loom checks each access, which is what the models are for.
unsafe impl Sync for Memory {}
// SAFETY: as above.
unsafe impl Send for Memory {}

impl Memory {
    fn new() -> Arc<Memory> {
        Arc::new(Memory(loom::cell::UnsafeCell::new(0)))
    }

    fn write(&self) {
        // SAFETY: loom checks that no one else is here.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    fn read(&self) -> u32 {
        // SAFETY: loom checks that no one writes.
        self.0.with(|value| unsafe { *value })
    }
}

/// An upgrade against the last drop and the next owner, who writes.
#[test]
fn upgrade_against_recycle() {
    model("upgrade_against_recycle", 3, || {
        let pool = Pool::new(1);
        let memory = Memory::new();
        let one = pool.take(PAGE);
        let weak = one.downgrade();
        let upgrader = thread::spawn({
            let memory = memory.clone();
            move || {
                if let Some(handle) = weak.upgrade() {
                    assert_eq!(memory.read(), 0, "revived a recycled block");
                    drop(handle);
                }
            }
        });
        drop(one);
        if let Some(next) = pool.try_take(PAGE) {
            memory.write();
            // The mark of the new generation must not let the old one in.
            drop(next.downgrade());
            drop(next);
        }
        upgrader.join().unwrap();
        pool.check(0);
        drop(pool.take(PAGE));
    });
}

/// An upgrade against a handle that wants to write: one of them has the block, never both.
#[test]
fn upgrade_against_make_unique() {
    model("upgrade_against_make_unique", 3, || {
        let pool = Pool::new(1);
        let memory = Memory::new();
        let one = pool.take(PAGE);
        let weak = one.downgrade();
        let upgrader = thread::spawn({
            let memory = memory.clone();
            move || {
                let handle = weak.upgrade();
                let got = handle.is_some();
                if got {
                    assert_eq!(memory.read(), 0, "sees what a writer wrote");
                }
                drop(handle);
                (got, weak)
            }
        });
        let unique = one.make_unique();
        if unique {
            memory.write();
        }
        let (got, weak) = upgrader.join().unwrap();
        assert!(unique || got, "neither");
        if unique {
            assert!(weak.upgrade().is_none(), "not invalidated");
        }
        drop(one);
        pool.check(0);
    });
}

/// The upgraded handle is cloned by the block's owner, without an atomic operation, and let go, so that the state is what it was:
/// whoever wants to write must see the clone.
#[test]
fn upgrade_and_clone_against_make_unique() {
    model("upgrade_and_clone_against_make_unique", 3, || {
        let pool = Pool::new(1);
        let memory = Memory::new();
        let one = pool.take(PAGE);
        let weak = one.downgrade();
        let upgrader = thread::spawn({
            let memory = memory.clone();
            move || {
                set_number(1);
                if let Some(handle) = weak.upgrade() {
                    let clone = handle.clone();
                    drop(handle);
                    assert_eq!(memory.read(), 0, "sees what a writer wrote");
                    drop(clone);
                }
            }
        });
        if one.make_unique() {
            memory.write();
        }
        upgrader.join().unwrap();
        drop(one);
        pool.check(0);
    });
}

/// Two upgrades and two drops: the block is queued once, by the last of all.
#[test]
fn upgrades_against_drops() {
    model("upgrades_against_drops", 2, || {
        let pool = Pool::new(1);
        let one = pool.take(PAGE);
        let weak = one.downgrade();
        let threads: Vec<_> = [weak.clone(), weak]
            .into_iter()
            .map(|weak| thread::spawn(move || drop(weak.upgrade())))
            .collect();
        drop(one);
        for thread in threads {
            thread.join().unwrap();
        }
        pool.check(0);
        drop(pool.take(PAGE));
    });
}

/// The pool's handles, its last buffer and a weak handle go at the same time: it is freed once, by the last of them.
#[test]
fn weak_against_the_last_handle() {
    model("weak_against_the_last_handle", 3, || {
        let pool = Pool::new(1);
        let one = pool.take(PAGE);
        let weak = one.downgrade();
        let first = thread::spawn(move || drop(one));
        let second = thread::spawn(move || drop(weak.upgrade()));
        drop(pool);
        first.join().unwrap();
        second.join().unwrap();
    });
}
