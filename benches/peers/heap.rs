//! `BytesMut` from the system's allocator: no limit, no waiting.

use bytes::BytesMut;

use super::{Kind, Peer};

/// `BytesMut::with_capacity`.
#[derive(Debug, Clone)]
pub struct Heap;

impl Peer for Heap {
    const NAME: &'static str = "BytesMut";
    const KIND: Kind = Kind::Container;
    const LIMIT: &'static str = "none";
    const CRATES: &'static [&'static str] = &["bytes"];

    type Lease = BytesMut;

    fn new(_limit: usize, _size: usize) -> Self {
        Heap
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> BytesMut {
        BytesMut::with_capacity(n)
    }
}
