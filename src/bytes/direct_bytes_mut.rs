//! The writable buffer.

use std::borrow::BorrowMut;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, RangeBounds};
use std::ptr::NonNull;
use std::{fmt, io, ptr, slice};

use bytes::buf::{IntoIter, UninitSlice};
use bytes::{Buf, BufMut, Bytes};

use super::{range, DirectBytes};
use crate::arena::Handle;

/// A unique, writable buffer in a pool's memory: `BytesMut`, except that it never grows by itself.
///
/// It comes from [`Pool::reserve`](crate::Pool::reserve) with `len() == 0` and the capacity of its size class, is filled
/// through [`BufMut`], [`io::Write`] or `tokio::io::AsyncReadExt::read_buf`, and is shared by [`freeze`](Self::freeze).
/// Dropping it queues the block for the next reservation; in calm that takes no lock, no system call and no allocation.
///
/// An empty buffer keeps its block: `clear` and use it again, or where it was consumed [`try_reclaim`](Self::try_reclaim) its
/// space. More than the block needs a larger block: [`grow`](Self::grow).
///
/// # Examples
///
/// ```
/// use bytes::BufMut;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let mut buf = pool.try_reserve(1000)?;
/// assert!(buf.is_empty() && buf.capacity() >= 1000);
/// buf.put_u32(7);
/// buf.put_slice(b"seven");
/// let shared = buf.freeze();
/// assert_eq!(shared.slice(4..), b"seven"[..]);
/// # Ok(())
/// # }
/// ```
pub struct DirectBytesMut {
    ptr: NonNull<u8>,
    len: usize,
    cap: usize,
    /// None for buffers that never had memory.
    pub(super) handle: Option<Handle>,
}

// SAFETY: `ptr..ptr + cap` belongs to this buffer alone, and the handle is `Send`.
unsafe impl Send for DirectBytesMut {}
// SAFETY: a shared reference only reads the memory.
unsafe impl Sync for DirectBytesMut {}

/// A write did not fit the capacity of a [`DirectBytesMut`]; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapacityError {
    /// Bytes that were to be written.
    pub requested: usize,
    /// Bytes that were left.
    pub available: usize,
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CapacityError {
            requested,
            available,
        } = self;
        write!(
            f,
            "cannot write {requested} bytes: {available} are left, and a pooled buffer does not grow by itself; \
             reserve a larger one"
        )
    }
}

impl std::error::Error for CapacityError {}

impl DirectBytesMut {
    /// A buffer without memory, which belongs to no pool: what a reservation of 0 bytes yields.
    pub const fn new() -> Self {
        DirectBytesMut {
            ptr: NonNull::dangling(),
            len: 0,
            cap: 0,
            handle: None,
        }
    }

    /// The whole of a block that was just leased.
    #[inline]
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let (ptr, cap) = handle.memory_of_whole();
        DirectBytesMut {
            ptr,
            len: 0,
            cap,
            handle: Some(handle),
        }
    }

    /// # Safety
    ///
    /// The handle is its block's only one, and `ptr..ptr + len` is an initialised part of the block.
    pub(super) unsafe fn from_unique(ptr: NonNull<u8>, len: usize, handle: Handle) -> Self {
        let (start, size) = handle.memory();
        let cap = size - (ptr.addr().get() - start.addr().get());
        let mut buffer = DirectBytesMut {
            ptr,
            len,
            cap,
            handle: Some(handle),
        };
        buffer.fit();
        buffer
    }

    /// After its capacity has changed: perhaps it is a small part of its block now, or none any more.
    fn fit(&mut self) {
        if let Some(handle) = &mut self.handle {
            handle.fit(self.cap);
        }
    }

    /// Bytes written so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the buffer can hold. At least what was asked for: the whole size class is usable.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.cap
    }

    /// Forgets the contents; the capacity stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Shortens the contents to `len` bytes; does nothing where they are shorter.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Removes the first `cnt` bytes, in O(1). Their place is gone from the capacity too, until it is
    /// [reclaimed](Self::try_reclaim).
    ///
    /// # Panics
    ///
    /// If `cnt > len()`.
    #[inline]
    pub fn advance(&mut self, cnt: usize) {
        assert!(
            cnt <= self.len,
            "cannot advance past `remaining`: {cnt:?} <= {:?}",
            self.len
        );
        // SAFETY: `cnt` is at most the length, as just asserted.
        unsafe { self.skip(cnt) };
    }

    /// # Safety
    ///
    /// `cnt` is at most the capacity.
    unsafe fn skip(&mut self, cnt: usize) {
        // SAFETY: stays within the block, as the caller vouches.
        self.ptr = unsafe { self.ptr.add(cnt) };
        self.len = self.len.saturating_sub(cnt);
        self.cap -= cnt;
    }

    /// Sets the length.
    ///
    /// # Safety
    ///
    /// `len` is at most [`capacity`](Self::capacity), and the first `len` bytes were written.
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.cap, "set_len out of bounds");
        self.len = len;
    }

    /// What is left of the capacity, not yet written.
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: `len..cap` lies in the block and belongs to this buffer; uninitialised is what the type says.
        unsafe {
            slice::from_raw_parts_mut(self.ptr.as_ptr().add(self.len).cast(), self.cap - self.len)
        }
    }

    /// Appends a slice.
    ///
    /// # Panics
    ///
    /// If it does not fit: see [`try_put_slice`](Self::try_put_slice).
    #[inline]
    pub fn extend_from_slice(&mut self, extend: &[u8]) {
        if let Err(error) = self.try_put_slice(extend) {
            panic!("{error}");
        }
    }

    /// Appends a slice, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] where fewer bytes than `src.len()` are left; nothing is written then.
    #[inline]
    pub fn try_put_slice(&mut self, src: &[u8]) -> Result<(), CapacityError> {
        let available = self.cap - self.len;
        if src.len() > available {
            return Err(CapacityError {
                requested: src.len(),
                available,
            });
        }
        // SAFETY: there is room for `src`, as just checked, and a unique buffer overlaps no other slice.
        unsafe {
            ptr::copy_nonoverlapping(src.as_ptr(), self.ptr.as_ptr().add(self.len), src.len());
        }
        self.len += src.len();
        Ok(())
    }

    /// Appends a copy of a part of the contents.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the contents, or the copy does not fit.
    pub fn extend_from_within(&mut self, range: impl RangeBounds<usize>) {
        let (begin, end) = range::within(range, self.len);
        let (requested, available) = (end - begin, self.cap - self.len);
        if requested > available {
            panic!(
                "{}",
                CapacityError {
                    requested,
                    available
                }
            );
        }
        let start = self.ptr.as_ptr();
        // SAFETY: the source lies within the contents and the target behind them, where there is room, as just checked.
        unsafe { ptr::copy_nonoverlapping(start.add(begin), start.add(self.len), requested) };
        self.len += requested;
    }

    /// Shortens to `new_len`, or lengthens with copies of `value`.
    ///
    /// # Panics
    ///
    /// If `new_len` is above the capacity.
    pub fn resize(&mut self, new_len: usize, value: u8) {
        if let Some(additional) = new_len.checked_sub(self.len) {
            self.put_bytes(value, additional);
        } else {
            self.len = new_len;
        }
    }

    /// Takes the contents; this buffer keeps the rest of the capacity. O(1).
    #[must_use = "consider DirectBytesMut::clear if you don't need the other half"]
    pub fn split(&mut self) -> DirectBytesMut {
        self.split_to(self.len)
    }

    /// Takes the first `at` bytes; this buffer keeps `[at, capacity)`. O(1).
    ///
    /// # Panics
    ///
    /// If `at > len()`.
    #[must_use = "consider DirectBytesMut::advance if you don't need the other half"]
    pub fn split_to(&mut self, at: usize) -> DirectBytesMut {
        assert!(
            at <= self.len,
            "split_to out of bounds: {at:?} <= {:?}",
            self.len
        );
        let front = self.piece(0, at, at);
        // SAFETY: `at` is at most the length, as just asserted.
        unsafe { self.skip(at) };
        self.fit();
        front
    }

    /// Takes `[at, capacity)`; this buffer keeps the first `at` bytes. O(1).
    ///
    /// # Panics
    ///
    /// If `at > capacity()`.
    #[must_use = "consider DirectBytesMut::truncate if you don't need the other half"]
    pub fn split_off(&mut self, at: usize) -> DirectBytesMut {
        assert!(
            at <= self.cap,
            "split_off out of bounds: {at:?} <= {:?}",
            self.cap
        );
        let back = self.piece(at, self.len.saturating_sub(at), self.cap - at);
        self.cap = at;
        self.len = self.len.min(at);
        self.fit();
        back
    }

    /// A part of this buffer as another; the caller gives the part up.
    fn piece(&self, at: usize, len: usize, cap: usize) -> DirectBytesMut {
        DirectBytesMut {
            // SAFETY: callers check that `at` is at most the capacity.
            ptr: unsafe { self.ptr.add(at) },
            len,
            cap,
            handle: self.handle.as_ref().map(|handle| handle.part(cap)),
        }
    }

    /// Joins what was split: `other` comes behind the contents.
    ///
    /// O(1) where the two are neighbours in one block (this one's contents end where `other` begins), where this buffer is empty and
    /// becomes `other`, and where `other` has no capacity. Otherwise a copy, where the capacity has room for it: nothing is allocated.
    ///
    /// # Errors
    ///
    /// Gives `other` back where there is no room; nothing has changed then. [`grow`](Self::grow) makes room.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let mut head = pool.try_reserve(1000)?;
    /// head.extend_from_slice(b"head body");
    /// let capacity = head.capacity();
    /// let body = head.split_off(5);
    /// assert!(head.unsplit(body).is_ok());
    /// assert_eq!(head, "head body");
    /// assert_eq!(head.capacity(), capacity);
    /// # Ok(())
    /// # }
    /// ```
    pub fn unsplit(&mut self, other: DirectBytesMut) -> Result<(), DirectBytesMut> {
        let Err(other) = self.try_unsplit(other) else {
            return Ok(());
        };
        if self.is_empty() {
            *self = other;
            return Ok(());
        }
        self.try_put_slice(&other).map_err(|_| other)
    }

    /// [`unsplit`](Self::unsplit) in O(1), or not at all.
    ///
    /// # Errors
    ///
    /// Gives `other` back where the two are not neighbours in one block.
    pub fn try_unsplit(&mut self, other: DirectBytesMut) -> Result<(), DirectBytesMut> {
        if other.cap == 0 {
            return Ok(());
        }
        match (&self.handle, &other.handle) {
            (Some(ours), Some(theirs))
                if ours.is_same_block(theirs)
                    && self.ptr.addr().get() + self.len == other.ptr.addr().get() =>
            {
                // The block's parts do not overlap, so ours ends here as well.
                debug_assert_eq!(self.len, self.cap);
                self.len += other.len;
                self.cap += other.cap;
                drop(other);
                self.fit();
                Ok(())
            }
            _ => Err(other),
        }
    }

    /// Makes room for `additional` more bytes in the block that the buffer already has; answers whether there is.
    ///
    /// Space that was split off or consumed comes back once all other handles to the block are gone. The contents move to the block's
    /// start where that is needed and they are not longer than what is free before them, so that the cost of moving is that of
    /// having consumed. Takes no memory from the pool: see [`try_grow`](Self::try_grow).
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::{Buf, BufMut};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let mut buf = pool.try_reserve(4096)?;
    /// buf.put_bytes(7, 4096);
    /// let frame = buf.split().freeze();
    /// assert!(!buf.try_reclaim(4096), "the frame still has the memory");
    /// drop(frame);
    /// assert!(buf.try_reclaim(4096));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "consider DirectBytesMut::grow where there has to be room"]
    pub fn try_reclaim(&mut self, additional: usize) -> bool {
        self.make_room(additional, |free_before, len| free_before >= len)
    }

    /// The same; `may_move` is told how many bytes are free before the contents, and how long these are.
    pub(super) fn make_room(
        &mut self,
        additional: usize,
        may_move: impl FnOnce(usize, usize) -> bool,
    ) -> bool {
        if additional <= self.cap - self.len {
            return true;
        }
        let (Some(handle), Some(wanted)) = (&self.handle, self.len.checked_add(additional)) else {
            return false;
        };
        let (start, size) = handle.memory();
        if wanted > size || !handle.make_unique() {
            return false;
        }
        let before = self.ptr.addr().get() - start.addr().get();
        if wanted > size - before {
            if !may_move(before, self.len) {
                return false;
            }
            // SAFETY: both lie in the block, which belongs to this buffer alone, as just checked.
            unsafe { ptr::copy(self.ptr.as_ptr(), start.as_ptr(), self.len) };
            self.ptr = start;
            self.cap = size;
        } else {
            self.cap = size - before;
        }
        self.fit();
        true
    }

    /// Moves the contents to a larger block that was just leased. It has room for them.
    pub(super) fn move_to(&mut self, handle: Handle) {
        let mut larger = DirectBytesMut::from_handle(handle);
        larger.extend_from_slice(self);
        *self = larger;
    }

    /// Makes the contents shareable. O(1); the rest of the capacity stays with the block until that is reclaimed.
    #[inline]
    pub fn freeze(self) -> DirectBytes {
        match self.handle {
            // SAFETY: the first `len` bytes are initialised, and no one can write to them any more.
            Some(handle) => unsafe { DirectBytes::from_parts(self.ptr, self.len, handle) },
            None => DirectBytes::new(),
        }
    }

    /// Bytes of the block that this buffer pins: what it costs the limit.
    pub fn block_len(&self) -> usize {
        self.handle.as_ref().map_or(0, |handle| handle.memory().1)
    }
}

impl Deref for DirectBytesMut {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the first `len` bytes lie in the block that the handle keeps live, and were written.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for DirectBytesMut {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the range belongs to this buffer alone.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl AsMut<[u8]> for DirectBytesMut {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl BorrowMut<[u8]> for DirectBytesMut {
    fn borrow_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Default for DirectBytesMut {
    /// A buffer without capacity. It belongs to no pool.
    fn default() -> Self {
        Self::new()
    }
}

impl Buf for DirectBytesMut {
    #[inline]
    fn remaining(&self) -> usize {
        self.len
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self
    }

    #[inline]
    fn advance(&mut self, cnt: usize) {
        DirectBytesMut::advance(self, cnt);
    }

    /// Without copying: the result pins the block.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.split_to(len).freeze().into()
    }
}

// SAFETY: `chunk_mut` is exactly the memory between length and capacity, and `advance_mut` does not pass it.
unsafe impl BufMut for DirectBytesMut {
    #[inline]
    fn remaining_mut(&self) -> usize {
        self.cap - self.len
    }

    #[inline]
    unsafe fn advance_mut(&mut self, cnt: usize) {
        let available = self.cap - self.len;
        assert!(
            cnt <= available,
            "cannot advance past `remaining_mut`: {cnt:?} <= {available:?}"
        );
        self.len += cnt;
    }

    #[inline]
    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::uninit(self.spare_capacity_mut())
    }

    #[inline]
    fn put_slice(&mut self, src: &[u8]) {
        self.extend_from_slice(src);
    }

    fn put_bytes(&mut self, val: u8, cnt: usize) {
        if let Err(error) = self.try_put_bytes(val, cnt) {
            panic!("{error}");
        }
    }
}

impl fmt::Write for DirectBytesMut {
    /// Writes the whole text, or nothing and an error where it does not fit.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.try_put_slice(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

impl io::Write for DirectBytesMut {
    /// Writes what fits, as `&mut [u8]` does; 0 when the buffer is full.
    fn write(&mut self, src: &[u8]) -> io::Result<usize> {
        let fits = src.len().min(self.cap - self.len);
        self.extend_from_slice(&src[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<DirectBytesMut> for Bytes {
    /// Without copying: as [`freeze`](DirectBytesMut::freeze), then `Bytes::from`.
    fn from(buffer: DirectBytesMut) -> Bytes {
        buffer.freeze().into()
    }
}

impl From<DirectBytesMut> for Vec<u8> {
    /// A copy on the heap.
    fn from(buffer: DirectBytesMut) -> Vec<u8> {
        buffer.to_vec()
    }
}

impl IntoIterator for DirectBytesMut {
    type Item = u8;
    type IntoIter = IntoIter<DirectBytesMut>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter::new(self)
    }
}

impl<'a> IntoIterator for &'a DirectBytesMut {
    type Item = &'a u8;
    type IntoIter = slice::Iter<'a, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Extend<u8> for DirectBytesMut {
    /// # Panics
    ///
    /// If the bytes do not fit.
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        for byte in bytes {
            self.put_u8(byte);
        }
    }
}

impl<'a> Extend<&'a u8> for DirectBytesMut {
    /// # Panics
    ///
    /// If the bytes do not fit.
    fn extend<T: IntoIterator<Item = &'a u8>>(&mut self, bytes: T) {
        self.extend(bytes.into_iter().copied());
    }
}

impl Extend<Bytes> for DirectBytesMut {
    /// # Panics
    ///
    /// If the bytes do not fit.
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, parts: T) {
        for part in parts {
            self.extend_from_slice(&part);
        }
    }
}

impl Extend<DirectBytes> for DirectBytesMut {
    /// # Panics
    ///
    /// If the bytes do not fit.
    fn extend<T: IntoIterator<Item = DirectBytes>>(&mut self, parts: T) {
        for part in parts {
            self.extend_from_slice(&part);
        }
    }
}
