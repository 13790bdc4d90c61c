//! Invariant 11: handles count right; the last one, and only the last one, queues the block.

use loom::thread;

use super::*;
use crate::sync::set_number;

/// Memory that only a unique handle may write to.
struct Memory(loom::cell::UnsafeCell<u32>);

// SAFETY: loom checks each access, which is what the model is for.
unsafe impl Sync for Memory {}

/// Two last handles at once: whoever gets the block next comes after all that both did with it.
#[test]
fn release_against_release() {
    model("release_against_release", 3, || {
        let pool = Pool::new(1);
        let memory = Arc::new(Memory(loom::cell::UnsafeCell::new(0)));
        let one = pool.take(PAGE);
        let two = one.clone();
        // SAFETY: loom checks that no one writes meanwhile.
        let read = |memory: &Memory| memory.0.with(|value| unsafe { *value });
        let other = thread::spawn({
            let memory = memory.clone();
            move || {
                read(&memory);
                drop(two);
            }
        });
        read(&memory);
        drop(one);
        if let Some(next) = pool.try_take(PAGE) {
            // SAFETY: loom checks that no one else is here.
            memory.0.with_mut(|value| unsafe { *value = 1 });
            drop(next);
        }
        other.join().unwrap();
        pool.check(0);
    });
}

/// A handle that finds itself unique may write, after all that others did.
#[test]
fn unique_against_release() {
    model("unique_against_release", 3, || {
        let pool = Pool::new(1);
        let memory = Arc::new(Memory(loom::cell::UnsafeCell::new(0)));
        let one = pool.take(PAGE);
        let two = one.clone();
        let writer = thread::spawn({
            let memory = memory.clone();
            move || {
                if one.is_unique() {
                    // SAFETY: loom checks that no one else is here.
                    memory.0.with_mut(|value| unsafe { *value = 1 });
                }
                drop(one);
            }
        });
        // SAFETY: loom checks that no one writes meanwhile.
        memory.0.with(|value| unsafe { *value });
        drop(two);
        writer.join().unwrap();
        pool.check(0);
    });
}

/// What threads share of a block's memory.
fn memory() -> Arc<Memory> {
    Arc::new(Memory(loom::cell::UnsafeCell::new(0)))
}

impl Memory {
    fn read(&self) {
        // SAFETY: loom checks that no one writes meanwhile.
        self.0.with(|value| unsafe { *value });
    }

    fn write(&self) {
        // SAFETY: loom checks that no one else is here.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }
}

/// The block's owner clones without an atomic operation while another thread lets go of its handle: the block is queued once,
/// after all that both did with it.
#[test]
fn last_release_against_clone() {
    model("last_release_against_clone", 3, || {
        let pool = Pool::new(1);
        let memory = memory();
        let one = pool.take(PAGE);
        let two = one.clone();
        let other = thread::spawn({
            let memory = memory.clone();
            move || {
                memory.read();
                drop(two);
            }
        });
        set_number(1);
        let three = one.clone();
        drop(one);
        memory.read();
        let four = three.clone();
        drop(three);
        memory.read();
        drop(four);
        if let Some(next) = pool.try_take(PAGE) {
            memory.write();
            drop(next);
        }
        other.join().unwrap();
        pool.check(0);
    });
}

/// A handle that the owner added and another thread releases, while the owner adds more.
#[test]
fn last_release_elsewhere() {
    model("last_release_elsewhere", 3, || {
        let pool = Pool::new(1);
        let memory = memory();
        set_number(1);
        let one = pool.take(PAGE);
        let two = one.clone();
        let other = thread::spawn({
            let (pool, memory) = (pool.clone(), memory.clone());
            move || {
                memory.read();
                let three = two.clone();
                drop(two);
                memory.read();
                drop(three);
                if let Some(next) = pool.try_take(PAGE) {
                    memory.write();
                    drop(next);
                }
            }
        });
        let four = one.clone();
        drop(one);
        memory.read();
        drop(four);
        other.join().unwrap();
        pool.check(0);
    });
}

/// Two threads clone the same handle for the first time: one of them becomes the owner, and both clones count.
#[test]
fn two_who_become_the_owner() {
    model("two_who_become_the_owner", 3, || {
        let pool = Pool::new(1);
        let one = Arc::new(pool.take(PAGE));
        let other = thread::spawn({
            let one = one.clone();
            move || {
                set_number(2);
                let two = Handle::clone(&one);
                drop(one);
                two
            }
        });
        set_number(1);
        let three = Handle::clone(&one);
        let two = other.join().unwrap();
        drop(one);
        assert!(!three.is_unique(), "two handles are left");
        drop(two);
        assert!(three.is_unique());
        pool.check(PAGE as u64);
        drop(three);
        pool.check(0);
    });
}

/// Whoever finds itself alone, and so takes the memory back as writable, comes after all that others did, also through handles
/// that the owner added without an atomic operation.
#[test]
fn last_release_against_try_into_mut() {
    model("last_release_against_try_into_mut", 3, || {
        let pool = Pool::new(1);
        let memory = memory();
        let one = pool.take(PAGE);
        let two = one.clone();
        let writer = thread::spawn({
            let memory = memory.clone();
            move || {
                if two.is_unique() {
                    memory.write();
                }
                drop(two);
            }
        });
        set_number(1);
        let three = one.clone();
        drop(one);
        memory.read();
        if three.is_unique() {
            memory.write();
        }
        drop(three);
        writer.join().unwrap();
        pool.check(0);
    });
}

/// A handle that shrinks to a small part, on the owner's thread and on another, still counts as one.
#[test]
fn shrinking_against_release() {
    model("shrinking_against_release", 2, || {
        let pool = Pool::new(1);
        let memory = memory();
        set_number(1);
        let one = pool.take(PAGE);
        let mut two = one.clone();
        let other = thread::spawn({
            let memory = memory.clone();
            move || {
                two.fit(1);
                memory.read();
                drop(two.part(PAGE));
                drop(two);
            }
        });
        let mut part = one.part(1);
        drop(one);
        part.fit(PAGE);
        memory.read();
        part.fit(1);
        drop(part);
        if let Some(next) = pool.try_take(PAGE) {
            memory.write();
            drop(next);
        }
        other.join().unwrap();
        pool.check(0);
    });
}
