//! One size class: its memory, its headers, its magazines and its depot.
//!
//! A block goes round: *clean* (no memory behind it) → `grow` → live → `recycle` → queued → `take` → live …, and from
//! queued by `clean` back to clean. Everything but `grow` and `clean` is lock-free; those two go to the OS.
//!
//! A class is born shut and opened by the pool on its first drop in calm. `take` finds nothing in a shut class; blocks
//! that are dropped go to the [`Owner`] instead.

use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

use super::depot::{Access, Chains, Depot};
use super::header::{Block, Header, NIL};
use super::magazine::{Magazine, Pushed};
use super::own::{Own, OwnPushed};
use super::sizes::{ClassId, Shape};
use super::{Chain, Headers, Owner};
use crate::sync::{lock, seat, seat_if_any, AtomicU32, AtomicU64, Mutex, Ordering};
use crate::sys::{barrier, Space, Spans, Table};

/// A magazine's two words together keep about this many bytes from the other shards.
const MAGAZINE_BYTES: usize = if cfg!(offheap_loom) {
    16 << 10
} else {
    512 << 10
};
/// Twice as many threads as work at the same time get a magazine to themselves: others that came earlier may be asleep.
const MAGAZINES_PER_SHARD: usize = if cfg!(offheap_loom) { 1 } else { 2 };
/// Blocks in a magazine's word, at most and at least.
const MAGAZINE_CAP: (u32, u32) = if cfg!(offheap_loom) { (1, 2) } else { (2, 64) };

#[derive(Debug)]
pub(crate) struct Class {
    shape: Shape,
    id: ClassId,
    cap: u32,
    shard_mask: usize,
    shards: Box<[Shard]>,
    headers: Table<Header>,
    memory: Spans,
    depot: Depot,
    growth: Mutex<Growth>,
    /// Held while spans are being cleaned: the per-span counts in the headers are the cleaner's.
    cleaning: Mutex<()>,
    /// How often the weak handles of a block were invalidated though it was not reclaimed.
    invalidated: AtomicU64,
    /// How often a block's era has wrapped.
    eras: AtomicU32,
    owner: OnceLock<OwnerPtr>,
}

/// A magazine on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(Magazine);

/// The state that only growing and cleaning change.
#[derive(Debug)]
struct Growth {
    /// Spans from here on were never touched: the bump index.
    next: usize,
    /// Decommitted spans, linked by their first blocks.
    clean: u32,
}

#[derive(Clone, Copy)]
struct OwnerPtr(NonNull<dyn Owner>);

// SAFETY: `Owner` is `Send + Sync`, and the pointer is only turned into a shared reference.
unsafe impl Send for OwnerPtr {}
// SAFETY: as above.
unsafe impl Sync for OwnerPtr {}

impl std::fmt::Debug for OwnerPtr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Owner")
    }
}

/// What the last look at a class's magazines saw: the reclaimer's memory between two rounds of ageing.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    marks: Vec<u64>,
}

/// A block, as an observer sees it.
#[cfg(feature = "inspector")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Live,
    Queued,
    Clean,
}

/// Queued blocks of a class that belong to whoever has this value.
#[derive(Debug)]
#[must_use]
pub(crate) struct Bag<'a> {
    class: &'a Class,
    chains: Chains<'a>,
}

impl<'a> Bag<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Bytes in the bag.
    pub(crate) fn bytes(&self) -> u64 {
        self.chains.blocks() * self.class.size() as u64
    }

    /// The class whose blocks these are.
    pub(crate) fn class(&self) -> &'a Class {
        self.class
    }

    /// Decommits whole spans until `pages` are free or nothing is left. Answers the pages freed, and what stays queued. The
    /// spans may be grown into again, and are still charged.
    pub(crate) fn clean(self, pages: u32) -> (u32, Self) {
        let class = self.class;
        let (freed, chains) = if class.shape.per_span == 1 {
            class.clean_blocks(self.chains, pages)
        } else {
            class.clean_shared_spans(self.chains, pages)
        };
        (freed, Bag { class, chains })
    }

    /// Queues everything in the depot. Under the waiters' lock.
    pub(crate) fn put_back_locked(self) {
        self.class.depot.put_all(self.chains);
    }
}

impl Class {
    pub(super) fn new(
        id: ClassId,
        shape: Shape,
        shards: usize,
        space: &Space,
        headers: usize,
        memory: usize,
    ) -> Class {
        let blocks = shape.spans * shape.per_span as usize;
        let (least, most) = MAGAZINE_CAP;
        let shards = shards.next_power_of_two() * MAGAZINES_PER_SHARD;
        let cap = (MAGAZINE_BYTES / 2 / shape.size).clamp(least as usize, most as usize) as u32;
        Class {
            shape,
            id,
            cap,
            shard_mask: shards - 1,
            shards: (0..shards).map(|_| Shard(Magazine::new())).collect(),
            headers: Table::new(space, headers, blocks),
            memory: Spans::new(space, memory, shape.span(), shape.spans),
            depot: Depot::new(),
            growth: Mutex::new(Growth {
                next: 0,
                clean: NIL,
            }),
            cleaning: Mutex::new(()),
            invalidated: AtomicU64::new(0),
            eras: AtomicU32::new(0),
            owner: OnceLock::new(),
        }
    }

    /// # Safety
    ///
    /// As for `Arena::bind`.
    pub(super) unsafe fn bind(&self, owner: NonNull<dyn Owner>) {
        let bound = self.owner.set(OwnerPtr(owner));
        debug_assert!(bound.is_ok());
    }

    pub(super) fn owner_ptr(&self) -> NonNull<dyn Owner> {
        self.owner.get().expect("bound when the pool was built").0
    }

    pub(crate) fn owner(&self) -> &dyn Owner {
        // SAFETY: `bind`'s caller vouches that the owner outlives the use of its classes.
        unsafe { self.owner_ptr().as_ref() }
    }

    pub(crate) fn id(&self) -> ClassId {
        self.id
    }

    /// Bytes of a block.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.shape.size
    }

    /// Pages of a span: what growing by one span costs.
    pub(crate) fn pages(&self) -> u32 {
        self.shape.pages
    }

    pub(crate) fn per_span(&self) -> u32 {
        self.shape.per_span
    }

    /// Where block `index` lies.
    #[inline]
    pub(super) fn at(&self, index: u32) -> NonNull<u8> {
        self.memory.at(index as usize * self.shape.size)
    }

    fn headers(&self) -> Headers<'_> {
        Headers::of(&self.headers)
    }

    /// Takes ownership of a block whose link was just taken off a list of the pool's.
    pub(crate) fn block(&self, link: u32) -> Block {
        self.headers().block(link)
    }

    fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// This thread's magazine, and whether the thread has it to itself.
    fn magazine(&self) -> (&Magazine, bool) {
        let seat = seat();
        let magazine = &self.shards[seat & self.shard_mask].0;
        (magazine, seat <= self.shard_mask)
    }

    /// The stack of its own that this thread may have, if it has a seat yet.
    #[inline]
    fn own(&self) -> Option<&Own> {
        let seat = seat_if_any();
        if seat > self.shard_mask {
            return None;
        }
        // SAFETY: the mask is the number of shards less one.
        Some(&unsafe { self.shards.get_unchecked(seat) }.0.own)
    }

    // ---- taking -------------------------------------------------------------------------------------------------

    /// A block from this thread's own stack.
    #[inline]
    pub(crate) fn pop_own(&self) -> Option<Block> {
        self.own()?.pop(self.headers())
    }

    /// A block from this thread's magazine, which it may share with others.
    #[inline(never)]
    pub(crate) fn pop_shared(&self) -> Option<Block> {
        self.magazine().0.pop(self.headers())
    }

    /// A block from the chain that this thread's magazine set aside, or from the depot; the batch it came with moves to the
    /// magazine.
    pub(crate) fn take(&self) -> Option<Block> {
        let headers = self.headers();
        let batch = self
            .magazine()
            .0
            .pop_spare(headers)
            .or_else(|| self.depot.pop(headers, Access::Calm))?;
        Some(self.split_batch(batch))
    }

    /// A block from another shard's magazine, with the batch that it stands on.
    pub(crate) fn steal(&self) -> Option<Block> {
        for shard in self.shards() {
            let mut chains = shard.0.steal(self.headers()).into_iter().flatten();
            if let Some(batch) = chains.next() {
                chains.for_each(|other| self.put_back(other));
                return Some(self.split_batch(batch));
            }
        }
        None
    }

    /// Whether there are blocks that only their shards' owners can get at.
    pub(crate) fn is_owned(&self) -> bool {
        self.shards().iter().any(|shard| shard.0.owned() > 0)
    }

    /// Queues in the depot what the owners of shards have to themselves. Under the waiters' lock.
    pub(crate) fn disown_all(&self) {
        let stamp = self.owner().tick();
        self.take_owned(
            |_, shard| shard.0.owned() > 0,
            |chain| self.push_locked(chain, stamp),
        );
    }

    /// Takes what owners of shards have to themselves. Under the waiters' lock.
    fn take_owned(&self, mut which: impl FnMut(usize, &Shard) -> bool, take: impl FnMut(Chain)) {
        let mut any = false;
        for (number, shard) in self.shards().iter().enumerate() {
            any |= which(number, shard) && shard.0.disown();
        }
        if any {
            barrier::heavy();
            let shards = self.shards().iter();
            shards
                .filter_map(|shard| shard.0.take_own(self.headers()))
                .for_each(take);
        }
    }

    fn split_batch(&self, batch: Chain) -> Block {
        let (block, rest) = self.headers().split(batch);
        if let Some(rest) = rest {
            self.put_near(rest);
        }
        block
    }

    /// Commits a span that has been paid for: a block, and the rest of the span's blocks, all zero.
    pub(super) fn grow(&self) -> io::Result<(Block, Option<Chain>)> {
        let headers = self.headers();
        let per_span = self.shape.per_span;
        let mut growth = lock(&self.growth);
        let first = match growth.clean {
            NIL => growth.next as u32 * per_span,
            link => link - 1,
        };
        self.memory.commit((first / per_span) as usize)?;
        if growth.clean == NIL {
            self.headers
                .extend_to((first + per_span) as usize, |i| Header::new(self, i as u32))
                .inspect_err(|_| {
                    // SAFETY: the span was committed just above and none of its blocks exists yet.
                    let _ = unsafe { self.memory.decommit((first / per_span) as usize) };
                })?;
            growth.next += 1;
        } else {
            growth.clean = headers.next(growth.clean);
        }
        drop(growth);
        let mut rest = None;
        for link in (first + 2..=first + per_span).rev() {
            rest = Some(headers.stack(headers.block(link), rest));
        }
        Ok((headers.block(first + 1), rest))
    }

    // ---- giving back --------------------------------------------------------------------------------------------

    /// Queues a block whose last handle has gone. Nothing of the pool may be touched after this.
    #[inline]
    pub(crate) fn recycle(block: Block) {
        block.poison();
        // The block keeps its class alive until it is queued, and not a moment longer.
        let class: *const Class = block.header().class();
        // SAFETY: see above; the pool may be gone once the push has kept the block.
        let class = unsafe { &*class };
        let rest = match class.own() {
            Some(own) => own.push(class.headers(), block, class.cap),
            None => OwnPushed::Shut(block),
        };
        if !matches!(rest, OwnPushed::Kept) {
            Class::recycle_rest(class, rest);
        }
    }

    /// Goes on where a thread has no stack of its own, or not enough of it. Takes a pointer, because what it points to may be
    /// gone when this returns.
    #[inline(never)]
    fn recycle_rest(class: *const Class, rest: OwnPushed) {
        // SAFETY: what is left in our hands keeps its class alive until it is queued, and not a moment longer.
        let class = unsafe { &*class };
        let headers = class.headers();
        let pushed = match (class.magazine(), rest) {
            ((magazine, false), OwnPushed::Shut(block)) => magazine.push(headers, block, class.cap),
            ((magazine, _), rest) => match magazine.push_rest(headers, rest, class.cap) {
                Pushed::Due(block) => class.push_due(magazine, block),
                pushed => pushed,
            },
        };
        match pushed {
            // Not without a block in hand, but the compiler can not know.
            Pushed::Kept | Pushed::Due(_) => {}
            Pushed::Spilled(chain) => {
                let stamp = class.owner().tick();
                if let Err(chain) = class.depot.push(headers, chain, stamp, Access::Calm) {
                    Class::bring_home(class, chain);
                }
            }
            Pushed::Shut(chain) => Class::bring_home(class, chain),
        }
    }

    /// Its owner has pushed to the magazine's words for so long that it may have a stack of its own.
    #[cold]
    fn push_due(&self, magazine: &Magazine, block: Block) -> Pushed {
        self.owner().due(self);
        match magazine.own.push(self.headers(), block, self.cap) {
            OwnPushed::Shut(block) => magazine.push(self.headers(), block, self.cap),
            rest => magazine.push_rest(self.headers(), rest, self.cap),
        }
    }

    /// Takes dropped blocks to the owner, and frees it after the last of them. Takes a pointer, because what it points to
    /// may be gone when this returns.
    #[cold]
    fn bring_home(class: *const Class, chain: Chain) {
        // SAFETY: the chain keeps its class until `returned` has queued it.
        let owner = unsafe { &*class }.owner_ptr();
        // SAFETY: the chain keeps the owner as well, and then what is counted here does.
        unsafe {
            owner.as_ref().refs().fetch_add(1, Ordering::Relaxed);
            owner.as_ref().returned(&*class, chain);
            super::release(owner);
        }
    }

    /// Queues blocks in this thread's magazine if it is empty, otherwise in the depot.
    pub(crate) fn put_near(&self, chain: Chain) {
        let filled = match self.magazine() {
            (magazine, true) => magazine.fill_own(self.headers(), chain),
            (magazine, false) => magazine.fill(chain),
        };
        if let Err(chain) = filled {
            self.put_back(chain);
        }
    }

    /// Queues blocks that were taken but not used in the depot.
    fn put_back(&self, chain: Chain) {
        let stamp = self.owner().tick();
        if let Err(chain) = self.depot.push(self.headers(), chain, stamp, Access::Calm) {
            self.owner().returned(self, chain);
        }
    }

    // ---- under the waiters' lock --------------------------------------------------------------------------------

    /// The first half of shutting: sends owners away from what they have to themselves. Answers whether a heavy fence has to
    /// come before the second half.
    #[must_use]
    pub(crate) fn disown(&self) -> bool {
        // All of them.
        self.shards()
            .iter()
            .fold(false, |any, shard| shard.0.disown() | any)
    }

    /// Sends every drop and every reservation to the owner; what is queued gathers in the depot.
    pub(crate) fn shut(&self, stamp: u32) {
        // The depot last: until then magazines that spill still find it open, or come to the owner.
        for shard in self.shards() {
            let own = shard.0.take_own(self.headers());
            let words = shard.0.shut(self.headers());
            for chain in words.into_iter().chain([own]).flatten() {
                self.push_locked(chain, stamp);
            }
        }
        self.depot.shut();
    }

    /// Gives this thread the stack of its own that it asked for, or not.
    pub(crate) fn give_own(&self, yes: bool) {
        self.magazine().0.give_own(yes);
    }

    pub(crate) fn open(&self) {
        self.depot.open();
        for shard in self.shards() {
            shard.0.open();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.depot.is_open()
    }

    pub(crate) fn push_locked(&self, chain: Chain, stamp: u32) {
        let pushed = self
            .depot
            .push(self.headers(), chain, stamp, Access::Locked);
        debug_assert!(pushed.is_ok());
    }

    pub(crate) fn pop_locked(&self) -> Option<Block> {
        let headers = self.headers();
        let (block, rest) = headers.split(self.depot.pop(headers, Access::Locked)?);
        if let Some(rest) = rest {
            self.push_locked(rest, self.owner().tick());
        }
        Some(block)
    }

    /// The one block of a chain of one.
    pub(crate) fn only(&self, chain: Chain) -> Result<Block, Chain> {
        match self.headers().split(chain) {
            (block, None) => Ok(block),
            (block, Some(rest)) => Err(self.headers().stack(block, Some(rest))),
        }
    }

    /// The bytes of a chain's blocks.
    pub(crate) fn chain_bytes(&self, chain: &Chain) -> u64 {
        u64::from(chain.len(self.headers())) * self.shape.size as u64
    }

    // ---- cleaning -----------------------------------------------------------------------------------------------

    /// Bytes in magazines and depot; exact when nobody is at them.
    pub(crate) fn queued(&self) -> u64 {
        let headers = self.headers();
        let shards = self.shards().iter();
        let blocks: u64 = shards.map(|shard| u64::from(shard.0.len(headers))).sum();
        (blocks + self.depot.len()) * self.shape.size as u64
    }

    /// Bytes in the depot alone: all that is queued while the class is shut.
    pub(crate) fn queued_in_depot(&self) -> u64 {
        self.depot.len() * self.shape.size as u64
    }

    /// Takes what is to be cleaned to get `pages`, from the depot before the magazines. Blocks that share their span with others
    /// are all taken, to see which spans are complete. Under the waiters' lock, in any state of the pool.
    pub(crate) fn collect(&self, pages: u32) -> Bag<'_> {
        let headers = self.headers();
        let wanted = match self.shape.per_span {
            1 => pages.div_ceil(self.shape.pages),
            _ => u32::MAX,
        };
        let mut missing = wanted;
        let mut chains = Chains::none(headers);
        let mut take = |chain: Chain, stamp| {
            missing = missing.saturating_sub(chain.len(headers));
            chains.push(chain, stamp);
            missing > 0
        };
        let mut more = wanted > 0;
        while more {
            let Some((chain, stamp)) = self.depot.pop_locked(headers) else {
                break;
            };
            more = take(chain, stamp);
        }
        let tick = self.owner().tick();
        let mut shards = self.shards().iter();
        while let Some(shard) = shards.next().filter(|_| more) {
            for chain in shard.0.steal(headers).into_iter().flatten() {
                more = take(chain, tick);
            }
        }
        if more {
            self.take_owned(
                |_, shard| shard.0.owned() > 0,
                |chain| _ = take(chain, tick),
            );
        }
        Bag {
            class: self,
            chains,
        }
    }

    /// Moves the contents of magazines that nobody touched since the last look to the depot, under the waiters' lock.
    /// `stamp` says since when they are taken to be untouched.
    pub(crate) fn settle(&self, idle: &mut Idle, stamp: u32) {
        idle.marks.resize(self.shards().len(), 0);
        let untouched = |number: usize, shard: &Shard| shard.0.mark() == idle.marks[number];
        let headers = self.headers();
        for (number, shard) in self.shards().iter().enumerate() {
            if untouched(number, shard) {
                for chain in shard.0.steal(headers).into_iter().flatten() {
                    self.push_locked(chain, stamp);
                }
            }
        }
        self.take_owned(
            |number, shard| shard.0.owned() > 0 && untouched(number, shard),
            |chain| self.push_locked(chain, stamp),
        );
        for (shard, seen) in self.shards().iter().zip(&mut idle.marks) {
            *seen = shard.0.mark();
        }
    }

    /// Takes what has been in the depot for so long that `expired` says so of its stamp. Under the waiters' lock.
    pub(crate) fn collect_old(&self, expired: impl Fn(u32) -> bool) -> Bag<'_> {
        let mut young = self.depot.take_all(self.headers());
        let old = young.split_off(expired);
        self.depot.put_all(young);
        Bag {
            class: self,
            chains: old,
        }
    }

    /// When the depot last got a chain; what is queued only in magazines is hot.
    pub(crate) fn last_queued(&self) -> u32 {
        self.depot
            .top_stamp(self.headers())
            .unwrap_or_else(|| self.owner().tick())
    }

    /// Each block is a span of its own.
    fn clean_blocks<'a>(&self, mut chains: Chains<'a>, pages: u32) -> (u32, Chains<'a>) {
        let headers = self.headers();
        let mut freed = 0;
        // Locked memory (`mlockall`) can not be given back: it stays queued and charged.
        let mut kept = Chains::none(headers);
        while freed < pages {
            let Some((chain, stamp)) = chains.pop() else {
                break;
            };
            let (block, below) = headers.split(chain);
            if let Some(below) = below {
                chains.push(below, stamp);
            }
            // SAFETY: the block is the whole span, and it is ours.
            match unsafe { self.memory.decommit(block.header().index() as usize) } {
                Ok(()) => {
                    self.retire(block);
                    freed += self.shape.pages;
                }
                Err(_) => kept.push(Chain::of(block), stamp),
            }
        }
        while let Some((chain, stamp)) = kept.pop() {
            chains.push(chain, stamp);
        }
        (freed, chains)
    }

    /// A span can go when all its blocks are here. They are counted in the header of the span's first block.
    fn clean_shared_spans<'a>(&'a self, mut chains: Chains<'a>, pages: u32) -> (u32, Chains<'a>) {
        let cleaning = lock(&self.cleaning);
        let headers = self.headers();
        let per_span = self.shape.per_span;
        let count_of = |block: &Header| {
            let first = block.index() / per_span * per_span;
            &headers.header(first + 1).in_span
        };

        // One list of all blocks, each counted in its span.
        let mut all = None;
        let mut last_stamp = 0;
        while let Some((chain, stamp)) = chains.pop() {
            last_stamp = stamp;
            let mut rest = Some(chain);
            while let Some(chain) = rest {
                let (block, below) = headers.split(chain);
                rest = below;
                let count = count_of(block.header());
                count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                all = Some(headers.stack(block, all));
            }
        }

        // The counts are final: a full one is a span to clean, and becomes a mark of what was done with it.
        const CLEANED: u16 = u16::MAX;
        const KEPT: u16 = u16::MAX - 1;
        let mut freed = 0;
        let mut cleaned = NIL;
        let mut kept: Option<Chain> = None;
        let mut rest = all;
        while let Some(chain) = rest {
            let (block, below) = headers.split(chain);
            rest = below;
            let header = block.header();
            let count = count_of(header);
            if u32::from(count.load(Ordering::Relaxed)) == per_span {
                let span = header.index() / per_span;
                // SAFETY: all of the span's blocks are in our list, so no one holds any of them.
                if freed < pages && unsafe { self.memory.decommit(span as usize) }.is_ok() {
                    freed += self.shape.pages;
                    count.store(CLEANED, Ordering::Relaxed);
                    let first = headers.header(span * per_span + 1);
                    first.chain.store(cleaned, Ordering::Relaxed);
                    cleaned = first.link();
                } else {
                    count.store(KEPT, Ordering::Relaxed);
                }
            }
            if count.load(Ordering::Relaxed) != CLEANED {
                kept = Some(headers.stack(block, kept));
            }
        }

        // The rest goes back in chains that a magazine can take, and the counts go back to zero.
        let mut back = Chains::none(headers);
        let mut batch = None;
        while let Some(chain) = kept {
            let (block, below) = headers.split(chain);
            kept = below;
            count_of(block.header()).store(0, Ordering::Relaxed);
            let chain = headers.stack(block, batch);
            if kept.is_none() || chain.len(headers) >= self.cap {
                back.push(chain, last_stamp);
                batch = None;
            } else {
                batch = Some(chain);
            }
        }
        while cleaned != NIL {
            let first = headers.header(cleaned);
            first.in_span.store(0, Ordering::Relaxed);
            let span = headers.block(cleaned);
            cleaned = first.chain.load(Ordering::Relaxed);
            self.retire(span);
        }
        drop(cleaning);
        (freed, back)
    }

    /// The span that starts with `first` is clean now and may be grown into again.
    fn retire(&self, first: Block) {
        // How an observer tells a clean span from a queued one: queued blocks have a depth.
        first.header().depth.store(0, Ordering::Relaxed);
        let mut growth = lock(&self.growth);
        first.header().next.store(growth.clean, Ordering::Relaxed);
        growth.clean = first.header().link();
    }

    // ---- observing ----------------------------------------------------------------------------------------------

    /// The addresses of the blocks' memory, as far as it was ever usable.
    pub(crate) fn addresses(&self) -> std::ops::Range<usize> {
        self.memory.opened()
    }

    /// The headers of all blocks that ever existed, in order.
    pub(crate) fn blocks(&self) -> impl ExactSizeIterator<Item = &Header> {
        // SAFETY: `len` was loaded with Acquire, and headers below it are appended.
        (0..self.headers.len()).map(|index| unsafe { self.headers.get(index) })
    }

    /// What an observer sees of each block that ever existed, in order.
    #[cfg(feature = "inspector")]
    pub(crate) fn look(&self) -> impl ExactSizeIterator<Item = Look> + '_ {
        let per_span = self.shape.per_span;
        let mut clean = false;
        self.blocks().map(move |block| {
            if block.index() % per_span == 0 {
                clean = block.is_clean();
            }
            match block.glance().1 {
                Some(_) => Look::Live,
                None if clean => Look::Clean,
                None => Look::Queued,
            }
        })
    }

    #[cold]
    pub(super) fn era_wrapped(&self) {
        self.eras.fetch_add(1, Ordering::Relaxed);
    }

    /// How often any block's era has wrapped.
    pub(crate) fn eras(&self) -> u32 {
        self.eras.load(Ordering::Relaxed)
    }

    /// By how much the sum of the generations is more than the blocks reclaimed.
    pub(crate) fn invalidations(&self) -> u64 {
        self.invalidated.load(Ordering::Acquire)
    }

    #[cold]
    pub(super) fn invalidated(&self) {
        self.invalidated.fetch_add(1, Ordering::Release);
    }

    /// Whether blocks are wiped before they are used again.
    pub(super) fn is_wiped(&self) -> bool {
        self.owner().wipes()
    }

    pub(super) fn metadata(&self) -> usize {
        size_of::<Class>() + self.headers.resident() + size_of_val(self.shards())
    }
}
