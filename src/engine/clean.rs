//! Cleaning: how queued memory becomes free pages again.
//!
//! Always in three steps. Under the waiters' lock the coldest class's queued blocks are collected; without the lock
//! whole spans among them are decommitted; then the rest is queued again, and the pages are given back, or spent by
//! the one who cleaned. Anyone may clean: a reservation that helps itself, the head of the queue when it is polled,
//! the reclaimer, and the dropping thread when no reclaimer answers.

use super::{Engine, State};
use crate::arena::{Bag, Class, Idle};
use crate::budget::Charge;
use crate::sync::{lock, Ordering};
use crate::sys;

/// After this many fruitless tries in a row, cleaning is left to the reclaimer.
const TRIES: u32 = 16;

impl Engine {
    /// Rounds of ageing in the time that memory may be queued and unused.
    pub(crate) const ROUNDS: u32 = 4;

    /// Charges `pages` for a newcomer, cleaning what is missing. What was cleaned is kept until there is enough: no other
    /// newcomer takes it meanwhile.
    pub(super) fn make_room(&self, pages: u32) -> bool {
        let queued = self.arena.queued() / sys::page_size() as u64;
        if u64::from(self.account.free()) + queued < u64::from(pages) {
            return false;
        }
        let mut held = 0;
        while held < pages {
            let missing = pages - held;
            match self.account.charge(missing) {
                Ok(()) => return true,
                Err(Charge::Pressed) => break,
                Err(Charge::Full) => {}
            }
            let missing = missing.saturating_sub(self.account.free()).max(1);
            let freed = self.clean_coldest(missing, true);
            if freed == 0 {
                break;
            }
            held += freed;
        }
        if held >= pages {
            self.give_back(held - pages);
            return true;
        }
        self.give_back(held);
        false
    }

    /// Cleans for the head of the queue, and to pay a debt. One at a time: two would each have a part in hand that the other
    /// can not see, and both could go away though together they had enough.
    pub(crate) fn help(&self) {
        {
            let mut state = lock(&self.state);
            if state.helping {
                state.again = true;
                return;
            }
            state.helping = true;
        }
        let mut fruitless = 0;
        loop {
            let missing = {
                let mut state = lock(&self.state);
                state.again = false;
                self.shortfall(&mut state)
            };
            let freed = if missing > 0 {
                self.clean_coldest(missing, false)
            } else {
                0
            };
            if freed > 0 {
                self.give_back(freed);
                fruitless = 0;
                continue;
            }
            fruitless += 1;
            // A task must not be kept for as long as others drop what is of no use to it.
            let enough = fruitless == TRIES && self.bell.is_listening();
            let mut state = lock(&self.state);
            if !state.again || enough {
                state.helping = false;
                drop(state);
                if enough {
                    self.locked(|_| ());
                }
                return;
            }
        }
    }

    /// Gives all queued memory back to the OS; answers bytes.
    pub(crate) fn trim(&self) -> u64 {
        // On a closed pool what can not be cleaned is no news: it would be cleaned again for ever.
        let freed = self.clean_coldest(u32::MAX, !self.is_closed());
        self.give_back(freed);
        self.bytes_of(freed)
    }

    /// Decommits queued spans, coldest class first, until `pages` are free or nothing is left. They are still charged. `news`:
    /// whether whoever waits is to be told of what is put back.
    fn clean_coldest(&self, pages: u32, news: bool) -> u32 {
        let mut freed = 0;
        let mut done = None;
        while freed < pages {
            let bag = {
                let mut state = lock(&self.state);
                let key = |class: &&Class| (class.last_queued(), class.id());
                let next = self
                    .arena
                    .touched()
                    .filter(|class| {
                        class.queued() > 0 && class.is_hopeful() && Some(key(class)) > done
                    })
                    .min_by_key(key);
                let Some(class) = next else {
                    break;
                };
                done = Some(key(&class));
                self.collected(&mut state, class.collect(pages - freed))
            };
            freed += self.clean(bag, pages - freed, news);
        }
        freed
    }

    fn collected<'a>(&self, state: &mut State, bag: Bag<'a>) -> Bag<'a> {
        if state.closed {
            state.outstanding += bag.bytes();
        }
        bag
    }

    fn clean(&self, bag: Bag<'_>, pages: u32, news: bool) -> u32 {
        let class = bag.class();
        if class.per_span() > 1 {
            let searched = &self.counters.searched;
            searched.fetch_add(bag.blocks(), Ordering::Relaxed);
        }
        let (freed, rest) = bag.clean(pages);
        let cleaned = &self.counters.cleaned_bytes;
        cleaned.fetch_add(self.bytes_of(freed), Ordering::Relaxed);
        #[cfg(not(offheap_loom))]
        if freed > 0 {
            let blocks = freed / class.pages() * class.per_span();
            self.counters.tallies.batches.record(u64::from(blocks));
        }
        if !rest.is_empty() {
            self.put_back(rest, news);
        }
        freed
    }

    /// Queues what a cleaner collected and could not clean, or did not need to.
    fn put_back(&self, rest: Bag<'_>, news: bool) {
        let mut state = lock(&self.state);
        if state.closed {
            state.outstanding -= rest.bytes();
            state.ring |= news && state.outstanding == 0;
        } else if !state.pressed {
            self.open(&mut state, rest.class());
        } else {
            state.news |= news;
            state.again |= news;
        }
        rest.put_back_locked();
        self.conclude(state);
    }

    /// Pages that are missing for the head of the queue, and to pay a debt.
    pub(super) fn shortfall(&self, state: &mut State) -> u32 {
        if state.closed {
            return 0;
        }
        let pages = state.queue.head().map_or(0, |claim| match claim.wants() {
            Some(want) if claim.wants_together().is_empty() => {
                self.candidates(want).map(Class::pages).min().unwrap_or(0)
            }
            _ => self.pages_together(claim.wants_together()),
        });
        match self.account.debt() {
            0 => pages.saturating_sub(self.account.free()),
            debt => debt.saturating_add(pages),
        }
    }

    /// Whether cleaning what is queued might cover the shortfall. Small spans may turn out to be only partly queued.
    pub(super) fn is_cleanable(&self, state: &mut State) -> bool {
        let missing = match self.account.debt() {
            0 => self.shortfall(state),
            // Any part of a debt is worth paying.
            debt => debt.min(1),
        };
        let queued = || {
            self.arena
                .touched()
                .filter(|class| class.is_hopeful())
                .map(Class::queued_in_depot)
                .sum::<u64>()
        };
        missing > 0 && queued() >= self.bytes_of(missing)
    }

    // ---- ageing -------------------------------------------------------------------------------------------------

    /// One round of ageing: what no one touched since the last round moves to the depots, and what has been in a depot for
    /// `ticks` goes back to the OS. Sleeps through pressure: then whoever waits decides what is cleaned.
    pub(crate) fn age(&self, idle: &mut [Idle], ticks: u32) {
        let now = self.touch_clock();
        // Stamps are of the last time that someone looked at the clock, which each round does.
        let round = ticks / Self::ROUNDS + 1;
        let old = (ticks + round) as i32;
        for (class, idle) in self.arena.classes().zip(idle) {
            let above_floor = self.account.committed().saturating_sub(self.floor);
            if class.queued() == 0 || above_floor == 0 {
                continue;
            }
            let bag = {
                let mut state = lock(&self.state);
                if state.pressed {
                    return;
                }
                // Untouched for a whole round.
                class.settle(idle, now.wrapping_sub(ticks / Self::ROUNDS));
                let bag = class.collect_old(|stamp| now.wrapping_sub(stamp) as i32 >= old);
                self.collected(&mut state, bag)
            };
            if !bag.is_empty() {
                let freed = self.clean(bag, above_floor, true);
                self.give_back(freed);
            }
        }
    }

    /// Whether the reclaimer may stop its timer, because nothing is queued that is to go: the next drop in calm rings it.
    pub(crate) fn fall_asleep(&self) -> bool {
        let idle = || self.arena.queued() == 0 || self.account.committed() <= self.floor;
        if !idle() {
            return false;
        }
        let mut state = lock(&self.state);
        self.shut_all(&mut state);
        state.asleep = idle();
        state.asleep
    }

    /// Changes the limit. What was queued is cleaned to pay a debt at once.
    pub(crate) fn set_limit(&self, limit: u64) {
        let pages = (limit / sys::page_size() as u64) as u32;
        self.locked(|state| {
            self.limit.store(limit, Ordering::Relaxed);
            self.account.set_limit(pages);
            self.settle(state);
            state.recheck = true;
        });
        self.help();
    }

    /// An empty note for each class, for [`age`](Self::age).
    pub(crate) fn idle_notes(&self) -> Vec<Idle> {
        let mut notes = Vec::new();
        notes.resize_with(self.arena.classes().len(), Idle::default);
        notes
    }
}
