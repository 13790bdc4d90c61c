//! One size class: its memory, its headers, its magazines and its depot.
//!
//! A block goes round: *clean* (no memory behind it) → `grow` → live → `recycle` → queued → `take` → live …, and from
//! queued by `clean` back to clean. Everything but `grow` and `clean` is lock-free; those two go to the OS.
//!
//! A class is born shut and opened by the pool on its first drop in calm. `take` finds nothing in a shut class; blocks
//! that are dropped go to the [`Owner`] instead.

use std::alloc::{alloc, handle_alloc_error, Layout};
use std::io;
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use super::depot::{Access, Chains, Depot};
use super::header::{Block, Header, NIL};
use super::hope::Hope;
use super::magazine::{Magazine, Pushed};
use super::own::Own;
use super::sizes::{ClassId, Shape};
use super::{Chain, Headers, Line, Owner};
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

/// The shards come last, so that from a header to its thread's own stack there is but one pointer to follow. `S` is not a slice only while the
/// class is made.
///
/// What the fast path reads lies at least 128 bytes into a multiple of 256: never as far into its page as a class's first block, where users
/// write, or that block's header. A load that follows a store at the same offset of another page waits for it.
#[derive(Debug)]
#[repr(C, align(256))]
pub(crate) struct Class<S: ?Sized = [Shard]> {
    depot: Line<Depot>,
    /// How many shards there are, a power of two: so the length of `shards` can be had by a thin pointer.
    count: usize,
    cap: u32,
    id: ClassId,
    shape: Shape,
    headers: Table<Header>,
    memory: Spans,
    owner: OnceLock<OwnerPtr>,
    growth: Mutex<Growth>,
    /// Held while spans are being cleaned: the per-span counts in the headers are the cleaner's.
    cleaning: Mutex<()>,
    hope: Hope,
    /// How often the weak handles of a block were invalidated though it was not reclaimed.
    invalidated: AtomicU64,
    /// How often a block's era has wrapped.
    eras: AtomicU32,
    shards: S,
}

/// A magazine on cache lines of its own.
pub(crate) type Shard = Line<Magazine>;

/// The way from a header to its class: thin, which a reference to a class is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassPtr(NonNull<Class<[Shard; 0]>>);

// SAFETY: only ever turned into a shared reference, and `Class` is `Sync`.
unsafe impl Send for ClassPtr {}
// SAFETY: as above.
unsafe impl Sync for ClassPtr {}

impl ClassPtr {
    /// # Safety
    ///
    /// The class is there.
    #[inline]
    pub(super) unsafe fn as_ptr(self) -> *const Class {
        // SAFETY: passed on from the caller; what comes before the shards is laid out alike, however many there are.
        let count = unsafe { self.0.as_ref() }.count;
        ptr::slice_from_raw_parts(self.0.as_ptr().cast::<Shard>(), count) as *const Class
    }
}

impl From<&Class> for ClassPtr {
    fn from(class: &Class) -> ClassPtr {
        ClassPtr(NonNull::from(class).cast())
    }
}

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
    /// All of it was looked at, and it has no complete span.
    in_vain: bool,
}

impl<'a> Bag<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// How many blocks are in the bag.
    pub(crate) fn blocks(&self) -> u64 {
        self.chains.blocks()
    }

    /// Bytes in the bag.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks() * self.class.size() as u64
    }

    /// The class whose blocks these are.
    pub(crate) fn class(&self) -> &'a Class {
        self.class
    }

    /// Decommits whole spans until `pages` are free or nothing is left. Answers the pages freed, and what stays queued. The
    /// spans may be grown into again, and are still charged.
    pub(crate) fn clean(self, pages: u32) -> (u32, Self) {
        let class = self.class;
        let (freed, chains, in_vain) = if class.shape.per_span == 1 {
            let (freed, chains) = class.clean_blocks(self.chains, pages);
            (freed, chains, false)
        } else {
            class.clean_shared_spans(self.chains, pages)
        };
        let rest = Bag {
            class,
            chains,
            in_vain,
        };
        (freed, rest)
    }

    /// Queues everything in the depot. Under the waiters' lock.
    pub(crate) fn put_back_locked(self) {
        let all = self.class.depot.len() == 0;
        self.class.depot.put_all(self.chains);
        self.class.hope.put_back(self.in_vain && all);
    }
}

impl Class<[Shard; 0]> {
    /// The same with as many shards as it says. The shards follow in the same allocation.
    fn with_shards(self) -> Box<Class> {
        let (count, offset) = (self.count, offset_of!(Self, shards));
        let size = offset + count * size_of::<Shard>();
        let layout = Layout::from_size_align(size, align_of::<Self>())
            .expect("as many shards as cores")
            .pad_to_align();
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: the allocation has room for the head and for `count` shards at `offset`, which is where `repr(C)` has them, and is laid out as
        // the box will be when it is freed.
        unsafe {
            start.cast::<Self>().write(self);
            for number in 0..count {
                let shard = start.add(offset).cast::<Shard>().add(number);
                shard.write(Line(Magazine::new()));
            }
            let class = ptr::slice_from_raw_parts_mut(start.cast::<Shard>(), count) as *mut Class;
            Box::from_raw(class)
        }
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
    ) -> Box<Class> {
        let blocks = shape.spans * shape.per_span as usize;
        let (least, most) = MAGAZINE_CAP;
        let shards = shards.next_power_of_two() * MAGAZINES_PER_SHARD;
        let cap = (MAGAZINE_BYTES / 2 / shape.size).clamp(least as usize, most as usize) as u32;
        let head = Class {
            count: shards,
            cap,
            id,
            shape,
            headers: Table::new(space, headers, blocks),
            memory: Spans::new(space, memory, shape.span(), shape.spans),
            owner: OnceLock::new(),
            depot: Line(Depot::new()),
            growth: Mutex::new(Growth {
                next: 0,
                clean: NIL,
            }),
            cleaning: Mutex::new(()),
            hope: Hope::new(),
            invalidated: AtomicU64::new(0),
            eras: AtomicU32::new(0),
            shards: [],
        };
        head.with_shards()
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

    fn seats(&self) -> usize {
        self.shards.len()
    }

    /// This thread's magazine, and whether the thread has it to itself.
    fn magazine(&self) -> (&Magazine, bool) {
        let seat = seat();
        let magazine = &self.shards[seat & (self.seats() - 1)];
        (magazine, seat < self.seats())
    }

    /// The stack of its own that the thread on this seat may have.
    #[inline]
    fn own(&self, seat: usize) -> Option<&Own> {
        Some(&self.shards.get(seat)?.own)
    }

    // ---- taking -------------------------------------------------------------------------------------------------

    /// A block from the own stack of this thread, whose seat it is.
    #[inline]
    pub(crate) fn pop_own(&self, seat: usize) -> Option<Block> {
        self.own(seat)?.pop(self.headers())
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
            let mut chains = shard.steal(self.headers()).into_iter().flatten();
            if let Some(batch) = chains.next() {
                chains.for_each(|other| self.put_back(other));
                return Some(self.split_batch(batch));
            }
        }
        None
    }

    /// Whether there are blocks that only their shards' owners can get at.
    pub(crate) fn is_owned(&self) -> bool {
        self.shards().iter().any(|shard| shard.owned() > 0)
    }

    /// Queues in the depot what the owners of shards have to themselves. Under the waiters' lock.
    pub(crate) fn disown_all(&self) {
        let stamp = self.owner().tick();
        self.take_owned(
            |_, shard| shard.owned() > 0,
            |chain| self.push_locked(chain, stamp),
        );
    }

    /// Takes what owners of shards have to themselves. Under the waiters' lock.
    fn take_owned(&self, mut which: impl FnMut(usize, &Shard) -> bool, take: impl FnMut(Chain)) {
        let mut any = false;
        for (number, shard) in self.shards().iter().enumerate() {
            any |= which(number, shard) && shard.disown();
        }
        if any {
            barrier::heavy();
            let shards = self.shards().iter();
            shards
                .filter_map(|shard| shard.take_own(self.headers()))
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
    pub(crate) fn recycle(block: Block) {
        Class::recycle_at(block, seat_if_any());
    }

    /// The same on a thread that sits there.
    #[inline]
    pub(super) fn recycle_at(block: Block, seat: usize) {
        block.poison();
        // The block keeps its class alive until it is queued, and not a moment longer.
        let class: *const Class = block.header().class();
        // SAFETY: see above; the pool may be gone once the push has kept the block.
        let class = unsafe { &*class };
        if !class
            .own(seat)
            .is_some_and(|own| own.try_push(&block, class.cap))
        {
            Class::recycle_slow(class, block);
        }
    }

    /// Goes on where a thread has no stack of its own, or not enough of it. Takes a pointer, because what it points to may be
    /// gone when this returns.
    #[inline(never)]
    fn recycle_slow(class: *const Class, block: Block) {
        // SAFETY: what is in our hands keeps its class alive until it is queued, and not a moment longer.
        let class = unsafe { &*class };
        let headers = class.headers();
        let pushed = match class.magazine() {
            // Then so is the owner's stack.
            (magazine, _) if !magazine.is_open() => Pushed::Shut(Chain::of(block)),
            (magazine, false) => magazine.push(headers, block, class.cap),
            (magazine, true) => match magazine.push_owned(headers, block, class.cap) {
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
        match magazine.push_owned(self.headers(), block, self.cap) {
            Pushed::Due(block) => magazine.push(self.headers(), block, self.cap),
            pushed => pushed,
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

    /// Queues a span that was grown ahead of its use in the depot, where all threads find it.
    pub(crate) fn queue_span(&self, first: Block, rest: Option<Chain>) {
        self.put_back(self.headers().stack(first, rest));
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
            .fold(false, |any, shard| shard.disown() | any)
    }

    /// Sends every drop and every reservation to the owner; what is queued gathers in the depot.
    pub(crate) fn shut(&self, stamp: u32) {
        // The depot last: until then magazines that spill still find it open, or come to the owner.
        for shard in self.shards() {
            let own = shard.take_own(self.headers());
            let words = shard.shut(self.headers());
            for chain in words.into_iter().chain([own]).flatten() {
                self.push_locked(chain, stamp);
            }
        }
        self.depot.shut();
        self.hope.changed();
    }

    /// Gives this thread the stack of its own that it asked for, or not.
    pub(crate) fn give_own(&self, yes: bool) {
        self.magazine().0.give_own(yes);
    }

    pub(crate) fn open(&self) {
        self.depot.open();
        for shard in self.shards() {
            shard.open();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.depot.is_open()
    }

    /// Queues blocks that come back.
    pub(crate) fn push_locked(&self, chain: Chain, stamp: u32) {
        if self.may_complete_a_span(&chain) {
            self.hope.changed();
        }
        self.push_rest_locked(chain, stamp);
    }

    /// Queues what is left where some other block of it was taken.
    pub(crate) fn push_rest_locked(&self, chain: Chain, stamp: u32) {
        let pushed = self
            .depot
            .push(self.headers(), chain, stamp, Access::Locked);
        debug_assert!(pushed.is_ok());
    }

    pub(crate) fn pop_locked(&self) -> Option<Block> {
        let headers = self.headers();
        let (block, rest) = headers.split(self.depot.pop(headers, Access::Locked)?);
        if let Some(rest) = rest {
            self.push_rest_locked(rest, self.owner().tick());
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
        let blocks: u64 = shards.map(|shard| shard.len(headers)).sum();
        (blocks + self.depot.len()) * self.shape.size as u64
    }

    /// Bytes in the depot alone: all that is queued while the class is shut.
    pub(crate) fn queued_in_depot(&self) -> u64 {
        self.depot.len() * self.shape.size as u64
    }

    /// Whether cleaning may find a whole span. Under the waiters' lock.
    pub(crate) fn is_hopeful(&self) -> bool {
        self.shape.per_span == 1 || self.is_open() || self.hope.is_alive()
    }

    /// Whether blocks that come back may be the last of their span. Exact for one block, as long as the class is shut: a block that
    /// seems live here comes back later.
    fn may_complete_a_span(&self, chain: &Chain) -> bool {
        let per_span = self.shape.per_span;
        let headers = self.headers();
        if per_span == 1 || chain.len(headers) > 1 {
            return true;
        }
        let index = chain.top() - 1;
        let first = index / per_span * per_span;
        // Neighbours first: blocks tend to go in the order in which they came, or the other way round.
        let other = |step: u32| match step % 2 {
            1 => step.div_ceil(2),
            _ => per_span - step / 2,
        };
        (1..per_span)
            .map(|step| first + (index - first + other(step)) % per_span)
            .all(|index| headers.header(index + 1).glance().1.is_none())
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
            for chain in shard.steal(headers).into_iter().flatten() {
                more = take(chain, tick);
            }
        }
        if more {
            self.take_owned(|_, shard| shard.owned() > 0, |chain| _ = take(chain, tick));
        }
        Bag {
            class: self,
            chains,
            in_vain: false,
        }
    }

    /// Moves the contents of magazines that nobody touched since the last look to the depot, under the waiters' lock.
    /// `stamp` says since when they are taken to be untouched.
    pub(crate) fn settle(&self, idle: &mut Idle, stamp: u32) {
        idle.marks.resize(self.shards().len(), 0);
        let untouched = |number: usize, shard: &Shard| shard.mark() == idle.marks[number];
        let headers = self.headers();
        for (number, shard) in self.shards().iter().enumerate() {
            if untouched(number, shard) {
                for chain in shard.steal(headers).into_iter().flatten() {
                    self.push_locked(chain, stamp);
                }
            }
        }
        self.take_owned(
            |number, shard| shard.owned() > 0 && untouched(number, shard),
            |chain| self.push_locked(chain, stamp),
        );
        for (shard, seen) in self.shards().iter().zip(&mut idle.marks) {
            *seen = shard.mark();
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
            in_vain: false,
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

    /// A span can go when all its blocks are here. They are counted in the header of the span's first block. Answers besides whether
    /// no complete span is left.
    fn clean_shared_spans<'a>(
        &'a self,
        mut chains: Chains<'a>,
        pages: u32,
    ) -> (u32, Chains<'a>, bool) {
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
        let mut in_vain = true;
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
                    in_vain = false;
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
        (freed, back, in_vain)
    }

    /// The span that starts with `first` is clean now and may be grown into again.
    fn retire(&self, first: Block) {
        let mut growth = lock(&self.growth);
        first.header().set_clean(growth.clean);
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
        size_of_val(self) + self.headers.resident()
    }
}
