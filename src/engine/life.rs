//! Under loom only: sees a pool that is freed twice, used after it was freed, or never freed.
//!
//! The memory itself is leaked there, so that a late access finds the mark instead of someone else's memory.

use std::cell::Cell;

use crate::sync::{AtomicU32, Ordering};

thread_local! {
    // Loom runs all threads of a model on one.
    static ALIVE: Cell<isize> = const { Cell::new(0) };
}

/// An atomic of loom's, so that loom switches threads here too.
#[derive(Debug)]
pub(super) struct Life(AtomicU32);

impl Life {
    pub(super) fn new() -> Self {
        ALIVE.with(|alive| alive.set(alive.get() + 1));
        Life(AtomicU32::new(1))
    }

    pub(super) fn check(&self) {
        // A read-modify-write, because loom does not move a plain load behind the writes of others.
        assert_eq!(
            self.0.fetch_add(0, Ordering::SeqCst),
            1,
            "used after it was freed"
        );
    }

    pub(super) fn end(&self) {
        assert_eq!(self.0.swap(0, Ordering::SeqCst), 1, "freed twice");
        ALIVE.with(|alive| alive.set(alive.get() - 1));
    }
}

/// Pools that are not freed yet; forgets them.
pub(crate) fn take_alive() -> isize {
    ALIVE.with(|alive| alive.replace(0))
}
