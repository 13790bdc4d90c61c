//! Invariant 11: handles count right; the last one, and only the last one, queues the block.

use loom::thread;

use super::*;

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
