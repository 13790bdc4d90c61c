//! Tells a sanitizer which memory nobody may touch: blocks that are queued or clean.
//!
//! Sanitizers know heap allocations. Inside a mapping of ours they see neither an access to a block that was dropped nor one
//! past a block's end, unless they are told. Without a sanitizer's cfg (`offheap_asan`, `offheap_msan`, `offheap_valgrind`) both
//! functions are empty. Blocks in users' hands have no slack: the whole block is the buffer's capacity.

#[cfg(offheap_asan)]
mod imp {
    use std::ffi::c_void;

    extern "C" {
        fn __asan_poison_memory_region(start: *const c_void, len: usize);
        fn __asan_unpoison_memory_region(start: *const c_void, len: usize);
    }

    pub(crate) fn poison(start: *const u8, len: usize) {
        // SAFETY: changes the sanitizer's shadow of the range, not the range.
        unsafe { __asan_poison_memory_region(start.cast(), len) }
    }

    pub(crate) fn unpoison(start: *const u8, len: usize) {
        // SAFETY: as above.
        unsafe { __asan_unpoison_memory_region(start.cast(), len) }
    }
}

/// MemorySanitizer knows no forbidden memory, but it knows uninitialised memory: what a new lease finds in its block.
#[cfg(offheap_msan)]
mod imp {
    use std::ffi::c_void;

    extern "C" {
        fn __msan_poison(start: *const c_void, len: usize);
        fn __msan_unpoison(start: *const c_void, len: usize);
    }

    /// Whoever reads from it without having written sees it as uninitialised, before the next lease and in it.
    pub(crate) fn poison(start: *const u8, len: usize) {
        // SAFETY: changes the sanitizer's shadow of the range, not the range.
        unsafe { __msan_poison(start.cast(), len) }
    }

    pub(crate) fn unpoison(_start: *const u8, _len: usize) {}

    /// The mapping is about to go, and its addresses may come back as someone else's.
    pub(crate) fn forget(start: *const u8, len: usize) {
        // SAFETY: as above.
        unsafe { __msan_unpoison(start.cast(), len) }
    }
}

#[cfg(offheap_valgrind)]
mod imp {
    use crabgrind::memcheck::{mark_memory, MemState};

    fn mark(start: *const u8, len: usize, state: MemState) {
        let _ = mark_memory(start.cast_mut().cast(), len, state);
    }

    pub(crate) fn poison(start: *const u8, len: usize) {
        mark(start, len, MemState::NoAccess);
    }

    /// Accessible, but uninitialised.
    pub(crate) fn unpoison(start: *const u8, len: usize) {
        mark(start, len, MemState::Undefined);
    }
}

#[cfg(not(any(offheap_asan, offheap_msan, offheap_valgrind)))]
mod imp {
    #[inline(always)]
    pub(crate) fn poison(_start: *const u8, _len: usize) {}

    #[inline(always)]
    pub(crate) fn unpoison(_start: *const u8, _len: usize) {}
}

#[cfg(offheap_msan)]
pub(crate) use imp::forget;
#[cfg(not(offheap_msan))]
pub(crate) use imp::unpoison as forget;
pub(crate) use imp::{poison, unpoison};
