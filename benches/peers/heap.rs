//! `BytesMut` from the system's allocator: no limit, no waiting.

use bytes::BytesMut;

use super::Peer;

/// `BytesMut::with_capacity`.
#[derive(Debug, Clone)]
pub struct Heap;

impl Peer for Heap {
    const NAME: &'static str = "BytesMut";

    type Lease = BytesMut;

    fn new(_limit: usize) -> Self {
        Heap
    }

    #[inline]
    fn try_take(&self, n: usize) -> BytesMut {
        BytesMut::with_capacity(n)
    }
}
