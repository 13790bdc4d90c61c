//! The owner's stack: the part of a magazine that one thread changes without atomic operations.
//!
//! A thread that has a shard to itself (see [`seat`](crate::sync::seat)) soon gets its own stack there, which it changes by plain
//! loads and stores: it says that it is *busy*, looks whether the stack is still *open*, changes it, and says that it
//! is done. That is a lock whose owner pays no atomic operation for it. Whoever else wants it pays more: under the waiters' lock it
//! *disowns* the stack, passes a [heavy fence](crate::sys::barrier), waits until the owner is not busy, and takes what is
//! there. Either the owner saw that it is disowned, or its busy mark is seen. A stack that is not open is empty. It is
//! opened again when its owner has pushed so often that the next disowning will have been paid for.

use super::header::{Below, Block, NIL};
use super::{Chain, Headers};
use crate::sync::{spin_while, AtomicU32, AtomicU64, Ordering};
use crate::sys::barrier;

/// See the module's text.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Own {
    /// The owner is at the stack. Only the owner writes it.
    busy: AtomicU32,
    /// `SHUT`, `OPEN` or `DISOWNED`. Written under the waiters' lock.
    state: AtomicU32,
    /// The blocks: see [`Below`]. The owner's while it is busy, and of whoever disowned the stack.
    stack: AtomicU64,
    /// How often the owner has pushed to the words since the stack was last shut.
    pushes: AtomicU32,
    /// How many such pushes have to come before the stack is opened. Written under the waiters' lock.
    patience: AtomicU32,
}

/// The owner keeps away from its stack, which is empty.
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
            busy: AtomicU32::new(0),
            state: AtomicU32::new(SHUT),
            stack: AtomicU64::new(Below::EMPTY.0),
            pushes: AtomicU32::new(0),
            patience: AtomicU32::new(PATIENCE.0),
        }
    }

    // ---- by the owner -------------------------------------------------------------------------------------------

    /// Whether the owner may go to its stack; if so it is busy until `leave`.
    #[inline]
    fn enter(&self) -> bool {
        self.busy.store(1, Ordering::Relaxed);
        // The other half of `disown` and `take`: they write the state, fence, and look at `busy`.
        barrier::light();
        // Acquire, for what whoever had disowned the stack did to it.
        if self.state.load(Ordering::Acquire) == OPEN {
            return true;
        }
        self.leave();
        false
    }

    #[inline]
    fn leave(&self) {
        // Release, for whoever waits to take what is there. Once this is seen, the pool may be gone.
        self.busy.store(0, Ordering::Release);
    }

    #[inline]
    fn stack(&self) -> Below {
        Below(self.stack.load(Ordering::Relaxed))
    }

    #[inline]
    fn set(&self, stack: Below) {
        self.stack.store(stack.0, Ordering::Relaxed);
    }

    /// Queues a block where that is easily done; whether it was. If so the pool may be gone: nothing may be touched after it.
    #[inline]
    pub(super) fn try_push(&self, block: &Block, cap: u32) -> bool {
        if !self.enter() {
            return false;
        }
        let below = self.stack();
        let fits = below.depth() < cap;
        if fits {
            self.set(block.header().put_on(below));
        }
        self.leave();
        fits
    }

    /// Queues a block; where the stack is full, it starts a new one. Once this returns `Kept`, the pool may be gone.
    pub(super) fn push(&self, headers: Headers<'_>, block: Block, cap: u32) -> OwnPushed {
        if self.try_push(&block, cap) {
            return OwnPushed::Kept;
        }
        if !self.enter() {
            return OwnPushed::Shut(block);
        }
        let full = headers.chain(self.stack().top());
        self.set(block.header().put_on(Below::EMPTY));
        self.leave();
        OwnPushed::Full(full)
    }

    /// Takes the hottest block.
    #[inline]
    pub(super) fn pop(&self, headers: Headers<'_>) -> Option<Block> {
        if !self.enter() {
            return None;
        }
        let top = self.stack().top();
        if top == NIL {
            self.leave();
            return None;
        }
        self.set(headers.header(top).below());
        self.leave();
        Some(headers.block(top))
    }

    /// Puts a chain into the empty stack, or gives it back.
    pub(super) fn fill(&self, headers: Headers<'_>, chain: Chain) -> Result<(), Chain> {
        if !self.enter() {
            return Err(chain);
        }
        let empty = self.stack() == Below::EMPTY;
        if empty {
            self.set(Below::new(chain.top(), chain.len(headers)));
        }
        self.leave();
        if empty {
            Ok(())
        } else {
            Err(chain)
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

    /// The stack is the owner's from now on.
    pub(super) fn open(&self) {
        self.state.store(OPEN, Ordering::Release);
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
    pub(super) fn take(&self) -> u32 {
        if self.state.load(Ordering::Relaxed) != DISOWNED {
            return NIL;
        }
        spin_while(|| self.busy.load(Ordering::Acquire) != 0);
        let top = self.stack().top();
        self.set(Below::EMPTY);
        self.postpone();
        self.state.store(SHUT, Ordering::Relaxed);
        top
    }

    // ---- by anyone ----------------------------------------------------------------------------------------------

    /// How many blocks there are; exact when the owner is not at the stack.
    pub(super) fn len(&self) -> u32 {
        self.stack().depth()
    }

    /// What the stack looks like. Equal answers mean that it holds the same blocks, though the owner may have had them
    /// meanwhile.
    pub(super) fn mark(&self) -> u64 {
        self.stack().0
    }
}
