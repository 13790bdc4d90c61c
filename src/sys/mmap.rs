//! One anonymous mapping per pool, inaccessible at first and opened from the front of each piece.
//!
//! The idea of one range per class, each as large as the limit, is that of Scudo's and LLVM's size-class allocators.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use super::{poison, Call, Injector};
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};

/// Block memory is opened in steps of at least this many bytes, so that `mprotect` is rare.
const DATA_STEP: usize = 2 << 20;
/// Header tables are opened in steps of at least this many bytes.
const TABLE_STEP: usize = 64 << 10;

/// Whether address space is reserved ahead.
pub(crate) const RESERVES: bool = true;

/// Asked for all the time, so the system is asked once.
#[inline]
pub(crate) fn page_size() -> usize {
    static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);
    match PAGE_SIZE.load(Ordering::Relaxed) {
        0 => {
            let size = rustix::param::page_size();
            PAGE_SIZE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}

/// The size of the pages that the kernel may take instead of small ones: what one entry of the last level but one maps.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn huge_page_size() -> Option<usize> {
    static SIZE: OnceLock<Option<usize>> = OnceLock::new();
    *SIZE.get_or_init(|| {
        let size = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").ok()?;
        let size: usize = size.trim().parse().ok()?;
        (size.is_power_of_two() && size > page_size()).then_some(size)
    })
}

/// Puts memory behind the pages of `start..start + len`, whose contents do not change. `false` where the kernel can not, and each
/// page has to be touched.
///
/// # Safety
///
/// All of these pages are readable and writable.
pub(crate) unsafe fn populate(start: NonNull<u8>, len: usize) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    loop {
        // SAFETY: the kernel faults the caller's pages in as a write would, and writes nothing.
        match unsafe { mm::madvise(start.as_ptr().cast(), len, Advice::LinuxPopulateWrite) } {
            Ok(()) => return Ok(true),
            // Before Linux 5.14.
            Err(rustix::io::Errno::INVAL) => return Ok(false),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (start, len);
        Ok(false)
    }
}

/// The pool's address space. Unmapped when dropped; everything carved out of it must be gone by then.
#[derive(Debug)]
pub(crate) struct Space {
    /// What was mapped.
    mapping: NonNull<u8>,
    mapped: usize,
    base: NonNull<u8>,
    len: usize,
    injector: Injector,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Space {}
// SAFETY: the fields never change, and access to the memory is governed by what is carved out of it.
unsafe impl Sync for Space {}

impl Space {
    /// Reserves `len` bytes (whole pages) between two guard pages, at a multiple of `align`.
    pub(crate) fn reserve(len: usize, align: usize, injector: &Injector) -> io::Result<Space> {
        injector.call(Call::Mmap)?;
        let page = page_size();
        let total = len
            .checked_add(page + align.max(page))
            .ok_or(rustix::io::Errno::NOMEM)?;
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
        // SAFETY: `mmap` succeeded with `total` > 0, so `start` is not null.
        let mapping = unsafe { NonNull::new_unchecked(start.cast::<u8>()) };
        let first = (mapping.as_ptr() as usize + page).next_multiple_of(align.max(page));
        // SAFETY: at least one page and at most `align` (or a page) into the mapping, whose rest is `len` and a page at least.
        let base = unsafe { mapping.add(first - mapping.as_ptr() as usize) };
        Ok(Space {
            mapping,
            mapped: total,
            base,
            len,
            injector: injector.clone(),
        })
    }

    /// Asks for huge pages in a piece that begins and ends at multiples of their size. A kernel without them refuses: fine.
    pub(crate) fn advise_huge(&self, offset: usize, len: usize) {
        let piece = self.piece(offset, len);
        #[cfg(target_os = "linux")]
        // SAFETY: the piece is inside the mapping, and the advice changes no contents.
        let _ = unsafe { mm::madvise(piece.as_ptr().cast(), len, Advice::LinuxHugepage) };
        #[cfg(not(target_os = "linux"))]
        let _ = piece;
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
        // SAFETY: this is exactly the range that `reserve` mapped, and the owner of the pool's last buffer drops it.
        let unmapped = unsafe { mm::munmap(self.mapping.as_ptr().cast(), self.mapped) };
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
    injector: Injector,
}

impl Opened {
    fn new(space: &Space, offset: usize, capacity: usize, step: usize) -> Self {
        let capacity = capacity.next_multiple_of(page_size());
        Opened {
            base: space.piece(offset, capacity),
            capacity,
            step,
            upto: AtomicUsize::new(0),
            injector: space.injector.clone(),
        }
    }

    /// Makes at least `upto` bytes usable; answers those that were not before.
    fn open(&self, upto: usize) -> io::Result<Range<usize>> {
        let have = self.upto.load(Ordering::Relaxed);
        if upto <= have {
            return Ok(have..have);
        }
        assert!(upto <= self.capacity);
        self.injector.call(Call::Mprotect)?;
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
        self.memory.injector.call(Call::Madvise)?;
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
