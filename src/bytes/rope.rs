//! [`DirectRope`]: a message in parts.
//!
//! A deque of buffers, none of them empty, and the sum of their lengths. Whatever takes from the front lets go of each part as soon
//! as it is used up, so that a rope gives its memory back while it is read.

use std::cmp::Ordering;
use std::collections::{vec_deque, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::io::IoSlice;
use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pin_project_lite::pin_project;

use super::{format, range, DirectBytes, DirectBytesMut};
use crate::error::{ReserveError, TryReserveError};
use crate::pool::Pool;
use crate::reserve::Reserve;

/// A chain of [`DirectBytes`] that reads as one buffer: Netty's `CompositeByteBuf`, folly's `IOBuf`.
///
/// Putting a message together from what arrived in pieces copies nothing: parts are appended and prepended in O(1), taken apart by
/// [`split_to`](Self::split_to), and written with one vectored write, since [`Buf::chunks_vectored`] is real. Reading lets go of each
/// part when it is used up.
///
/// The list of parts is on the heap, a few words for each; the bytes never are, but in [`Buf::copy_to_bytes`] across parts.
///
/// # Examples
///
/// ```
/// use bytes::Buf;
/// use offheap::DirectRope;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let mut rope = DirectRope::new();
/// rope.push_back(pool.copy_from_slice(b"hello ").await?);
/// rope.push_back(pool.copy_from_slice(b"world").await?);
/// rope.push_front(pool.copy_from_slice(&11_u32.to_be_bytes()).await?);
///
/// assert_eq!(rope.get_u32(), 11);
/// assert_eq!(pool.stats().buffers, 2, "the first part is used up");
/// assert_eq!(rope, "hello world");
/// let whole = rope.to_contiguous(&pool).await?;
/// assert_eq!(whole, "hello world");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct DirectRope {
    /// None of them is empty.
    parts: VecDeque<DirectBytes>,
    /// The sum of their lengths.
    len: usize,
}

impl DirectRope {
    /// A rope without parts. Allocates nothing.
    pub const fn new() -> Self {
        DirectRope {
            parts: VecDeque::new(),
            len: 0,
        }
    }

    /// Bytes in all parts.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes, and so no parts.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many parts there are; none of them is empty.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The parts, in order.
    pub fn parts(&self) -> Parts<'_> {
        Parts(self.parts.iter())
    }

    /// Bytes of the blocks that the parts pin: what they cost the limit at most. A block that several parts share counts for each.
    pub fn block_len(&self) -> usize {
        self.parts.iter().map(DirectBytes::block_len).sum()
    }

    /// Appends a part. O(1), amortised over the growth of the list. An empty one is dropped.
    ///
    /// # Panics
    ///
    /// If the rope would have more than `usize::MAX` bytes.
    pub fn push_back(&mut self, part: DirectBytes) {
        self.add(part.len());
        if !part.is_empty() {
            self.parts.push_back(part);
        }
    }

    /// Prepends a part. O(1), amortised over the growth of the list. An empty one is dropped.
    ///
    /// # Panics
    ///
    /// If the rope would have more than `usize::MAX` bytes.
    pub fn push_front(&mut self, part: DirectBytes) {
        self.add(part.len());
        if !part.is_empty() {
            self.parts.push_front(part);
        }
    }

    /// Appends all parts of another rope. O(its parts), no copy of bytes.
    ///
    /// # Panics
    ///
    /// If the rope would have more than `usize::MAX` bytes.
    pub fn append(&mut self, mut other: DirectRope) {
        self.add(other.len);
        self.parts.append(&mut other.parts);
    }

    /// Many parts can be handles to the same bytes, so that this is not impossible.
    fn add(&mut self, more: usize) {
        let len = self.len.checked_add(more);
        self.len = len.expect("a rope has at most usize::MAX bytes");
    }

    /// Takes the last part.
    pub fn pop_back(&mut self) -> Option<DirectBytes> {
        let part = self.parts.pop_back()?;
        self.len -= part.len();
        Some(part)
    }

    /// Takes the first part.
    pub fn pop_front(&mut self) -> Option<DirectBytes> {
        let part = self.parts.pop_front()?;
        self.len -= part.len();
        Some(part)
    }

    /// Takes the first `at` bytes; this rope keeps the rest. O(parts taken), no copy of bytes.
    ///
    /// # Panics
    ///
    /// If `at > len()`.
    #[must_use = "consider DirectRope::advance if you don't need the other half"]
    pub fn split_to(&mut self, at: usize) -> DirectRope {
        assert!(
            at <= self.len,
            "split_to out of bounds: {at:?} <= {:?}",
            self.len
        );
        if at == self.len {
            return std::mem::take(self);
        }
        let mut front = DirectRope::new();
        while front.len < at {
            let wanted = at - front.len;
            match self.parts.front_mut() {
                Some(part) if part.len() > wanted => front.push_back(part.split_to(wanted)),
                _ => front.extend(self.parts.pop_front()),
            }
        }
        self.len -= at;
        front
    }

    /// Takes `[at, len)`; this rope keeps the first `at` bytes. O(parts taken), no copy of bytes.
    ///
    /// # Panics
    ///
    /// If `at > len()`.
    #[must_use = "consider DirectRope::truncate if you don't need the other half"]
    pub fn split_off(&mut self, at: usize) -> DirectRope {
        assert!(
            at <= self.len,
            "split_off out of bounds: {at:?} <= {:?}",
            self.len
        );
        let mut back = DirectRope::new();
        while self.len > at {
            let surplus = self.len - at;
            let Some(mut part) = self.pop_back() else {
                break;
            };
            if part.len() > surplus {
                back.push_front(part.split_off(part.len() - surplus));
                self.push_back(part);
            } else {
                back.push_front(part);
            }
        }
        back
    }

    /// Shortens the rope to `len` bytes, and lets go of the parts behind them; does nothing where it is shorter.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            drop(self.split_off(len));
        }
    }

    /// Lets go of all parts.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.len = 0;
    }

    /// Gives back what the list of parts has room for beyond `parts`, except what it needs.
    #[cfg(all(unix, feature = "io"))]
    pub(crate) fn shrink_list_to(&mut self, parts: usize) {
        self.parts.shrink_to(parts);
    }

    /// A rope of a part of this one's bytes. O(parts), no copy of bytes.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the rope, or begins after its end.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> DirectRope {
        let (begin, end) = range::within(range, self.len);
        let mut slice = DirectRope::new();
        let mut start = 0;
        for part in &self.parts {
            let (from, to) = (begin.max(start), end.min(start + part.len()));
            if from < to {
                slice.push_back(part.slice(from - start..to - start));
            }
            start += part.len();
        }
        slice
    }

    /// Removes the first `cnt` bytes, and lets go of the parts that are used up. O(those parts).
    ///
    /// # Panics
    ///
    /// If `cnt > len()`.
    pub fn advance(&mut self, cnt: usize) {
        assert!(
            cnt <= self.len,
            "cannot advance past `remaining`: {cnt:?} <= {:?}",
            self.len
        );
        self.len -= cnt;
        let mut left = cnt;
        while let Some(part) = self.parts.front_mut() {
            if left < part.len() {
                part.advance(left);
                return;
            }
            left -= part.len();
            self.parts.pop_front();
        }
    }

    /// All bytes in one buffer: the only part where there is but one, and otherwise a copy in `pool`'s memory, for which it waits as
    /// [`Pool::reserve`] does. The parts stay as they are.
    ///
    /// A task that waits while it holds the rope can wait for itself, where the parts are of the same pool: see the crate's chapter
    /// [*What waits for what*](crate#what-waits-for-what).
    ///
    /// # Errors
    ///
    /// As for [`Pool::reserve`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Pool::reserve`].
    #[track_caller]
    pub fn to_contiguous<'a>(&'a self, pool: &'a Pool) -> ToContiguous<'a> {
        let n = if self.parts.len() > 1 { self.len } else { 0 };
        ToContiguous {
            reserve: pool.reserve(n),
            rope: self,
        }
    }

    /// [`to_contiguous`](Self::to_contiguous) without waiting.
    ///
    /// # Errors
    ///
    /// As for [`Pool::try_reserve`].
    #[track_caller]
    pub fn try_to_contiguous(&self, pool: &Pool) -> Result<DirectBytes, TryReserveError> {
        if let Some(only) = self.only() {
            return Ok(only);
        }
        Ok(self.copy_into(pool.try_reserve(self.len)?))
    }

    /// The whole rope, where it is in one part or none.
    fn only(&self) -> Option<DirectBytes> {
        match self.parts.len() {
            0 => Some(DirectBytes::new()),
            1 => self.parts.front().cloned(),
            _ => None,
        }
    }

    fn copy_into(&self, mut buffer: DirectBytesMut) -> DirectBytes {
        for part in &self.parts {
            buffer.extend_from_slice(part);
        }
        buffer.freeze()
    }

    /// Compares with bytes that lie in other parts.
    fn compare<'a>(&self, other: impl IntoIterator<Item = &'a [u8]>) -> Ordering {
        let mut ours = self.parts.iter().map(|part| &part[..]);
        let mut theirs = other.into_iter().filter(|part| !part.is_empty());
        let (mut a, mut b) = (&[][..], &[][..]);
        loop {
            if a.is_empty() {
                a = ours.next().unwrap_or_default();
            }
            if b.is_empty() {
                b = theirs.next().unwrap_or_default();
            }
            let both = a.len().min(b.len());
            if both == 0 {
                return a.len().cmp(&b.len());
            }
            match a[..both].cmp(&b[..both]) {
                Ordering::Equal => (a, b) = (&a[both..], &b[both..]),
                order => return order,
            }
        }
    }
}

impl Buf for DirectRope {
    #[inline]
    fn remaining(&self) -> usize {
        self.len
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| &part[..])
    }

    /// One slice for each part, as many as fit into `dst`.
    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let pairs = dst.iter_mut().zip(&self.parts);
        pairs
            .map(|(slice, part)| *slice = IoSlice::new(part))
            .count()
    }

    fn advance(&mut self, cnt: usize) {
        DirectRope::advance(self, cnt);
    }

    /// Without copying where the bytes lie in one part; otherwise a copy on the heap.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(
            len <= self.len,
            "`len` greater than remaining: {len:?} <= {:?}",
            self.len
        );
        match self.parts.front_mut() {
            Some(part) if len < part.len() => {
                self.len -= len;
                part.split_to(len).into()
            }
            Some(part) if len == part.len() => self.pop_front().unwrap_or_default().into(),
            _ => {
                let mut copy = BytesMut::with_capacity(len);
                copy.put(Buf::take(self, len));
                copy.freeze()
            }
        }
    }
}

pin_project! {
    /// A rope that becomes one buffer. From [`DirectRope::to_contiguous`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ToContiguous<'a> {
        #[pin]
        reserve: Reserve<'a>,
        rope: &'a DirectRope,
    }
}

impl Future for ToContiguous<'_> {
    type Output = Result<DirectBytes, ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(only) = this.rope.only() {
            return Poll::Ready(Ok(only));
        }
        let buffer = ready!(this.reserve.poll(cx))?;
        Poll::Ready(Ok(this.rope.copy_into(buffer)))
    }
}

/// The parts of a rope, in order. From [`DirectRope::parts`].
#[derive(Debug, Clone)]
pub struct Parts<'a>(vec_deque::Iter<'a, DirectBytes>);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a DirectBytes;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Parts<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back()
    }
}

impl ExactSizeIterator for Parts<'_> {}

impl<'a> IntoIterator for &'a DirectRope {
    type Item = &'a DirectBytes;
    type IntoIter = Parts<'a>;

    fn into_iter(self) -> Parts<'a> {
        self.parts()
    }
}

impl IntoIterator for DirectRope {
    /// The parts, in order.
    type Item = DirectBytes;
    type IntoIter = vec_deque::IntoIter<DirectBytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}

impl From<DirectBytes> for DirectRope {
    fn from(part: DirectBytes) -> DirectRope {
        DirectRope::from_iter([part])
    }
}

impl From<DirectBytesMut> for DirectRope {
    fn from(part: DirectBytesMut) -> DirectRope {
        part.freeze().into()
    }
}

impl FromIterator<DirectBytes> for DirectRope {
    fn from_iter<T: IntoIterator<Item = DirectBytes>>(parts: T) -> Self {
        let mut rope = DirectRope::new();
        rope.extend(parts);
        rope
    }
}

impl Extend<DirectBytes> for DirectRope {
    fn extend<T: IntoIterator<Item = DirectBytes>>(&mut self, parts: T) {
        for part in parts {
            self.push_back(part);
        }
    }
}

impl fmt::Debug for DirectRope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format::debug(self.parts.iter().flatten(), f)
    }
}

impl PartialEq for DirectRope {
    fn eq(&self, other: &DirectRope) -> bool {
        self.len == other.len && self.cmp(other).is_eq()
    }
}

impl Eq for DirectRope {}

impl PartialOrd for DirectRope {
    fn partial_cmp(&self, other: &DirectRope) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DirectRope {
    fn cmp(&self, other: &DirectRope) -> Ordering {
        self.compare(other.parts.iter().map(|part| &part[..]))
    }
}

impl Hash for DirectRope {
    /// By content, however it lies in parts.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len.hash(state);
        // Not every hasher takes two short writes for one long one.
        let mut rest = self.parts.iter().flatten();
        loop {
            let mut block = [0; 64];
            let filled = block
                .iter_mut()
                .zip(&mut rest)
                .map(|(to, from)| *to = *from)
                .count();
            state.write(&block[..filled]);
            if filled < block.len() {
                return;
            }
        }
    }
}

macro_rules! compare {
    ($($other:ty),+) => {$(
        impl PartialEq<$other> for DirectRope {
            fn eq(&self, other: &$other) -> bool {
                let other: &[u8] = other.as_ref();
                self.len == other.len() && self.compare([other]).is_eq()
            }
        }

        impl PartialEq<DirectRope> for $other {
            fn eq(&self, other: &DirectRope) -> bool {
                other == self
            }
        }

        impl PartialOrd<$other> for DirectRope {
            fn partial_cmp(&self, other: &$other) -> Option<Ordering> {
                Some(self.compare([other.as_ref()]))
            }
        }

        impl PartialOrd<DirectRope> for $other {
            fn partial_cmp(&self, other: &DirectRope) -> Option<Ordering> {
                other.partial_cmp(self).map(Ordering::reverse)
            }
        }
    )+};
}

compare!(
    [u8],
    str,
    Vec<u8>,
    String,
    Bytes,
    BytesMut,
    DirectBytes,
    DirectBytesMut
);

impl<'a, T: ?Sized> PartialEq<&'a T> for DirectRope
where
    DirectRope: PartialEq<T>,
{
    fn eq(&self, other: &&'a T) -> bool {
        *self == **other
    }
}

impl<'a, T: ?Sized> PartialOrd<&'a T> for DirectRope
where
    DirectRope: PartialOrd<T>,
{
    fn partial_cmp(&self, other: &&'a T) -> Option<Ordering> {
        self.partial_cmp(*other)
    }
}
