//! One read into a pooled buffer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use pin_project_lite::pin_project;

use super::fill::poll_fill;
use super::ReadReady;
use crate::{DirectBytesMut, Pool, Reserve};

/// Reads what `stream` has, at least a byte, into a pooled buffer for at least `n` bytes. An empty buffer, which pins nothing, is
/// the end.
///
/// Readiness first, buffer second: while the peer is silent no buffer is held. When bytes are there, the reservation takes its
/// place in the queue and keeps it. After a false alarm the buffer goes back before the next wait.
///
/// `n` is what is reserved; a read may fill the whole of the buffer's size class. With `n` of 0 it reads nothing: the buffer has no
/// room.
///
/// # Errors
///
/// Those of the stream, and those of [`Pool::reserve`] as [`io::Error`].
///
/// # Cancel safety
///
/// Dropping the future loses no byte: what was not read is still in the stream.
///
/// # Examples
///
/// ```
/// use offheap::io::read_pooled;
/// use tokio::io::AsyncWriteExt;
/// use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let (mut here, mut there) = UnixStream::pair()?;
/// there.write_all(b"hello").await?;
/// drop(there);
/// assert_eq!(read_pooled(&mut here, &pool, 4096).await?[..], *b"hello");
/// assert!(read_pooled(&mut here, &pool, 4096).await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn read_pooled<'a, S: ReadReady + Unpin + ?Sized>(
    stream: &'a mut S,
    pool: &'a Pool,
    n: usize,
) -> ReadPooled<'a, S> {
    ReadPooled {
        stream,
        pool,
        n,
        reserve: pool.reserve(n),
        reserved: false,
    }
}

pin_project! {
    /// A read that waits for bytes first and for memory second. From [`read_pooled`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ReadPooled<'a, S: ?Sized> {
        stream: &'a mut S,
        pool: &'a Pool,
        n: usize,
        #[pin]
        reserve: Reserve<'a>,
        // The reservation was used up by a false alarm.
        reserved: bool,
    }
}

impl<S: ReadReady + Unpin + ?Sized> Future for ReadPooled<'_, S> {
    type Output = io::Result<DirectBytesMut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if *this.n == 0 {
            return Poll::Ready(Ok(DirectBytesMut::default()));
        }
        ready!(Pin::new(&mut **this.stream).poll_read_ready(cx))?;
        if std::mem::take(this.reserved) {
            this.reserve.set(this.pool.reserve(*this.n));
        }
        let mut buffer = ready!(this.reserve.as_mut().poll(cx))?;
        *this.reserved = true;
        // `Pending` drops the buffer, and the stream has our waker.
        let n = ready!(poll_fill(
            Pin::new(&mut **this.stream),
            cx,
            &mut buffer,
            usize::MAX
        ))?;
        if n == 0 {
            buffer = DirectBytesMut::default();
        }
        Poll::Ready(Ok(buffer))
    }
}
