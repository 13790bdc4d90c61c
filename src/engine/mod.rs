//! The loop: where arena and budget meet.
//!
//! ```text
//!   reserve ──▶ magazine ──▶ set aside, depot ──▶ charge and grow ──▶ help ──▶ clean ──▶ park
//!                  ▲                                                                      │ first come,
//!                  │ calm                                                                 ▼ first served
//!   last drop ─────┴── shut ──▶ waiters' lock ──▶ depot ──▶ grant ◀─────────────────── queue
//! ```
//!
//! A pool is *calm* while nobody waits: every step up to cleaning works without the waiters' lock, and newcomers race for
//! what there is. It is *pressed* from the moment a reservation joins the queue (or the limit falls below what is
//! committed) until the queue is empty. Two things make pressing safe without a fence. The account's pressed bit
//! keeps newcomers from charging and sends whoever gives pages back to the lock. And all magazines and depots are
//! shut, each by a change of the very word that a drop changes, so that a drop either came before, and what it queued
//! is collected by the one who parks, or finds the word shut and comes to the lock as well. Under the lock, blocks and
//! pages are *assigned* to the head of the queue; a woken future never competes again.
//!
//! Pressed gives way to calm as soon as the queue is empty, but classes stay shut until a drop opens its own. The
//! same shut words serve when the reclaimer goes to sleep (the first drop rings it), when the pool closes (drops are
//! counted exactly), and when the last handle to the pool goes (a push then never touches a pool that is going away).

mod claim;
mod clean;
mod close;
mod denial;
mod gauge;
// Without caches some of it has no use.
#[cfg_attr(not(any(feature = "cache", offheap_loom)), allow(dead_code))]
mod last_resort;
#[cfg(offheap_loom)]
pub(crate) mod life;
#[cfg(not(offheap_loom))]
mod prefault;
#[cfg(not(offheap_loom))]
mod tallies;
#[cfg(feature = "tracing")]
mod trace;
mod unclean;
mod wait;

use std::any::Any;
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::arena::{Arena, Block, Chain, Class, ClassId, Handle, Line, Owner};
use crate::budget::{wake, Account, Charge, Queue, WakeList};
use crate::reclaim::{Bell, Gauge};
use crate::sync::{
    lock, seat_if_any, AtomicU32, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering,
};
use crate::sys::{self, barrier};

pub(crate) use claim::Claim;
pub(crate) use close::{Counted, Owned};
#[cfg(any(feature = "cache", offheap_loom))]
pub(crate) use last_resort::Soft;
#[cfg(any(feature = "metrics", feature = "inspector"))]
pub(crate) use tallies::{Histogram, BATCH_EDGES, WAIT_EDGES};
pub(crate) use wait::{HasEngine, Wait};

use claim::{Site, Want};
use last_resort::LastResort;
use unclean::Unclean;

/// Blocks are dated in ticks of this many milliseconds; 32 bits of them last 13 years.
const TICK_MS: u64 = 100;

/// What all handles of a pool share.
#[derive(Debug)]
pub(crate) struct Engine {
    arena: Arena,
    account: Line<Account>,
    state: Line<Mutex<State>>,
    /// The limit as it was given; the account has it in whole pages.
    limit: AtomicU64,
    max_limit: u64,
    /// One for the pool's handles, or, once they are gone, for the buffers that are left; one for each drop that is
    /// at the waiters' lock. Whoever takes it to zero frees everything.
    refs: Line<AtomicUsize>,
    /// Set once, by `close`.
    closed: AtomicU32,
    tick: AtomicU32,
    started: Instant,
    bell: Arc<Bell>,
    /// Whether a thread may have a stack of its own in its shard.
    biased: bool,
    /// What the pool's handles want to find again from a buffer, when they are gone.
    pub(crate) label: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Whether blocks are wiped before they are used again.
    wipes: bool,
    unclean: Line<Unclean>,
    last_resort: LastResort,
    gauge: Gauge,
    /// The part of the limit from which on pressure is high.
    high_water: f64,
    /// Pages that ageing leaves.
    floor: u32,
    pub(crate) counters: Line<Counters>,
    injector: sys::Injector,
    #[cfg(offheap_loom)]
    life: life::Life,
}

/// Events since the pool was built. All of them are off the fast path.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) parked: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) helped: AtomicU64,
    pub(crate) cleaned_bytes: AtomicU64,
    /// Queued blocks that were looked at to find complete spans.
    pub(crate) searched: AtomicU64,
    pub(crate) handed_over: AtomicU64,
    /// Hooks, or other user code that the reclaimer called, that panicked.
    pub(crate) hook_panics: AtomicU64,
    pub(crate) pressure_panics: AtomicU64,
    pub(crate) pressure_slow: AtomicU64,
    pub(crate) pressure_freed_bytes: AtomicU64,
    pub(crate) peak_live: AtomicU64,
    /// Bytes of buffers that are registered with an io_uring.
    #[cfg(not(offheap_loom))]
    pub(crate) registered: AtomicU64,
    #[cfg(not(offheap_loom))]
    pub(crate) tallies: tallies::Tallies,
}

/// What the waiters' lock guards.
///
/// | flag | set by | cleared by | what it is for |
/// | --- | --- | --- | --- |
/// | `pressed` | `settle` | `settle` | newcomers queue, all classes are shut |
/// | `asleep` | the reclaimer that found nothing queued | whoever opens a class | the first drop rings it |
/// | `recheck` | `set_limit` | `serve` | waiters that became impossible are refused |
/// | `news` | whatever may make cleaning worth while | `conclude`, which calls someone to clean | nobody is called in vain |
/// | `helping`, `again` | who cleans for the head; who has news meanwhile | that helper | one cleans at a time, and misses nothing |
/// | `ring` | anyone with work for the reclaimer | `conclude`, once the lock is gone | the bell is user code's neighbour |
#[derive(Debug)]
struct State {
    queue: Queue<Claim>,
    closers: Queue<()>,
    /// The classes that are not shut.
    open: Vec<ClassId>,
    /// Someone waits, or the pool is in debt or closed: all classes are shut and newcomers queue.
    pressed: bool,
    closed: bool,
    /// No handle to the pool is left.
    orphaned: bool,
    /// The reclaimer found nothing queued and runs no timer: the next drop rings it.
    asleep: bool,
    /// The limit has changed: some who wait may wait for the impossible.
    recheck: bool,
    /// Something has changed: cleaning may have become worth while for whoever waits.
    news: bool,
    /// Someone cleans for whoever waits.
    helping: bool,
    /// There was news meanwhile: the helper looks again.
    again: bool,
    /// The reclaimer is to be rung when the lock is gone.
    ring: bool,
    /// Of a closed pool: committed bytes that are not queued, which is what buffers hold.
    outstanding: u64,
}

/// A parked reservation, as an observer sees it.
#[cfg(feature = "inspector")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiter {
    /// What it asks for.
    pub(crate) bytes: u64,
    pub(crate) since: Instant,
    /// The line of code that reserves.
    pub(crate) site: &'static std::panic::Location<'static>,
}

/// Why no block is to be had now.
#[derive(Debug)]
pub(crate) enum Refused {
    /// No limit that is in force can serve this.
    TooLarge,
    Closed,
    /// Nothing is left, or others wait.
    Full,
    /// The operating system refused memory.
    Os(io::Error),
}

/// What a pool is built from.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) limit: u64,
    pub(crate) max_limit: u64,
    pub(crate) page_aligned: bool,
    pub(crate) huge_pages: bool,
    pub(crate) shards: usize,
    pub(crate) membarrier: bool,
    pub(crate) wipes: bool,
    pub(crate) high_water: f64,
    pub(crate) floor: u64,
    pub(crate) injector: sys::Injector,
}

impl Engine {
    /// Builds a pool; the handle owns it.
    pub(crate) fn build(config: Config) -> io::Result<Owned> {
        let arena = Arena::new(
            config.max_limit,
            config.page_aligned,
            config.huge_pages,
            config.shards,
            &config.injector,
        )?;
        let limit = Self::pages_of(config.limit)?;
        Self::pages_of(config.max_limit)?;
        let classes = arena.classes().len();
        let engine = Box::new(Engine {
            arena,
            account: Line(Account::new(limit)),
            state: Line(Mutex::new(State {
                queue: Queue::new(),
                closers: Queue::new(),
                open: Vec::with_capacity(classes),
                pressed: false,
                closed: false,
                orphaned: false,
                asleep: true,
                recheck: false,
                news: false,
                helping: false,
                again: false,
                ring: false,
                outstanding: 0,
            })),
            limit: AtomicU64::new(config.limit),
            max_limit: config.max_limit,
            refs: Line(AtomicUsize::new(1)),
            closed: AtomicU32::new(0),
            tick: AtomicU32::new(0),
            started: Instant::now(),
            bell: Arc::default(),
            wipes: config.wipes,
            unclean: Line::default(),
            last_resort: LastResort::default(),
            gauge: Gauge::default(),
            high_water: config.high_water,
            floor: Self::pages_of(config.floor)?,
            biased: config.membarrier && barrier::available(),
            label: OnceLock::new(),
            counters: Line::default(),
            injector: config.injector,
            #[cfg(offheap_loom)]
            life: life::Life::new(),
        });
        let engine = NonNull::from(Box::leak(engine));
        let owner: NonNull<dyn Owner> = engine;
        // SAFETY: just leaked, and freed only once no block is outstanding.
        unsafe { engine.as_ref().arena.bind(owner) };
        Ok(Owned(engine))
    }

    fn pages_of(bytes: u64) -> io::Result<u32> {
        let page = sys::page_size() as u64;
        let pages = bytes / page;
        u32::try_from(pages)
            .ok()
            .filter(|_| pages <= Account::MAX)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "a limit of {bytes} bytes is more than the largest possible, {} bytes",
                        Account::MAX * page
                    ),
                )
            })
    }

    // ---- ways in ------------------------------------------------------------------------------------------------

    /// The class that serves `n` bytes under the present limit, `beside` so many pages.
    fn class_for(&self, n: usize, beside: u32) -> Option<&Class> {
        let class = self.arena.class_for(n)?;
        let limit = self.account.limit().saturating_sub(beside);
        if class.pages() <= limit {
            return Some(class);
        }
        self.arena
            .compact(class.id())
            .filter(|class| class.pages() <= limit)
    }

    /// Whether an empty pool could serve the claim.
    pub(crate) fn fits(&self, claim: &Claim) -> bool {
        match (claim.pages(), claim.wants()) {
            (Some(pages), _) => pages <= u64::from(self.account.limit()),
            (None, Some(want)) => self.class_for(want.n, claim.pages_beside()).is_some(),
            (None, None) => true,
        }
    }

    /// The classes that may serve a want, best first.
    fn candidates(&self, want: Want) -> impl Iterator<Item = &Class> {
        let limit = self.account.limit();
        let first = match want.class {
            Some(id) => Some(self.arena.class(id)),
            None => self.arena.class_for(want.n),
        };
        let compact = first
            .filter(|_| want.class.is_none())
            .and_then(|first| self.arena.compact(first.id()));
        [first, compact]
            .into_iter()
            .flatten()
            .filter(move |class| class.pages() <= limit)
    }

    /// The largest `n` that the present limit can serve.
    pub(crate) fn max_reserve(&self) -> usize {
        self.max_beside(0)
    }

    /// The same, `beside` so many pages that stay in use.
    pub(crate) fn max_beside(&self, beside: u32) -> usize {
        let limit = self.account.limit().saturating_sub(beside);
        let fits = |class: &&Class| class.pages() <= limit;
        let largest = self.arena.classes().rev().find(fits);
        largest.map_or(0, Class::size)
    }

    /// The pool that a buffer's block is from.
    pub(crate) fn of(handle: &Handle) -> &Engine {
        let owner = handle.header().class().owner();
        owner
            .as_any()
            .downcast_ref()
            .expect("the only owner there is")
    }

    /// A block for `n` > 0 bytes without waiting: from this thread's magazine, and otherwise in the order of the module's
    /// picture.
    #[inline]
    pub(crate) fn obtain(&self, n: usize) -> Result<Block, Refused> {
        match self.obtain_fast(n) {
            Some(block) => Ok(block),
            None => self.obtain_slow(n),
        }
    }

    /// From this thread's magazine, where there is one for `n` > 0 bytes.
    fn obtain_fast(&self, n: usize) -> Option<Block> {
        // There is no class for no bytes.
        let class = self.arena.class_for(n)?;
        class.pop_own(seat_if_any()).or_else(|| class.pop_shared())
    }

    /// A lease of that.
    ///
    /// What it answers fits a register, and so whoever reserves gets a buffer that lies in registers too. A buffer that a call writes to
    /// memory, and that its caller moves on at once, costs more than all that is done here: processors can not forward two narrow
    /// stores to one wide load.
    #[inline]
    pub(crate) fn lease_fast(&self, n: usize, site: Site) -> Option<Handle> {
        // Here, since looking up a thread-local costs least in the program itself.
        self.lease_at(n, site, seat_if_any())
    }

    /// The most usual case, in the fewest instructions: it calls nothing, and so has nothing to save.
    #[inline(never)]
    fn lease_at(&self, n: usize, site: Site, seat: usize) -> Option<Handle> {
        if let Some(class) = self.arena.small_class_for(n) {
            if let Some(block) = class.pop_own(seat) {
                return Some(block.lease(n, site, self.tick()));
            }
        }
        self.lease_shared(n, site)
    }

    #[inline(never)]
    fn lease_shared(&self, n: usize, site: Site) -> Option<Handle> {
        let block = self.obtain_fast(n)?;
        Some(block.lease(n, site, self.tick()))
    }

    #[cold]
    pub(crate) fn obtain_slow(&self, n: usize) -> Result<Block, Refused> {
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        let first = self.class_for(n, 0).ok_or(Refused::TooLarge)?;
        if self.account.is_pressed() {
            if self.account.debt() == 0 {
                return Err(Refused::Full);
            }
            // Perhaps no one waits, and what is queued pays the debt.
            self.help();
        }
        let limit = self.account.limit();
        let compact = self.arena.compact(first.id());
        let compact = compact.filter(|class| class.pages() <= limit);
        for class in [Some(first), compact].into_iter().flatten() {
            if let Some(block) = self.take(class).or_else(|| self.take_wiped(class)) {
                return Ok(block);
            }
            match self.account.charge(class.pages()) {
                Ok(()) => return self.grow(class).map_err(Refused::Os),
                Err(Charge::Pressed) => return Err(Refused::Full),
                Err(Charge::Full) => {}
            }
            loop {
                if let Some(block) = self.steal(class) {
                    self.counters.helped.fetch_add(1, Ordering::Relaxed);
                    return Ok(block);
                }
                if self.make_room(class.pages()) {
                    self.counters.helped.fetch_add(1, Ordering::Relaxed);
                    return self.grow(class).map_err(Refused::Os);
                }
                if !self.wipe_one() {
                    break;
                }
            }
        }
        Err(Refused::Full)
    }

    /// From this shard or the depot. A class may still be shut though nobody waits any more: then it is opened first.
    fn take(&self, class: &Class) -> Option<Block> {
        if let Some(block) = class.take() {
            return Some(block);
        }
        if class.is_open() || class.queued_in_depot() == 0 {
            return None;
        }
        let denied = self.locked(|state| {
            if state.pressed {
                return None;
            }
            self.open(state, class);
            // A pool that may deny keeps it shut.
            (!class.is_open()).then(|| class.pop_locked())?
        });
        denied.or_else(|| class.take())
    }

    /// From other shards.
    fn steal(&self, class: &Class) -> Option<Block> {
        if let Some(block) = class.steal() {
            return Some(block);
        }
        if !class.is_owned() {
            return None;
        }
        {
            let state = lock(&self.state);
            if state.pressed {
                return None;
            }
            class.disown_all();
        }
        class.take()
    }

    /// Commits a span that has been charged.
    fn grow(&self, class: &Class) -> io::Result<Block> {
        self.touch_clock();
        match self.arena.grow(class) {
            Ok((block, rest)) => {
                if let Some(rest) = rest {
                    class.put_near(rest);
                }
                self.note_peak();
                self.note_pressure();
                Ok(block)
            }
            Err(error) => {
                self.give_back(class.pages());
                Err(error)
            }
        }
    }

    // ---- under the lock -----------------------------------------------------------------------------------------

    /// Does something under the waiters' lock, then serves whoever can be served, and wakes them without the lock.
    fn locked<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = f(&mut state);
        state.news = true;
        self.conclude(state);
        result
    }

    /// Serves whoever can be served, unlocks, and does what has to be done without the lock.
    fn conclude<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        let mut wakers = WakeList::new();
        loop {
            self.serve(&mut state, &mut wakers);
            let more = wakers.is_full();
            let mut clean = false;
            let mut gone = false;
            if !more {
                if std::mem::take(&mut state.news) {
                    let cleanable = self.is_cleanable(&mut state);
                    if cleanable && state.helping {
                        state.again = true;
                    } else if cleanable || (!state.queue.is_empty() && self.seems_unclean()) {
                        // Whoever gets to it first: the head of the queue when it is polled, or the reclaimer.
                        // A ring that was not answered yet says that the reclaimer may be starved.
                        clean = cleanable && (!self.bell.is_listening() || self.bell.is_rung());
                        state.ring = true;
                        wakers.extend(state.queue.call_head());
                    }
                }
                // Said once: nobody else may see it and free the pool a second time.
                gone = state.outstanding == 0 && std::mem::take(&mut state.orphaned);
            }
            let ring = std::mem::take(&mut state.ring);
            drop(state);
            wakers.wake();
            self.check_alive();
            if ring {
                self.bell.ring();
            }
            self.note_pressure();
            if clean {
                self.help();
            }
            if gone {
                if self.refs.load(Ordering::Relaxed) > 2 {
                    // A weak handle may keep the address space, but no memory.
                    self.trim();
                }
                // Not the last: whoever comes here has one of its own.
                self.refs.fetch_sub(1, Ordering::AcqRel);
            }
            if !more {
                return;
            }
            state = lock(&self.state);
        }
    }

    /// Assigns what there is to the head of the queue, until it does not suffice or `wakers` is full.
    fn serve(&self, state: &mut State, wakers: &mut WakeList) {
        if state.recheck {
            self.refuse_too_large(state, wakers);
        }
        while !wakers.is_full() {
            if state.closed {
                if let Some(claim) = state.queue.head() {
                    claim.refuse(Refused::Closed);
                    state.outstanding -= self.take_back(claim);
                    wakers.extend(state.queue.finish_head());
                } else if state.outstanding == 0 && !state.closers.is_empty() {
                    wakers.extend(state.closers.finish_head());
                } else {
                    break;
                }
                continue;
            }
            if self.account.debt() > 0 {
                break;
            }
            if !state.queue.head().is_some_and(|claim| self.satisfy(claim)) {
                break;
            }
            wakers.extend(state.queue.finish_head());
        }
        self.settle(state);
    }

    /// Pressed or calm, as the queue and the limit demand.
    fn settle(&self, state: &mut State) {
        let pressed = state.closed || !state.queue.is_empty() || self.account.debt() > 0;
        if pressed != state.pressed {
            state.pressed = pressed;
            self.account.set_pressed(pressed);
            if pressed {
                self.shut_all(state);
            } else if state.asleep && self.is_queued_in_depots() {
                state.asleep = false;
                state.ring = true;
            }
        }
    }

    /// The way of most drops under pressure: the head of the queue wants just such a block, gets it, and has all that it asked
    /// for.
    fn hand_over(
        &self,
        state: &mut State,
        class: &Class,
        chain: Chain,
    ) -> Result<Option<Waker>, Chain> {
        if state.closed || state.recheck || self.account.debt() > 0 {
            return Err(chain);
        }
        let Some(claim) = state.queue.head() else {
            return Err(chain);
        };
        let Some(want) = claim.wants().filter(|want| want.class.is_none()) else {
            return Err(chain);
        };
        if !self.serves(class, want) {
            return Err(chain);
        }
        claim.accept(want, class.only(chain)?, self.tick());
        self.count_handed_over();
        Ok(state.queue.finish_head())
    }

    /// Whether the class is one of the want's candidates.
    fn serves(&self, class: &Class, want: Want) -> bool {
        let first = self.arena.class_for(want.n);
        first.is_some_and(|first| ptr::eq(first, class) && class.pages() <= self.account.limit())
            || self.candidates(want).any(|own| ptr::eq(own, class))
    }

    /// Under the lock, so that no other thread counts at the same time.
    fn count_handed_over(&self) {
        let count = &self.counters.handed_over;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Whether anything is queued, while all classes are shut.
    fn is_queued_in_depots(&self) -> bool {
        self.arena
            .touched()
            .any(|class| class.queued_in_depot() > 0)
    }

    /// Whether the next in the queue, after one who got a block of `class`, can be no better off than that one was before: it
    /// wants the same, and nothing at all is queued.
    fn is_next_alike(&self, state: &mut State, class: &Class) -> bool {
        let next = state.queue.head().and_then(|claim| claim.wants());
        let next = next.and_then(|want| self.candidates(want).next());
        next.is_some_and(|next| next.id() == class.id()) && !self.is_queued_in_depots()
    }

    fn satisfy(&self, claim: &mut Claim) -> bool {
        while let Some(want) = claim.wants() {
            if self.pages_together(claim.wants_together()) > self.account.free() {
                return false;
            }
            match self.grant(want) {
                Ok(Some(block)) => claim.accept(want, block, self.tick()),
                Ok(None) => {
                    // A depot may have counted a chain that was on its way and did not come.
                    claim.take_back_together(|block| self.queue_locked(block));
                    return false;
                }
                Err(refused) => {
                    claim.refuse(refused);
                    return true;
                }
            }
        }
        true
    }

    /// The pages that so many blocks of small classes take beyond what is queued. Under the lock, while the classes are shut.
    fn pages_together(&self, blocks: &[(ClassId, u32)]) -> u32 {
        let pages = |&(id, count): &(ClassId, u32)| {
            let class = self.arena.class(id);
            let queued = class.queued_in_depot() / class.size() as u64;
            let missing = u64::from(count).saturating_sub(queued);
            missing.div_ceil(u64::from(class.per_span())) as u32 * class.pages()
        };
        blocks.iter().map(pages).sum()
    }

    /// A block for the head of the queue, if there is one or its pages can be charged.
    fn grant(&self, want: Want) -> Result<Option<Block>, Refused> {
        let mut candidates = self.candidates(want).peekable();
        if candidates.peek().is_none() {
            return Err(Refused::TooLarge);
        }
        for class in candidates {
            if let Some(block) = class.pop_locked() {
                self.count_handed_over();
                return Ok(Some(block));
            }
            if self.account.charge_for_waiter(class.pages()).is_err() {
                continue;
            }
            return match self.arena.grow(class) {
                Ok((block, rest)) => {
                    if let Some(rest) = rest {
                        class.push_rest_locked(rest, self.tick());
                    }
                    self.note_peak();
                    Ok(Some(block))
                }
                Err(error) => {
                    self.account.uncharge_locked(class.pages());
                    Err(Refused::Os(error))
                }
            };
        }
        Ok(None)
    }

    /// Queues what a refused claim was granted so far; answers its bytes.
    fn take_back(&self, claim: &mut Claim) -> u64 {
        let mut bytes = 0;
        claim.take_back(|block| {
            bytes += block.header().class().size() as u64;
            self.queue_locked(block);
        });
        bytes
    }

    fn queue_locked(&self, block: Block) {
        let class = self.arena.class(block.header().class().id());
        class.push_locked(Chain::of(block), self.tick());
    }

    fn open(&self, state: &mut State, class: &Class) {
        if !class.is_open() {
            if !self.injector.may_deny() {
                class.open();
                state.open.push(class.id());
            }
            // What is queued from now on has to be aged.
            state.ring |= std::mem::take(&mut state.asleep);
        }
    }

    fn shut_all(&self, state: &mut State) {
        // One fence for all of them.
        let owned = |any, id: &ClassId| self.arena.class(*id).disown() | any;
        if state.open.iter().fold(false, owned) {
            barrier::heavy();
        }
        for id in state.open.drain(..) {
            self.arena.class(id).shut(self.tick());
        }
    }

    /// Gives charged pages back; they are decommitted by now.
    fn give_back(&self, pages: u32) {
        if pages == 0 || self.account.uncharge(pages).is_ok() {
            return;
        }
        self.locked(|state| self.give_back_locked(state, pages));
    }

    fn give_back_locked(&self, state: &mut State, pages: u32) {
        self.account.uncharge_locked(pages);
        if state.closed {
            state.outstanding -= self.bytes_of(pages);
        }
    }

    fn bytes_of(&self, pages: u32) -> u64 {
        u64::from(pages) * sys::page_size() as u64
    }

    /// Has whoever is next polled, though it is not served: there may be something that it can do.
    fn call_head(&self) {
        let wakers = {
            let mut state = lock(&self.state);
            [state.queue.call_head(), state.closers.call_head()]
        };
        wakers.into_iter().flatten().for_each(wake);
    }

    // ---- observing ----------------------------------------------------------------------------------------------

    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn max_limit(&self) -> u64 {
        self.max_limit
    }

    pub(crate) fn committed(&self) -> u64 {
        self.bytes_of(self.account.committed())
    }

    /// Waiting reservations, and the bytes that they asked for.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.queue.len() as u64, state.queue.weight())
    }

    /// How long the head of the queue has waited; zero where nobody waits.
    #[cfg(feature = "metrics")]
    pub(crate) fn oldest_wait(&self) -> Duration {
        let mut since = None;
        lock(&self.state)
            .queue
            .show(1, |_, _, joined| since = Some(joined));
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The first `most` who wait, in order.
    #[cfg(feature = "inspector")]
    pub(crate) fn waiters(&self, most: usize) -> Vec<Waiter> {
        let mut waiters = Vec::with_capacity(most);
        let state = lock(&self.state);
        state.queue.show(most, |claim, bytes, since| {
            waiters.push(Waiter {
                bytes,
                since,
                site: claim.site(),
            });
        });
        waiters
    }

    #[cfg(feature = "inspector")]
    pub(crate) fn is_pressed(&self) -> bool {
        self.account.is_pressed()
    }

    /// Live bytes, without looking at every block; exact when nothing moves.
    pub(crate) fn live_estimate(&self) -> u64 {
        self.committed().saturating_sub(self.arena.queued())
    }

    /// Sampled where live can reach a new peak: when memory is charged and when it is looked at.
    pub(crate) fn note_peak(&self) {
        let peak = &self.counters.peak_live;
        if self.committed() > peak.load(Ordering::Relaxed) {
            peak.fetch_max(self.live_estimate(), Ordering::Relaxed);
        }
    }

    pub(crate) fn addresses(&self) -> Range<usize> {
        self.arena.addresses()
    }

    /// Brings the pool's clock up to date, and answers it.
    pub(crate) fn touch_clock(&self) -> u32 {
        // Models must not depend on how long they take.
        let elapsed = if cfg!(offheap_loom) {
            Duration::ZERO
        } else {
            self.started.elapsed()
        };
        let tick = (elapsed.as_millis() as u64 / TICK_MS) as u32;
        self.tick.fetch_max(tick, Ordering::Relaxed).max(tick)
    }

    #[inline]
    pub(crate) fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// A span of time in ticks.
    pub(crate) fn ticks(time: Duration) -> u32 {
        u32::try_from(time.as_millis() / u128::from(TICK_MS)).unwrap_or(u32::MAX / 2)
    }

    /// How long ago `tick` was.
    pub(crate) fn since(&self, tick: u32) -> Duration {
        let ticks = self.tick().wrapping_sub(tick);
        Duration::from_millis(u64::from(ticks) * TICK_MS)
    }
}

impl Owner for Engine {
    fn tick(&self) -> u32 {
        self.tick()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    #[cold]
    fn returned(&self, class: &Class, chain: Chain) {
        let mut state = lock(&self.state);
        match self.hand_over(&mut state, class, chain) {
            Ok(waker) => {
                if state.queue.is_empty() && !state.orphaned {
                    // Nobody is left to be served, or to be called.
                    self.settle(&mut state);
                    let ring = std::mem::take(&mut state.ring);
                    drop(state);
                    waker.into_iter().for_each(wake);
                    if ring {
                        self.bell.ring();
                    }
                    self.note_pressure();
                } else if self.is_next_alike(&mut state, class) {
                    drop(state);
                    waker.into_iter().for_each(wake);
                } else {
                    state.news = true;
                    self.conclude(state);
                    waker.into_iter().for_each(wake);
                }
            }
            Err(chain) => {
                let bytes = class.chain_bytes(&chain);
                class.push_locked(chain, self.tick());
                if state.closed {
                    state.outstanding -= bytes;
                    state.ring |= state.outstanding == 0;
                } else if !state.pressed {
                    self.open(&mut state, class);
                } else {
                    state.news = true;
                    // The helper has what was there before in its hands: together they may make whole spans.
                    state.again = true;
                }
                self.conclude(state);
            }
        }
        if self.is_orphan_with_buffers() {
            // Nobody else will.
            self.trim();
        }
    }

    fn due(&self, class: &Class) {
        let state = lock(&self.state);
        class.give_own(self.biased && !state.pressed && class.is_open());
    }

    fn unclean(&self, block: Block) {
        self.put_unclean(block);
    }

    fn loosened(&self) {
        self.soft_news();
    }

    fn wipes(&self) -> bool {
        self.wipes
    }

    fn refs(&self) -> &AtomicUsize {
        self.check_alive();
        &self.refs
    }

    fn end(self: Box<Self>) {
        #[cfg(all(offheap_loom, not(offheap_shuttle)))]
        Box::leak(self).life.end();
        // Of a million schedules not all can be kept.
        #[cfg(offheap_shuttle)]
        self.life.end();
    }
}
