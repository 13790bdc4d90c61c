//! The same interface from the heap: each span is its own allocation, zeroed by the allocator.
//!
//! For platforms without `mmap` or with too little address space, for loom, and for sanitizers, which see heap
//! allocations but nothing inside a mapping of ours.

use std::alloc::{alloc_zeroed, dealloc};
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::OnceLock;

use super::{poison, Call, Injector};

/// Whether address space is reserved ahead.
pub(crate) const RESERVES: bool = false;

pub(crate) fn page_size() -> usize {
    4096
}

/// None are asked for.
pub(crate) fn huge_page_size() -> Option<usize> {
    None
}

/// `false`: each page has to be touched.
///
/// # Safety
///
/// None is needed here.
pub(crate) unsafe fn populate(_start: NonNull<u8>, _len: usize) -> io::Result<bool> {
    Ok(false)
}

/// Nothing is reserved ahead: spans are allocated when they are committed.
#[derive(Debug)]
pub(crate) struct Space {
    injector: Injector,
}

impl Space {
    pub(crate) fn reserve(_len: usize, _align: usize, injector: &Injector) -> io::Result<Space> {
        Ok(Space {
            injector: injector.clone(),
        })
    }

    pub(crate) fn advise_huge(&self, _offset: usize, _len: usize) {}

    /// Heap spans have no common range.
    pub(crate) fn addresses(&self) -> Range<usize> {
        0..0
    }
}

/// The memory of one class: `count` spans of `span` bytes.
#[derive(Debug)]
pub(crate) struct Spans {
    span: usize,
    starts: Table<AtomicPtr<u8>>,
    injector: Injector,
}

impl Spans {
    pub(crate) fn new(space: &Space, offset: usize, span: usize, count: usize) -> Self {
        Spans {
            span,
            starts: Table::new(space, offset, count),
            injector: space.injector.clone(),
        }
    }

    fn layout(&self) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(self.span, page_size())
            .expect("a span is at most a limit, which is at most isize::MAX bytes")
    }

    /// Makes span `index` usable. Callers hold the class's growth lock.
    pub(crate) fn commit(&self, index: usize) -> io::Result<()> {
        self.injector.call(Call::Mprotect)?;
        self.starts
            .extend_to(index + 1, |_| AtomicPtr::new(ptr::null_mut()))?;
        // SAFETY: a span has at least one page, so the layout is not empty.
        let start = unsafe { alloc_zeroed(self.layout()) };
        if start.is_null() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // Nobody may touch a block that was not leased.
        poison::poison(start, self.span);
        // SAFETY: `extend_to` appended the entry just above.
        let entry = unsafe { self.starts.get(index) };
        debug_assert!(entry.load(Ordering::Relaxed).is_null());
        entry.store(start, Ordering::Release);
        Ok(())
    }

    /// Heap spans have no common range.
    pub(crate) fn opened(&self) -> Range<usize> {
        0..0
    }

    /// Frees span `index`.
    ///
    /// # Safety
    ///
    /// No block of the span is in anyone's hands.
    pub(crate) unsafe fn decommit(&self, index: usize) -> io::Result<()> {
        self.injector.call(Call::Madvise)?;
        // SAFETY: a committed span has an entry, and the caller owns the span.
        let start = unsafe { self.starts.get(index) }.swap(ptr::null_mut(), Ordering::AcqRel);
        debug_assert!(!start.is_null());
        // SAFETY: `commit` allocated it with this layout, and the swap made this the only free.
        unsafe { dealloc(start, self.layout()) };
        Ok(())
    }

    /// The address `offset` bytes into the class.
    #[inline]
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        // SAFETY: offsets come from blocks of committed spans, whose entries exist.
        let start = unsafe { self.starts.get(offset / self.span) }.load(Ordering::Acquire);
        debug_assert!(!start.is_null());
        // SAFETY: the offset within the span is smaller than the span's allocation, which is not null.
        unsafe { NonNull::new_unchecked(start.add(offset % self.span)) }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        for index in 0..self.starts.len() {
            // SAFETY: `index` is below the table's length.
            let start = unsafe { self.starts.get(index) }.load(Ordering::Acquire);
            if !start.is_null() {
                // SAFETY: allocated by `commit` with this layout; nobody holds a block when the class is dropped.
                unsafe { dealloc(start, self.layout()) };
            }
        }
    }
}

/// An array that grows by segments, each twice the one before, so that elements never move.
#[derive(Debug)]
pub(crate) struct Table<T> {
    segments: [OnceLock<Box<[T]>>; SEGMENTS],
    len: AtomicUsize,
}

const SEGMENTS: usize = 28;
const FIRST: usize = if cfg!(offheap_loom) { 4 } else { 64 };

impl<T> Table<T> {
    pub(crate) fn bytes(capacity: usize) -> usize {
        capacity.saturating_mul(size_of::<T>())
    }

    pub(crate) fn new(_space: &Space, _offset: usize, _capacity: usize) -> Self {
        Table {
            segments: [const { OnceLock::new() }; SEGMENTS],
            len: AtomicUsize::new(0),
        }
    }

    fn locate(index: usize) -> (usize, usize) {
        let position = index / FIRST + 1;
        let segment = position.ilog2() as usize;
        (segment, index + FIRST - (FIRST << segment))
    }

    /// Appends elements until there are `len`. Callers hold the class's growth lock.
    pub(crate) fn extend_to(&self, len: usize, make: impl Fn(usize) -> T) -> io::Result<()> {
        let mut first = 0;
        for (number, segment) in self.segments.iter().enumerate() {
            if first >= len {
                break;
            }
            let count = FIRST << number;
            segment.get_or_init(|| (first..first + count).map(&make).collect());
            first += count;
        }
        if first < len {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.len.fetch_max(len, Ordering::Release);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// # Safety
    ///
    /// `index` was appended, and the caller has learnt of it through a synchronising operation.
    #[inline]
    pub(crate) unsafe fn get(&self, index: usize) -> &T {
        let (segment, offset) = Self::locate(index);
        // The bounds checks stay: this source is for safety and portability, not for speed.
        &self.segments[segment].get().expect("appended")[offset]
    }

    /// Bytes that the table may have made resident.
    pub(crate) fn resident(&self) -> usize {
        Self::bytes(self.len())
    }
}
