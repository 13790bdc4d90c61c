//! Where memory comes from, behind one small interface.
//!
//! A [`Space`] is a pool's address space. Out of it each size class gets [`Spans`], the memory of its blocks, and a
//! [`Table`] of block headers; both grow in place and nothing in them ever moves. A span is *committed* (usable, and
//! zero when it was not committed before) or *decommitted* (no memory behind it).
//!
//! On 64-bit Linux all of it is one `mmap` without access rights, opened step by step, so that stray pointers fault
//! and address space costs nothing. Elsewhere, and under loom, the same interface is served from the heap: spans
//! are allocated and freed one by one. `--cfg offheap_heap` picks the heap by hand, for sanitizers.

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    target_pointer_width = "64",
    not(offheap_loom),
    not(offheap_heap)
))]
#[path = "mmap.rs"]
mod source;

#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    target_pointer_width = "64",
    not(offheap_loom),
    not(offheap_heap)
)))]
#[path = "heap.rs"]
mod source;

pub(crate) mod barrier;
mod injector;
pub(crate) mod poison;

use injector::Call;
pub(crate) use injector::Injector;
pub(crate) use source::{huge_page_size, page_size, populate, Space, Spans, Table};

/// Lays out the pieces of a [`Space`] before it is reserved.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    len: usize,
    align: usize,
}

impl Layout {
    /// Takes `len` bytes, in whole pages, and says at which offset; `None` where the address space ends.
    pub(crate) fn take(&mut self, len: usize) -> Option<usize> {
        self.take_aligned(len, page_size())
    }

    /// The same at a multiple of `align`, a power of two that is at least a page.
    pub(crate) fn take_aligned(&mut self, len: usize, align: usize) -> Option<usize> {
        if !source::RESERVES {
            return Some(0);
        }
        self.align = self.align.max(align);
        let offset = self.len.checked_next_multiple_of(align)?;
        self.len = len
            .checked_next_multiple_of(page_size())
            .and_then(|len| offset.checked_add(len))
            .filter(|&end| isize::try_from(end).is_ok())?;
        Some(offset)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What the space has to be aligned to.
    pub(crate) fn align(&self) -> usize {
        self.align.max(page_size())
    }
}
