//! Files in the address space.
//!
//! A file that is mapped belongs to the file system: others can write to it and cut it off while it is mapped. Looking at bytes
//! that are cut off ends the process by `SIGBUS`, and a `&[u8]` whose bytes change is against Rust's rules. So what is safe here is
//! what the kernel does with the mapping, which says `EFAULT` where the file has become shorter; slices are for files that
//! are sealed, and for those whose caller vouches for them.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::{Bound, Deref, Range, RangeBounds};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::{Buf, Bytes};
use rustix::fs::{fcntl_get_seals, SealFlags};
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use tokio::io::Interest;

use super::send::{offsets, too_short};
use super::socket::{poll_call, Socket};

/// A file, mapped for reading.
///
/// [`send`](Self::send) writes it to a socket straight from the page cache, without a buffer (`mmap` and `write`). For slices
/// see [`sealed`](Self::sealed) and [`assume_stable`](Self::assume_stable).
///
/// # When the file becomes shorter
///
/// `send` fails with `UnexpectedEof`, which says where the file ended. A slice of [`MappedBytes`] that is looked at there
/// ends the process by `SIGBUS`. In neither case are there bytes that were not in the file.
#[derive(Debug)]
pub struct MappedFile {
    map: Map,
    /// For the text of errors: how long the file is then.
    file: File,
}

#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is only read, and unmapped by the one owner.
unsafe impl Send for Map {}
// SAFETY: as for `Send`.
unsafe impl Sync for Map {}

impl Map {
    fn new(file: &File, len: usize) -> io::Result<Map> {
        if len == 0 {
            // An empty mapping can not be had, and is not needed.
            let start = NonNull::dangling();
            return Ok(Map { start, len });
        }
        // SAFETY: the kernel picks a place where nothing else is.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Map { start, len })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: exactly what `new` mapped, and nobody else knows of it: slices borrow from this value.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

impl MappedFile {
    /// Maps the whole file, as long as it is now.
    ///
    /// # Errors
    ///
    /// What the operating system says: for want of address space, or where the file is none that can be mapped.
    pub fn open(file: &File) -> io::Result<MappedFile> {
        let len = usize::try_from(file.metadata()?.len())
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(MappedFile {
            map: Map::new(file, len)?,
            file: file.try_clone()?,
        })
    }

    /// How long the file was when it was mapped, in bytes.
    pub fn len(&self) -> usize {
        self.map.len
    }

    /// Whether the file was empty.
    pub fn is_empty(&self) -> bool {
        self.map.len == 0
    }

    /// Writes a part of the file to a socket; answers how many bytes that were. Without an end the range goes to the end of the mapping.
    ///
    /// # Errors
    ///
    /// Those of the socket; `UnexpectedEof` where the file has become shorter, with both lengths in the text;
    /// `InvalidInput` for a range that is not in the mapping.
    ///
    /// # Cancel safety
    ///
    /// [`SendMapped::moved`] says how many bytes the socket has taken.
    pub fn send<'a, S: Socket>(
        &'a self,
        range: impl RangeBounds<u64>,
        socket: &'a S,
    ) -> SendMapped<'a, S> {
        SendMapped {
            mapped: self,
            socket,
            range: None,
            asked: (range.start_bound().cloned(), range.end_bound().cloned()),
            moved: 0,
            calls: 0,
        }
    }

    /// The bytes of a file that can not change any more: a memfd that is sealed against writing and shrinking.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where a seal is missing or the file has no seals, and those of [`open`](Self::open).
    pub fn sealed(file: &File) -> io::Result<MappedBytes> {
        let needed = SealFlags::WRITE | SealFlags::SHRINK;
        if !fcntl_get_seals(file).is_ok_and(|seals| seals.contains(needed)) {
            let text =
                "the file is not sealed against writing and shrinking, so its bytes may change";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mapped = MappedFile::open(file)?;
        // SAFETY: seals can not be taken off, and with these two no byte of the file changes or goes away.
        Ok(unsafe { mapped.assume_stable() })
    }

    /// The bytes of a file of which the caller knows that it does not change.
    ///
    /// # Safety
    ///
    /// While the result or anything made of it lives, nobody writes to the file's bytes, in this process or another. (If
    /// the file becomes shorter, looking at the bytes that are gone ends the process by `SIGBUS`.)
    pub unsafe fn assume_stable(self) -> MappedBytes {
        MappedBytes {
            range: 0..self.map.len,
            map: Arc::new(self.map),
        }
    }
}

/// A part of a [`MappedFile`] on its way to a socket. From [`MappedFile::send`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct SendMapped<'a, S> {
    mapped: &'a MappedFile,
    socket: &'a S,
    range: Option<Range<u64>>,
    asked: (Bound<u64>, Bound<u64>),
    moved: u64,
    calls: u64,
}

impl<S> SendMapped<'_, S> {
    /// Bytes that the socket has taken so far.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// System calls that moved bytes, or tried to, so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }
}

impl<S: Socket> Future for SendMapped<'_, S> {
    type Output = io::Result<u64>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        let map = &this.mapped.map;
        let range = match &mut this.range {
            Some(range) => range,
            none => none.insert(offsets(this.asked, || Ok(map.len as u64))?),
        };
        if range.end > map.len as u64 {
            let text = format!(
                "the range {}..{} is not in the mapping, which has {} bytes",
                range.start, range.end, map.len
            );
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        while range.start < range.end {
            let (at, left) = (range.start as usize, (range.end - range.start) as usize);
            let mut calls = 0;
            let sent = poll_call(this.socket, cx, Interest::WRITABLE, || {
                calls += 1;
                // No slice is made: the bytes may change.
                // SAFETY: `at + left` is at most the mapping's length, as checked above; the kernel checks that there are pages.
                let sent = unsafe {
                    libc::send(
                        this.socket.as_fd().as_raw_fd(),
                        map.start.as_ptr().add(at).cast(),
                        left,
                        libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
                    )
                };
                usize::try_from(sent).map_err(|_| io::Error::last_os_error())
            });
            this.calls += calls;
            match ready!(sent) {
                Ok(n) => {
                    this.moved += n as u64;
                    range.start += n as u64;
                }
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                    let len = this.mapped.file.metadata()?.len();
                    return Poll::Ready(Err(too_short(len, range.end)));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(this.moved))
    }
}

/// The bytes of a mapped file that does not change: a slice, a [`Buf`], and [`Bytes`] without a copy. Clones share the mapping.
#[derive(Debug, Clone)]
pub struct MappedBytes {
    map: Arc<Map>,
    range: Range<usize>,
}

impl Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping, which lives as long as `map`, and whose bytes do not change: either they are
        // sealed, or the caller of `assume_stable` vouches for it.
        unsafe {
            std::slice::from_raw_parts(
                self.map.start.as_ptr().add(self.range.start),
                self.range.len(),
            )
        }
    }
}

impl AsRef<[u8]> for MappedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Buf for MappedBytes {
    fn remaining(&self) -> usize {
        self.range.len()
    }

    fn chunk(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, cnt: usize) {
        assert!(
            cnt <= self.range.len(),
            "cannot advance past `remaining`: {cnt:?} <= {:?}",
            self.range.len()
        );
        self.range.start += cnt;
    }
}

impl From<MappedBytes> for Bytes {
    /// Without copying.
    fn from(mapped: MappedBytes) -> Bytes {
        Bytes::from_owner(mapped)
    }
}
