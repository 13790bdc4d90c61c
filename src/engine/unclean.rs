//! Blocks that have to be cleaned between their last drop and their next use: hooks, tokens, wiping.
//!
//! The drop only puts such a block on a list, by one CAS, and rings. Whoever cleans takes blocks off one at a time, so that nothing
//! is in the hands of someone who may go away: first in, first out. The block counts as live until its hooks have run and it is
//! wiped; then it is queued like any other, and then its tokens are delivered.
//!
//! ```text
//!   last drop ──▶ inbox ──▶ outbox ──▶ hooks ──▶ wipe ──▶ queue ──▶ tokens
//!                (a word)   (a lock)   no lock is held from here on
//! ```
//!
//! Hooks are user code and never run in a drop. The reclaimer runs them; so does whoever waits, when polled, since the
//! reclaimer may be starved. Where no reclaimer listens, or the pool has no handle any more, the drop starts a thread that
//! cleans what there is and ends.

use std::collections::HashMap;
use std::ptr;
use std::sync::OnceLock;

use super::{Counted, Engine};
use crate::arena::{Block, Class, ClassId, Handle, LetGo};
use crate::reclaim::{contain, show, Fault, FaultHandler, FaultKind, Job, Jobs, Token};
use crate::sync::{lock, AtomicU32, AtomicU64, Mutex, Ordering};

/// So many bytes are wiped before others have a turn.
const WIPE_SLICE: usize = if cfg!(offheap_loom) { 4096 } else { 256 << 10 };

/// A block's place: its class and its link. Zero is none.
type Place = u64;

/// The pool has no handle any more. In the inbox's word, so that a drop sees it in the same step.
const ORPHAN: u64 = 1 << 63;

#[derive(Default)]
pub(super) struct Unclean {
    /// The newest block; they hang together by `next` and, for the class, `depth`.
    inbox: AtomicU64,
    /// The block that is first in line; changes under `taking`.
    outbox: AtomicU64,
    taking: Mutex<()>,
    /// By the header's address. Held by registrations and by who cleans, never by a drop.
    jobs: Mutex<HashMap<usize, Jobs>>,
    /// A thread cleans because no reclaimer does.
    lingering: AtomicU32,
    /// Blocks that someone has in hand at this time.
    in_hand: AtomicU32,
    linger: OnceLock<fn(Counted)>,
    faults: OnceLock<FaultHandler>,
}

impl std::fmt::Debug for Unclean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unclean")
    }
}

impl Engine {
    /// Who starts a thread that [`linger`](Counted::linger)s, and who is told of faults.
    pub(crate) fn set_helpers(&self, linger: fn(Counted), faults: Option<FaultHandler>) {
        let _ = self.unclean.linger.set(linger);
        if let Some(faults) = faults {
            let _ = self.unclean.faults.set(faults);
        }
    }

    pub(crate) fn report(&self, fault: &Fault) {
        if let Some(handler) = self.unclean.faults.get() {
            let _ = contain(|| handler(fault));
        }
    }

    // ---- registering --------------------------------------------------------------------------------------------

    /// Something is to be done with the handle's block after its last drop.
    pub(crate) fn register(&self, handle: &Handle, job: Job) {
        let key = ptr::from_ref(handle.header()) as usize;
        lock(&self.unclean.jobs).entry(key).or_default().push(job);
        // Before this handle goes, so before the last drop.
        handle.mark_unclean();
    }

    // ---- the list -----------------------------------------------------------------------------------------------

    fn place_of(block: &Block) -> Place {
        let header = block.header();
        u64::from(header.class().id()) << 32 | u64::from(header.link())
    }

    /// Takes ownership of a block whose place was just taken off the list.
    fn block_at(&self, place: Place) -> Block {
        let class = self.arena.class((place >> 32) as ClassId);
        class.block(place as u32)
    }

    fn link(block: &Block, next: Place) {
        // The link where a link is expected, for those who still look at the block as a part of a stack.
        let below = next.rotate_left(32);
        block.header().below.store(below, Ordering::Relaxed);
    }

    fn next_of(block: &Block) -> Place {
        block.header().below.load(Ordering::Relaxed).rotate_left(32)
    }

    /// The last drop of a block that has to be cleaned. The caller keeps the pool.
    pub(super) fn put_unclean(&self, block: Block) {
        let inbox = &self.unclean.inbox;
        let place = Self::place_of(&block);
        let mut seen = inbox.load(Ordering::Relaxed);
        if seen & ORPHAN != 0 && !self.has_jobs(&block) {
            // Nobody will use it again.
            return self.finish(block, Vec::new());
        }
        loop {
            Self::link(&block, seen & !ORPHAN);
            // Release publishes the link, and all that was done with the block. Acquire: see `is_unclean`.
            match inbox.compare_exchange_weak(
                seen,
                seen & ORPHAN | place,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if self.account.is_pressed_by_now() {
            self.call_head();
        }
        if seen & ORPHAN != 0 || !self.bell.is_listening() {
            self.linger();
        } else if seen & !ORPHAN == 0 {
            // Whoever put the first one there has rung otherwise.
            self.bell.ring();
        }
    }

    /// Whether anything is on the list. A change of the word, so that a drop either is seen here, or sees that nobody listens.
    fn is_unclean(&self) -> bool {
        self.unclean.inbox.fetch_or(0, Ordering::AcqRel) & !ORPHAN != 0
            || self.unclean.outbox.load(Ordering::Acquire) != 0
    }

    /// Whether anything is on the list, for those who wait: a drop that is not seen here sees that the pool is pressed, and calls.
    pub(super) fn seems_unclean(&self) -> bool {
        self.unclean.inbox.load(Ordering::Acquire) & !ORPHAN != 0
            || self.unclean.outbox.load(Ordering::Acquire) != 0
    }

    /// Takes the block that is first in line.
    fn take_unclean(&self) -> Option<Block> {
        let _taking = lock(&self.unclean.taking);
        let outbox = &self.unclean.outbox;
        let mut first = outbox.load(Ordering::Relaxed);
        if first == 0 {
            let mut place = self.unclean.inbox.fetch_and(ORPHAN, Ordering::AcqRel) & !ORPHAN;
            // The inbox has the newest on top.
            while place != 0 {
                let block = self.block_at(place);
                place = Self::next_of(&block);
                Self::link(&block, first);
                first = Self::place_of(&block);
            }
            if first == 0 {
                return None;
            }
        }
        let block = self.block_at(first);
        outbox.store(Self::next_of(&block), Ordering::Release);
        Some(block)
    }

    /// The block is not done: it stays first in line.
    fn put_first(&self, block: Block) {
        let _taking = lock(&self.unclean.taking);
        let outbox = &self.unclean.outbox;
        Self::link(&block, outbox.load(Ordering::Relaxed));
        outbox.store(Self::place_of(&block), Ordering::Release);
    }

    // ---- cleaning -----------------------------------------------------------------------------------------------

    /// Cleans one block, or a slice of one; `false` where there is none. Runs user code.
    pub(crate) fn clean_one(&self) -> bool {
        if !self.seems_unclean() {
            return false;
        }
        // Before it is off the list, so that it is either there or in hand.
        self.unclean.in_hand.fetch_add(1, Ordering::AcqRel);
        let block = self.take_unclean();
        let some = block.is_some();
        block.into_iter().for_each(|block| self.clean_block(block));
        self.unclean.in_hand.fetch_sub(1, Ordering::AcqRel);
        some
    }

    /// Cleans all that there is, and waits for others who have something in hand. Not within a hook: it would wait for itself.
    #[cfg(not(offheap_loom))]
    pub(crate) fn clean_all(&self) {
        while self.clean_one() {}
        crate::sync::spin_while(|| self.unclean.in_hand.load(Ordering::Acquire) != 0);
    }

    fn clean_block(&self, block: Block) {
        let mut jobs = self.take_jobs(&block);
        self.run_hooks(&block, &mut jobs);
        if self.wipe(&block, WIPE_SLICE) {
            self.finish(block, jobs.tokens);
        } else {
            if !jobs.tokens.is_empty() {
                let key = ptr::from_ref(block.header()) as usize;
                lock(&self.unclean.jobs).insert(key, jobs);
            }
            self.put_first(block);
        }
    }

    /// Cleans so much that others may want a turn; whether there is more.
    pub(crate) fn clean_some(&self) -> bool {
        const BLOCKS: u32 = 16;
        (0..BLOCKS).all(|_| self.clean_one())
    }

    /// A handle that lets go and wants the block to be clean when this returns: whether it was the last.
    pub(crate) fn clean_now(handle: Handle) -> bool {
        let keep = Counted::of(&handle);
        match handle.let_go() {
            LetGo::Shared => false,
            LetGo::Queued => true,
            LetGo::Unclean(block) => {
                let mut jobs = keep.take_jobs(&block);
                keep.run_hooks(&block, &mut jobs);
                while !keep.wipe(&block, usize::MAX) {}
                keep.finish(block, jobs.tokens);
                true
            }
        }
    }

    /// A block that needs no user code: wiped for a newcomer who wants one of its class. Others are left to their turn.
    pub(super) fn take_wiped(&self, class: &Class) -> Option<Block> {
        if !self.wipes || !self.seems_unclean() {
            return None;
        }
        let block = self.take_unclean()?;
        if !self.has_jobs(&block) && block.header().class().id() == class.id() {
            while !self.wipe(&block, usize::MAX) {}
            block.end_unclean();
            return Some(block);
        }
        self.put_first(block);
        None
    }

    /// Wipes and queues one block that needs no user code; `false` where there is none, or others are before it.
    pub(super) fn wipe_one(&self) -> bool {
        if !self.wipes || !self.seems_unclean() {
            return false;
        }
        let Some(block) = self.take_unclean() else {
            return false;
        };
        let plain = !self.has_jobs(&block);
        if plain {
            while !self.wipe(&block, usize::MAX) {}
            self.finish(block, Vec::new());
        } else {
            self.put_first(block);
        }
        plain
    }

    fn has_jobs(&self, block: &Block) -> bool {
        let key = ptr::from_ref(block.header()) as usize;
        lock(&self.unclean.jobs).contains_key(&key)
    }

    fn take_jobs(&self, block: &Block) -> Jobs {
        let key = ptr::from_ref(block.header()) as usize;
        let jobs = lock(&self.unclean.jobs).remove(&key);
        jobs.unwrap_or_default()
    }

    fn run_hooks(&self, block: &Block, jobs: &mut Jobs) {
        if jobs.hooks.is_empty() {
            return;
        }
        let (start, size) = block.memory();
        for hook in jobs.hooks.drain(..) {
            // SAFETY: the block has no handles and is in no queue: it is ours.
            let memory = unsafe { show(start, size) };
            if let Err(message) = contain(|| (hook.run)(memory)) {
                self.counters.hook_panics.fetch_add(1, Ordering::Relaxed);
                self.report(&Fault {
                    kind: FaultKind::HookPanicked,
                    location: hook.site,
                    message,
                });
            }
        }
    }

    /// Wipes up to `most` bytes of a block that has to be wiped; whether all of it is done. How far it is stands in the header.
    fn wipe(&self, block: &Block, most: usize) -> bool {
        if !block.is_wiped() {
            return true;
        }
        let (start, size) = block.memory();
        let slices = &block.header().chain;
        let first = slices.load(Ordering::Relaxed);
        let from = first as usize * WIPE_SLICE;
        let count = (size - from).min(most);
        // SAFETY: the range lies in the block, which has no handles and is in no queue: it is ours.
        unsafe { ptr::write_bytes(start.as_ptr().add(from), 0, count) };
        let done = from + count == size;
        let next = if done { 0 } else { first + 1 };
        slices.store(next, Ordering::Relaxed);
        done
    }

    /// The block is clean: it is queued, and then those who wait for that are told. The caller keeps the pool.
    fn finish(&self, block: Block, tokens: Vec<Token>) {
        block.end_unclean();
        Class::recycle(block);
        for token in tokens {
            if let Err(message) = contain(token.deliver) {
                self.report(&Fault {
                    kind: FaultKind::TokenPanicked,
                    location: token.site,
                    message,
                });
            }
        }
    }

    // ---- without a reclaimer ------------------------------------------------------------------------------------

    /// The last handle to the pool has gone, and with it the reclaimer: drops will see it in the inbox's word.
    pub(super) fn orphan_unclean(&self) {
        self.unclean.inbox.fetch_or(ORPHAN, Ordering::AcqRel);
        self.rescue();
    }

    /// There may be no reclaimer any more: what is on the list is cleaned by a thread.
    pub(crate) fn rescue(&self) {
        if self.is_unclean() {
            self.linger();
        }
    }

    fn linger(&self) {
        let lingering = &self.unclean.lingering;
        if let Some(linger) = self.unclean.linger.get() {
            if lingering.swap(1, Ordering::AcqRel) == 0 {
                linger(Counted::new(self));
            }
        }
    }
}

impl Counted {
    /// Cleans what there is. Ends only when a drop that comes after it will start another.
    pub(crate) fn linger(self) {
        loop {
            while self.clean_one() {}
            self.unclean.lingering.swap(0, Ordering::AcqRel);
            if !self.is_unclean() || self.unclean.lingering.swap(1, Ordering::AcqRel) == 1 {
                return;
            }
        }
    }

    /// No thread was to be had: the next drop tries again.
    pub(crate) fn give_up(self) {
        self.unclean.lingering.store(0, Ordering::Release);
    }
}
