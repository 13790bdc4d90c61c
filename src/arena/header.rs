//! The block header: what the pool knows of one block, out of band, on a cache line of its own.
//!
//! A header is in one of two hands. While its block is *live*, `state` counts the handles and the lease fields say
//! who has it. While it is *queued* or *clean*, `state` has no references and the link fields belong to the stack,
//! chain or bag that holds the block. The two sets of fields do not overlap, so that an observer may read either at
//! any time: what it reads may be stale, never torn.

use std::panic::Location;
use std::ptr::{self, NonNull};

use super::class::Class;
use crate::sync::{fence, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// One in the reference half of `state`.
const REF: u64 = 1;
/// The reference half of `state`.
const REFS: u64 = u32::MAX as u64;
/// One in the generation half of `state`.
const GENERATION: u64 = 1 << 32;
/// More handles than this is a leak in a loop; going on would let the count run into the generation.
const MAX_REFS: u64 = (i32::MAX) as u64;

/// The link value for "no block".
pub(crate) const NIL: u32 = 0;

#[derive(Debug)]
#[cfg_attr(not(offheap_loom), repr(align(64)))]
pub(crate) struct Header {
    /// `{generation: 32 | refs: 32}`. The generation counts how often the block was reclaimed.
    state: AtomicU64,
    /// Where the block was reserved: a `&'static Location`, null before the first lease.
    location: AtomicPtr<Location<'static>>,
    /// Bytes that were asked for.
    requested: AtomicU64,
    /// When it was leased, in ticks of the pool.
    birth: AtomicU32,

    /// The block below this one in a stack or chain, as a link.
    pub(crate) next: AtomicU32,
    /// How many blocks the stack or chain has from this one down.
    pub(crate) depth: AtomicU32,
    /// The chain below this one in the depot, as a link; of a chain's top block only.
    pub(crate) chain: AtomicU32,
    /// When the chain came into the depot, in ticks; of a chain's top block only.
    pub(crate) stamp: AtomicU32,
    /// How many blocks of the span are being cleaned; of a span's first block only, under the cleaning lock.
    pub(crate) in_span: AtomicU32,

    /// The block's place in its class; its identity.
    index: u32,
    class: ClassPtr,

    /// Under loom: touched by whoever owns the block, so that two owners at once are a data race that loom reports.
    #[cfg(offheap_loom)]
    owner: crate::sync::UnsafeCell<()>,
}

// SAFETY: the cell holds nothing; it is there for loom to see who touches it, and to fail when two do at once.
#[cfg(offheap_loom)]
unsafe impl Sync for Header {}

/// The way from a header to its class.
#[derive(Debug, Clone, Copy)]
struct ClassPtr(NonNull<Class>);

// SAFETY: only ever turned into a shared reference, and `Class` is `Sync`.
unsafe impl Send for ClassPtr {}
// SAFETY: as above.
unsafe impl Sync for ClassPtr {}

#[cfg(not(offheap_loom))]
const _: () = assert!(size_of::<Header>() == 64);

impl Header {
    pub(super) fn new(class: &Class, index: u32) -> Self {
        Header {
            state: AtomicU64::new(0),
            location: AtomicPtr::new(ptr::null_mut()),
            requested: AtomicU64::new(0),
            birth: AtomicU32::new(0),
            next: AtomicU32::new(NIL),
            depth: AtomicU32::new(0),
            chain: AtomicU32::new(NIL),
            stamp: AtomicU32::new(0),
            in_span: AtomicU32::new(0),
            index,
            class: ClassPtr(NonNull::from(class)),
            #[cfg(offheap_loom)]
            owner: crate::sync::UnsafeCell::new(()),
        }
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// This block as a link.
    #[inline]
    pub(crate) fn link(&self) -> u32 {
        self.index + 1
    }

    #[inline]
    pub(crate) fn class(&self) -> &Class {
        // SAFETY: the class owns this header's table, so it is there as long as the header is.
        unsafe { self.class.0.as_ref() }
    }

    #[inline]
    fn owned(&self) {
        #[cfg(offheap_loom)]
        self.owner.with_mut(|_| ());
    }

    /// The block is reclaimed; its owner's only.
    #[inline]
    fn end(&self, state: u64) {
        let ended = (state & !REFS).wrapping_add(GENERATION);
        self.state.store(ended, Ordering::Relaxed);
        if state >> 32 == u64::from(u32::MAX) {
            self.class().generation_wrapped();
        }
    }

    /// How often the block was reclaimed (modulo 2³²), and, if anyone holds it, how many bytes were asked for.
    #[inline]
    pub(crate) fn glance(&self) -> (u32, Option<u64>) {
        let state = self.state.load(Ordering::Relaxed);
        let live = state & REFS != 0;
        let requested = self.requested.load(Ordering::Relaxed);
        ((state / GENERATION) as u32, live.then_some(requested))
    }

    /// Whether the span that begins with this block is clean, as far as an observer can tell.
    #[cfg(feature = "inspector")]
    pub(super) fn is_clean(&self) -> bool {
        self.depth.load(Ordering::Relaxed) == 0 && self.glance().1.is_none()
    }

    /// What an observer sees of a live block.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.glance().1?;
        let location = self.location.load(Ordering::Relaxed);
        Some(Lease {
            // SAFETY: null or from a `&'static Location`: only `Block::lease` stores it.
            location: unsafe { location.as_ref() }?,
            birth: self.birth.load(Ordering::Relaxed),
        })
    }
}

/// Who holds a block: a copy of its header's lease fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) location: &'static Location<'static>,
    pub(crate) birth: u32,
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
        header.owned();
        let state = header.state.load(Ordering::Relaxed);
        debug_assert_eq!(state & REFS, 0, "leased twice");
        header
            .location
            .store(ptr::from_ref(location).cast_mut(), Ordering::Relaxed);
        header.requested.store(n as u64, Ordering::Relaxed);
        header.birth.store(tick, Ordering::Relaxed);
        header.state.store(state | REF, Ordering::Relaxed);
        Handle(self.0)
    }
}

/// One counted reference to a live block. The buffer types are a handle and a range of the block.
#[derive(Debug)]
pub(crate) struct Handle(NonNull<Header>);

// SAFETY: the count is atomic, and what may be done with the memory is the buffer types' business.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: a live block keeps its pool's memory mapped, and this handle keeps the block live.
        unsafe { self.0.as_ref() }
    }

    /// The block's memory: where it starts, and its size.
    #[inline]
    pub(crate) fn memory(&self) -> (NonNull<u8>, usize) {
        let header = self.header();
        let class = header.class();
        (class.at(header.index), class.size())
    }

    /// Whether this is the only handle. What others did before they let go is visible then.
    #[inline]
    pub(crate) fn is_unique(&self) -> bool {
        self.header().state.load(Ordering::Acquire) & REFS == REF
    }
}

impl Handle {
    /// Takes the block back from a grant that no one has seen, without queueing it.
    pub(crate) fn into_block(self) -> Block {
        debug_assert!(self.is_unique());
        let header = self.header();
        // The generation stays: nobody can have seen this one.
        let state = header.state.load(Ordering::Relaxed);
        header.state.store(state & !REFS, Ordering::Relaxed);
        let block = Block(self.0);
        std::mem::forget(self);
        block
    }
}

impl Clone for Handle {
    /// Retains: one more handle.
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed as in `Arc`: the new handle is made from one that the caller can already see.
        let before = self.header().state.fetch_add(REF, Ordering::Relaxed);
        if before & REFS > MAX_REFS {
            // As `Arc` does: reached only by leaking billions of handles.
            std::process::abort();
        }
        Handle(self.0)
    }
}

impl Drop for Handle {
    /// Releases; the last release queues the block. Never takes a lock, allocates, or calls the system in calm.
    #[inline]
    fn drop(&mut self) {
        let header = self.header();
        let mut state = header.state.load(Ordering::Acquire);
        if state & REFS != REF {
            state = header.state.fetch_sub(REF, Ordering::Release);
            if state & REFS != REF {
                return;
            }
            fence(Ordering::Acquire);
        }
        // This was the last handle, so no one else touches the state: a plain store will do. (Handles that can be made from
        // none would need a CAS here.)
        header.owned();
        header.end(state);
        Class::recycle(Block(self.0));
    }
}
