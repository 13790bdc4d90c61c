//! The shared buffer.

use std::ops::{Bound, Deref, RangeBounds};
use std::ptr::NonNull;
use std::slice;

use bytes::{Buf, Bytes};

use super::DirectBytesMut;
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
    ptr: NonNull<u8>,
    len: usize,
    /// None for empty buffers.
    handle: Option<Handle>,
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
    pub(super) unsafe fn from_parts(ptr: NonNull<u8>, len: usize, handle: Handle) -> Self {
        if len == 0 {
            return Self::empty_at(ptr);
        }
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

    /// Whether this is the block's only handle; `false` for empty buffers, which have none. Another thread that holds
    /// a handle may let go of it at any moment, so `false` can be out of date; `true` can not.
    pub fn is_unique(&self) -> bool {
        self.handle.as_ref().is_some_and(Handle::is_unique)
    }

    /// Bytes of the block that this handle pins: what it costs the limit.
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
        let begin = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n.checked_add(1).expect("out of range"),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => n.checked_add(1).expect("out of range"),
            Bound::Excluded(&n) => n,
            Bound::Unbounded => self.len,
        };
        assert!(
            begin <= end,
            "range start must not be greater than end: {begin:?} <= {end:?}"
        );
        assert!(
            end <= self.len,
            "range end out of bounds: {end:?} <= {:?}",
            self.len
        );
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
            handle: self.handle.as_ref().filter(|_| len > 0).cloned(),
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
        front
    }

    /// Shortens the buffer to `len` bytes; does nothing where it is shorter.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            self.let_go_if_empty();
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

    /// The memory as a writable buffer again, if this is its only handle. O(1), no copy; the capacity reaches to the
    /// end of the block.
    ///
    /// # Errors
    ///
    /// Gives the buffer back where other handles share the block, and where it is empty and has none.
    pub fn try_into_mut(mut self) -> Result<DirectBytesMut, DirectBytes> {
        match self.handle.take_if(|handle| handle.is_unique()) {
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
        // SAFETY: the handle keeps the block live, the bytes were written before `freeze`, and are immutable since.
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
    /// as every `Bytes` with an owner does.
    fn from(direct: DirectBytes) -> Bytes {
        if direct.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(direct)
    }
}

impl From<DirectBytesMut> for DirectBytes {
    fn from(buffer: DirectBytesMut) -> DirectBytes {
        buffer.freeze()
    }
}

impl<'a> IntoIterator for &'a DirectBytes {
    type Item = &'a u8;
    type IntoIter = slice::Iter<'a, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
