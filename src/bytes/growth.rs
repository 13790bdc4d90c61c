//! Growth: a buffer that does not suffice moves its contents to a larger block.
//!
//! The larger block is a reservation like any other: it waits its turn, and nothing is taken from the heap. Meanwhile the
//! smaller one stays as it is, so that the limit has to have room for both. Where it can not have, growing fails at once.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use pin_project_lite::pin_project;

use super::DirectBytesMut;
use crate::arena::Handle;
use crate::engine::{Claim, Engine, HasEngine, Refused, Wait};
use crate::error::{Refusal, ReserveError, TryReserveError};

impl DirectBytesMut {
    /// Makes room for `additional` more bytes: in the block that the buffer has, where that suffices and no other handle shares
    /// it, and otherwise by waiting for a larger block and moving there.
    ///
    /// Waits as [`Pool::reserve`](crate::Pool::reserve) does, first come, first served. The contents stay, and the smaller block is given
    /// back once they have moved. O(len). Size classes are about a fifth apart, so that growing little by little costs O(1) per byte
    /// all the same.
    ///
    /// Growing holds memory while it waits for more: buffers that grow at the same time, at the limit, can wait for each
    /// other for ever. Reserve enough at first, put parts together in a [`DirectRope`](crate::DirectRope), or limit the wait:
    /// `tokio::time::timeout(d, buf.grow(n))`.
    ///
    /// # Errors
    ///
    /// As for [`Pool::reserve`](crate::Pool::reserve); [`TooLarge`](ReserveError::TooLarge) also where the limit can not have room for
    /// both blocks; [`Closed`](ReserveError::Closed) also where all handles to the pool are gone;
    /// [`NoPool`](ReserveError::NoPool) where the buffer never had memory. The buffer is as it was before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the buffer is as it was before, and the memory goes to whoever is next.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::BufMut;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let mut buf = pool.reserve(256).await?;
    /// buf.put_bytes(b'x', 256);
    /// buf.grow(1000).await?;
    /// assert!(buf.len() == 256 && buf.remaining_mut() >= 1000);
    /// assert_eq!(pool.stats().buffers, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn grow(&mut self, additional: usize) -> Grow<'_> {
        Grow {
            buffer: self,
            additional,
            site: Location::caller(),
            wait: None,
        }
    }

    /// [`grow`](Self::grow) without waiting.
    ///
    /// # Errors
    ///
    /// As for [`Pool::try_reserve`](crate::Pool::try_reserve), and those of [`grow`](Self::grow). The buffer is as it was before.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::BufMut;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let mut buf = pool.try_reserve(256)?;
    /// buf.put_bytes(b'x', 256);
    /// buf.try_grow(1000)?;
    /// assert!(buf.try_grow(2 << 20).is_err());
    /// assert!(buf.len() == 256 && buf.remaining_mut() >= 1000);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn try_grow(&mut self, additional: usize) -> Result<(), TryReserveError> {
        if self.make_room(additional, |_, _| true) {
            return Ok(());
        }
        let Some(handle) = &self.handle else {
            let refusal = Refusal::without_pool(additional as u64);
            return Err(TryReserveError::NoPool { refusal });
        };
        let site = Location::caller();
        let engine = Engine::of(handle);
        let n = self.len().saturating_add(additional);
        let beside = beside(handle, n);
        let block = match engine.is_closed() || engine.fits(&Claim::beside(n, beside, site)) {
            true => engine.try_obtain(n),
            false => Err(Refused::TooLarge),
        };
        match block {
            Ok(block) => {
                let larger = block.lease(n, site, engine.tick());
                self.move_to(larger);
                Ok(())
            }
            Err(why) => Err(TryReserveError::new(engine, n as u64, beside, why)),
        }
    }
}

impl DirectBytesMut {
    /// Pages of this buffer's block that stay in use while a block for `n` bytes is waited for, and why there can be no such block
    /// beside them, if so.
    #[cfg_attr(not(feature = "io"), allow(dead_code))]
    pub(crate) fn beside(&self, n: usize) -> Result<u32, ReserveError> {
        let Some(handle) = &self.handle else {
            return Ok(0);
        };
        let (engine, beside) = (Engine::of(handle), beside(handle, n));
        if engine.is_closed() || engine.fits(&Claim::beside(n, beside, Location::caller())) {
            return Ok(beside);
        }
        let why = Refused::TooLarge;
        Err(ReserveError::new(engine, n as u64, beside, why))
    }
}

/// Pages of the block that stay in use while `n` bytes are waited for: its span, unless the other block may lie in the same one.
fn beside(handle: &Handle, n: usize) -> u32 {
    let class = handle.header().class();
    let next = handle.engine().arena().class_for(n);
    if class.per_span() > 1 && next.is_some_and(|next| next.id() == class.id()) {
        return 0;
    }
    class.pages()
}

pin_project! {
    /// A buffer that waits for a larger block. From [`DirectBytesMut::grow`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Grow<'a> {
        buffer: &'a mut DirectBytesMut,
        additional: usize,
        site: &'static Location<'static>,
        // From the first poll that has to wait on. Its handle to the smaller block keeps the pool.
        #[pin]
        wait: Option<Wait<Handle>>,
    }
}

impl Future for Grow<'_> {
    type Output = Result<(), ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let n = this.buffer.len().saturating_add(*this.additional);
        if this.wait.is_none() {
            if this.buffer.make_room(*this.additional, |_, _| true) {
                return Poll::Ready(Ok(()));
            }
            let Some(handle) = &this.buffer.handle else {
                let refusal = Refusal::without_pool(*this.additional as u64);
                return Poll::Ready(Err(ReserveError::NoPool { refusal }));
            };
            let claim = Claim::beside(n, beside(handle, n), this.site);
            this.wait.set(Some(Wait::new(handle.clone(), claim)));
        }
        let Some(wait) = this.wait.as_ref().as_pin_ref() else {
            unreachable!("set above");
        };
        let mut larger = None;
        let done = ready!(wait.poll(cx, |granted| larger = granted));
        let done = match (done, larger) {
            (Ok(()), Some(larger)) => {
                this.buffer.move_to(larger);
                Ok(())
            }
            (Ok(()), None) => unreachable!("more than nothing was asked for"),
            (Err(why), _) => {
                let handle = wait.pool();
                Err(ReserveError::new(
                    handle.engine(),
                    n as u64,
                    beside(handle, n),
                    why,
                ))
            }
        };
        // The last handle to the smaller block.
        this.wait.set(None);
        Poll::Ready(done)
    }
}
