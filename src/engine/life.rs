//! Under loom only: sees a pool that is freed twice, used after it was freed, or never freed.
//!
//! The memory itself is leaked there, so that a late access finds the mark instead of someone else's memory.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    // Loom runs all threads of a model on one.
    static ALIVE: Cell<isize> = const { Cell::new(0) };
}

#[derive(Debug)]
pub(super) struct Life(AtomicBool);

impl Life {
    pub(super) fn new() -> Self {
        ALIVE.with(|alive| alive.set(alive.get() + 1));
        Life(AtomicBool::new(true))
    }

    pub(super) fn check(&self) {
        assert!(self.0.load(Ordering::Relaxed), "used after it was freed");
    }

    pub(super) fn end(&self) {
        assert!(self.0.swap(false, Ordering::Relaxed), "freed twice");
        ALIVE.with(|alive| alive.set(alive.get() - 1));
    }
}

/// Pools that are not freed yet; forgets them.
pub(crate) fn take_alive() -> isize {
    ALIVE.with(|alive| alive.replace(0))
}
