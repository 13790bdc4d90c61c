//! The pool itself.

use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use offheap::{DirectBytesMut, Pool, Reserve};
use pin_project_lite::pin_project;

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
    // Not another `async fn` around it: that would be one more future, which is not ours.
    #[inline(always)]
    fn take(&self, n: usize) -> impl Future<Output = Result<DirectBytesMut, Failed>> + Send {
        Taking {
            reserve: self.0.reserve(n),
        }
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

pin_project! {
    /// A reservation, with the error that all peers have.
    struct Taking<'a> {
        #[pin]
        reserve: Reserve<'a>,
    }
}

impl Future for Taking<'_> {
    type Output = Result<DirectBytesMut, Failed>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().reserve.poll(cx)).map_err(|_| Failed))
    }
}
