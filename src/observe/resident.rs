//! What the kernel says: how much memory is really behind a pool's blocks.
//!
//! It is asked by `/proc/self/pagemap`, which has one word for each page and can be read from anywhere in the middle. `smaps`
//! would have to be read for the whole process, and gives neighbouring mappings as one, so that blocks could not be told
//! from headers.

use crate::engine::Engine;

/// Resident bytes of the pool's blocks. `None` where the kernel does not say, or the memory comes from the heap. O(pages of
/// address space that were ever used).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn resident(engine: &Engine) -> Option<u64> {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use crate::sys::page_size;

    /// "Page is present": the top bit of a page's word.
    const PRESENT: u8 = 0x80;
    const WORD: usize = 8;

    if engine.addresses().is_empty() {
        return None;
    }
    let pagemap = File::open("/proc/self/pagemap").ok()?;
    let page = page_size();
    let mut words = vec![0; 64 << 10];
    let mut pages = 0;
    for class in engine.arena().touched() {
        let addresses = class.addresses();
        let mut offset = addresses.start / page * WORD;
        let end = addresses.end / page * WORD;
        while offset < end {
            let part = words.len().min(end - offset);
            pagemap
                .read_exact_at(&mut words[..part], offset as u64)
                .ok()?;
            let present = |word: &&[u8]| word[top_byte()] & PRESENT != 0;
            pages += words[..part].chunks_exact(WORD).filter(present).count();
            offset += part;
        }
    }
    Some((pages * page) as u64)
}

/// Where the most significant byte of a word lies in memory.
#[cfg(any(target_os = "linux", target_os = "android"))]
const fn top_byte() -> usize {
    if cfg!(target_endian = "big") {
        0
    } else {
        7
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn resident(_: &Engine) -> Option<u64> {
    None
}
