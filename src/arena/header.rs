//! The block header: what the pool knows of one block, out of band, on a cache line of its own.
//!
//! A header is in one of two hands. While its block is *live*, `location` says who has it and `state` counts the handles. While it is
//! *queued* or *clean*, there is no `location`, `state` has the count of the next lease already, and the link fields belong to the stack,
//! chain or bag that holds the block. The two sets of fields do not overlap (but for the stamp), so that an observer may read either at any
//! time: what it reads may be stale, never torn.
//!
//! # Counting handles
//!
//! The count of handles is a sum of two words. `state` has the half that anyone changes, by one atomic operation. `own` has
//! the handles that one thread, the block's *owner*, has added, and because nobody else writes to it that is a plain
//! load and store. The first thread that clones a handle becomes the owner, and from its second clone on it pays no atomic
//! operation for them. Only additions are biased like that; releases always change `state`. Both halves wrap, and only their sum
//! means anything.
//!
//! So a release can see a stale `own`, and this is why that does no harm. Each handle is added before it is released, and each
//! release is published to all that follow it: whoever sees a handle's release in `state` sees its addition as well. So a sum
//! is never short by a handle whose release is in it. Could it be short by a handle that is live? That one was cloned from
//! another, before the other was released; so if the other's release is in the sum, the clone is too. And if the other is
//! live, it counts. Hence a sum that is no more than the weight of one's own handle means that there is no other.
//!
//! A release that is not the last must not look at the header afterwards: others may have released the block, and the pool may be
//! gone. So it decides first and then changes the very `state` that it decided by, with a CAS. `own` only ever grows, so that the
//! same `state` with a larger `own` is not the last either.
//!
//! Handles have weights, so that the same count tells whether anyone holds more than a small part of the block: a handle to
//! a small part weighs [`SMALL`], any other [`WHOLE`]. A sum below `WHOLE` is that of small parts only. That is for observers; a thousand
//! small parts look like a whole one to them.
//!
//! # Marks
//!
//! ```text
//!   63         32   31        30     29     28    27           0
//!  ┌─────────────┬─────────┬──────┬──────┬──────┬───────────────┐
//!  │   weight    │ unclean │ zero │ soft │ weak │  generation   │
//!  └─────────────┴─────────┴──────┴──────┴──────┴───────────────┘
//! ```
//!
//! Beside the generation stand four marks; only who has a handle sets one. A last handle that finds none of them knows that nobody
//! else can touch the state, and ends the lease by a plain store. Otherwise every change is a read-modify-write, so that a weak
//! handle can become a counted one by one CAS, as long as the sum is not zero: see [`Weak`].

use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::ptr::{self, NonNull};

use super::class::{Class, ClassPtr};
use super::keep::Keep;
use super::weak::Weak;
use crate::sync::{
    seat_if_any, thread_number, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering, NO_NUMBER,
};
use crate::sys::poison;

/// What a handle to a small part of a block weighs.
pub(super) const SMALL: u32 = 1;
/// What any other handle weighs.
const WHOLE: u32 = 1 << 10;
/// A part of a block is small where it would fit into the block so many times,
const SMALL_FITS: usize = 8;
/// and where the block is at least as large as this.
const LARGE: usize = if cfg!(offheap_loom) { 1 } else { 4 << 10 };
/// From this weight on all new handles weigh little: half a million of them do not have to be told apart.
pub(super) const HEAVY: u32 = 1 << 29;
/// More than this is a leak in a loop; going on would let the count wrap to zero.
pub(super) const TOO_HEAVY: u32 = 1 << 31;

/// How often the block was reclaimed: this part of `state`.
pub(super) const GENERATION: u32 = (1 << 28) - 1;
/// Weak handles were made in this generation.
pub(super) const WEAK: u64 = 1 << 28;
/// A soft cache has, or had, a handle.
const SOFT: u64 = 1 << 29;
/// The block is wiped before it is used again. Stays for ever.
const ZERO: u64 = 1 << 30;
/// Something has to be done after the last drop and before the block is used again. Without handles: it is being done.
const UNCLEAN: u64 = 1 << 31;
const MARKS: u64 = WEAK | SOFT | ZERO | UNCLEAN;

/// The number of no thread.
const NOBODY: u32 = 0;

/// The weight that the state of a block has while nobody holds it: that of its next lease, which so need not touch the state.
const NEXT_LEASE: u64 = (WHOLE as u64) << 32;

/// The link value for "no block".
pub(crate) const NIL: u32 = 0;

/// The depth below the first block of a span that was decommitted: how an observer tells a clean span from a queued one.
const CLEAN: u32 = u32::MAX;

/// A stack of blocks as one word: `{link of the top: 32 | how many blocks: 32}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Below(pub(super) u64);

impl Below {
    pub(super) const EMPTY: Below = Below(0);

    #[inline]
    pub(super) fn new(top: u32, depth: u32) -> Below {
        Below(u64::from(top) << 32 | u64::from(depth))
    }

    #[inline]
    pub(super) fn top(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(super) fn depth(self) -> u32 {
        self.0 as u32
    }
}

/// In this order: the first header of a class lies as far into its page as the block that users write to, and a load that follows
/// such a store at the same offset waits for it. So what comes first is only ever stored on the fast path.
#[derive(Debug)]
#[cfg_attr(not(offheap_loom), repr(C, align(64)))]
pub(crate) struct Header {
    /// Where the block was reserved: a `&'static Location`, null while nobody has it.
    location: AtomicPtr<Location<'static>>,
    /// `{weight: 32 | marks: 4 | generation: 28}`: the weight of the handles, together with `own`, and how often the block was
    /// reclaimed.
    pub(super) state: AtomicU64,
    /// Bytes that were asked for.
    requested: AtomicU64,
    /// What is below this block in the stack or chain that it tops: see [`Below`]. Of an unclean block: the next such.
    pub(crate) below: AtomicU64,
    class: ClassPtr,
    /// `{number of the thread that is the block's owner: 32 | birth: 32}`. The owner is the first one that clones a handle. When the block was
    /// leased, or, of a chain's top block, when the chain came into the depot, in ticks of the pool.
    owner: AtomicU64,
    /// The weight that owners have added. Only the owner stores it.
    own: AtomicU32,

    /// The chain below this one in the depot, as a link; of a chain's top block only. Of a block that is being wiped: how far.
    pub(crate) chain: AtomicU32,
    /// How many blocks of the span are being cleaned; of a span's first block only, under the cleaning lock.
    pub(crate) in_span: AtomicU16,
    /// How often the generation has wrapped.
    era: AtomicU16,

    /// The block's place in its class; its identity.
    index: u32,

    /// Under loom: touched by whoever holds the block alone, so that two at once are a data race that loom reports.
    #[cfg(offheap_loom)]
    alone: crate::sync::UnsafeCell<()>,
}

// SAFETY: the cell holds nothing; it is there for loom to see who touches it, and to fail when two do at once.
#[cfg(offheap_loom)]
unsafe impl Sync for Header {}

#[cfg(not(offheap_loom))]
const _: () = assert!(size_of::<Header>() == 64);

impl Header {
    pub(super) fn new(class: &Class, index: u32) -> Self {
        Header {
            state: AtomicU64::new(NEXT_LEASE | if class.is_wiped() { ZERO } else { 0 }),
            location: AtomicPtr::new(ptr::null_mut()),
            requested: AtomicU64::new(0),
            below: AtomicU64::new(0),
            class: ClassPtr::from(class),
            owner: AtomicU64::new(0),
            own: AtomicU32::new(0),
            chain: AtomicU32::new(NIL),
            in_span: AtomicU16::new(0),
            era: AtomicU16::new(0),
            index,
            #[cfg(offheap_loom)]
            alone: crate::sync::UnsafeCell::new(()),
        }
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// This block is clean, above others that are.
    pub(super) fn set_clean(&self, next: u32) {
        self.below
            .store(Below::new(next, CLEAN).0, Ordering::Relaxed);
    }

    /// What is below this block.
    #[inline]
    pub(super) fn below(&self) -> Below {
        Below(self.below.load(Ordering::Relaxed))
    }

    /// Puts the block on top of others; answers the stack that it tops.
    #[inline]
    pub(super) fn put_on(&self, below: Below) -> Below {
        self.below.store(below.0, Ordering::Relaxed);
        Below::new(self.link(), below.depth() + 1)
    }

    /// This block as a link.
    #[inline]
    pub(crate) fn link(&self) -> u32 {
        self.index + 1
    }

    #[inline]
    pub(crate) fn class(&self) -> &Class {
        // SAFETY: the class owns this header's table, so it is there as long as the header is.
        unsafe { &*self.class.as_ptr() }
    }

    /// Whether this thread is the block's owner. The first thread that asks becomes it.
    #[inline]
    fn is_ours(&self) -> bool {
        let thread = thread_number();
        let owner = self.owner.load(Ordering::Relaxed);
        match (owner >> 32) as u32 {
            NOBODY => self.adopt(owner, thread),
            owner => owner == thread,
        }
    }

    #[cold]
    fn adopt(&self, nobody: u64, thread: u32) -> bool {
        let ours = u64::from(thread) << 32 | nobody;
        let adopt = || {
            self.owner
                .compare_exchange(nobody, ours, Ordering::Relaxed, Ordering::Relaxed)
        };
        thread != NO_NUMBER && adopt().is_ok()
    }

    /// When the block was leased, or its chain queued.
    pub(crate) fn stamp(&self) -> u32 {
        self.owner.load(Ordering::Relaxed) as u32
    }

    /// The block has no owner, and is so old.
    #[inline]
    pub(crate) fn set_stamp(&self, tick: u32) {
        self.owner.store(u64::from(tick), Ordering::Relaxed);
    }

    /// The caller holds the block alone.
    #[inline]
    fn alone(&self) {
        #[cfg(offheap_loom)]
        self.alone.with_mut(|_| ());
    }

    /// The weight of all handles, when `state` was loaded with Acquire (or by whoever does not need to know exactly).
    #[inline]
    pub(super) fn weight(&self, state: u64) -> u32 {
        ((state >> 32) as u32).wrapping_add(self.own.load(Ordering::Relaxed))
    }

    /// The block is reclaimed: `weight`, all that is left of it, goes. For whoever holds the block alone.
    #[inline]
    fn end(&self, state: u64, weight: u32) {
        let rest = ((state >> 32) as u32).wrapping_sub(weight);
        let next = (u64::from(rest) << 32).wrapping_add(NEXT_LEASE)
            | state & ZERO
            | next_generation(state);
        self.vacate(next);
        if next as u32 & GENERATION == 0 {
            self.wrapped();
        }
    }

    /// A handle goes that is not the last, as `state` says.
    ///
    /// Others may be the last from here on, and the header may be gone: so that this is not the last handle has to be known before, of the
    /// very `state` that changes.
    #[inline]
    fn release(&self, state: u64, weight: u32) -> Result<u64, u64> {
        let less = state.wrapping_sub(u64::from(weight) << 32);
        // Release: what was done with the memory, for the last one.
        self.state
            .compare_exchange_weak(state, less, Ordering::Release, Ordering::Acquire)
    }

    /// Nobody has the block from here on. For whoever holds it alone.
    #[inline]
    fn vacate(&self, state: u64) {
        self.location.store(ptr::null_mut(), Ordering::Relaxed);
        // Release, for observers: a new generation that still seems leased would be counted twice.
        self.state.store(state, Ordering::Release);
    }

    #[cold]
    fn wrapped(&self) {
        if self.era.fetch_add(1, Ordering::Relaxed) == u16::MAX {
            self.class().era_wrapped();
        }
    }

    pub(super) fn era(&self) -> Era {
        Era {
            own: self.era.load(Ordering::Relaxed),
            class: self.class().eras(),
        }
    }

    /// How often the block was reclaimed or its weak handles were invalidated (modulo 2⁴⁴), and, if anyone holds it or cleans it, how
    /// many bytes were asked for.
    #[inline]
    pub(crate) fn glance(&self) -> (u64, Option<u64>) {
        let era = u64::from(self.era.load(Ordering::Relaxed));
        // Acquire, and before the lease: see `vacate`.
        let state = self.state.load(Ordering::Acquire);
        let generation = era << 28 | state & u64::from(GENERATION);
        let live = !self.location.load(Ordering::Relaxed).is_null();
        let requested = self.requested.load(Ordering::Relaxed);
        (generation, live.then_some(requested))
    }

    /// Whether the span that begins with this block is clean, as far as an observer can tell.
    #[cfg(feature = "inspector")]
    pub(super) fn is_clean(&self) -> bool {
        self.below().depth() == CLEAN && self.glance().1.is_none()
    }

    /// What an observer sees of a live block.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let location = self.location.load(Ordering::Relaxed);
        let weight = self.weight(self.state.load(Ordering::Relaxed));
        Some(Lease {
            // SAFETY: null or from a `&'static Location`: only `Block::lease` and `vacate` store it.
            location: unsafe { location.as_ref() }?,
            birth: self.stamp(),
            only_small: (1..WHOLE).contains(&weight),
        })
    }
}

/// The generation after that of `state`.
#[inline]
fn next_generation(state: u64) -> u64 {
    u64::from((state as u32).wrapping_add(1) & GENERATION)
}

/// How often the generation of a block has wrapped. Where the block's own count of that wraps too, after 2⁴⁴ reclaims, all of the
/// class have a new era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Era {
    own: u16,
    class: u32,
}

/// Who holds a block: a copy of its header's lease fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) location: &'static Location<'static>,
    pub(crate) birth: u32,
    /// Whether all handles are to small parts of the block.
    pub(crate) only_small: bool,
}

/// A block that belongs to whoever has this value: in nobody's hands and in no stack.
///
/// Must not be forgotten: its bytes stay charged until it is leased or goes back to its class.
#[derive(Debug)]
#[must_use]
pub(crate) struct Block(pub(super) NonNull<Header>);

// SAFETY: a block is owned, not shared, and its header's fields are atomics.
unsafe impl Send for Block {}

impl Block {
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: headers never move, and an owned block keeps its pool's memory mapped.
        unsafe { self.0.as_ref() }
    }

    /// The block becomes live with one handle.
    #[inline]
    pub(crate) fn lease(self, n: usize, location: &'static Location<'static>, tick: u32) -> Handle {
        let header = self.header();
        header.alone();
        debug_assert!(
            header.lease().is_none()
                && header.weight(header.state.load(Ordering::Relaxed)) == WHOLE,
            "leased twice"
        );
        header.requested.store(n as u64, Ordering::Relaxed);
        header.set_stamp(tick);
        header
            .location
            .store(ptr::from_ref(location).cast_mut(), Ordering::Relaxed);
        self.unpoison();
        // The state has counted this handle already.
        Handle::new(self.0, WHOLE)
    }
}

impl Block {
    /// Its last handle has gone, of this weight, and there were marks.
    #[cold]
    fn retire(self, state: u64, weight: u32) {
        if state & (UNCLEAN | ZERO) == 0 {
            self.header().end(state, weight);
            return Class::recycle(self);
        }
        self.set_unclean(state, weight);
        // SAFETY: the block keeps the pool until the owner has it, and then what is counted here does.
        let keep = unsafe { Keep::new(self.header().class().owner_ptr()) };
        keep.owner().unclean(self);
    }

    fn set_unclean(&self, state: u64, weight: u32) {
        let header = self.header();
        // How far wiping has got.
        header.chain.store(0, Ordering::Relaxed);
        let rest = state.wrapping_sub(u64::from(weight) << 32);
        header.state.store(rest | UNCLEAN, Ordering::Relaxed);
    }

    /// Whether it has to be wiped.
    pub(crate) fn is_wiped(&self) -> bool {
        self.header().state.load(Ordering::Relaxed) & ZERO != 0
    }

    /// The block is clean, and ready for its next use.
    pub(crate) fn end_unclean(&self) {
        let header = self.header();
        header.alone();
        let state = header.state.load(Ordering::Relaxed);
        debug_assert!(state & UNCLEAN != 0 && header.weight(state) == 0);
        header.end(state, 0);
    }

    /// The block's memory: where it starts, and its size.
    pub(crate) fn memory(&self) -> (NonNull<u8>, usize) {
        let header = self.header();
        let class = header.class();
        (class.at(header.index), class.size())
    }

    /// From here on a sanitizer reports whoever touches the block.
    #[inline]
    pub(super) fn poison(&self) {
        if cfg!(any(offheap_asan, offheap_msan, offheap_valgrind)) {
            let (start, size) = self.memory();
            poison::poison(start.as_ptr(), size);
        }
    }

    #[inline]
    fn unpoison(&self) {
        if cfg!(any(offheap_asan, offheap_msan, offheap_valgrind)) {
            let (start, size) = self.memory();
            poison::unpoison(start.as_ptr(), size);
        }
    }
}

/// One counted reference to a live block. The buffer types are a handle and a range of the block.
///
/// A pointer to the header; its lowest bit, which is free, tells what the handle weighs.
#[derive(Debug)]
pub(crate) struct Handle(NonNull<Header>);

const _: () = assert!(align_of::<Header>() > LIGHT);

/// The bit of a handle that weighs little.
const LIGHT: usize = 1;

// SAFETY: the count is atomic, and what may be done with the memory is the buffer types' business.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    #[inline]
    pub(super) fn new(header: NonNull<Header>, weight: u32) -> Handle {
        let light = if weight == SMALL { LIGHT } else { 0 };
        Handle(header.map_addr(|addr| addr | light))
    }

    #[inline]
    fn pointer(&self) -> NonNull<Header> {
        // SAFETY: an address without its lowest bit is that of the header, and headers do not lie at zero.
        self.0
            .map_addr(|addr| unsafe { NonZeroUsize::new_unchecked(addr.get() & !LIGHT) })
    }

    #[inline]
    pub(super) fn weight(&self) -> u32 {
        if self.0.addr().get() & LIGHT == 0 {
            WHOLE
        } else {
            SMALL
        }
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: a live block keeps its pool's memory mapped, and this handle keeps the block live.
        unsafe { self.pointer().as_ref() }
    }

    /// The block's memory: where it starts, and its size.
    #[inline]
    pub(crate) fn memory(&self) -> (NonNull<u8>, usize) {
        let header = self.header();
        let class = header.class();
        (class.at(header.index), class.size())
    }

    /// The same of a handle that weighs as much as one to the whole block.
    #[inline]
    pub(crate) fn memory_of_whole(&self) -> (NonNull<u8>, usize) {
        debug_assert_eq!(self.weight(), WHOLE);
        // SAFETY: as in `header`; the lowest bit is not set.
        let header = unsafe { self.0.as_ref() };
        let class = header.class();
        (class.at(header.index), class.size())
    }

    /// Whether two handles are to the same block.
    #[inline]
    pub(crate) fn is_same_block(&self, other: &Handle) -> bool {
        self.pointer() == other.pointer()
    }

    /// Whether this is the only handle. What others did before they let go is visible then. A weak handle may become another at
    /// any time: see [`make_unique`](Self::make_unique).
    #[inline]
    pub(crate) fn is_unique(&self) -> bool {
        let header = self.header();
        header.weight(header.state.load(Ordering::Acquire)) == self.weight()
    }

    /// Adds to the count; answers what it was before.
    #[inline]
    fn count(&self, weight: u32) -> u32 {
        let header = self.header();
        if header.is_ours() {
            let own = header.own.load(Ordering::Relaxed);
            let before = header.weight(header.state.load(Ordering::Relaxed));
            header
                .own
                .store(own.wrapping_add(weight), Ordering::Relaxed);
            before
        } else {
            // The new handle is made from one that the caller can already see. Acquire for the sum alone: what was taken from `state`
            // may have been added to `own`, and without that the sum would be short, or below zero.
            let added = u64::from(weight) << 32;
            header.weight(header.state.fetch_add(added, Ordering::Acquire))
        }
    }

    #[inline]
    fn retain(&self, weight: u32) -> Handle {
        let before = self.count(weight);
        if before >= HEAVY {
            return self.retain_heavy(before, weight);
        }
        Handle::new(self.pointer(), weight)
    }

    /// `weight` has been counted.
    #[cold]
    fn retain_heavy(&self, before: u32, weight: u32) -> Handle {
        if before >= TOO_HEAVY {
            // As `Arc` does: reached only by leaking handles by the hundred million.
            std::process::abort();
        }
        self.count(SMALL.wrapping_sub(weight));
        Handle::new(self.pointer(), SMALL)
    }

    /// One more handle, to `len` bytes of what this one is a handle to.
    #[inline]
    pub(crate) fn part(&self, len: usize) -> Handle {
        self.retain(self.weight().min(self.weight_of(len)))
    }

    #[inline]
    fn weight_of(&self, len: usize) -> u32 {
        let size = self.header().class().size();
        if len <= size / SMALL_FITS && size >= LARGE {
            SMALL
        } else {
            WHOLE
        }
    }

    /// From here on this is a handle to `len` bytes of the block.
    #[inline]
    pub(crate) fn fit(&mut self, len: usize) {
        let weight = self.weight_of(len);
        if weight != self.weight() {
            self.change(weight);
        }
    }

    fn change(&mut self, weight: u32) {
        let header = self.header();
        let more = weight.wrapping_sub(self.weight());
        let state = header.state.load(Ordering::Acquire);
        let added = u64::from(more) << 32;
        if header.weight(state) == self.weight() && state & WEAK == 0 {
            // The only handle, so no one else touches the state.
            header
                .state
                .store(state.wrapping_add(added), Ordering::Relaxed);
        } else {
            // Not by way of `own`, which only ever grows.
            header.state.fetch_add(added, Ordering::Relaxed);
        }
        self.0 = Handle::new(self.pointer(), weight).into_raw();
    }

    fn into_raw(self) -> NonNull<Header> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    /// Takes the block back from a grant that no one has seen, without queueing it.
    pub(crate) fn into_block(self) -> Block {
        debug_assert!(self.is_unique());
        let header = self.header();
        // The generation stays: nobody can have seen this one. So does the count: it is the next one's.
        debug_assert_eq!(self.weight(), WHOLE);
        header.location.store(ptr::null_mut(), Ordering::Relaxed);
        let block = Block(self.pointer());
        std::mem::forget(self);
        block.poison();
        block
    }
}

impl Clone for Handle {
    /// Retains: one more handle.
    #[inline]
    fn clone(&self) -> Self {
        self.retain(self.weight())
    }
}

impl Drop for Handle {
    /// Releases; the last release queues the block. Never takes a lock, allocates, or calls the system in calm.
    #[inline]
    fn drop(&mut self) {
        // By value, so that the buffer it is part of need not lie in memory.
        Handle(self.0).release_at(seat_if_any());
    }
}

impl Handle {
    /// The most usual case, in the fewest instructions: the last handle goes, and there is nothing else to do.
    #[inline(never)]
    fn release_at(self, seat: usize) {
        if self.weight() != WHOLE {
            return self.release_shared();
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: as in `header`; the lowest bit is not set.
        let header = unsafe { this.0.as_ref() };
        let state = header.state.load(Ordering::Acquire);
        // The count goes to the next lease, so it stays. One branch for all: that this is not the last handle, that there are marks, and
        // that the generation runs over into them.
        let next = state.wrapping_add(1);
        if header.weight(next) ^ WHOLE | (next & MARKS) as u32 != 0 {
            return ManuallyDrop::into_inner(this).release_shared();
        }
        // This was the last handle, so no one else touches the state, and from here on a plain store will do.
        header.alone();
        header.vacate(next);
        Class::recycle_at(Block(this.0), seat);
    }

    /// The next most usual: there are others.
    #[inline(never)]
    fn release_shared(self) {
        let this = ManuallyDrop::new(self);
        let header = this.header();
        let weight = this.weight();
        let state = header.state.load(Ordering::Acquire);
        if header.weight(state) == weight
            || state & (WEAK | SOFT) != 0
            || header.release(state, weight).is_err()
        {
            ManuallyDrop::into_inner(this).release_slow();
        }
    }

    #[inline(never)]
    fn release_slow(self) {
        let mut this = ManuallyDrop::new(self);
        let weight = this.weight();
        let Some((block, state)) = this.release() else {
            return;
        };
        if state & MARKS != 0 {
            return block.retire(state, weight);
        }
        block.header().end(state, weight);
        Class::recycle(block);
    }

    /// Lets go. If this was the last handle, the block is the caller's, with the state that it had.
    fn release(&mut self) -> Option<(Block, u64)> {
        let header = self.header();
        let weight = self.weight();
        // One branch for both: that this is not the last handle, and the marks that call for more care.
        let mut state = header.state.load(Ordering::Acquire);
        while (header.weight(state) ^ weight) | (state & (WEAK | SOFT)) as u32 != 0 {
            if state & (WEAK | SOFT) != 0 {
                return self.release_marked();
            }
            match header.release(state, weight) {
                Ok(_) => return None,
                Err(now) => state = now,
            }
        }
        // This was the last handle, so no one else touches the state, and from here on a plain store will do.
        header.alone();
        Some((Block(self.pointer()), state))
    }

    /// The same where weak handles may become counted ones up to the last moment, or a cache is to be told. The pool is kept meanwhile,
    /// so that the header can be looked at afterwards.
    #[cold]
    fn release_marked(&self) -> Option<(Block, u64)> {
        let header = self.header();
        let weight = self.weight();
        // SAFETY: this handle keeps the pool so far.
        let keep = unsafe { Keep::new(header.class().owner_ptr()) };
        // Release what was done with the memory to the last one; and if this is it, Acquire what all others did. From then on no weak
        // handle becomes a counted one.
        let less = u64::from(weight) << 32;
        let state = header.state.fetch_sub(less, Ordering::AcqRel);
        let left = header.weight(state).wrapping_sub(weight);
        if left != 0 {
            // One handle is left, or some small ones: it may be the cache's.
            if state & SOFT != 0 && left <= WHOLE {
                keep.owner().loosened();
            }
            return None;
        }
        header.alone();
        Some((Block(self.pointer()), state))
    }

    /// Lets go as a drop does, but leaves what has to be done with the block to the caller.
    pub(crate) fn let_go(self) -> LetGo {
        let mut this = ManuallyDrop::new(self);
        let weight = this.weight();
        match this.release() {
            None => LetGo::Shared,
            Some((block, state)) if state & (UNCLEAN | ZERO) == 0 => {
                block.header().end(state, weight);
                Class::recycle(block);
                LetGo::Queued
            }
            Some((block, state)) => {
                block.set_unclean(state, weight);
                LetGo::Unclean(block)
            }
        }
    }

    /// If this is the only handle, makes sure that it stays so: weak handles are no longer any good. Whoever writes where
    /// others could read has to ask here first.
    pub(crate) fn make_unique(&self) -> bool {
        let header = self.header();
        let mut state = header.state.load(Ordering::Acquire);
        while header.weight(state) == self.weight() {
            if state & WEAK == 0 {
                return true;
            }
            let rest = state & !(WEAK | u64::from(GENERATION));
            let next = rest | next_generation(state);
            // Acquire: what a handle that was upgraded meanwhile did before it went.
            match header
                .state
                .compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    header.class().invalidated();
                    if next as u32 & GENERATION == 0 {
                        header.wrapped();
                    }
                    // What was added to `own` while the state became the same again: then someone else is there after all.
                    return header.weight(state) == self.weight();
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Something has to be done with the block between its last drop and its next use.
    pub(crate) fn mark_unclean(&self) {
        self.header().state.fetch_or(UNCLEAN, Ordering::Relaxed);
    }

    /// A soft cache has a handle: whoever leaves it alone with the block tells the pool.
    #[cfg_attr(not(any(feature = "cache", offheap_loom)), allow(dead_code))]
    pub(crate) fn mark_soft(&self) {
        self.header().state.fetch_or(SOFT, Ordering::Relaxed);
    }

    /// Makes a weak handle of this generation.
    pub(crate) fn downgrade(&self) -> Weak {
        let header = self.header();
        // Release, for `upgrade`: whoever sees the mark sees the era.
        let state = header.state.fetch_or(WEAK, Ordering::Release);
        // SAFETY: this handle keeps the pool.
        unsafe { Weak::new(self.pointer(), self.weight(), state) }
    }
}

/// What became of a handle that let go.
#[derive(Debug)]
#[must_use]
pub(crate) enum LetGo {
    /// Others remain.
    Shared,
    /// It was the last, and the block is queued.
    Queued,
    /// It was the last, and the block has to be cleaned.
    Unclean(Block),
}
