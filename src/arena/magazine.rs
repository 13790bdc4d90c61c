//! The magazine: a shard's stack of queued blocks of one class (Bonwick's term), in a 64-bit word.
//!
//! ```text
//!   63            33   32   31                   0
//!  ┌────────────────┬──────┬──────────────────────┐
//!  │      tag       │ open │  link of the top     │     the rest hangs below the top by `Header::next`
//!  └────────────────┴──────┴──────────────────────┘
//! ```
//!
//! Push and pop are one CAS each; anyone may steal. The tag changes with every change, which defeats ABA: a thread
//! would have to sleep between load and CAS through an exact multiple of 2³¹ operations on this one word.
//!
//! A word that is not *open* is *shut*: a push that finds it so keeps its block and takes the slow path instead.
//! Because the push and the shutting are changes of one word, either the push came first, and whoever shut the
//! magazine carries the block away, or the push sees it shut. There is no window in between, and so no fence: this
//! is what lets a reservation park without missing the drop that would have served it. Words are born shut.
//!
//! There are two words. Pushes and pops go to `hot`. When it holds `cap` blocks the whole chain moves to `spare`, and what
//! was in `spare` leaves for the depot: chains move for the price of one block, and nothing is ever walked.
//!
//! The verbs are push, pop, steal and shut (and open, its inverse).

use super::header::{Block, Header, NIL};
use super::{Chain, Headers};
use crate::sync::{AtomicU64, Ordering};

const LINK: u64 = u32::MAX as u64;
const OPEN: u64 = 1 << 32;
const TAG: u64 = 1 << 33;

/// A stack's word: see the module's picture. The depot uses the same.
#[derive(Debug)]
pub(super) struct Word(AtomicU64);

/// A word's value at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen(u64);

impl Seen {
    #[inline]
    pub(super) fn top(self) -> u32 {
        (self.0 & LINK) as u32
    }

    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    #[inline]
    fn with(self, top: u32, open: bool) -> u64 {
        let tag = (self.0 & !(LINK | OPEN)).wrapping_add(TAG);
        tag | u64::from(top) | if open { OPEN } else { 0 }
    }
}

impl Word {
    /// Empty and shut.
    pub(super) fn new() -> Self {
        Word(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn load(&self) -> Seen {
        Seen(self.0.load(Ordering::Acquire))
    }

    /// Changes the top, keeping the open bit; on failure says what is there now.
    #[inline]
    pub(super) fn replace(&self, seen: Seen, top: u32) -> Result<(), Seen> {
        self.change(seen, top, seen.is_open())
    }

    #[inline]
    fn change(&self, seen: Seen, top: u32, open: bool) -> Result<(), Seen> {
        // Release publishes what hangs below a new top; Acquire (also on failure) because the next try reads it.
        match self.0.compare_exchange_weak(
            seen.0,
            seen.with(top, open),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => Ok(()),
            Err(now) => Err(Seen(now)),
        }
    }

    /// Empties the word; `open`, where given, also opens or shuts it.
    pub(super) fn take(&self, open: Option<bool>) -> u32 {
        let mut seen = self.load();
        loop {
            let open = open.unwrap_or(seen.is_open());
            if seen.top() == NIL && open == seen.is_open() {
                return NIL;
            }
            match self.change(seen, NIL, open) {
                Ok(()) => return seen.top(),
                Err(now) => seen = now,
            }
        }
    }

    /// Opens or shuts the word, whatever it holds.
    pub(super) fn set_open(&self, open: bool) {
        let mut seen = self.load();
        while seen.is_open() != open {
            match self.change(seen, seen.top(), open) {
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// What the word looks like now; equal answers mean that nothing happened in between.
    pub(super) fn mark(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct Magazine {
    hot: Word,
    spare: Word,
}

/// What became of a push.
#[derive(Debug)]
#[must_use]
pub(super) enum Pushed {
    Kept,
    /// The magazine was full: this chain has to go to the depot.
    Spilled(Chain),
    /// The magazine is shut: the blocks take the slow path.
    Shut(Chain),
}

impl Magazine {
    pub(super) fn new() -> Self {
        Magazine {
            hot: Word::new(),
            spare: Word::new(),
        }
    }

    /// Queues a block. Once this returns `Kept`, the pool may be gone: nothing may be touched after it.
    #[inline]
    pub(super) fn push(&self, headers: Headers<'_>, block: Block, cap: u32) -> Pushed {
        let header: &Header = block.header();
        let mut seen = self.hot.load();
        loop {
            if !seen.is_open() {
                return Pushed::Shut(Chain::of(block));
            }
            let below = headers.depth(seen.top());
            if below >= cap {
                break;
            }
            header.next.store(seen.top(), Ordering::Relaxed);
            header.depth.store(below + 1, Ordering::Relaxed);
            match self.hot.replace(seen, header.link()) {
                Ok(()) => return Pushed::Kept,
                Err(now) => seen = now,
            }
        }
        self.push_full(headers, Chain::of(block))
    }

    /// The full chain moves aside and `chain` starts the next one. Our hands are never empty until the last step.
    #[cold]
    fn push_full(&self, headers: Headers<'_>, chain: Chain) -> Pushed {
        let mut chain = chain;
        for word in [&self.hot, &self.spare] {
            let mut seen = word.load();
            loop {
                if !seen.is_open() {
                    return Pushed::Shut(chain);
                }
                match word.replace(seen, chain.top()) {
                    Ok(()) if seen.top() == NIL => return Pushed::Kept,
                    Ok(()) => break,
                    Err(now) => seen = now,
                }
            }
            chain = headers.chain(seen.top());
        }
        Pushed::Spilled(chain)
    }

    /// Takes the hottest block.
    #[inline]
    pub(super) fn pop(&self, headers: Headers<'_>) -> Option<Block> {
        let mut seen = self.hot.load();
        loop {
            let top = seen.top();
            if top == NIL {
                return None;
            }
            match self.hot.replace(seen, headers.next(top)) {
                Ok(()) => return Some(headers.block(top)),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the chain that stands aside.
    pub(super) fn pop_spare(&self, headers: Headers<'_>) -> Option<Chain> {
        headers.some_chain(self.spare.take(None))
    }

    /// Takes everything. Anyone may.
    pub(super) fn steal(&self, headers: Headers<'_>) -> [Option<Chain>; 2] {
        [&self.hot, &self.spare].map(|word| headers.some_chain(word.take(None)))
    }

    /// Takes everything and shuts the magazine. Under the waiters' lock.
    pub(super) fn shut(&self, headers: Headers<'_>) -> [Option<Chain>; 2] {
        [&self.hot, &self.spare].map(|word| headers.some_chain(word.take(Some(false))))
    }

    /// Opens the magazine. Under the waiters' lock, and only while no one waits.
    pub(super) fn open(&self) {
        self.hot.set_open(true);
        self.spare.set_open(true);
    }

    /// Puts a chain into an empty word, or gives it back.
    pub(super) fn fill(&self, chain: Chain) -> Result<(), Chain> {
        for word in [&self.hot, &self.spare] {
            let mut seen = word.load();
            while seen.is_open() && seen.top() == NIL {
                match word.replace(seen, chain.top()) {
                    Ok(()) => return Ok(()),
                    Err(now) => seen = now,
                }
            }
        }
        Err(chain)
    }

    /// How many blocks are queued here, roughly while others push and pop.
    pub(super) fn len(&self, headers: Headers<'_>) -> u32 {
        headers.depth(self.hot.load().top()) + headers.depth(self.spare.load().top())
    }

    /// Changes whenever anything happens to the magazine.
    pub(super) fn mark(&self) -> u64 {
        self.hot.mark() ^ self.spare.mark().rotate_left(32)
    }
}
