//! The weak handle.

use std::fmt;
use std::ptr::NonNull;

use super::DirectBytes;
use crate::arena::Weak;

/// A handle that does not keep its buffer: the JVM's `WeakReference`. From [`DirectBytes::downgrade`].
///
/// [`upgrade`](Self::upgrade) gives the same bytes again for as long as anyone keeps the block. Once the block was reclaimed, or has
/// become writable again by [`DirectBytes::try_into_mut`], it gives `None`, for good: whatever the memory holds later, a weak
/// handle never sees it.
///
/// It keeps no memory of the pool's limit; like the pool's own handles, it keeps the pool's address space and the block headers.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let bytes = pool.try_copy_from_slice(b"hello world")?;
/// let weak = bytes.slice(..5).downgrade();
/// assert_eq!(weak.upgrade().unwrap(), b"hello"[..]);
/// drop(bytes);
/// assert!(weak.upgrade().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WeakBytes {
    ptr: NonNull<u8>,
    len: usize,
    /// None for buffers without a block, which can not go away.
    weak: Option<Weak>,
}

// SAFETY: nothing is reached by way of the pointer but through a handle, and those are `Send` and `Sync`.
unsafe impl Send for WeakBytes {}
// SAFETY: as above.
unsafe impl Sync for WeakBytes {}

impl DirectBytes {
    /// A handle to the same bytes that does not keep them. O(1).
    pub fn downgrade(&self) -> WeakBytes {
        WeakBytes {
            ptr: self.ptr,
            len: self.len,
            weak: self.handle.as_ref().map(|handle| handle.downgrade()),
        }
    }
}

impl WeakBytes {
    /// The buffer, if its block is still kept by someone. One atomic operation; a buffer without a block, empty or static, can always be
    /// had.
    ///
    /// As long as the upgraded buffer is there, [`DirectBytes::try_into_mut`] fails for the others.
    pub fn upgrade(&self) -> Option<DirectBytes> {
        let Some(weak) = &self.weak else {
            return Some(DirectBytes {
                ptr: self.ptr,
                len: self.len,
                handle: None,
            });
        };
        let handle = weak.upgrade()?;
        // SAFETY: the block was not reclaimed since this was made from a buffer of that range, and did not become writable:
        // `upgrade` has compared the generation.
        Some(unsafe { DirectBytes::from_parts(self.ptr, self.len, handle) })
    }
}

impl fmt::Debug for WeakBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakBytes")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
