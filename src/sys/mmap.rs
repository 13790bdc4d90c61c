//! One anonymous mapping per pool, inaccessible at first and opened from the front of each piece.
//!
//! The idea of one range per class, each as large as the limit, is that of Scudo's and LLVM's size-class allocators.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::poison;
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};

/// Block memory is opened in steps of at least this many bytes, so that `mprotect` is rare.
const DATA_STEP: usize = 2 << 20;
/// Header tables are opened in steps of at least this many bytes.
const TABLE_STEP: usize = 64 << 10;

/// Whether address space is reserved ahead.
pub(crate) const RESERVES: bool = true;

pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// The pool's address space. Unmapped when dropped; everything carved out of it must be gone by then.
#[derive(Debug)]
pub(crate) struct Space {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Space {}
// SAFETY: the fields never change, and access to the memory is governed by what is carved out of it.
unsafe impl Sync for Space {}

impl Space {
    /// Reserves `len` bytes (whole pages) between two guard pages.
    pub(crate) fn reserve(len: usize) -> io::Result<Space> {
        let page = page_size();
        let total = len.checked_add(2 * page).ok_or(rustix::io::Errno::NOMEM)?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                total,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        // A touched 16 KiB block must not make 2 MiB resident. Kernels without huge pages refuse the advice: fine.
        #[cfg(target_os = "linux")]
        // SAFETY: the advice changes no contents of the mapping made just above.
        let _ = unsafe { mm::madvise(start, total, Advice::LinuxNoHugepage) };
        // SAFETY: `mmap` succeeded with `total` > 0, so `start` is not null and one page into it is inside the mapping.
        let base = unsafe { NonNull::new_unchecked(start.cast::<u8>().add(page)) };
        Ok(Space { base, len })
    }

    /// The addresses of the blocks and headers, as `/proc/self/smaps` shows them.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.base.as_ptr() as usize;
        start..start + self.len
    }

    fn piece(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset <= self.len && len <= self.len - offset);
        // SAFETY: the assertion above keeps the piece inside the mapping.
        unsafe { NonNull::new_unchecked(self.base.as_ptr().add(offset)) }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let page = page_size();
        // SAFETY: this is exactly the range that `reserve` mapped, and the owner of the pool's last buffer drops it.
        let unmapped =
            unsafe { mm::munmap(self.base.as_ptr().sub(page).cast(), self.len + 2 * page) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A piece of the space that is opened from the front.
#[derive(Debug)]
struct Opened {
    base: NonNull<u8>,
    capacity: usize,
    step: usize,
    /// Bytes from `base` that are readable and writable. Changed by one thread at a time (the class's growth lock).
    upto: AtomicUsize,
}

impl Opened {
    fn new(space: &Space, offset: usize, capacity: usize, step: usize) -> Self {
        let capacity = capacity.next_multiple_of(page_size());
        Opened {
            base: space.piece(offset, capacity),
            capacity,
            step,
            upto: AtomicUsize::new(0),
        }
    }

    /// Makes at least `upto` bytes usable; answers those that were not before.
    fn open(&self, upto: usize) -> io::Result<Range<usize>> {
        let have = self.upto.load(Ordering::Relaxed);
        if upto <= have {
            return Ok(have..have);
        }
        assert!(upto <= self.capacity);
        let want = upto
            .max(have.saturating_add(self.step))
            .min(self.capacity)
            .next_multiple_of(page_size());
        // SAFETY: `have..want` lies inside this piece (both are at most `capacity`) and no one uses it before it is open.
        unsafe {
            mm::mprotect(
                self.base.as_ptr().add(have).cast(),
                want - have,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )
        }?;
        self.upto.store(want, Ordering::Relaxed);
        Ok(have..want)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        poison::forget(self.base.as_ptr(), self.upto.load(Ordering::Relaxed));
    }
}

/// The memory of one class: `count` spans of `span` bytes.
#[derive(Debug)]
pub(crate) struct Spans {
    memory: Opened,
    span: usize,
}

// SAFETY: the memory is handed out block by block, and the block protocol of the arena governs each.
unsafe impl Send for Spans {}
// SAFETY: as above; `commit` and `decommit` are called by the one thread that owns the span at that time.
unsafe impl Sync for Spans {}

impl Spans {
    pub(crate) fn new(space: &Space, offset: usize, span: usize, count: usize) -> Self {
        Spans {
            memory: Opened::new(space, offset, span * count, DATA_STEP),
            span,
        }
    }

    /// Makes span `index` usable. Callers hold the class's growth lock.
    pub(crate) fn commit(&self, index: usize) -> io::Result<()> {
        let opened = self.memory.open((index + 1) * self.span)?;
        // Nobody may touch a block that was not leased.
        let start = self.memory.base.as_ptr().wrapping_add(opened.start);
        poison::poison(start, opened.len());
        Ok(())
    }

    /// Gives the memory of span `index` back to the OS; the span reads as zero when it is used again.
    ///
    /// # Safety
    ///
    /// No block of the span is in anyone's hands.
    pub(crate) unsafe fn decommit(&self, index: usize) -> io::Result<()> {
        // SAFETY: the caller owns the whole span. DONTNEED and not FREE: freed-lazily pages still count as resident.
        unsafe {
            mm::madvise(
                self.at(index * self.span).as_ptr().cast(),
                self.span,
                Advice::LinuxDontNeed,
            )
        }?;
        Ok(())
    }

    /// The addresses that are usable, if not all of them committed.
    pub(crate) fn opened(&self) -> Range<usize> {
        let start = self.memory.base.as_ptr() as usize;
        start..start + self.memory.upto.load(Ordering::Relaxed)
    }

    /// The address `offset` bytes into the class.
    #[inline]
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.memory.upto.load(Ordering::Relaxed));
        // SAFETY: offsets come from block indices that were handed out, and those lie inside the piece.
        unsafe { NonNull::new_unchecked(self.memory.base.as_ptr().add(offset)) }
    }
}

/// An array that grows in place and never moves. Elements are never dropped: `T` must not need it.
#[derive(Debug)]
pub(crate) struct Table<T> {
    memory: Opened,
    len: AtomicUsize,
    elements: PhantomData<T>,
}

// SAFETY: elements are only reachable by shared reference.
unsafe impl<T: Sync> Send for Table<T> {}
// SAFETY: as above; growth is serialised by the class's growth lock and published by `len`.
unsafe impl<T: Sync> Sync for Table<T> {}

impl<T> Table<T> {
    pub(crate) fn bytes(capacity: usize) -> usize {
        capacity * size_of::<T>()
    }

    pub(crate) fn new(space: &Space, offset: usize, capacity: usize) -> Self {
        const { assert!(!std::mem::needs_drop::<T>()) };
        let memory = Opened::new(space, offset, Self::bytes(capacity), TABLE_STEP);
        debug_assert_eq!(memory.base.as_ptr() as usize % align_of::<T>(), 0);
        Table {
            memory,
            len: AtomicUsize::new(0),
            elements: PhantomData,
        }
    }

    /// Appends elements until there are `len`. Callers hold the class's growth lock.
    pub(crate) fn extend_to(&self, len: usize, make: impl Fn(usize) -> T) -> io::Result<()> {
        let have = self.len.load(Ordering::Relaxed);
        if len <= have {
            return Ok(());
        }
        self.memory.open(Self::bytes(len))?;
        for index in have..len {
            // SAFETY: `open` made `0..len` writable, and elements from `have` on are not published yet.
            unsafe { self.element(index).write(make(index)) };
        }
        self.len.store(len, Ordering::Release);
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
        debug_assert!(index < self.len.load(Ordering::Relaxed));
        // SAFETY: the caller vouches that the element was written; it never moves and is never dropped.
        unsafe { &*self.element(index) }
    }

    /// Bytes that the table may have made resident.
    pub(crate) fn resident(&self) -> usize {
        Self::bytes(self.len()).next_multiple_of(page_size())
    }

    #[inline]
    fn element(&self, index: usize) -> *mut T {
        self.memory.base.as_ptr().cast::<T>().wrapping_add(index)
    }
}
