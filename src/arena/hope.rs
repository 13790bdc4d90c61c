//! Whether it is worth while to look for complete spans, in a class whose blocks share theirs.
//!
//! A span can be given back when all of its blocks are queued, and finding such spans takes a look at every queued block of the class.
//! A look that left no complete span behind is not repeated until a block comes back that may be the last of its span. That is
//! known for sure only while the class is shut, because then whatever comes back comes through the waiters' lock, and a span in
//! which any block is live will hear of that block again.

use crate::sync::{AtomicU64, Ordering};

/// Changes under the waiters' lock only.
#[derive(Debug)]
pub(super) struct Hope {
    /// How often something has happened that may have made a span complete.
    changes: AtomicU64,
    /// How many of those had been seen by the last look that left no complete span.
    in_vain: AtomicU64,
}

impl Hope {
    pub(super) fn new() -> Self {
        Hope {
            changes: AtomicU64::new(1),
            in_vain: AtomicU64::new(0),
        }
    }

    /// A span may have become complete.
    pub(super) fn changed(&self) {
        let changes = self.changes.load(Ordering::Relaxed);
        self.changes.store(changes + 1, Ordering::Relaxed);
    }

    /// What a cleaner had in hand is queued again; `in_vain`: it was all that there is, and no span of it is complete. Others who
    /// have something in hand now will come here after this.
    pub(super) fn put_back(&self, in_vain: bool) {
        self.changed();
        if in_vain {
            let changes = self.changes.load(Ordering::Relaxed);
            self.in_vain.store(changes, Ordering::Relaxed);
        }
    }

    /// Whether a look may find a complete span, in a class that is shut.
    pub(super) fn is_alive(&self) -> bool {
        self.changes.load(Ordering::Relaxed) != self.in_vain.load(Ordering::Relaxed)
    }
}
