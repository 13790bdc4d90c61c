//! Waiting as `java.nio.Bits.reserveMemory` does: a counter that a release merely lowers, and sleeping in between.
//!
//! There is no garbage collector to call and no cleaner to help, so what is left of it is the sleeping: 1, 2, 4 … 256 ms, and
//! then failure, after 511 ms in all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Charged, Failed, Kind, Limited, Peer};

const FIRST_SLEEP: Duration = Duration::from_millis(1);
const LAST_SLEEP: Duration = Duration::from_millis(256);

/// An atomic byte count with sleeping waiters, beside `BytesMut`.
#[derive(Debug, Clone)]
pub struct Backoff(&'static Count);

#[derive(Debug)]
struct Count {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes that were counted. Lowering the count wakes nobody.
#[derive(Debug)]
pub struct Counted {
    count: &'static Count,
    n: usize,
}

impl Drop for Counted {
    #[inline(always)]
    fn drop(&mut self) {
        self.count.used.fetch_sub(self.n, Ordering::Release);
    }
}

impl Backoff {
    #[inline(always)]
    fn charge(&self, n: usize) -> Option<Counted> {
        let Count { limit, used } = self.0;
        let charge = |used: usize| used.checked_add(n).filter(|sum| sum <= limit);
        let charged = used.fetch_update(Ordering::AcqRel, Ordering::Acquire, charge);
        charged.is_ok().then(|| Counted { count: self.0, n })
    }

    fn sleeps() -> impl Iterator<Item = Duration> + Send {
        std::iter::successors(Some(FIRST_SLEEP), |&sleep| {
            (sleep < LAST_SLEEP).then_some(sleep * 2)
        })
    }
}

impl Peer for Backoff {
    const NAME: &'static str = "sleep backoff";
    const KIND: Kind = Kind::Bounded;
    const LIMIT: &'static str = "bytes, sleeps";
    const CRATES: &'static [&'static str] = &["bytes"];

    type Lease = Charged<Counted>;

    fn new(limit: usize, _size: usize) -> Self {
        let used = AtomicUsize::new(0);
        Backoff(Box::leak(Box::new(Count { limit, used })))
    }

    #[inline(always)]
    fn try_take(&self, n: usize) -> Self::Lease {
        Charged::new(n, self.charge(n).expect("room"))
    }
}

impl Limited for Backoff {
    async fn take(&self, n: usize) -> Result<Self::Lease, Failed> {
        for sleep in Self::sleeps() {
            if let Some(counted) = self.charge(n) {
                return Ok(Charged::new(n, counted));
            }
            tokio::time::sleep(sleep).await;
        }
        let counted = self.charge(n).ok_or(Failed)?;
        Ok(Charged::new(n, counted))
    }

    fn take_blocking(&self, n: usize) -> Result<Self::Lease, Failed> {
        for sleep in Self::sleeps() {
            if let Some(counted) = self.charge(n) {
                return Ok(Charged::new(n, counted));
            }
            std::thread::sleep(sleep);
        }
        let counted = self.charge(n).ok_or(Failed)?;
        Ok(Charged::new(n, counted))
    }
}
