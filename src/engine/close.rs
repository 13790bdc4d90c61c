//! Closing, and going away.
//!
//! Closing shuts every class for good. From then on blocks and pages only come back through the waiters' lock, so that
//! what buffers still hold can be counted exactly, and `closed().await` knows when the last of them is gone.
//!
//! When the last handle to a pool goes, the pool is closed as well, and is an *orphan*: its buffers are all that keeps it.
//! A drop must not touch a pool that another drop may free meanwhile, so drops at the lock count themselves in `refs`.
//! The handle's own reference passes to the buffers, and is given up by whoever brings the last of them home.

use std::ops::Deref;
use std::ptr::NonNull;
use std::task::Waker;

use super::{Engine, State};
use crate::arena::{release, Handle};
use crate::budget::{Node, Status};
use crate::sync::{lock, Ordering};

impl Engine {
    /// Fails every waiter and every later reservation. Answers whether the pool was open.
    pub(crate) fn close(&self) -> bool {
        let was_open = self.locked(|state| self.close_locked(state));
        self.trim();
        // What is only cached keeps no one waiting for the pool's end.
        while self.evict_one() {}
        was_open
    }

    fn close_locked(&self, state: &mut State) -> bool {
        if std::mem::replace(&mut state.closed, true) {
            return false;
        }
        self.closed.store(1, Ordering::Release);
        self.settle(state);
        // From here on pages and blocks only come back through the lock, so this count stays exact.
        let queued: u64 = self
            .arena
            .touched()
            .map(|class| {
                let bag = class.collect(u32::MAX);
                let bytes = bag.bytes();
                bag.put_back_locked();
                bytes
            })
            .sum();
        state.outstanding = self.bytes_of(self.account.committed()) - queued;
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) != 0
    }

    /// Whether a drop will ring the reclaimer.
    #[cfg(offheap_loom)]
    pub(crate) fn is_asleep(&self) -> bool {
        lock(&self.state).asleep
    }

    /// Bytes that buffers of a closed pool still hold.
    pub(crate) fn outstanding(&self) -> u64 {
        lock(&self.state).outstanding
    }

    /// Whether the closed pool has all its buffers back; if not, `node` joins those who wait for it.
    ///
    /// # Safety
    ///
    /// As for `Queue::push_back`; the node must leave by `forget_closer`.
    pub(crate) unsafe fn await_closed(&self, node: &Node<()>, waker: Waker) -> bool {
        self.locked(|state| {
            if state.closed && state.outstanding == 0 {
                return true;
            }
            // SAFETY: passed on from the caller.
            unsafe { state.closers.push_back(node, 0, waker) };
            // Whoever waits may want to be told for whom.
            state.ring = true;
            false
        })
    }

    /// Whether someone waits for a closed pool's last buffers.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_awaited(&self) -> bool {
        let state = lock(&self.state);
        state.closed && !state.closers.is_empty()
    }

    /// Replaces the waker of a node that waits for the pool to be closed.
    pub(crate) fn renew_closer(&self, node: &Node<()>, waker: Waker) {
        let old = self.locked(|state| {
            if node.status() == Status::Waiting {
                state.closers.set_waker(node, waker)
            } else {
                Some(waker)
            }
        });
        drop(old);
    }

    pub(crate) fn forget_closer(&self, node: &Node<()>) {
        let old = self.locked(|state| {
            (node.status() == Status::Waiting)
                .then(|| state.closers.remove(node))
                .flatten()
        });
        drop(old);
    }

    /// The last handle to the pool is gone; the buffers that are left keep the memory.
    fn orphan(&self) {
        let left = self.locked(|state| {
            self.close_locked(state);
            state.orphaned = true;
            // The reclaimer finds nobody there, and ends.
            state.ring = true;
            state.outstanding > 0
        });
        if left {
            self.trim();
        }
        self.orphan_unclean();
    }

    /// Whether buffers are all that is left of the pool.
    pub(super) fn is_orphan_with_buffers(&self) -> bool {
        self.is_closed() && {
            let state = lock(&self.state);
            state.orphaned && state.outstanding > 0
        }
    }

    /// Under loom, fails if the pool is already freed.
    pub(super) fn check_alive(&self) {
        #[cfg(offheap_loom)]
        self.life.check();
    }
}

/// One of the pool's `refs`: keeps the pool where it is, and does not keep it open.
#[derive(Debug)]
pub(crate) struct Counted(NonNull<Engine>);

// SAFETY: a counted reference to an `Engine`, which is `Send + Sync`.
unsafe impl Send for Counted {}

impl Counted {
    pub(super) fn new(engine: &Engine) -> Counted {
        engine.refs.fetch_add(1, Ordering::Relaxed);
        Counted(NonNull::from(engine))
    }

    /// The pool that a buffer is from.
    pub(super) fn of(handle: &Handle) -> Counted {
        Counted::new(Engine::of(handle))
    }
}

impl Deref for Counted {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        // SAFETY: what was counted keeps the engine.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // SAFETY: counted by `new`.
        unsafe { release(self.0) };
    }
}

/// The handle that all of a pool's handles share. When it goes, the pool is an orphan.
#[derive(Debug)]
pub(crate) struct Owned(pub(super) NonNull<Engine>);

// SAFETY: a counted reference to an `Engine`, which is `Send + Sync`.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Deref for Owned {
    type Target = Engine;

    #[inline]
    fn deref(&self) -> &Engine {
        // SAFETY: the engine stays until `orphan`, which only the drop of this handle calls.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // One more, for as long as this takes: the handle's own passes to the buffers.
        self.refs.fetch_add(1, Ordering::Relaxed);
        self.orphan();
        // SAFETY: leaked by `build`, and counted just above.
        unsafe { release(self.0) };
    }
}
