//! Beginnings: what a pool costs before it is used, and what its memory costs when it is written for the first time.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};
use std::{fs, io, ptr, slice};

use offheap::Pool;
use rustix::mm::{mmap_anonymous, munmap, MapFlags, ProtFlags};
use rustix::param::page_size;

use crate::peers::{Lease, Peer};

/// What building a pool took.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// How long it took.
    pub build: Duration,
    /// How many bytes more of the process are resident.
    pub resident: u64,
    /// The same after one buffer has been taken, written and dropped.
    pub used: u64,
}

/// Builds a pool with a limit, and uses it once.
///
/// # Errors
///
/// Where there is no `/proc/self/smaps_rollup`.
pub fn build(limit: usize) -> io::Result<Start> {
    let before = resident()?;
    let start = Instant::now();
    let pool = Pool::builder().limit(limit).build()?;
    let build = start.elapsed();
    let built = resident()?;
    pool.try_reserve(page_size()).expect("room").touch();
    let used = resident()?;
    Ok(Start {
        build,
        resident: built.saturating_sub(before),
        used: used.saturating_sub(before),
    })
}

/// Bytes of this process that are resident, as the kernel finds them in the page tables: `statm` is a sum that lags behind.
///
/// # Errors
///
/// Where there is no `/proc/self/smaps_rollup`.
pub fn resident() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| io::Error::other("no Rss in smaps_rollup"))
}

/// Nanoseconds per page: takes a buffer, writes a byte to each of its pages, and gives it back.
pub fn touch_pages<P: Peer>(peer: &P, size: usize) -> f64 {
    let start = Instant::now();
    let mut lease = peer.try_take(size);
    let pages = write_each(lease.memory());
    drop(lease);
    start.elapsed().as_nanos() as f64 / pages as f64
}

/// The same with memory straight from the kernel, which goes back to it.
pub fn touch_mapping(size: usize) -> f64 {
    let start = Instant::now();
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a fresh mapping, at no address in particular.
    let mapping = unsafe { mmap_anonymous(ptr::null_mut(), size, protection, flags) };
    let mapping = mapping.expect("memory");
    // SAFETY: it is mapped, writable, and nobody else's.
    let pages = write_each(unsafe { slice::from_raw_parts_mut(mapping.cast(), size) });
    // SAFETY: nothing points there any more.
    unsafe { munmap(mapping, size) }.expect("it was mapped");
    start.elapsed().as_nanos() as f64 / pages as f64
}

fn write_each(memory: &mut [MaybeUninit<u8>]) -> usize {
    let page = page_size();
    memory.iter_mut().step_by(page).for_each(|byte| {
        byte.write(1);
    });
    black_box(memory.as_mut_ptr());
    memory.len().div_ceil(page)
}
