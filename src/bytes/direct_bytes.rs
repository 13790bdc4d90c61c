//! The shared buffer.

use std::ops::{Deref, RangeBounds};
use std::ptr::NonNull;
use std::slice;

use bytes::buf::IntoIter;
use bytes::{Buf, Bytes};

use super::{range, DirectBytesMut};
use crate::arena::Handle;

/// A shared, immutable buffer in a pool's memory: `Bytes`, in 24 bytes instead of 32.
///
/// Cloning and slicing are O(1) and copy nothing: each is one more handle to the same block. The drop of the last handle
/// queues the block for the next reservation. `Bytes::from` takes it wherever `Bytes` goes, without a copy.
///
/// An empty `DirectBytes` pins nothing: a handle that becomes empty lets go of its block at once. But a handle to one
/// byte pins its whole block, [`block_len`](Self::block_len) bytes of the limit.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let all = pool.try_copy_from_slice(b"hello world")?;
/// let hello = all.slice(..5);
/// assert_eq!(hello, b"hello"[..]);
/// assert!(!hello.is_unique());
/// drop(all);
/// assert!(hello.is_unique());
/// let everywhere: bytes::Bytes = hello.into();
/// assert_eq!(pool.stats().buffers, 1);
/// drop(everywhere);
/// assert_eq!(pool.stats().buffers, 0);
/// # Ok(())
/// # }
/// ```
pub struct DirectBytes {
    pub(super) ptr: NonNull<u8>,
    pub(super) len: usize,
    /// None for buffers that are empty or static.
    pub(super) handle: Option<Handle>,
}

const _: () = assert!(size_of::<DirectBytes>() == 24 && size_of::<Option<DirectBytes>>() == 24);

// SAFETY: the memory is immutable while it is shared, and the handle is `Send`.
unsafe impl Send for DirectBytes {}
// SAFETY: a shared reference only reads the memory and retains the handle.
unsafe impl Sync for DirectBytes {}

impl DirectBytes {
    /// An empty buffer. It belongs to no pool.
    pub const fn new() -> Self {
        Self::empty_at(NonNull::dangling())
    }

    /// A buffer of static memory, as [`Bytes::from_static`] makes it. It belongs to no pool and pins nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// const OK: offheap::DirectBytes = offheap::DirectBytes::from_static(b"+OK\r\n");
    /// assert_eq!(OK.slice(1..3), "OK");
    /// assert_eq!(OK.block_len(), 0);
    /// ```
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        DirectBytes {
            // SAFETY: a reference is not null; nobody ever writes through the pointer.
            ptr: unsafe { NonNull::new_unchecked(bytes.as_ptr().cast_mut()) },
            len: bytes.len(),
            handle: None,
        }
    }

    const fn empty_at(ptr: NonNull<u8>) -> Self {
        DirectBytes {
            ptr,
            len: 0,
            handle: None,
        }
    }

    /// # Safety
    ///
    /// `ptr..ptr + len` is an initialised part of the handle's block, and nobody can write to it.
    #[inline]
    pub(super) unsafe fn from_parts(ptr: NonNull<u8>, len: usize, mut handle: Handle) -> Self {
        if len == 0 {
            return Self::empty_at(ptr);
        }
        handle.fit(len);
        DirectBytes {
            ptr,
            len,
            handle: Some(handle),
        }
    }

    /// Bytes in the buffer.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer has no bytes. It pins no memory then.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this is the block's only handle; `false` for empty and static buffers, which have none. Another thread that holds
    /// a handle may let go of it at any moment, so `false` can be out of date; `true` can not, unless there are weak handles.
    pub fn is_unique(&self) -> bool {
        self.handle.as_ref().is_some_and(Handle::is_unique)
    }

    /// Bytes of the block that this handle pins: what it costs the limit. 0 for empty and static buffers.
    pub fn block_len(&self) -> usize {
        self.handle.as_ref().map_or(0, |handle| handle.memory().1)
    }

    /// A handle to a part of this buffer. O(1), no copy.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the buffer, or begins after its end.
    #[inline]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let (begin, end) = range::within(range, self.len);
        self.part(begin, end - begin)
    }

    /// Callers check that the part lies within the buffer.
    #[inline]
    fn part(&self, at: usize, len: usize) -> Self {
        // SAFETY: `at` is at most the length.
        let ptr = unsafe { self.ptr.add(at) };
        DirectBytes {
            ptr,
            len,
            handle: match &self.handle {
                Some(handle) if len > 0 => Some(handle.part(len)),
                _ => None,
            },
        }
    }

    /// A copy on the heap, which pins nothing.
    ///
    /// Under a hard limit a small slice that is kept for long costs its whole block: see the crate's chapter
    /// [*Small slices*](crate#small-slices-pin-whole-blocks). O(len).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let request = pool.try_copy_from_slice(&[b'x'; 60_000])?;
    /// let key = request.slice(..16);
    /// drop(request);
    /// assert_eq!(pool.holders()[0].pinned_waste, key.block_len() as u64);
    ///
    /// let key: bytes::Bytes = key.detach();
    /// assert_eq!(key.len(), 16);
    /// assert_eq!(pool.stats().live, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "detaching copies"]
    pub fn detach(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }

    /// A slice as a `Bytes` that does not pin more than `ratio` times its own length: without a copy where the block is not larger
    /// than that, and otherwise a copy on the heap, as by [`detach`](Self::detach).
    ///
    /// # Panics
    ///
    /// As [`slice`](Self::slice).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let request = pool.try_copy_from_slice(&[b'x'; 60_000])?;
    /// let key = request.slice_or_detach(..16, 4); // would pin 4096 times its length: a copy
    /// let body = request.slice_or_detach(16.., 4); // pins hardly more than its length
    /// drop(request);
    /// assert_eq!(pool.stats().buffers, 1);
    /// drop(body);
    /// assert_eq!((pool.stats().buffers, key.len()), (0, 16));
    /// # Ok(())
    /// # }
    /// ```
    pub fn slice_or_detach(&self, range: impl RangeBounds<usize>, ratio: usize) -> Bytes {
        let (begin, end) = range::within(range, self.len);
        if self.block_len() <= ratio.saturating_mul(end - begin) {
            self.part(begin, end - begin).into()
        } else {
            Bytes::copy_from_slice(&self[begin..end])
        }
    }

    /// The handle to a slice that was made by looking into this buffer. O(1), no copy.
    ///
    /// # Panics
    ///
    /// If `subset` does not lie within the buffer.
    pub fn slice_ref(&self, subset: &[u8]) -> Self {
        if subset.is_empty() {
            return Self::new();
        }
        let start = self.ptr.as_ptr() as usize;
        let sub = subset.as_ptr() as usize;
        assert!(
            sub >= start,
            "subset pointer ({:p}) is smaller than self pointer ({:p})",
            subset.as_ptr(),
            self.ptr
        );
        assert!(
            sub + subset.len() <= start + self.len,
            "subset is out of bounds: self = ({:p}, {}), subset = ({:p}, {})",
            self.ptr,
            self.len,
            subset.as_ptr(),
            subset.len()
        );
        self.part(sub - start, subset.len())
    }

    /// Takes `[at, len)`; this buffer keeps the first `at` bytes. O(1).
    ///
    /// # Panics
    ///
    /// If `at > len()`.
    #[must_use = "consider DirectBytes::truncate if you don't need the other half"]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(
            at <= self.len,
            "split_off out of bounds: {at:?} <= {:?}",
            self.len
        );
        if at == 0 {
            return std::mem::replace(self, Self::empty_at(self.ptr));
        }
        let back = self.part(at, self.len - at);
        self.len = at;
        self.fit();
        back
    }

    /// Takes the first `at` bytes; this buffer keeps the rest. O(1).
    ///
    /// # Panics
    ///
    /// If `at > len()`.
    #[must_use = "consider DirectBytes::advance if you don't need the other half"]
    pub fn split_to(&mut self, at: usize) -> Self {
        assert!(
            at <= self.len,
            "split_to out of bounds: {at:?} <= {:?}",
            self.len
        );
        if at == self.len {
            // SAFETY: `at` is the length, so this is the end of the part that the handle covers.
            let end = unsafe { self.ptr.add(at) };
            return std::mem::replace(self, Self::empty_at(end));
        }
        let front = self.part(0, at);
        self.advance(at);
        self.fit();
        front
    }

    /// Shortens the buffer to `len` bytes; does nothing where it is shorter.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            self.let_go_if_empty();
            self.fit();
        }
    }

    /// Empties the buffer, which lets go of its block.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Removes the first `cnt` bytes. O(1).
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
        self.ptr = unsafe { self.ptr.add(cnt) };
        self.len -= cnt;
        self.let_go_if_empty();
    }

    fn let_go_if_empty(&mut self) {
        if self.len == 0 {
            self.handle = None;
        }
    }

    /// After it has become shorter: perhaps it is a small part of its block now.
    fn fit(&mut self) {
        if let Some(handle) = &mut self.handle {
            handle.fit(self.len);
        }
    }

    /// The memory as a writable buffer again, if this is its only handle. O(1), no copy; the capacity reaches to the
    /// end of the block. Weak handles are invalidated; hooks and tokens stay with the block.
    ///
    /// # Errors
    ///
    /// Gives the buffer back where other handles share the block, and where it is empty or static and has none.
    pub fn try_into_mut(mut self) -> Result<DirectBytesMut, DirectBytes> {
        match self.handle.take_if(|handle| handle.make_unique()) {
            // SAFETY: the handle is the only one, as just checked, and it was ours to take.
            Some(handle) => Ok(unsafe { DirectBytesMut::from_unique(self.ptr, self.len, handle) }),
            None => Err(self),
        }
    }
}

impl Clone for DirectBytes {
    /// One more handle to the same bytes. O(1), no copy.
    #[inline]
    fn clone(&self) -> Self {
        DirectBytes {
            ptr: self.ptr,
            len: self.len,
            handle: self.handle.clone(),
        }
    }
}

impl Default for DirectBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for DirectBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the handle keeps the block live, the bytes were written before `freeze`, and are immutable since; without a handle
        // they are static, or none.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl Buf for DirectBytes {
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
        DirectBytes::advance(self, cnt);
    }

    /// Without copying: the result pins the block.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.split_to(len).into()
    }
}

impl From<DirectBytes> for Bytes {
    /// Without copying: the `Bytes` owns the handle, and the block is reclaimed when its last clone goes. Allocates once,
    /// as every `Bytes` with an owner does; an empty or static buffer allocates nothing.
    fn from(direct: DirectBytes) -> Bytes {
        if direct.handle.is_none() {
            // SAFETY: memory without a handle is static.
            return Bytes::from_static(unsafe {
                slice::from_raw_parts(direct.ptr.as_ptr(), direct.len)
            });
        }
        Bytes::from_owner(direct)
    }
}

impl From<DirectBytes> for Vec<u8> {
    /// A copy on the heap.
    fn from(direct: DirectBytes) -> Vec<u8> {
        direct.to_vec()
    }
}

impl From<&'static [u8]> for DirectBytes {
    fn from(bytes: &'static [u8]) -> DirectBytes {
        DirectBytes::from_static(bytes)
    }
}

impl From<&'static str> for DirectBytes {
    fn from(text: &'static str) -> DirectBytes {
        DirectBytes::from_static(text.as_bytes())
    }
}

impl From<DirectBytesMut> for DirectBytes {
    fn from(buffer: DirectBytesMut) -> DirectBytes {
        buffer.freeze()
    }
}

impl IntoIterator for DirectBytes {
    type Item = u8;
    type IntoIter = IntoIter<DirectBytes>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter::new(self)
    }
}

impl<'a> IntoIterator for &'a DirectBytes {
    type Item = &'a u8;
    type IntoIter = slice::Iter<'a, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
