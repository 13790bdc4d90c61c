//! Allocators by direct calls, without a Rust container around the memory: no limit, no waiting.
//!
//! The process's own allocator stays the system's, so that everyone else's `BytesMut` is what it is for most programs.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;

use super::{Kind, Lease, Peer};

/// An allocator's fastest pair of calls. Sizes are above 0.
pub trait Calls: Clone + Send + Sync + 'static {
    /// What the tables call it.
    const NAME: &'static str;

    /// The crate it comes from.
    const CRATE: &'static str;

    /// `n` bytes, or null.
    fn allocate(n: usize) -> *mut c_void;

    /// Gives them back.
    ///
    /// # Safety
    ///
    /// They came from `allocate(n)`, and have not been given back.
    unsafe fn free(start: *mut c_void, n: usize);
}

/// An allocator as a peer.
#[derive(Debug, Clone)]
pub struct Direct<C>(PhantomData<C>);

/// Memory of an allocator.
#[derive(Debug)]
pub struct Raw<C: Calls> {
    start: NonNull<u8>,
    size: usize,
    calls: PhantomData<C>,
}

// SAFETY: the memory belongs to the lease, and all these allocators free on any thread.
unsafe impl<C: Calls> Send for Raw<C> {}

impl<C: Calls> Peer for Direct<C> {
    const NAME: &'static str = C::NAME;
    const KIND: Kind = Kind::Allocator;
    const LIMIT: &'static str = "none";
    const CRATES: &'static [&'static str] = &[C::CRATE];

    type Lease = Raw<C>;

    fn new(_limit: usize, _size: usize) -> Self {
        Direct(PhantomData)
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Raw<C> {
        Raw {
            start: NonNull::new(C::allocate(n).cast()).expect("memory"),
            size: n,
            calls: PhantomData,
        }
    }
}

impl<C: Calls> Lease for Raw<C> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the allocator gave `size` bytes, and the lease is their only way in.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.size) }
    }
}

impl<C: Calls> Drop for Raw<C> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: from `allocate` with this size, and given back once.
        unsafe { C::free(self.start.as_ptr().cast(), self.size) };
    }
}

/// `malloc` and `free` of the C library.
#[derive(Debug, Clone)]
pub struct Malloc;

impl Calls for Malloc {
    const NAME: &'static str = if cfg!(target_env = "gnu") {
        "glibc malloc"
    } else {
        "malloc"
    };
    const CRATE: &'static str = "libc";

    #[inline(always)]
    fn allocate(n: usize) -> *mut c_void {
        // SAFETY: any size may be asked for.
        unsafe { libc::malloc(n) }
    }

    #[inline(always)]
    unsafe fn free(start: *mut c_void, _n: usize) {
        // SAFETY: the caller's.
        unsafe { libc::free(start) };
    }
}

/// `mallocx` and `sdallocx`.
#[derive(Debug, Clone)]
pub struct Jemalloc;

impl Calls for Jemalloc {
    const NAME: &'static str = "jemalloc";
    const CRATE: &'static str = "tikv-jemalloc-sys";

    #[inline(always)]
    fn allocate(n: usize) -> *mut c_void {
        // SAFETY: the size is above 0, which is all that `mallocx` wants.
        unsafe { tikv_jemalloc_sys::mallocx(n, 0) }
    }

    #[inline(always)]
    unsafe fn free(start: *mut c_void, n: usize) {
        // SAFETY: the caller's; without flags, as it was allocated.
        unsafe { tikv_jemalloc_sys::sdallocx(start, n, 0) };
    }
}

/// `mi_malloc` and `mi_free`.
#[cfg(feature = "peers")]
#[derive(Debug, Clone)]
pub struct Mimalloc;

#[cfg(feature = "peers")]
impl Calls for Mimalloc {
    const NAME: &'static str = "mimalloc";
    const CRATE: &'static str = "libmimalloc-sys";

    #[inline(always)]
    fn allocate(n: usize) -> *mut c_void {
        // SAFETY: any size may be asked for.
        unsafe { libmimalloc_sys::mi_malloc(n) }
    }

    #[inline(always)]
    unsafe fn free(start: *mut c_void, _n: usize) {
        // SAFETY: the caller's.
        unsafe { libmimalloc_sys::mi_free(start) };
    }
}

/// Its pair for Rust, which is told the size when memory comes back.
#[cfg(feature = "peers")]
#[derive(Debug, Clone)]
pub struct Snmalloc;

#[cfg(feature = "peers")]
impl Snmalloc {
    /// What the others give as well.
    const ALIGN: usize = 16;
}

#[cfg(feature = "peers")]
impl Calls for Snmalloc {
    const NAME: &'static str = "snmalloc";
    const CRATE: &'static str = "snmalloc-sys";

    #[inline(always)]
    fn allocate(n: usize) -> *mut c_void {
        // SAFETY: the alignment is a power of two.
        unsafe { snmalloc_sys::sn_rust_alloc(Self::ALIGN, n) }
    }

    #[inline(always)]
    unsafe fn free(start: *mut c_void, n: usize) {
        // SAFETY: the caller's; with the alignment that it was allocated with.
        unsafe { snmalloc_sys::sn_rust_dealloc(start, Self::ALIGN, n) };
    }
}
