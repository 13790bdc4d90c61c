//! Where memory is: size classes, blocks, and the stacks in which dropped blocks wait for the next reservation.
//!
//! [`sizes`] decides which classes a pool has. A [`Class`] owns one range of memory, the headers of its blocks, a
//! [magazine](magazine) per shard and a [depot](depot). Nothing here knows of limits or of waiters: whoever asks a class
//! to grow has paid for it, and blocks that find their magazine shut are handed to the pool through [`Owner`].

mod class;
mod depot;
mod header;
mod hope;
mod keep;
mod magazine;
mod own;
mod sizes;
mod weak;

use std::any::Any;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::ptr::NonNull;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::sys::{self, Space, Table};

#[cfg(feature = "inspector")]
pub(crate) use class::Look;
pub(crate) use class::{Bag, Class, Idle};
use header::{Below, NIL};
pub(crate) use header::{Block, Handle, Header, LetGo};
pub(crate) use sizes::ClassId;
use sizes::Sizes;
pub(crate) use weak::Weak;

/// Who takes the blocks that can not just be queued. The pool implements it.
pub(crate) trait Owner: Send + Sync {
    /// The pool's clock.
    fn tick(&self) -> u32;

    /// The pool itself, for those who know what it is.
    fn as_any(&self) -> &dyn Any;

    /// Blocks came back and found the class shut.
    fn returned(&self, class: &Class, chain: Chain);

    /// This thread asks for a stack of its own in its shard: answered by [`Class::give_own`] under the waiters' lock.
    fn due(&self, class: &Class);

    /// The last handle of a block has gone that has to be cleaned before it is used again. No user code may run in this.
    fn unclean(&self, block: Block);

    /// A soft cache may be the only one left who holds a block.
    fn loosened(&self);

    /// Whether blocks are wiped before they are used again.
    fn wipes(&self) -> bool;

    /// How many there are who keep the owner, apart from its queued and its leased blocks.
    fn refs(&self) -> &AtomicUsize;

    /// Frees the owner, and all memory with it.
    fn end(self: Box<Self>);
}

/// Keeps what changes often off the cache lines of what is only read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> Deref for Line<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Gives one of an owner's `refs` back, and with the last of them the owner. Not a method: what `self` points to may be gone
/// before this returns, even where someone else takes the last.
///
/// # Safety
///
/// The caller has one of `refs`, and does not touch the owner again. The owner was leaked from a box.
pub(crate) unsafe fn release(owner: NonNull<dyn Owner>) {
    // SAFETY: the caller's reference keeps the owner up to here.
    let refs: *const AtomicUsize = unsafe { owner.as_ref() }.refs();
    // SAFETY: as above.
    if unsafe { (*refs).fetch_sub(1, Ordering::AcqRel) } == 1 {
        // SAFETY: that was the last: no handle, no buffer and no drop under way is left.
        unsafe { Box::from_raw(owner.as_ptr()) }.end();
    }
}

/// All memory of a pool.
#[derive(Debug)]
pub(crate) struct Arena {
    // Before `space`: what is carved out of the address space goes before the address space does.
    classes: Box<[Box<Class>]>,
    sizes: Sizes,
    /// One bit for each class that has ever had memory. A pool has a hundred classes, and uses a few of them.
    touched: [AtomicU64; MAX_CLASSES / 64],
    space: Space,
}

/// Four per doubling, from 2⁸ to 2⁴⁸ bytes and a little more.
const MAX_CLASSES: usize = 192;

impl Arena {
    /// Lays out and reserves the address space of a pool that may grow to `max_limit` bytes. `huge`: classes whose blocks are whole
    /// huge pages ask for them; so a huge page is never shared between blocks, and is charged and given back as a whole.
    pub(crate) fn new(
        max_limit: u64,
        page_aligned: bool,
        huge: bool,
        shards: usize,
        injector: &sys::Injector,
    ) -> io::Result<Arena> {
        let page = sys::page_size();
        let sizes = Sizes::new(max_limit, page, page_aligned);
        let too_large = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "max_limit of {max_limit} bytes needs {} size classes of that many bytes each, \
                     which is more than this platform can address",
                    sizes.len()
                ),
            )
        };
        let huge_page = sys::huge_page_size().filter(|_| huge);
        let huge_page = |size: usize| huge_page.filter(|page| size % page == 0);
        let mut layout = sys::Layout::default();
        let mut places = Vec::with_capacity(sizes.len());
        for shape in sizes.shapes() {
            let blocks = shape.spans * shape.per_span as usize;
            if u32::try_from(blocks).map_or(true, |n| n == u32::MAX) {
                return Err(too_large());
            }
            let headers = layout.take(Table::<Header>::bytes(blocks));
            places.push(headers.ok_or_else(too_large)?);
        }
        let mut ranges = Vec::with_capacity(sizes.len());
        for shape in sizes.shapes() {
            let align = huge_page(shape.size).unwrap_or(page);
            let memory = layout.take_aligned(shape.spans * shape.span(), align);
            ranges.push(memory.ok_or_else(too_large)?);
        }
        let space = Space::reserve(layout.len(), layout.align(), injector).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot reserve {} bytes of address space ({} size classes, each as large as max_limit = {max_limit} \
                     bytes): {error}; raise the address space limit of the process (`ulimit -v`, RLIMIT_AS) or lower max_limit",
                    layout.len(),
                    sizes.len()
                ),
            )
        })?;
        for (shape, &memory) in sizes.shapes().zip(&ranges) {
            if huge_page(shape.size).is_some() {
                space.advise_huge(memory, shape.spans * shape.size);
            }
        }
        let classes = sizes
            .shapes()
            .zip(places.iter().zip(&ranges))
            .enumerate()
            .map(|(id, (shape, (&headers, &memory)))| {
                Class::new(id as ClassId, shape, shards, &space, headers, memory)
            })
            .collect();
        debug_assert!(sizes.len() <= MAX_CLASSES);
        Ok(Arena {
            classes,
            sizes,
            touched: std::array::from_fn(|_| AtomicU64::new(0)),
            space,
        })
    }

    /// Names the owner, once, before the first block is handed out.
    ///
    /// # Safety
    ///
    /// `owner` stays valid until every block is back and no class is used any more.
    pub(crate) unsafe fn bind(&self, owner: NonNull<dyn Owner>) {
        for class in &self.classes {
            // SAFETY: passed on from the caller.
            unsafe { class.bind(owner) };
        }
    }

    /// The class that serves `n` > 0 bytes, were the limit high enough for all classes; `None` above the largest.
    pub(crate) fn class_for(&self, n: usize) -> Option<&Class> {
        self.classes.get(self.sizes.class_for(n)).map(Box::as_ref)
    }

    /// The same in a few instructions, but for no more than 64 KiB.
    #[inline]
    pub(crate) fn small_class_for(&self, n: usize) -> Option<&Class> {
        self.classes
            .get(self.sizes.small_class_for(n))
            .map(Box::as_ref)
    }

    #[inline]
    pub(crate) fn class(&self, id: ClassId) -> &Class {
        &self.classes[id as usize]
    }

    /// The smallest class from `id` on that wastes no part of a span: what still fits when a whole span of `id` does not.
    pub(crate) fn compact(&self, id: ClassId) -> Option<&Class> {
        self.sizes.compact(id).map(|id| self.class(id))
    }

    pub(crate) fn classes(&self) -> impl DoubleEndedIterator<Item = &Class> + ExactSizeIterator {
        self.classes.iter().map(Box::as_ref)
    }

    /// The classes that have ever had memory.
    pub(crate) fn touched(&self) -> impl Iterator<Item = &Class> {
        self.touched
            .iter()
            .zip(0..)
            .flat_map(move |(word, number)| {
                let mut bits = word.load(Ordering::Acquire);
                std::iter::from_fn(move || {
                    let bit = bits.checked_ilog2()?;
                    bits ^= 1 << bit;
                    Some(&*self.classes[number * 64 + bit as usize])
                })
            })
    }

    /// Commits a span of a class that has been paid for: see [`Class::grow`].
    pub(crate) fn grow(&self, class: &Class) -> io::Result<(Block, Option<Chain>)> {
        let id = usize::from(class.id());
        let (word, bit) = (&self.touched[id / 64], 1 << (id % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::AcqRel);
        }
        class.grow()
    }

    /// Bytes in magazines and depots.
    pub(crate) fn queued(&self) -> u64 {
        self.touched().map(Class::queued).sum()
    }

    /// Bytes of headers and stacks.
    pub(crate) fn metadata(&self) -> u64 {
        self.classes
            .iter()
            .map(|class| class.metadata() as u64)
            .sum()
    }

    /// The addresses that blocks and headers come from.
    pub(crate) fn addresses(&self) -> Range<usize> {
        self.space.addresses()
    }
}

/// Blocks that are linked by `Header::next`, top first, and belong to whoever has this value. Never empty.
#[derive(Debug)]
#[must_use]
pub(crate) struct Chain {
    top: u32,
}

impl Chain {
    /// A chain of one.
    #[inline]
    pub(crate) fn of(block: Block) -> Chain {
        Chain {
            top: block.header().put_on(Below::EMPTY).top(),
        }
    }

    fn top(&self) -> u32 {
        self.top
    }

    /// What is the chain's goes over to whoever has the link.
    fn into_top(self) -> u32 {
        self.top
    }

    fn len(&self, headers: Headers<'_>) -> u32 {
        headers.depth(self.top)
    }
}

/// A class's headers by link. A link is an index plus one, so that zero is none.
///
/// A pointer, because the table may go while a push that has just queued its block returns.
#[derive(Debug, Clone, Copy)]
struct Headers<'a>(NonNull<Table<Header>>, PhantomData<&'a Table<Header>>);

impl<'a> Headers<'a> {
    #[inline]
    fn of(table: &'a Table<Header>) -> Self {
        Headers(NonNull::from(table), PhantomData)
    }

    #[inline]
    fn header(self, link: u32) -> &'a Header {
        debug_assert_ne!(link, NIL);
        // SAFETY: the table is there while there is a link to look up; links are made from appended headers only, and travel
        // through a word or `Header::next` that was published with Release and read with Acquire.
        unsafe { self.0.as_ref().get(link as usize - 1) }
    }

    #[inline]
    fn next(self, link: u32) -> u32 {
        self.header(link).below().top()
    }

    #[inline]
    fn depth(self, link: u32) -> u32 {
        if link == NIL {
            return 0;
        }
        // Where others are at the stack as well, this may be anything: whoever acts on it finds out by a CAS.
        self.header(link).below().depth().wrapping_add(1)
    }

    /// Takes ownership of a block whose link was just taken out of a word or chain.
    #[inline]
    fn block(self, link: u32) -> Block {
        Block(NonNull::from(self.header(link)))
    }

    /// Takes ownership of the chain whose top was just taken out of a word.
    fn chain(self, top: u32) -> Chain {
        debug_assert_ne!(top, NIL);
        Chain { top }
    }

    fn some_chain(self, top: u32) -> Option<Chain> {
        (top != NIL).then_some(Chain { top })
    }

    /// The top block, and the chain below it.
    fn split(self, chain: Chain) -> (Block, Option<Chain>) {
        let block = self.block(chain.top);
        (block, self.some_chain(self.next(chain.top)))
    }

    /// Puts a block on top of a chain.
    fn stack(self, block: Block, chain: Option<Chain>) -> Chain {
        let below = chain.map_or(NIL, Chain::into_top);
        let below = Below::new(below, self.depth(below));
        Chain {
            top: block.header().put_on(below).top(),
        }
    }
}
