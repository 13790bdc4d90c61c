//! A handle that does not count: it becomes one that does as long as there is another, and as long as the block has not been
//! reclaimed since.
//!
//! The block keeps no count of weak handles. A generation that is not the weak handle's own says that the block was reclaimed (or
//! became writable again); together with the era it never comes back. Since the era lies beside the state, it is looked at last,
//! when the new handle keeps it from changing.
//!
//! Whether there is another handle is a question to a sum of two words, of which the CAS changes one. That is enough: the sum was
//! not zero when it was looked at, the CAS finds `state` as it was, and `own` only ever becomes more while a generation lasts. So the
//! sum is not zero then. And where all handles have gone, all that they added to `own` is seen with the state, so that zero is seen.
//!
//! What a weak handle does keep is the pool's headers, so that there is something to look at.

use std::ptr::NonNull;

use super::header::{Era, Handle, Header, GENERATION, HEAVY, SMALL, TOO_HEAVY, WEAK};
use super::keep::Keep;
use super::release;
use crate::sync::Ordering;

#[derive(Debug)]
pub(crate) struct Weak {
    header: NonNull<Header>,
    weight: u32,
    generation: u32,
    era: Era,
}

// SAFETY: the header is shared, its state is atomic, and one of the pool's `refs` keeps it.
unsafe impl Send for Weak {}
// SAFETY: as above.
unsafe impl Sync for Weak {}

impl Weak {
    /// # Safety
    ///
    /// The caller has a handle to the block, of this weight, and has seen `state` since.
    pub(super) unsafe fn new(header: NonNull<Header>, weight: u32, state: u64) -> Weak {
        // SAFETY: the caller's handle keeps the pool.
        let shared = unsafe { header.as_ref() };
        // SAFETY: as above, and then what is counted does.
        unsafe { Keep::count(shared.class().owner_ptr()) };
        Weak {
            header,
            weight,
            generation: state as u32 & GENERATION,
            era: shared.era(),
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: one of the pool's `refs` is ours, and keeps the headers.
        unsafe { self.header.as_ref() }
    }

    /// One more handle, if there is one still and the block was not reclaimed since. One CAS, repeated only when others make or drop
    /// handles at that very moment.
    pub(crate) fn upgrade(&self) -> Option<Handle> {
        let header = self.header();
        let mut state = header.state.load(Ordering::Acquire);
        let weight = loop {
            if state as u32 & GENERATION != self.generation || state & WEAK == 0 {
                return None;
            }
            let weight = match header.weight(state) {
                0 => return None,
                // As for clones.
                TOO_HEAVY.. => std::process::abort(),
                HEAVY.. => SMALL,
                _ => self.weight,
            };
            let more = state.wrapping_add(u64::from(weight) << 32);
            match header.state.compare_exchange_weak(
                state,
                more,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => break weight,
                Err(now) => state = now,
            }
        };
        let handle = Handle::new(self.header, weight);
        // Now that there is a handle, the block can not be reclaimed, and its era stays. It is seen because the mark was set after it.
        (header.era() == self.era).then_some(handle)
    }
}

impl Clone for Weak {
    fn clone(&self) -> Self {
        // SAFETY: our own keeps the pool.
        unsafe { Keep::count(self.header().class().owner_ptr()) };
        Weak { ..*self }
    }
}

impl Drop for Weak {
    fn drop(&mut self) {
        let owner = self.header().class().owner_ptr();
        // SAFETY: counted when this was made, and not used again.
        unsafe { release(owner) };
    }
}
