//! Invariants 7, 9 and 10: hooks run once, not in the drop, and before anyone else has the block.

use loom::thread;

use super::*;
use crate::engine::Counted;
use crate::reclaim::{Hook, Job};

/// Memory that hooks and owners of the block write to: two at once are a race that loom reports.
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

    fn count(&self) -> u32 {
        // SAFETY: loom checks that no one writes.
        self.0.with(|value| unsafe { *value })
    }
}

fn hook(handle: &Handle, run: impl FnOnce(&mut [u8]) + Send + 'static) {
    let site = Location::caller();
    let run = Box::new(run);
    Engine::of(handle).register(handle, Job::Hook(Hook { run, site }));
}

/// The last drops of a block against the reclaimer and a reservation of the same memory: the hook runs once, before the next
/// owner has the block.
#[test]
fn hook_against_reuse() {
    model("hook_against_reuse", 2, || {
        let pool = Pool::new(1);
        let memory = Memory::new();
        let one = pool.take(PAGE);
        hook(&one, {
            let memory = memory.clone();
            move |_| memory.write()
        });
        let reclaimer = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.engine().clean_one();
            }
        });
        let dropper = thread::spawn(move || drop(one));
        let next = pool.reserve(PAGE).expect("granted");
        assert_eq!(memory.count(), 1, "used before its hook has run");
        memory.write();
        drop(next);
        reclaimer.join().unwrap();
        dropper.join().unwrap();
        pool.check(0);
        assert_eq!(memory.count(), 2);
    });
}

/// The reclaimer is dead, or dies with a ring unanswered, when the last drop comes: whoever waits cleans.
#[test]
fn death_of_the_reclaimer_against_a_drop() {
    model("death_of_the_reclaimer_against_a_drop", 3, || {
        let pool = Pool::new(1);
        pool.engine().bell().set_listening(true);
        let ran = Memory::new();
        let one = pool.take(PAGE);
        hook(&one, {
            let ran = ran.clone();
            move |_| ran.write()
        });
        let dying = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.engine().bell().set_listening(false);
            }
        });
        let dropper = thread::spawn(move || drop(one));
        drop(pool.reserve(PAGE).expect("granted"));
        dying.join().unwrap();
        dropper.join().unwrap();
        assert_eq!(ran.count(), 1);
        pool.check(0);
    });
}

/// Nobody runs hooks, and the last handle to the pool goes: the thread that is started for it runs them, and the pool is
/// freed once.
#[test]
fn hooked_drop_against_the_last_handle() {
    model("hooked_drop_against_the_last_handle", 3, || {
        let pool = Pool::new(1);
        pool.engine().bell().set_listening(true);
        pool.engine().set_helpers(Counted::linger, None);
        let ran = Arc::new(AtomicUsize::new(0));
        let one = pool.take(PAGE);
        hook(&one, {
            let ran = ran.clone();
            move |_| _ = ran.fetch_add(1, Ordering::Relaxed)
        });
        let dropper = thread::spawn(move || drop(one));
        drop(pool);
        dropper.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 1);
    });
}

/// A block that is wiped: a reservation wipes it itself, or the reclaimer does, and the books are exact.
#[test]
fn wipe_against_reservation() {
    model("wipe_against_reservation", 2, || {
        let config = Config {
            wipes: true,
            ..Pool::config(1, 1, 1)
        };
        let pool = Pool::build(config);
        let one = pool.take(PAGE);
        // SAFETY: the only handle, and one page.
        unsafe { one.memory().0.as_ptr().write(7) };
        let reclaimer = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.engine().clean_one();
            }
        });
        let dropper = thread::spawn(move || drop(one));
        let next = pool.reserve(PAGE).expect("granted");
        // SAFETY: as above.
        assert_eq!(unsafe { next.memory().0.as_ptr().read() }, 0);
        drop(next);
        reclaimer.join().unwrap();
        dropper.join().unwrap();
        while pool.engine().clean_one() {}
        pool.check(0);
    });
}
