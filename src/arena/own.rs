//! The owner's stack: the part of a magazine that one thread changes without atomic operations.
//!
//! A thread that has a shard to itself (see [`seat`](crate::sync::seat)) soon gets its own stack there, which is one word that it changes
//! by plain loads and stores: it marks the word as *busy*, looks whether the stack is still *open*, and stores the new word, which
//! is not busy. That is a lock whose owner pays no atomic operation for it. Whoever else wants the stack pays more: under the waiters'
//! lock it *disowns* it, passes a [heavy fence](crate::sys::barrier), waits until the word is not busy, and takes the blocks that it
//! says. Either the owner saw that it is disowned, or its mark is seen.
//!
//! The word of a stack that is not open means nothing: the owner may still store there what it read before. So it is emptied when the stack is
//! opened, and that only its owner does, when it has pushed so often that the next disowning will have been paid for.

use super::header::{Below, Block};
use super::{Chain, Headers};
use crate::sync::{spin_while, AtomicU32, AtomicU64, Ordering};
use crate::sys::barrier;

/// See the module's text.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Own {
    /// The blocks, see [`Below`], and whether the owner is at them. Only the owner writes it.
    stack: AtomicU64,
    /// `SHUT`, `OPEN` or `DISOWNED`. Written under the waiters' lock.
    state: AtomicU32,
    /// How often the owner has pushed to the words since the stack was last shut.
    pushes: AtomicU32,
    /// How many such pushes have to come before the stack is opened. Written under the waiters' lock.
    patience: AtomicU32,
}

/// The owner is at the stack: a bit of the word that no depth has.
const BUSY: u64 = 1 << 31;

/// The owner keeps away from its stack.
const SHUT: u32 = 0;
const OPEN: u32 = 1;
/// Someone is about to take what is there.
const DISOWNED: u32 = 2;

/// To disown a stack costs as much as some hundred pushes, so it is opened after so many, and twice as many each time.
const PATIENCE: (u32, u32) = if cfg!(offheap_loom) {
    (1, 1)
} else {
    (64, 1 << 16)
};

/// What became of a push to the owner's stack.
#[derive(Debug)]
#[must_use]
pub(super) enum OwnPushed {
    Kept,
    /// It was kept, but the stack was full: this chain has to go elsewhere.
    Full(Chain),
    /// The stack is not the owner's now.
    Shut(Block),
}

impl Own {
    /// Shut.
    pub(super) fn new() -> Self {
        Own {
            stack: AtomicU64::new(Below::EMPTY.0),
            state: AtomicU32::new(SHUT),
            pushes: AtomicU32::new(0),
            patience: AtomicU32::new(PATIENCE.0),
        }
    }

    // ---- by the owner -------------------------------------------------------------------------------------------

    /// The blocks, if the owner may go to them: it is busy until `leave`.
    #[inline]
    fn enter(&self) -> Option<Below> {
        let stack = self.stack.load(Ordering::Relaxed);
        self.stack.store(stack | BUSY, Ordering::Relaxed);
        // The other half of `disown` and `take`: they write the state, fence, and look whether the word is busy.
        barrier::light();
        if self.state.load(Ordering::Relaxed) == OPEN {
            return Some(Below(stack));
        }
        self.leave(Below(stack));
        None
    }

    /// Leaves these blocks.
    #[inline]
    fn leave(&self, stack: Below) {
        // Release, for whoever waits to take what is there. Once this is seen, the pool may be gone.
        self.stack.store(stack.0, Ordering::Release);
    }

    /// Queues a block where that is easily done; whether it was. If so the pool may be gone: nothing may be touched after it.
    #[inline]
    pub(super) fn try_push(&self, block: &Block, cap: u32) -> bool {
        let Some(below) = self.enter() else {
            return false;
        };
        let fits = below.depth() < cap;
        self.leave(if fits {
            block.header().put_on(below)
        } else {
            below
        });
        fits
    }

    /// Queues a block; where the stack is full, it starts a new one. Once this returns `Kept`, the pool may be gone.
    pub(super) fn push(&self, headers: Headers<'_>, block: Block, cap: u32) -> OwnPushed {
        if self.try_push(&block, cap) {
            return OwnPushed::Kept;
        }
        let Some(full) = self.enter() else {
            return OwnPushed::Shut(block);
        };
        self.leave(block.header().put_on(Below::EMPTY));
        OwnPushed::Full(headers.chain(full.top()))
    }

    /// Takes the hottest block.
    #[inline]
    pub(super) fn pop(&self, headers: Headers<'_>) -> Option<Block> {
        let stack = self.enter()?;
        if stack == Below::EMPTY {
            self.leave(stack);
            return None;
        }
        self.leave(headers.header(stack.top()).below());
        Some(headers.block(stack.top()))
    }

    /// Puts a chain into the empty stack, or gives it back.
    pub(super) fn fill(&self, headers: Headers<'_>, chain: Chain) -> Result<(), Chain> {
        match self.enter() {
            None => Err(chain),
            Some(Below::EMPTY) => {
                self.leave(Below::new(chain.top(), chain.len(headers)));
                Ok(())
            }
            Some(stack) => {
                self.leave(stack);
                Err(chain)
            }
        }
    }

    /// Counts a push to the words; whether it is time to open the stack.
    pub(super) fn is_due(&self) -> bool {
        let pushes = self.pushes.load(Ordering::Relaxed) + 1;
        let due = pushes >= self.patience.load(Ordering::Relaxed);
        self.pushes
            .store(if due { 0 } else { pushes }, Ordering::Relaxed);
        due
    }

    // ---- under the waiters' lock --------------------------------------------------------------------------------

    /// The stack, which is empty, is the owner's from now on. By the owner.
    pub(super) fn open(&self) {
        if self.state.load(Ordering::Relaxed) == SHUT {
            self.leave(Below::EMPTY);
            self.state.store(OPEN, Ordering::Relaxed);
        }
    }

    /// The owner shall not ask again so soon.
    pub(super) fn postpone(&self) {
        let patience = self.patience.load(Ordering::Relaxed);
        let next = (2 * patience).min(PATIENCE.1);
        self.patience.store(next, Ordering::Relaxed);
    }

    /// Sends the owner away; whether it had the stack. A heavy fence and `take` must follow.
    #[must_use]
    pub(super) fn disown(&self) -> bool {
        if self.state.load(Ordering::Relaxed) == SHUT {
            return false;
        }
        self.state.store(DISOWNED, Ordering::Relaxed);
        true
    }

    /// Takes what is there if the stack was disowned. After the heavy fence, under the same lock.
    pub(super) fn take(&self, headers: Headers<'_>) -> Option<Chain> {
        if self.state.load(Ordering::Relaxed) != DISOWNED {
            return None;
        }
        spin_while(|| self.stack.load(Ordering::Acquire) & BUSY != 0);
        let stack = self.stack.load(Ordering::Acquire);
        self.postpone();
        self.state.store(SHUT, Ordering::Relaxed);
        headers.some_chain(Below(stack).top())
    }

    // ---- by anyone ----------------------------------------------------------------------------------------------

    /// How many blocks there are; exact when the owner is not at the stack.
    pub(super) fn len(&self) -> u32 {
        match self.state.load(Ordering::Relaxed) {
            SHUT => 0,
            _ => Below(self.mark()).depth(),
        }
    }

    /// What the stack looks like. Equal answers mean that it holds the same blocks, though the owner may have had them
    /// meanwhile.
    pub(super) fn mark(&self) -> u64 {
        self.stack.load(Ordering::Relaxed) & !BUSY
    }
}
