//! Memory ahead of its use: spans are committed and faulted in before anyone reserves them.

use std::ptr::NonNull;

use super::{Engine, Refused};
use crate::arena::Class;
use crate::budget::Charge;
use crate::sys;

impl Engine {
    /// Commits and faults in so many spans that `count` blocks of the class for `n` > 0 bytes are queued. Neither waits nor
    /// passes anyone who does. On failure, what was had by then stays queued.
    pub(crate) fn prefault(&self, n: usize, count: usize) -> Result<(), Refused> {
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        let class = self.class_for(n, 0).ok_or(Refused::TooLarge)?;
        let spans_of = |blocks: u64| blocks.div_ceil(u64::from(class.per_span()));
        let pages_of = |spans: u64| spans.saturating_mul(u64::from(class.pages()));
        let count = count as u64;
        if pages_of(spans_of(count)) > u64::from(self.account.limit()) {
            return Err(Refused::TooLarge);
        }
        let queued = class.queued();
        let spans = spans_of(count.saturating_sub(queued / class.size() as u64));
        // So as not to clean for the last what was faulted in for the first.
        let others = self.arena.queued().saturating_sub(queued) / sys::page_size() as u64;
        if pages_of(spans) > u64::from(self.account.free()) + others {
            return Err(Refused::Full);
        }
        (0..spans).try_for_each(|_| self.prefault_span(class))
    }

    fn prefault_span(&self, class: &Class) -> Result<(), Refused> {
        match self.account.charge(class.pages()) {
            Ok(()) => {}
            Err(Charge::Full) if self.make_room(class.pages()) => {}
            Err(Charge::Full | Charge::Pressed) => return Err(Refused::Full),
        }
        self.touch_clock();
        let (first, rest) = self.arena.grow(class).map_err(|error| {
            self.give_back(class.pages());
            Refused::Os(error)
        })?;
        let page = sys::page_size();
        let start = first.memory().0;
        // SAFETY: the page that a block begins in belongs to its span.
        let start = unsafe { start.sub(start.addr().get() % page) };
        // SAFETY: the span was committed just now, and all its blocks are in our hands until they are queued.
        let done = unsafe { fault_in(start, class.pages() as usize * page) };
        class.queue_span(first, rest);
        done.map_err(Refused::Os)
    }
}

/// # Safety
///
/// `start..start + len` are whole pages, readable and writable, and the caller's alone.
unsafe fn fault_in(start: NonNull<u8>, len: usize) -> std::io::Result<()> {
    // SAFETY: passed on from the caller.
    if unsafe { sys::populate(start, len) }? {
        return Ok(());
    }
    for offset in (0..len).step_by(sys::page_size()) {
        // SAFETY: inside the caller's own range. Volatile, so that the write of what is there already happens.
        unsafe {
            let byte = start.add(offset);
            byte.write_volatile(byte.read_volatile());
        }
    }
    Ok(())
}
