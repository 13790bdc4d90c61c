//! Faults on purpose: how a program behaves when its pool refuses, when the operating system does, or when the reclaimer is late,
//! slow or dead.
//!
//! A pool that was built with [`Faults`] fails where and when they say so. The handle stays with the test, which arms and disarms faults
//! while the pool is in use. What strikes is decided by the seed and by how often a point was reached, not by the clock, so a run
//! in one thread can be had again.
//!
//! The feature `test-util` is for tests, in `[dev-dependencies]`. A pool without faults behaves as always; each point then costs one branch,
//! off the fast path.
//!
//! # Examples
//!
//! ```
//! use offheap::test_util::{Faults, Point, When};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let faults = Faults::new(7);
//! let pool = offheap::Pool::builder().limit(1 << 20).faults(faults.clone()).build()?;
//!
//! // No memory, though there is some: does the program shed load as it should?
//! faults.set(Point::Reserve, When::Always);
//! let refused = pool.try_reserve(4096).unwrap_err();
//! assert!(matches!(refused, offheap::TryReserveError::Exhausted { .. }));
//!
//! // The operating system refuses what the limit allows.
//! faults.clear();
//! faults.set(Point::Mprotect, When::Nth(1));
//! let refused = pool.reserve(4096).await.unwrap_err();
//! assert!(matches!(refused, offheap::ReserveError::Os { .. }));
//! assert_eq!(pool.stats().committed, 0);
//! assert!(pool.reserve(4096).await.is_ok());
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::pool::Inner;
use crate::sync::lock;

/// Where a pool can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// A reservation of at least one byte that the limit could serve, each once.
    ///
    /// [`try_reserve`](crate::Pool::try_reserve) and the other calls that do not wait say `Exhausted`. A reservation that waits
    /// joins the queue though there is memory, is pending, and is woken at once; when it is polled again it is granted in the
    /// usual way, first come, first served. So a program's paths for waiting, and for giving up while it waits, are taken. While
    /// anything is set here the pool queues nothing in magazines: every reservation is asked, and costs a lock.
    Reserve,
    /// The `mmap` of a pool's address space: [`build`](crate::PoolBuilder::build) fails with `ENOMEM`. Not where blocks come
    /// from the heap.
    Mmap,
    /// The `mprotect` that opens memory for blocks (2 MiB at least at a time, for each size class) or for their headers
    /// (64 KiB at least), or the allocation where blocks come from the heap: the reservation fails with `Os`, `ENOMEM` inside.
    Mprotect,
    /// The `madvise` that gives a span back to the system, or its deallocation where blocks come from the heap: the memory stays
    /// queued and charged, as it does where it is locked (`mlock`).
    Madvise,
    /// A turn of the reclaimer: it panics. After a panic it is started again, on a thread, eight times; from then on the pool
    /// goes on without it.
    Turn,
}

const POINTS: usize = 5;

/// When a fault strikes, counted from when it was [set](Faults::set).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum When {
    /// Not at all.
    #[default]
    Never,
    /// Each time.
    Always,
    /// The `n`th time, counted from one, and only then.
    Nth(u64),
    /// Each `k`th time; 0 is never.
    Every(u64),
    /// With this probability, from 0 to 1. Which times these are depends on the seed alone.
    Chance(f64),
}

impl When {
    /// Whether it strikes the `n`th time, counted from one.
    fn strikes(self, n: u64, random: impl FnOnce(u64) -> u64) -> bool {
        match self {
            When::Never => false,
            When::Always => true,
            When::Nth(nth) => n == nth,
            When::Every(k) => k > 0 && n % k == 0,
            // 53 bits are what an f64 can tell apart.
            When::Chance(part) => ((random(n) >> 11) as f64) < part * (1_u64 << 53) as f64,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Site {
    when: When,
    reached: u64,
    struck: u64,
}

/// What the reclaimer has to put up with.
#[derive(Default)]
struct Hold {
    stalled: bool,
    delay: Duration,
    /// Reclaimers that wait for the end of the stall.
    wakers: Vec<Waker>,
}

/// Faults of the pools that were built with them. See the [module](self). Clones are the same faults.
#[derive(Clone)]
pub struct Faults {
    inner: Arc<Shared>,
}

struct Shared {
    seed: u64,
    sites: Mutex<[Site; POINTS]>,
    hold: Mutex<Hold>,
    pools: Mutex<Vec<Weak<Inner>>>,
}

impl Faults {
    /// No faults yet. The seed decides what [`When::Chance`] does.
    pub fn new(seed: u64) -> Self {
        Faults {
            inner: Arc::new(Shared {
                seed,
                sites: Mutex::default(),
                hold: Mutex::default(),
                pools: Mutex::default(),
            }),
        }
    }

    /// Fails at `point` from now on as `when` says; what was set there before is over, and its counts begin anew. Holds for the pools that
    /// were built with these faults, and for those that will be; they share the counts.
    pub fn set(&self, point: Point, when: When) {
        lock(&self.inner.sites)[point as usize] = Site {
            when,
            ..Site::default()
        };
        if point == Point::Reserve && when != When::Never {
            // What lies in magazines would be had without asking.
            for pool in self.pools() {
                pool.engine().shut_to_deny();
            }
        }
    }

    /// Holds each turn of the reclaimer up by `delay`, as a runtime that is busy does. Zero: not any more.
    pub fn slow_reclaimer(&self, delay: Duration) {
        lock(&self.inner.hold).delay = delay;
    }

    /// Whether the reclaimer gets no turn at all, though it is there and is rung: as in a runtime whose threads are stuck. Its task or
    /// thread stays until this ends.
    pub fn stall_reclaimer(&self, yes: bool) {
        let wakers = {
            let mut hold = lock(&self.inner.hold);
            hold.stalled = yes;
            if yes {
                return;
            }
            std::mem::take(&mut hold.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all faults: nothing is set any more, and the reclaimer is neither slow nor stalled. A reclaimer that is dead stays dead.
    pub fn clear(&self) {
        *lock(&self.inner.sites) = Default::default();
        self.slow_reclaimer(Duration::ZERO);
        self.stall_reclaimer(false);
    }

    /// How often `point` was reached since it was last set.
    pub fn reached(&self, point: Point) -> u64 {
        lock(&self.inner.sites)[point as usize].reached
    }

    /// How often it struck there.
    pub fn struck(&self, point: Point) -> u64 {
        lock(&self.inner.sites)[point as usize].struck
    }

    // ---- for the pool -------------------------------------------------------------------------------------------

    fn pools(&self) -> Vec<Arc<Inner>> {
        let pools = lock(&self.inner.pools);
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn attach(&self, pool: &Arc<Inner>) {
        let mut pools = lock(&self.inner.pools);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Whether it strikes at `point` now. Takes no other lock than its own, and runs no user code.
    pub(crate) fn strikes(&self, point: Point) -> bool {
        let mut sites = lock(&self.inner.sites);
        let site = &mut sites[point as usize];
        site.reached += 1;
        let random = |n| mix(self.inner.seed ^ (point as u64) << 56 ^ mix(n));
        let struck = site.when.strikes(site.reached, random);
        site.struck += u64::from(struck);
        struck
    }

    /// Whether anything is set there.
    pub(crate) fn is_set(&self, point: Point) -> bool {
        lock(&self.inner.sites)[point as usize].when != When::Never
    }

    /// How long the reclaimer's next turn is to be held up, once it may have one.
    pub(crate) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Duration> {
        let mut hold = lock(&self.inner.hold);
        if !hold.stalled {
            return Poll::Ready(hold.delay);
        }
        if !hold.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            hold.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// The finaliser of SplitMix64: as good as random, and the same for the same `n`.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            Point::Reserve,
            Point::Mmap,
            Point::Mprotect,
            Point::Madvise,
            Point::Turn,
        ];
        let sites = *lock(&self.inner.sites);
        let (stalled, delay) = {
            let hold = lock(&self.inner.hold);
            (hold.stalled, hold.delay)
        };
        let mut text = f.debug_struct("Faults");
        text.field("seed", &self.inner.seed);
        for (point, site) in all.iter().zip(sites) {
            if site.when != When::Never {
                text.field(&format!("{point:?}"), &site.when);
            }
        }
        text.field("slow_reclaimer", &delay);
        text.field("stalled_reclaimer", &stalled).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(seed: u64, when: When) -> Vec<u64> {
        let faults = Faults::new(seed);
        faults.set(Point::Madvise, when);
        (1..=1000)
            .filter(|_| faults.strikes(Point::Madvise))
            .map(|_| faults.reached(Point::Madvise))
            .collect()
    }

    #[test]
    fn schedules() {
        assert!(struck(1, When::Never).is_empty() && struck(1, When::Every(0)).is_empty());
        assert_eq!(struck(1, When::Always).len(), 1000);
        assert_eq!(struck(1, When::Nth(7)), [7]);
        assert_eq!(struck(1, When::Every(400)), [400, 800]);
        assert!(struck(1, When::Chance(0.0)).is_empty());
        assert_eq!(struck(1, When::Chance(1.0)).len(), 1000);
    }

    #[test]
    fn chance_is_the_seeds_alone() {
        let often = struck(1, When::Chance(0.3));
        assert!((200..400).contains(&often.len()), "{}", often.len());
        assert_eq!(often, struck(1, When::Chance(0.3)));
        assert_ne!(often, struck(2, When::Chance(0.3)));
    }

    #[test]
    fn setting_begins_anew() {
        let faults = Faults::new(1);
        faults.set(Point::Turn, When::Nth(2));
        assert!(!faults.strikes(Point::Turn) && faults.strikes(Point::Turn));
        assert_eq!(
            (faults.reached(Point::Turn), faults.struck(Point::Turn)),
            (2, 1)
        );
        assert!(!faults.strikes(Point::Turn) && !faults.strikes(Point::Mmap));
        faults.set(Point::Turn, When::Nth(1));
        assert!(faults.strikes(Point::Turn));
        faults.clear();
        assert!(!faults.strikes(Point::Turn));
        assert!(format!("{faults:?}").contains("seed: 1"));
    }
}
