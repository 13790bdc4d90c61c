//! The magazine: a shard's stack of queued blocks of one class (Bonwick's term).
//!
//! It has three parts. Two are *words* that anyone may use, the third is the owner's stack.
//!
//! ```text
//!   63            33   32   31                   0
//!  ┌────────────────┬──────┬──────────────────────┐
//!  │      tag       │ open │  link of the top     │     the rest hangs below the top by `Header::next`
//!  └────────────────┴──────┴──────────────────────┘
//! ```
//!
//! Push and pop of a word are one CAS each; anyone may steal. The tag changes with every change, which defeats ABA: a thread
//! would have to sleep between load and CAS through an exact multiple of 2³¹ operations on this one word.
//!
//! A word that is not *open* is *shut*: a push that finds it so keeps its block and takes the slow path instead.
//! Because the push and the shutting are changes of one word, either the push came first, and whoever shut the
//! magazine carries the block away, or the push sees it shut. There is no window in between, and so no fence: this
//! is what lets a reservation park without missing the drop that would have served it. Words are born shut.
//!
//! Pushes and pops go to `hot`. When it holds `cap` blocks the whole chain moves to `spare`, and what was in `spare` leaves for
//! the depot: chains move for the price of one block, and nothing is ever walked.
//!
//! A thread that has a shard to itself also has a stack of its own there: see [`own`](super::own).
//!
//! The verbs are push, pop, steal and shut (and open, its inverse).

use super::header::{Below, Block, Header, NIL};
use super::own::{Own, OwnPushed};
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

/// In this order: then the owner's stack never lies as far into its page as a class's first block, where users write. A load that follows a
/// store at the same offset of another page waits for it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Magazine {
    hot: Word,
    spare: Word,
    /// By whoever has the shard to itself.
    pub(super) own: Own,
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
    /// The owner may ask for its own stack, and then push again.
    Due(Block),
}

impl Magazine {
    pub(super) fn new() -> Self {
        Magazine {
            own: Own::new(),
            hot: Word::new(),
            spare: Word::new(),
        }
    }

    /// Queues a block of the owner's. Once this returns `Kept`, the pool may be gone: nothing may be touched after it.
    pub(super) fn push_owned(&self, headers: Headers<'_>, block: Block, cap: u32) -> Pushed {
        match self.own.push(headers, block, cap) {
            OwnPushed::Kept => Pushed::Kept,
            // The chain is in our hands, and keeps the pool.
            OwnPushed::Full(chain) => self.set_aside(headers, chain),
            OwnPushed::Shut(block) if self.own.is_due() => Pushed::Due(block),
            OwnPushed::Shut(block) => self.push(headers, block, cap),
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
            let stack = header.put_on(Below::new(seen.top(), below));
            match self.hot.replace(seen, stack.top()) {
                Ok(()) => return Pushed::Kept,
                Err(now) => seen = now,
            }
        }
        self.push_full(headers, Chain::of(block))
    }

    /// The full chain moves aside and `chain` starts the next one. Our hands are never empty until the last step.
    #[cold]
    fn push_full(&self, headers: Headers<'_>, chain: Chain) -> Pushed {
        match Self::exchange(&self.hot, chain) {
            Ok(NIL) => Pushed::Kept,
            Ok(full) => self.set_aside(headers, headers.chain(full)),
            Err(chain) => Pushed::Shut(chain),
        }
    }

    #[cold]
    fn set_aside(&self, headers: Headers<'_>, chain: Chain) -> Pushed {
        match Self::exchange(&self.spare, chain) {
            Ok(NIL) => Pushed::Kept,
            Ok(other) => Pushed::Spilled(headers.chain(other)),
            Err(chain) => Pushed::Shut(chain),
        }
    }

    /// Puts a chain into an open word; answers what was there.
    fn exchange(word: &Word, chain: Chain) -> Result<u32, Chain> {
        let mut seen = word.load();
        while seen.is_open() {
            match word.replace(seen, chain.top()) {
                Ok(()) => return Ok(seen.top()),
                Err(now) => seen = now,
            }
        }
        Err(chain)
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

    /// Takes what is in the words. Anyone may.
    pub(super) fn steal(&self, headers: Headers<'_>) -> [Option<Chain>; 2] {
        [&self.hot, &self.spare].map(|word| headers.some_chain(word.take(None)))
    }

    /// The first half of taking what the owner has: sends it away. Answers whether a heavy fence and `take_own` have to follow,
    /// under the same hold of the waiters' lock.
    #[must_use]
    pub(super) fn disown(&self) -> bool {
        self.own.disown()
    }

    /// The second half of `disown`.
    pub(super) fn take_own(&self, headers: Headers<'_>) -> Option<Chain> {
        self.own.take(headers)
    }

    /// Takes what is in the words and shuts them; `disown` comes before. Under the waiters' lock.
    pub(super) fn shut(&self, headers: Headers<'_>) -> [Option<Chain>; 2] {
        [&self.hot, &self.spare].map(|word| headers.some_chain(word.take(Some(false))))
    }

    /// Opens the words. Under the waiters' lock, and only while no one waits.
    pub(super) fn open(&self) {
        self.hot.set_open(true);
        self.spare.set_open(true);
    }

    /// Whether the words take pushes.
    pub(super) fn is_open(&self) -> bool {
        self.hot.load().is_open()
    }

    /// Answers the owner, who was told that its stack is due: whether it gets it. Under the waiters' lock.
    pub(super) fn give_own(&self, yes: bool) {
        if yes {
            self.own.open();
        } else {
            self.own.postpone();
        }
    }

    /// Puts a chain into the owner's empty stack, or gives it back.
    pub(super) fn fill_own(&self, headers: Headers<'_>, chain: Chain) -> Result<(), Chain> {
        let chain = match self.own.fill(headers, chain) {
            Ok(()) => return Ok(()),
            Err(chain) => chain,
        };
        self.fill(chain)
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

    /// How many blocks only the owner can get at.
    pub(super) fn owned(&self) -> u32 {
        self.own.len()
    }

    /// How many blocks are queued here, roughly while others push and pop.
    pub(super) fn len(&self, headers: Headers<'_>) -> u64 {
        let words = [&self.hot, &self.spare].map(|word| headers.depth(word.load().top()));
        words.map(u64::from).iter().sum::<u64>() + u64::from(self.owned())
    }

    /// Changes whenever anything happens to the magazine.
    pub(super) fn mark(&self) -> u64 {
        self.hot.mark() ^ self.spare.mark().rotate_left(32) ^ self.own.mark().rotate_left(16)
    }
}
