//! A range of a buffer, as the methods that take one understand it.

use std::ops::{Bound, RangeBounds};

/// Where the range begins and ends in a buffer of `len` bytes.
///
/// # Panics
///
/// If it does not lie within the buffer, or begins after its end.
#[inline]
pub(super) fn within(range: impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let after = |n: usize| n.checked_add(1).expect("out of range");
    let begin = match range.start_bound() {
        Bound::Included(&n) => n,
        Bound::Excluded(&n) => after(n),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&n) => after(n),
        Bound::Excluded(&n) => n,
        Bound::Unbounded => len,
    };
    assert!(
        begin <= end,
        "range start must not be greater than end: {begin:?} <= {end:?}"
    );
    assert!(end <= len, "range end out of bounds: {end:?} <= {len:?}");
    (begin, end)
}
