//! How hard it is to get memory: a level, and whoever waits for it to change.
//!
//! The level has hysteresis, as Envoy's watermarks have: it is high from the high-water mark on, and calm again only below half of that.
//! Reserving and dropping count nothing, so the level is brought up to date where memory is charged, where someone parks or is
//! served, when it is asked for, and, as long as anyone watches and it matters, by the reclaimer a few times a second.

use std::collections::HashMap;
use std::task::Waker;
use std::time::Instant;

use crate::sync::{lock, AtomicU32, Mutex, Ordering};

/// How hard it is to get memory. From [`Pool::pressure`](crate::Pool::pressure).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Pressure {
    /// There is enough.
    #[default]
    Calm,
    /// Live memory is, or was of late, above the [high-water mark](crate::PoolBuilder::high_water), and has not fallen below half of it.
    High,
    /// Someone waits for memory.
    Parked,
}

/// What the level is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) live: u64,
    pub(crate) limit: u64,
    pub(crate) parked: bool,
    pub(crate) now: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Gauge {
    watches: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    level: Pressure,
    /// By watch.
    wakers: HashMap<u64, Waker>,
    last_watch: u64,
    smooth: Smooth,
}

/// A mean over the last second or so: what it was a second ago counts for a third.
#[derive(Debug, Default)]
struct Smooth {
    value: f64,
    /// The last reading, which held until the next.
    last: Option<(f64, Instant)>,
}

impl Smooth {
    fn read(&mut self, used: f64, now: Instant) {
        match self.last {
            None => self.value = used,
            Some((before, then)) => {
                let seconds = now.saturating_duration_since(then).as_secs_f64();
                self.value += (before - self.value) * (1.0 - (-seconds).exp());
            }
        }
        self.last = Some((used, now));
    }
}

impl Gauge {
    /// Whether anyone wants to know.
    pub(crate) fn is_watched(&self) -> bool {
        self.watches.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn watch(&self) -> u64 {
        self.watches.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.last_watch += 1;
        state.last_watch
    }

    pub(crate) fn forget(&self, watch: u64) {
        self.watches.fetch_sub(1, Ordering::Relaxed);
        let waker = lock(&self.state).wakers.remove(&watch);
        drop(waker);
    }

    pub(crate) fn level(&self) -> Pressure {
        lock(&self.state).level
    }

    pub(crate) fn smooth(&self) -> f64 {
        lock(&self.state).smooth.value
    }

    /// Leaves a waker, unless the level is another than `seen`.
    pub(crate) fn wait(&self, watch: u64, seen: Pressure, waker: Waker) -> Option<Pressure> {
        let (changed, old) = {
            let mut state = lock(&self.state);
            if state.level != seen {
                (Some(state.level), Some(waker))
            } else {
                (None, state.wakers.insert(watch, waker))
            }
        };
        // User code, so without the lock.
        drop(old);
        changed
    }

    /// Takes note of a reading; answers whom to wake, without a lock.
    pub(crate) fn read(&self, high: f64, reading: Reading) -> Vec<Waker> {
        let used = match (reading.parked, reading.limit) {
            (true, _) => 1.0,
            (false, 0) => 0.0,
            (false, limit) => (reading.live as f64 / limit as f64).min(1.0),
        };
        let mut state = lock(&self.state);
        state.smooth.read(used, reading.now);
        let level = if reading.parked {
            Pressure::Parked
        } else if used >= high || (state.level != Pressure::Calm && used >= high / 2.0) {
            Pressure::High
        } else {
            Pressure::Calm
        };
        if std::mem::replace(&mut state.level, level) == level {
            return Vec::new();
        }
        state.wakers.drain().map(|(_, waker)| waker).collect()
    }
}

#[cfg(all(test, not(offheap_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reading(live: u64, parked: bool) -> Reading {
        Reading {
            live,
            limit: 100,
            parked,
            now: Instant::now(),
        }
    }

    #[test]
    fn high_until_half_way_down() {
        let gauge = Gauge::default();
        let level = |live, parked| {
            gauge.read(0.8, reading(live, parked));
            gauge.level()
        };
        assert_eq!(level(79, false), Pressure::Calm);
        assert_eq!(level(80, false), Pressure::High);
        assert_eq!(level(41, false), Pressure::High);
        assert_eq!(level(39, false), Pressure::Calm);
        assert_eq!(level(41, false), Pressure::Calm);
        assert_eq!(level(0, true), Pressure::Parked);
        assert_eq!(level(41, false), Pressure::High);
        assert_eq!(level(0, false), Pressure::Calm);
    }

    #[test]
    fn each_reading_holds_until_the_next() {
        let mut smooth = Smooth::default();
        let start = Instant::now();
        smooth.read(0.5, start);
        assert_eq!(smooth.value, 0.5);
        // A moment at the limit is no pressure yet; a long time is.
        smooth.read(1.0, start + Duration::from_secs(60));
        assert_eq!(smooth.value, 0.5);
        smooth.read(1.0, start + Duration::from_secs(120));
        assert!(smooth.value > 0.99 && smooth.value <= 1.0);
        smooth.read(0.0, start + Duration::from_secs(121));
        smooth.read(0.0, start + Duration::from_secs(122));
        assert!((0.3..0.4).contains(&smooth.value), "{}", smooth.value);
    }
}
