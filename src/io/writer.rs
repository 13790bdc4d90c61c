//! A buffered writer that has memory only while there are bytes in it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Buf;
use futures::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{DirectBytes, DirectBytesMut, DirectRope, Pool, TryReserveError};

/// `BufWriter`'s size, and twice over.
const CAPACITY: usize = 16 << 10;
/// So many parts are written by one call.
const GATHER: usize = 64;
/// A list of parts that has room for more than this many is not kept while it is empty.
const KEPT: usize = 16;
/// So many parts may wait, however small.
const PARTS: usize = 1024;

/// `BufWriter` over pooled memory, and a [`Sink`] of [`DirectBytes`].
///
/// * As [`AsyncWrite`] it gathers small writes in a pooled buffer, which it takes with the first byte and gives back when it is
///   written. Writes as large as the buffer go through.
/// * As a [`Sink`] it takes buffers without copying them, and writes many of them by one call where the stream can
///   (`writev`). Each is given back as soon as its last byte is written.
///
/// Both can be mixed; bytes leave in the order in which they came. It holds at most [`capacity`](Self::capacity) bytes and
/// one buffer more: then it writes before it takes more.
///
/// As with `BufWriter`, bytes are on their way only after `flush`; those in a writer that is dropped are lost.
///
/// # When the pool is empty
///
/// It never waits for memory: what can not be gathered goes straight to the stream, in smaller writes.
///
/// # Errors
///
/// Those of the stream. On a closed pool new bytes are refused by `NotConnected`; those that are held can still be flushed.
/// `io::Error`s of the stream leave held bytes in place.
///
/// # Cancel safety
///
/// Bytes are taken when the call says so, by a number of bytes or by `start_send`; a `flush` that is dropped can be repeated.
///
/// # Examples
///
/// ```
/// use futures::SinkExt;
/// use offheap::io::PooledWriter;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let mut writer = PooledWriter::new(Vec::new(), &pool);
/// writer.write_all(b"head: ").await?;
/// writer.feed(pool.try_copy_from_slice(b"body")?).await?;
/// assert!(writer.get_ref().is_empty());
/// SinkExt::<offheap::DirectBytes>::flush(&mut writer).await?;
/// assert_eq!(writer.get_ref(), b"head: body");
/// assert_eq!(pool.stats().live, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PooledWriter<W> {
    inner: W,
    pool: Pool,
    capacity: usize,
    /// What is to be written, in order.
    rope: DirectRope,
    /// Behind all of them: what small writes gather in.
    tail: DirectBytesMut,
}

impl<W> PooledWriter<W> {
    /// A writer without memory, for up to 16 KiB.
    pub fn new(inner: W, pool: &Pool) -> Self {
        Self::with_capacity(inner, pool, CAPACITY)
    }

    /// A writer that gathers up to `capacity` bytes before it writes. With 0 it writes through.
    pub fn with_capacity(inner: W, pool: &Pool, capacity: usize) -> Self {
        PooledWriter {
            inner,
            pool: pool.clone(),
            capacity,
            rope: DirectRope::new(),
            tail: DirectBytesMut::default(),
        }
    }

    /// What is inside. Writing to it directly overtakes the bytes that are held.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// What is inside; see [`get_ref`](Self::get_ref).
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    /// Bytes that are held and not yet written.
    pub fn buffered(&self) -> usize {
        self.rope.len() + self.tail.len()
    }

    /// As many bytes are gathered before they are written.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Gives back what is inside, and the bytes that were not written, in order.
    pub fn into_parts(mut self) -> (W, DirectRope) {
        self.seal();
        (self.inner, self.rope)
    }

    /// What was gathered so far becomes a part of the rope.
    fn seal(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        self.rope.push_back(tail.freeze());
    }

    fn is_full(&self) -> bool {
        self.buffered() >= self.capacity || self.rope.part_count() >= PARTS
    }
}

impl<W: AsyncWrite + Unpin> PooledWriter<W> {
    /// Writes all that is held.
    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seal();
        while !self.rope.is_empty() {
            let inner = Pin::new(&mut self.inner);
            let n = if self.rope.part_count() > 1 && inner.is_write_vectored() {
                let mut slices = [IoSlice::new(&[]); GATHER];
                let used = self.rope.chunks_vectored(&mut slices);
                ready!(inner.poll_write_vectored(cx, &slices[..used]))?
            } else {
                ready!(inner.poll_write(cx, self.rope.chunk()))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rope.advance(n);
        }
        self.rope.shrink_list_to(KEPT);
        Poll::Ready(Ok(()))
    }

    /// Gathers what fits of `bytes`; `None` where they have to be written through.
    fn gather(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        if self.tail.len() == self.tail.capacity() {
            self.seal();
            // The rest of what may be held, so that the first small write does not take it all.
            let room = self.capacity.saturating_sub(self.rope.len());
            match self.pool.try_reserve(room.max(bytes.len())) {
                Ok(tail) => self.tail = tail,
                Err(error @ (TryReserveError::Closed { .. } | TryReserveError::Os { .. })) => {
                    return Err(error.into())
                }
                Err(_) => return Ok(None),
            }
        }
        let n = bytes.len().min(self.tail.capacity() - self.tail.len());
        self.tail.extend_from_slice(&bytes[..n]);
        Ok(Some(n))
    }

    fn check_open(&self) -> io::Result<()> {
        if self.pool.is_closed() {
            // A reservation of no bytes has the text.
            self.pool.try_reserve(0)?;
        }
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for PooledWriter<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_open()?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.buffered() > 0 && (this.is_full() || this.buffered() + buf.len() > this.capacity) {
            ready!(this.poll_write_all(cx))?;
        }
        if buf.len() < this.capacity {
            if let Some(n) = this.gather(buf)? {
                return Poll::Ready(Ok(n));
            }
            ready!(this.poll_write_all(cx))?;
        }
        Pin::new(&mut this.inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_all(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_all(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<W: AsyncWrite + Unpin> Sink<DirectBytes> for PooledWriter<W> {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_open()?;
        if this.is_full() {
            ready!(this.poll_write_all(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, bytes: DirectBytes) -> io::Result<()> {
        let this = self.get_mut();
        this.seal();
        this.rope.push_back(bytes);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for PooledWriter<W> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}
