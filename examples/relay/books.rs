//! What the relay counts: connections, bytes, and how long reservations waited.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The counts of all connections.
#[derive(Debug, Default)]
pub(crate) struct Books {
    opened: AtomicU64,
    ended: AtomicU64,
    stalled: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    /// Waits since the observer last took them.
    waits: Mutex<Waits>,
    troubles: Mutex<Troubles>,
}

/// What went wrong so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Troubles {
    /// Connections that ended with an error. That may well be the doing of whoever is at the other end.
    pub(crate) broken: u64,
    pub(crate) last_broken: Option<String>,
    /// What should not happen: reservations that failed, and connections that panicked.
    pub(crate) faults: u64,
    pub(crate) last_fault: Option<String>,
}

impl Books {
    /// A connection begins.
    pub(crate) fn open(&self) -> Account<'_> {
        add(&self.opened, 1);
        Account {
            books: self,
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            complete: false,
        }
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub(crate) fn connections(&self) -> u64 {
        let ended = self.ended.load(Ordering::Relaxed);
        self.opened().saturating_sub(ended)
    }

    /// Connections whose client got not a single byte, except those that came to their end because it wanted none.
    pub(crate) fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Bytes relayed so far, to the upstream and to the clients.
    pub(crate) fn relayed(&self) -> (u64, u64) {
        (
            self.up.load(Ordering::Relaxed),
            self.down.load(Ordering::Relaxed),
        )
    }

    /// A reservation got its memory after it had parked.
    pub(crate) fn waited(&self, wait: Duration) {
        lock(&self.waits).add(wait);
    }

    pub(crate) fn take_waits(&self) -> Waits {
        std::mem::take(&mut lock(&self.waits))
    }

    /// A connection ended with an error.
    pub(crate) fn broken(&self, error: &dyn Display) {
        let mut troubles = lock(&self.troubles);
        troubles.broken += 1;
        troubles.last_broken = Some(error.to_string());
    }

    /// Something happened that should not.
    pub(crate) fn fault(&self, error: &dyn Display) {
        let mut troubles = lock(&self.troubles);
        troubles.faults += 1;
        troubles.last_fault = Some(error.to_string());
    }

    pub(crate) fn troubles(&self) -> Troubles {
        lock(&self.troubles).clone()
    }
}

fn add(counter: &AtomicU64, n: u64) {
    // Counters order nothing: nobody concludes from one of them what another one is.
    counter.fetch_add(n, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are right after every statement, so a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's entry. It is closed when it is dropped, hence also when the connection is cut.
#[derive(Debug)]
pub(crate) struct Account<'a> {
    books: &'a Books,
    up: AtomicU64,
    down: AtomicU64,
    complete: bool,
}

impl Account<'_> {
    /// Bytes went to the upstream.
    pub(crate) fn up(&self, n: usize) {
        add(&self.books.up, n as u64);
        add(&self.up, n as u64);
    }

    /// Bytes went to the client.
    pub(crate) fn down(&self, n: usize) {
        add(&self.books.down, n as u64);
        add(&self.down, n as u64);
    }

    /// The connection came to its end by itself.
    pub(crate) fn complete(mut self) {
        self.complete = true;
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        let unused = self.complete && *self.up.get_mut() == 0;
        if *self.down.get_mut() == 0 && !unused {
            add(&self.books.stalled, 1);
        }
        add(&self.books.ended, 1);
    }
}

/// Eighths of a doubling: percentiles are at most 12.5 % too high.
const STEPS: u32 = 8;

/// How long reservations waited, counted in buckets of nanoseconds.
#[derive(Debug)]
pub(crate) struct Waits {
    buckets: Box<[u64]>,
    count: u64,
    longest: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Waits {
            buckets: vec![0; (u64::BITS * STEPS) as usize].into(),
            count: 0,
            longest: Duration::ZERO,
        }
    }
}

impl Waits {
    fn add(&mut self, wait: Duration) {
        let nanos = u64::try_from(wait.as_nanos())
            .unwrap_or(u64::MAX)
            .max(u64::from(STEPS));
        let doubling = nanos.ilog2();
        let step = (nanos >> (doubling - STEPS.ilog2())) as u32 % STEPS;
        self.buckets[(doubling * STEPS + step) as usize] += 1;
        self.count += 1;
        self.longest = self.longest.max(wait);
    }

    pub(crate) fn merge(&mut self, other: &Waits) {
        for (bucket, n) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += n;
        }
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The wait that `percent` of all waits did not exceed; zero where nobody waited.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (index, n) in (0..).zip(&self.buckets) {
            seen += n;
            if seen >= rank && *n > 0 {
                return Self::upper_end(index).min(self.longest);
            }
        }
        Duration::ZERO
    }

    fn upper_end(bucket: u32) -> Duration {
        let (doubling, step) = (bucket / STEPS, bucket % STEPS);
        let nanos = u128::from(STEPS + step + 1) << doubling >> STEPS.ilog2();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
