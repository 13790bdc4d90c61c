//! jemalloc by direct calls, without a Rust container around the memory: no limit, no waiting.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;

use tikv_jemalloc_sys::{mallocx, sdallocx};

use super::{Lease, Peer};

/// `mallocx` and `sdallocx`, its fastest pair.
#[derive(Debug, Clone)]
pub struct Jemalloc;

/// Memory from `mallocx`.
#[derive(Debug)]
pub struct JeLease {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the memory belongs to the lease, and jemalloc frees on any thread.
unsafe impl Send for JeLease {}

impl Peer for Jemalloc {
    const NAME: &'static str = "jemalloc";

    type Lease = JeLease;

    fn new(_limit: usize) -> Self {
        Jemalloc
    }

    #[inline]
    fn try_take(&self, n: usize) -> JeLease {
        // SAFETY: scenarios ask for more than 0 bytes, which is all that `mallocx` wants.
        let start = unsafe { mallocx(n, 0) };
        JeLease {
            start: NonNull::new(start.cast()).expect("memory"),
            size: n,
        }
    }
}

impl Lease for JeLease {
    #[inline]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: `mallocx` gave `size` bytes, and the lease is their only way in.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.size) }
    }
}

impl Drop for JeLease {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: from `mallocx` with this size and no flags, and freed once.
        unsafe { sdallocx(self.start.as_ptr().cast::<c_void>(), self.size, 0) };
    }
}
