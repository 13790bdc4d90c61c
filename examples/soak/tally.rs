//! What the load has done so far, and who of it waits for memory at this time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Tally {
    ended: AtomicBool,
    pub(crate) relayed_bytes: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) fanned_out: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) cache_misses: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) resizes: AtomicU64,
    pub(crate) threads: AtomicU64,
    pub(crate) hooks_set: AtomicU64,
    pub(crate) hooks_run: AtomicU64,
    pub(crate) tokens_set: AtomicU64,
    pub(crate) tokens_seen: AtomicU64,
    /// Since when someone waits, by a number.
    waits: Mutex<(u64, BTreeMap<u64, Instant>)>,
    longest_wait_us: AtomicU64,
    faults: Mutex<Vec<String>>,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    /// Whether the load is to come to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Something is not as it should be.
    pub(crate) fn fault(&self, text: String) {
        let mut faults = lock(&self.faults);
        // One kind of fault tends to come in thousands.
        if faults.len() < 100 {
            faults.push(text);
        }
    }

    pub(crate) fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.faults))
    }

    /// Whoever waits stands in the books from the first poll until it has its memory, or gives up.
    pub(crate) async fn waiting<F: Future>(&self, reservation: F) -> F::Output {
        let _entry = self.enter();
        reservation.await
    }

    /// The same for threads.
    pub(crate) fn blocked<R>(&self, reserve: impl FnOnce() -> R) -> R {
        let _entry = self.enter();
        reserve()
    }

    fn enter(&self) -> Entry<'_> {
        let mut waits = lock(&self.waits);
        waits.0 += 1;
        let number = waits.0;
        waits.1.insert(number, Instant::now());
        Entry {
            tally: self,
            number,
        }
    }

    /// How long the one who has waited longest has waited by now.
    pub(crate) fn oldest_wait(&self) -> Duration {
        let waits = lock(&self.waits);
        let oldest = waits.1.values().next();
        oldest.map_or(Duration::ZERO, Instant::elapsed)
    }

    /// The longest that anyone has waited so far.
    pub(crate) fn longest_wait(&self) -> Duration {
        Duration::from_micros(get(&self.longest_wait_us)).max(self.oldest_wait())
    }
}

struct Entry<'a> {
    tally: &'a Tally,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let since = lock(&self.tally.waits).1.remove(&self.number);
        let waited = since.map_or(0, |since| since.elapsed().as_micros() as u64);
        self.tally
            .longest_wait_us
            .fetch_max(waited, Ordering::Relaxed);
    }
}
