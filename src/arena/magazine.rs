//! The magazine: a shard's stack of queued blocks of one class (Bonwick's term).
//!
//! It has three parts. Two are *words* that anyone may use, the third is the *own* stack of the shard's owner.
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
//! A thread that has a shard to itself (see [`seat`](crate::sync::seat)) soon gets its own stack there, which it changes by plain
//! loads and stores: it says that it is *busy*, looks whether the stack is still *open*, changes it, and says that it
//! is done. That is a lock whose owner pays no atomic operation for it. Whoever else wants it pays more: under the waiters' lock it
//! *disowns* the stack, passes a [heavy fence](crate::sys::barrier), waits until the owner is not busy, and takes what is
//! there. Either the owner saw that it is disowned, or its busy mark is seen. A stack that is not open is empty. It is
//! opened again when its owner has pushed so often that the next disowning will have been paid for.
//!
//! The verbs are push, pop, steal and shut (and open, its inverse).

use super::header::{Block, Header, NIL};
use super::{Chain, Headers};
use crate::sync::{spin_while, AtomicU32, AtomicU64, Ordering};
use crate::sys::barrier;

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

/// The owner's stack.
#[derive(Debug)]
#[repr(align(64))]
struct Own {
    /// The owner is at the stack. Only the owner writes it.
    busy: AtomicU32,
    /// `SHUT`, `OPEN` or `DISOWNED`. Written under the waiters' lock.
    state: AtomicU32,
    /// Link of the top block. The owner's while it is busy, and of whoever disowned the stack.
    top: AtomicU32,
    /// How many blocks there are; as `top`.
    len: AtomicU32,
    /// How often the owner has pushed, to the stack or to the words. Only the owner writes it.
    pushes: AtomicU32,
    /// How many pushes have to come after `since` before the stack is opened. Written under the waiters' lock.
    patience: AtomicU32,
    since: AtomicU32,
}

/// The owner keeps away from its stack, which is empty.
const SHUT: u32 = 0;
const OPEN_TO_OWNER: u32 = 1;
/// Someone is about to take what is there.
const DISOWNED: u32 = 2;

/// To disown a stack costs as much as some hundred pushes, so it is opened after so many, and twice as many each time.
const PATIENCE: (u32, u32) = if cfg!(offheap_loom) {
    (1, 1)
} else {
    (64, 1 << 16)
};

impl Own {
    fn new() -> Self {
        Own {
            busy: AtomicU32::new(0),
            state: AtomicU32::new(SHUT),
            top: AtomicU32::new(NIL),
            len: AtomicU32::new(0),
            pushes: AtomicU32::new(0),
            patience: AtomicU32::new(PATIENCE.0),
            since: AtomicU32::new(0),
        }
    }

    /// Runs `f` if the stack is the owner's. Only the owner may call this.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(u32, u32) -> R) -> Option<R> {
        self.busy.store(1, Ordering::Relaxed);
        // The other half of `take`: it disowns, fences and looks at `busy`.
        barrier::light();
        let open = self.state.load(Ordering::Acquire) == OPEN_TO_OWNER;
        let result = open.then(|| {
            f(
                self.top.load(Ordering::Relaxed),
                self.len.load(Ordering::Relaxed),
            )
        });
        // Release, for whoever waits to take what is there. Once this is seen, the pool may be gone.
        self.busy.store(0, Ordering::Release);
        result
    }

    #[inline]
    fn set(&self, top: u32, len: u32) {
        self.top.store(top, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
    }

    #[inline]
    fn count_push(&self) -> u32 {
        let pushes = self.pushes.load(Ordering::Relaxed).wrapping_add(1);
        self.pushes.store(pushes, Ordering::Relaxed);
        pushes
    }

    /// Counts a push to the words; whether it is time to open the stack.
    fn is_due(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        self.count_push().wrapping_sub(since) >= self.patience.load(Ordering::Relaxed)
    }

    /// Under the waiters' lock.
    fn open(&self) {
        self.state.store(OPEN_TO_OWNER, Ordering::Release);
    }

    /// Not before so many pushes again. Under the waiters' lock.
    fn postpone(&self) {
        let patience = self.patience.load(Ordering::Relaxed);
        self.patience
            .store((2 * patience).min(PATIENCE.1), Ordering::Relaxed);
        self.since
            .store(self.pushes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Sends the owner away; whether it had the stack. A heavy fence and `take` must follow. Under the waiters' lock.
    fn disown(&self) -> bool {
        if self.state.load(Ordering::Relaxed) == SHUT {
            return false;
        }
        self.state.store(DISOWNED, Ordering::Relaxed);
        true
    }

    /// Takes what is there if the stack was disowned. After the heavy fence, under the same lock.
    fn take(&self) -> u32 {
        if self.state.load(Ordering::Relaxed) != DISOWNED {
            return NIL;
        }
        spin_while(|| self.busy.load(Ordering::Acquire) != 0);
        let top = self.top.load(Ordering::Relaxed);
        self.set(NIL, 0);
        self.postpone();
        self.state.store(SHUT, Ordering::Relaxed);
        top
    }
}

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Magazine {
    own: Own,
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
    #[inline]
    pub(super) fn push_own(&self, headers: Headers<'_>, block: Block, cap: u32) -> Pushed {
        let header: &Header = block.header();
        let full = self.own.with(|top, len| {
            self.own.count_push();
            let below = if len < cap { (top, len) } else { (NIL, 0) };
            header.next.store(below.0, Ordering::Relaxed);
            header.depth.store(below.1 + 1, Ordering::Relaxed);
            self.own.set(header.link(), below.1 + 1);
            if len < cap {
                NIL
            } else {
                top
            }
        });
        match full {
            Some(NIL) => Pushed::Kept,
            // This chain is in our hands, and keeps the pool.
            Some(full) => self.set_aside(headers, headers.chain(full)),
            None if self.own.is_due() => Pushed::Due(block),
            None => self.push(headers, block, cap),
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

    /// Takes the owner's hottest block.
    #[inline]
    pub(super) fn pop_own(&self, headers: Headers<'_>) -> Option<Block> {
        let top = self.own.with(|top, len| {
            if top != NIL {
                self.own.set(headers.next(top), len - 1);
            }
            top
        });
        match top {
            Some(top) if top != NIL => Some(headers.block(top)),
            _ => self.pop(headers),
        }
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
        headers.some_chain(self.own.take())
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

    /// Answers the owner, who was told that its stack is due: whether it gets it. Under the waiters' lock.
    pub(super) fn own(&self, yes: bool) {
        if yes {
            self.own.open();
        } else {
            self.own.postpone();
        }
    }

    /// Puts a chain into the owner's empty stack, or gives it back.
    pub(super) fn fill_own(&self, headers: Headers<'_>, chain: Chain) -> Result<(), Chain> {
        let filled = self.own.with(|top, _| {
            if top == NIL {
                self.own.set(chain.top(), chain.len(headers));
            }
            top == NIL
        });
        if filled == Some(true) {
            return Ok(());
        }
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
        self.own.len.load(Ordering::Relaxed)
    }

    /// How many blocks are queued here, roughly while others push and pop.
    pub(super) fn len(&self, headers: Headers<'_>) -> u32 {
        let words = [&self.hot, &self.spare].map(|word| headers.depth(word.load().top()));
        words[0] + words[1] + self.owned()
    }

    /// Changes whenever anything happens to the magazine.
    pub(super) fn mark(&self) -> u64 {
        let own = u64::from(self.own.pushes.load(Ordering::Relaxed)) << 32
            | u64::from(self.own.top.load(Ordering::Relaxed));
        self.hot.mark() ^ self.spare.mark().rotate_left(32) ^ own.rotate_left(16)
    }
}
