//! A counted reference to the pool as a whole: it keeps the headers and the address space, and no memory.

use std::ptr::NonNull;

use super::{release, Owner};
use crate::sync::Ordering;

/// One of an owner's `refs`.
#[derive(Debug)]
pub(crate) struct Keep(NonNull<dyn Owner>);

impl Keep {
    /// # Safety
    ///
    /// The caller has something that keeps the owner until now.
    pub(super) unsafe fn new(owner: NonNull<dyn Owner>) -> Keep {
        // SAFETY: passed on from the caller.
        unsafe { Keep::count(owner) };
        Keep(owner)
    }

    /// Counts one more, for whoever gives it back by [`release`].
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new).
    pub(super) unsafe fn count(owner: NonNull<dyn Owner>) {
        // SAFETY: the caller keeps the owner.
        unsafe { owner.as_ref() }
            .refs()
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn owner(&self) -> &dyn Owner {
        // SAFETY: what was counted keeps the owner.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        // SAFETY: counted when this was made.
        unsafe { release(self.0) };
    }
}
