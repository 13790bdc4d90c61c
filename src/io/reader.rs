//! A buffered reader that has a buffer only while there are bytes in it.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use futures::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::ask::Ask;
use super::fill::poll_fill;
use super::pace::Pace;
use super::pass::pass_writes_on;
use super::ReadReady;
use crate::{DirectBytes, Pool};

/// `BufReader` over pooled memory: it takes a buffer when there is something to read, and gives it back when that is
/// drained.
///
/// * As [`AsyncBufRead`] it shows what is in the buffer; `consume` of the last byte gives the buffer back.
/// * As [`AsyncRead`] it fills the caller's buffer, directly where that is as large as its own would be.
/// * As a [`Stream`] it yields what each read brings as [`DirectBytes`], without a copy, and ends at the end of the source. After
///   an error it can be asked again.
///
/// The buffer's size follows the traffic, from 4 KiB to 256 KiB and never more than a sixteenth of the pool's limit (or
/// 4 KiB), unless [`with_capacity`](Self::with_capacity) says otherwise. Writing is passed on to what is inside.
///
/// # Cancel safety
///
/// Reads that are dropped lose no bytes. A read that waits for memory keeps its place in the queue, also while nobody polls: drop
/// the reader, or call [`release`](Self::release), if it is not to be polled for long.
///
/// # Examples
///
/// ```
/// use offheap::io::PooledReader;
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
/// use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let (here, mut there) = UnixStream::pair()?;
/// there.write_all(b"one\ntwo\n").await?;
///
/// let mut reader = PooledReader::new(here, &pool);
/// let mut line = String::new();
/// reader.read_line(&mut line).await?;
/// reader.read_line(&mut line).await?;
/// assert_eq!(line, "one\ntwo\n");
/// assert_eq!(pool.stats().live, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PooledReader<R> {
    inner: R,
    ask: Ask,
    pace: Pace,
    /// Has memory only while it has bytes.
    bytes: DirectBytes,
}

impl<R> PooledReader<R> {
    /// A reader without memory. Takes nothing before there is something to read.
    pub fn new(inner: R, pool: &Pool) -> Self {
        PooledReader {
            inner,
            ask: Ask::new(pool),
            pace: Pace::new(),
            bytes: DirectBytes::new(),
        }
    }

    /// A reader that takes buffers for `capacity` bytes, whatever the traffic.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0.
    pub fn with_capacity(inner: R, pool: &Pool, capacity: usize) -> Self {
        assert!(capacity > 0, "a reader can not read into 0 bytes");
        PooledReader {
            pace: Pace::fixed(capacity),
            ..PooledReader::new(inner, pool)
        }
    }

    /// What is inside. Reading from it directly overtakes the bytes in the buffer.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// What is inside; see [`get_ref`](Self::get_ref).
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// The pool that buffers come from.
    pub fn pool(&self) -> &Pool {
        self.ask.pool()
    }

    /// What was read and not yet consumed.
    pub fn buffer(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes what was read and not yet consumed, without a copy. Empty where there is nothing.
    pub fn take_buffer(&mut self) -> DirectBytes {
        std::mem::take(&mut self.bytes)
    }

    /// Gives up the place in the pool's queue, or the memory that was granted and not yet taken. The next read asks anew.
    pub fn release(&mut self) {
        self.ask.cancel();
    }

    /// Gives back what is inside. What [`buffer`](Self::buffer) shows is lost.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: ReadReady + Unpin> PooledReader<R> {
    /// Reads until there are bytes in the buffer, or the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !self.ask.is_waiting() {
            ready!(Pin::new(&mut self.inner).poll_read_ready(cx))?;
        }
        // `Pending` drops the buffer, and the source has our waker.
        let size = self.pace.size(self.ask.pool());
        let mut buffer = ready!(self.ask.poll_paced(cx, size, &self.pace))?;
        let source = Pin::new(&mut self.inner);
        let n = ready!(poll_fill(source, cx, &mut buffer, usize::MAX))?;
        self.pace.read(n, buffer.capacity());
        self.bytes = buffer.freeze();
        Poll::Ready(Ok(()))
    }
}

impl<R: ReadReady + Unpin> AsyncBufRead for PooledReader<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_bytes(cx))?;
        Poll::Ready(Ok(&this.bytes))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        let amount = amount.min(this.bytes.len());
        this.bytes.advance(amount);
    }
}

impl<R: ReadReady + Unpin> AsyncRead for PooledReader<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            if buf.remaining() >= this.pace.size(this.ask.pool()) {
                // A place in the queue is of no use then.
                this.release();
                return Pin::new(&mut this.inner).poll_read(cx, buf);
            }
            ready!(this.poll_bytes(cx))?;
        }
        let n = this.bytes.len().min(buf.remaining());
        buf.put_slice(&this.bytes[..n]);
        this.bytes.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<R: ReadReady + Unpin> Stream for PooledReader<R> {
    type Item = io::Result<DirectBytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let bytes = ready!(this.poll_bytes(cx)).map(|()| this.take_buffer());
        Poll::Ready(match bytes {
            Ok(bytes) if bytes.is_empty() => None,
            bytes => Some(bytes),
        })
    }
}

pass_writes_on!(PooledReader);
