//! The floor: fixed buffers in rotation. Nobody hands out memory faster, and nobody takes it back at all.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{ptr, slice};

use rustix::mm::{mmap_anonymous, MapFlags, ProtFlags};

use super::{Kind, Lease, Peer};
use crate::scenario::pair::WINDOW;

/// Buffers one behind the other, which a single thread takes in turn.
///
/// There are two more than anyone holds at a time: those in the ring, the one being written and the one being read. Only
/// one thread may take.
#[derive(Debug, Clone)]
pub struct Floor(&'static Fixed);

#[derive(Debug)]
struct Fixed {
    start: *mut u8,
    size: usize,
    next: AtomicUsize,
}

// SAFETY: the memory stays mapped, and buffers are handed out by an atomic.
unsafe impl Send for Fixed {}
// SAFETY: as above.
unsafe impl Sync for Fixed {}

/// One of them.
#[derive(Debug)]
pub struct Slot {
    start: *mut u8,
    size: usize,
}

// SAFETY: plain memory, which is used by whoever has the slot.
unsafe impl Send for Slot {}

impl Floor {
    const COUNT: usize = WINDOW + 2;
}

impl Peer for Floor {
    const NAME: &'static str = "floor";
    const KIND: Kind = Kind::Floor;
    const LIMIT: &'static str = "no pool: fixed buffers in rotation";
    const CRATES: &'static [&'static str] = &[];

    type Lease = Slot;

    fn new(_limit: usize, size: usize) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping, at no address in particular.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), size * Self::COUNT, protection, flags) };
        Floor(Box::leak(Box::new(Fixed {
            start: start.expect("address space").cast(),
            size,
            next: AtomicUsize::new(0),
        })))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Slot {
        let Fixed { start, size, next } = self.0;
        assert!(n <= *size);
        // By one thread only, so that no locked instruction is needed.
        let slot = next.load(Ordering::Relaxed);
        let following = if slot + 1 == Self::COUNT { 0 } else { slot + 1 };
        next.store(following, Ordering::Relaxed);
        Slot {
            start: start.wrapping_add(slot * size),
            size: n,
        }
    }
}

impl Lease for Slot {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: within the mapping; nobody else has the slot until it has gone round.
        unsafe { slice::from_raw_parts_mut(self.start.cast(), self.size) }
    }
}
