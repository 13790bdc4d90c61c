//! The pool itself.

use std::mem::MaybeUninit;

use offheap::{DirectBytesMut, Pool};

use super::{Failed, Kind, Lease, Limited, Peer};

/// `offheap::Pool`, with default settings.
#[derive(Debug, Clone)]
pub struct Offheap(Pool);

impl Peer for Offheap {
    const NAME: &'static str = "offheap";
    const KIND: Kind = Kind::Ours;
    const LIMIT: &'static str = "bytes, waits";
    const CRATES: &'static [&'static str] = &["offheap"];

    type Lease = DirectBytesMut;

    fn new(limit: usize, _size: usize) -> Self {
        Offheap(Pool::builder().limit(limit).build().expect("address space"))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> DirectBytesMut {
        self.0.try_reserve(n).expect("room")
    }
}

impl Limited for Offheap {
    #[inline(always)]
    async fn take(&self, n: usize) -> Result<DirectBytesMut, Failed> {
        self.0.reserve(n).await.map_err(|_| Failed)
    }

    fn take_blocking(&self, n: usize) -> Result<DirectBytesMut, Failed> {
        self.0.reserve_blocking(n).map_err(|_| Failed)
    }
}

impl Lease for DirectBytesMut {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        self.spare_capacity_mut()
    }
}
