//! The last resort: in one thread at a time, once in each episode, and no one parks for good while something can be had by it.

use loom::thread;

use super::*;
use crate::engine::Soft;
use crate::reclaim::{Callback, Urgency};

/// Fails when two are in it at once.
struct Alone(loom::cell::UnsafeCell<u32>);

// SAFETY: loom checks each access, which is what the models are for.
unsafe impl Sync for Alone {}
// SAFETY: as above.
unsafe impl Send for Alone {}

fn callback(pool: &Pool, run: impl FnMut() + Send + 'static) {
    let mut run = run;
    let run = Box::new(move |_| {
        run();
        0
    });
    let callback = Callback::new(Urgency::Benign, Location::caller(), run);
    pool.engine().add_callback(Arc::new(callback));
}

/// Two who might call: one does, and whoever waits is served by what the callback drops.
#[test]
fn single_flight_last_resort() {
    model("single_flight_last_resort", 2, || {
        let pool = Pool::new(1);
        let mut spare = Some(pool.take(PAGE));
        let calls = Arc::new(Alone(loom::cell::UnsafeCell::new(0)));
        callback(&pool, {
            let calls = calls.clone();
            move || {
                // SAFETY: loom checks that no one else is here.
                calls.0.with_mut(|calls| unsafe { *calls += 1 });
                drop(spare.take());
            }
        });
        let reclaimer = thread::spawn({
            let pool = pool.clone();
            move || pool.engine().last_resort(true)
        });
        drop(pool.reserve(PAGE).expect("granted"));
        reclaimer.join().unwrap();
        // SAFETY: all others are done.
        assert_eq!(calls.0.with(|calls| unsafe { *calls }), 1);
        pool.check(0);
    });
}

/// A cache of one buffer, as `SoftCache` is of many.
struct Cache {
    pool: Pool,
    entry: crate::sync::Mutex<Option<Handle>>,
}

impl Soft for Cache {
    fn oldest(&self) -> Option<u64> {
        None
    }

    fn evict(&self) -> bool {
        // As there: a state that is older than what it sees.
        self.pool.engine().soft_state();
        let evicted = {
            let mut entry = crate::sync::lock(&self.entry);
            entry.take_if(|entry| entry.is_unique())
        };
        evicted.is_some()
    }
}

fn cached(pool: &Pool) -> (Arc<Cache>, Handle) {
    let handle = pool.take(PAGE);
    handle.mark_soft();
    let entry = crate::sync::Mutex::new(Some(handle.clone()));
    let pool = pool.clone();
    (Arc::new(Cache { pool, entry }), handle)
}

/// The last handle beside the cache's goes while someone parks: it is evicted, by one of them.
#[test]
fn last_but_one_drop_against_park() {
    model("last_but_one_drop_against_park", 3, || {
        let pool = Pool::new(1);
        let (cache, handle) = cached(&pool);
        let weak: std::sync::Weak<Cache> = Arc::downgrade(&cache);
        pool.engine().add_cache(weak);
        let dropper = thread::spawn(move || drop(handle));
        drop(pool.reserve(PAGE).expect("granted"));
        dropper.join().unwrap();
        pool.check(0);
        drop(cache);
    });
}
