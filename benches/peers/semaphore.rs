//! The obvious home-made bounded pool: tokio's `Semaphore`, one permit per byte, beside `BytesMut`.

use std::mem::MaybeUninit;

use futures::executor::block_on;
use tokio::sync::{Semaphore as Tokio, SemaphorePermit};

use super::{Charged, Failed, Kind, Lease, Limited, Peer};

/// The semaphore alone, without memory: what waiting costs at least.
#[derive(Debug, Clone)]
pub struct Permits(&'static Tokio);

impl Peer for Permits {
    const NAME: &'static str = "Semaphore alone";
    const KIND: Kind = Kind::Bounded;
    const LIMIT: &'static str = "bytes, waits; no memory";
    const CRATES: &'static [&'static str] = &["tokio"];

    type Lease = SemaphorePermit<'static>;

    fn new(limit: usize, _size: usize) -> Self {
        Permits(Box::leak(Box::new(Tokio::new(limit))))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> SemaphorePermit<'static> {
        self.0.try_acquire_many(permits(n)).expect("room")
    }
}

impl Limited for Permits {
    #[inline(always)]
    async fn take(&self, n: usize) -> Result<SemaphorePermit<'static>, Failed> {
        self.0.acquire_many(permits(n)).await.map_err(|_| Failed)
    }

    fn take_blocking(&self, n: usize) -> Result<SemaphorePermit<'static>, Failed> {
        block_on(self.take(n))
    }
}

impl Lease for SemaphorePermit<'static> {
    #[inline(always)]
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut []
    }
}

/// Permits first, then `BytesMut::with_capacity`; both are dropped together.
#[derive(Debug, Clone)]
pub struct Semaphore(Permits);

impl Peer for Semaphore {
    const NAME: &'static str = "Semaphore + BytesMut";
    const KIND: Kind = Kind::Bounded;
    const LIMIT: &'static str = "bytes, waits";
    const CRATES: &'static [&'static str] = &["tokio", "bytes"];

    type Lease = Charged<SemaphorePermit<'static>>;

    fn new(limit: usize, size: usize) -> Self {
        Semaphore(Permits::new(limit, size))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Self::Lease {
        Charged::new(n, self.0.try_take(n))
    }
}

impl Limited for Semaphore {
    #[inline(always)]
    async fn take(&self, n: usize) -> Result<Self::Lease, Failed> {
        Ok(Charged::new(n, self.0.take(n).await?))
    }

    fn take_blocking(&self, n: usize) -> Result<Self::Lease, Failed> {
        Ok(Charged::new(n, self.0.take_blocking(n)?))
    }
}

/// Semaphores count in `u32`.
#[inline(always)]
fn permits(n: usize) -> u32 {
    u32::try_from(n).expect("scenarios ask for less than 4 GiB")
}
