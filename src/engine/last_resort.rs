//! The last resort, for whoever would have to wait otherwise: first what is only cached, then what others can do without.
//!
//! *Soft caches* give their buffers back, the least recently used first, one at a time, until whoever is next is served: before it
//! parks, and as long as it waits. *Callbacks* for pressure are run once in each episode of waiting (from the moment that someone
//! joins an empty queue until the queue is empty again), the cheapest first, until no one waits. One thread at a time does this for
//! those who wait; others leave it word that there is news. Callbacks run on the reclaimer. Where none listens they run on the head of the
//! queue, and so they do where it depends on a runtime that has not given it a turn by the time that the head is polled again: with
//! callbacks registered, the head has itself polled once more. All of this is user code at least in part, and none of it runs in a drop or under the waiters' lock.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Engine;
use crate::reclaim::{contain, Callback, Fault, FaultKind, Need};
use crate::sync::{lock, AtomicU32, AtomicU64, Mutex, Ordering};

/// A callback that takes longer than this many milliseconds is reported.
const SLOW_MS: u128 = 100;

/// A cache that gives its buffers back.
pub(crate) trait Soft: Send + Sync {
    /// When the buffer that would go next was last used, by the pool's count of uses; `None` where nothing can go.
    fn oldest(&self) -> Option<u64>;

    /// Lets go of the buffer that was not used for the longest time; `false` where nothing can go.
    fn evict(&self) -> bool;
}

#[derive(Default)]
pub(super) struct LastResort {
    /// Caches and callbacks: where there are none, nobody looks further.
    members: AtomicU32,
    caches: Mutex<Vec<Weak<dyn Soft>>>,
    /// In order of urgency, and of registration.
    callbacks: Mutex<Vec<Arc<Callback>>>,
    /// Changes when a buffer may have become evictable.
    news: AtomicU64,
    /// How often a cached buffer was used.
    uses: AtomicU64,
    /// How often someone joined an empty queue.
    episodes: AtomicU64,
    flight: Mutex<Flight>,
}

#[derive(Debug, Default)]
struct Flight {
    busy: bool,
    /// There was news meanwhile.
    again: bool,
    /// Someone may run callbacks among those who had news.
    callbacks: bool,
    /// The last episode that callbacks were run in.
    told: u64,
}

impl std::fmt::Debug for LastResort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LastResort")
    }
}

impl Engine {
    fn has_last_resort(&self) -> bool {
        self.last_resort.members.load(Ordering::Relaxed) != 0
    }

    // ---- soft caches --------------------------------------------------------------------------------------------

    pub(crate) fn add_cache(&self, cache: Weak<dyn Soft>) {
        lock(&self.last_resort.caches).push(cache);
        self.last_resort.members.fetch_add(1, Ordering::Relaxed);
    }

    /// A cache is gone. Its entry was the one that can not be upgraded any more.
    pub(crate) fn remove_cache(&self) {
        let mut caches = lock(&self.last_resort.caches);
        let before = caches.len();
        caches.retain(|cache| cache.strong_count() > 0);
        let gone = (before - caches.len()) as u32;
        self.last_resort.members.fetch_sub(gone, Ordering::Relaxed);
    }

    /// The next use of a cached buffer.
    pub(crate) fn count_use(&self) -> u64 {
        self.last_resort.uses.fetch_add(1, Ordering::Relaxed)
    }

    /// A buffer may have become evictable: whoever waits is told.
    pub(crate) fn soft_news(&self) {
        // A change of the word that `soft_state` changes too: either the buffer is seen there, or those who wait are seen here.
        self.last_resort.news.fetch_add(1, Ordering::AcqRel);
        if self.account.is_pressed() {
            self.call_head();
            self.bell.ring();
        }
    }

    /// Whoever leaves the head of the queue may have been told, and not have looked yet: then it is for the next.
    pub(super) fn pass_soft_news(&self) {
        if self.has_last_resort() && self.account.is_pressed() {
            self.call_head();
        }
    }

    /// Equal answers mean that nothing has become evictable in between.
    pub(crate) fn soft_state(&self) -> u64 {
        self.last_resort.news.fetch_add(0, Ordering::AcqRel)
    }

    /// Evicts one buffer, the least recently used of all caches; `false` where nothing can go.
    pub(crate) fn evict_one(&self) -> bool {
        if !self.has_last_resort() {
            return false;
        }
        loop {
            let caches: Vec<_> = {
                let caches = lock(&self.last_resort.caches);
                caches.iter().filter_map(Weak::upgrade).collect()
            };
            let next = match &caches[..] {
                [] => return false,
                [only] => return contain(|| only.evict()).unwrap_or(false),
                many => many
                    .iter()
                    .filter_map(|cache| Some((contain(|| cache.oldest()).ok()??, cache)))
                    .min_by_key(|(oldest, _)| *oldest),
            };
            let Some((_, next)) = next else {
                return false;
            };
            match contain(|| next.evict()) {
                Ok(true) => return true,
                // Someone else took it: another look.
                Ok(false) => {}
                Err(_) => return false,
            }
        }
    }

    /// For a newcomer who finds nothing: whether it is worth while to try again. Not while others wait: then it is for those.
    pub(super) fn make_way(&self) -> bool {
        self.has_last_resort() && lock(&self.state).queue.is_empty() && self.evict_one()
    }

    // ---- callbacks ----------------------------------------------------------------------------------------------

    pub(crate) fn add_callback(&self, callback: Arc<Callback>) {
        let mut callbacks = lock(&self.last_resort.callbacks);
        let urgency = callback.urgency;
        let place = callbacks.partition_point(|other| other.urgency <= urgency);
        callbacks.insert(place, callback);
        self.last_resort.members.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_callback(&self, callback: &Arc<Callback>) {
        let removed = {
            let mut callbacks = lock(&self.last_resort.callbacks);
            let place = callbacks.iter().position(|own| Arc::ptr_eq(own, callback));
            place.map(|place| callbacks.remove(place))
        };
        if removed.is_some() {
            self.last_resort.members.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Someone waits, and was the first to.
    pub(super) fn begin_episode(&self) {
        if self.has_last_resort() {
            self.last_resort.episodes.fetch_add(1, Ordering::AcqRel);
            self.bell.ring();
        }
    }

    /// Whether whoever waits may run callbacks. `again`: it does not join the queue just now, but was polled again.
    pub(super) fn may_call_back(&self, again: bool) -> bool {
        !self.bell.is_listening() || (again && self.bell.may_be_starved())
    }

    /// Whether the head of the queue has to be polled again, because the reclaimer might not answer.
    pub(super) fn looks_again(&self) -> bool {
        self.has_last_resort()
            && self.bell.may_be_starved()
            && !lock(&self.last_resort.callbacks).is_empty()
    }

    /// What those who wait are short of; `None` where no one waits.
    fn need(&self) -> Option<Need> {
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        let free = self.bytes_of(self.account.free());
        let waiting = state.queue.weight();
        let head = state.queue.head()?;
        let contiguous = head.wants().map_or(0, |want| {
            let class = self.candidates(want).next();
            class.map_or(want.n, |class| class.size())
        });
        let short = self.shortfall(&mut state);
        let bytes = waiting.saturating_sub(free).max(self.bytes_of(short));
        Some(Need {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            contiguous,
        })
    }

    /// Does for those who wait what the module says. `callbacks`: whether the caller may run them.
    pub(crate) fn last_resort(&self, callbacks: bool) {
        if !self.has_last_resort() {
            return;
        }
        {
            let mut flight = lock(&self.last_resort.flight);
            flight.callbacks |= callbacks;
            if flight.busy {
                flight.again = true;
                return;
            }
            flight.busy = true;
        }
        loop {
            while self.need().is_some() && self.evict_one() {
                self.use_what_came();
            }
            let callbacks = {
                let mut flight = lock(&self.last_resort.flight);
                // Under the lock: whoever said that callbacks may be run began its episode before.
                let episode = self.last_resort.episodes.load(Ordering::Acquire);
                let due = std::mem::take(&mut flight.callbacks) && flight.told != episode;
                if due {
                    flight.told = episode;
                }
                due
            };
            if callbacks {
                self.run_callbacks();
            }
            let mut flight = lock(&self.last_resort.flight);
            if !std::mem::take(&mut flight.again) {
                flight.busy = false;
                return;
            }
        }
    }

    /// What was dropped may have to be cleaned before those who wait can have it.
    fn use_what_came(&self) {
        while self.clean_one() {}
        self.help();
    }

    fn run_callbacks(&self) {
        let callbacks = lock(&self.last_resort.callbacks).clone();
        for callback in callbacks {
            let Some(need) = self.need() else {
                return;
            };
            // Empty while it runs, also where it is run within itself.
            let Some(mut run) = callback.take() else {
                continue;
            };
            let started = Instant::now();
            let done = contain(|| run(need));
            let slow = !cfg!(offheap_loom) && started.elapsed().as_millis() > SLOW_MS;
            callback.put_back(run);
            let counters = &self.counters;
            match done {
                Ok(freed) => {
                    let freed = freed as u64;
                    counters
                        .pressure_freed_bytes
                        .fetch_add(freed, Ordering::Relaxed);
                }
                Err(message) => {
                    counters.pressure_panics.fetch_add(1, Ordering::Relaxed);
                    self.report(&Fault {
                        kind: FaultKind::PressurePanicked,
                        location: callback.site,
                        message,
                    });
                }
            }
            if slow {
                counters.pressure_slow.fetch_add(1, Ordering::Relaxed);
                self.report(&Fault {
                    kind: FaultKind::PressureSlow,
                    location: callback.site,
                    message: None,
                });
            }
            self.use_what_came();
        }
    }
}
