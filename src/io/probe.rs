//! Readiness for sources that have none.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::pass::pass_writes_on;
use super::ReadReady;

/// As much as is held for each silent source.
const SMALL: usize = 64;

/// Makes a [`ReadReady`] of a source that can not say whether a read would wait: a TLS stream, a compressed one, a
/// channel.
///
/// It finds out by reading: into a buffer of 64 bytes of its own, the one small buffer that it holds while the
/// source is silent. That buffer is part of this value, not of a pool. What it brought is handed out first by the read that
/// follows, which goes on to fill the rest of its buffer from the source, as far as the source has bytes at hand.
///
/// Writing is passed on, so that [`copy_bidirectional`](super::copy_bidirectional) takes it.
///
/// # Examples
///
/// ```
/// use offheap::io::{read_pooled, Probe};
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let (mut there, here) = tokio::io::duplex(1024);
/// let mut here = Probe::new(here);
/// there.write_all(&[7; 1000]).await?;
/// assert_eq!(read_pooled(&mut here, &pool, 4096).await?[..], [7; 1000]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Probe<S> {
    inner: S,
    small: [u8; SMALL],
    /// The part of `small` that is not handed out yet.
    start: u8,
    end: u8,
    /// The source came to its end when it was asked.
    ended: bool,
    /// It failed after it had brought bytes.
    failed: Option<io::Error>,
}

impl<S> Probe<S> {
    /// Nothing is read yet.
    pub fn new(inner: S) -> Self {
        Probe {
            inner,
            small: [0; SMALL],
            start: 0,
            end: 0,
            ended: false,
            failed: None,
        }
    }

    /// What is inside. Reading from it directly overtakes the bytes in the small buffer.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// What is inside; see [`get_ref`](Self::get_ref).
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// What was read ahead, at most 64 bytes.
    pub fn buffer(&self) -> &[u8] {
        &self.small[usize::from(self.start)..usize::from(self.end)]
    }

    /// Gives the source back. What [`buffer`](Self::buffer) shows is lost.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Probe<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.ended) {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Err(error));
        }
        if this.buffer().is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let n = this.buffer().len().min(buf.remaining());
        buf.put_slice(&this.buffer()[..n]);
        this.start += n as u8;
        let full = usize::from(this.end) == SMALL;
        if full && this.buffer().is_empty() && buf.remaining() > 0 {
            // There may be more at hand. If not, what was put is the answer.
            if let Poll::Ready(Err(error)) = Pin::new(&mut this.inner).poll_read(cx, buf) {
                this.failed = Some(error);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> ReadReady for Probe<S> {
    fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended && this.failed.is_none() && this.buffer().is_empty() {
            let mut small = ReadBuf::new(&mut this.small);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut small))?;
            let n = small.filled().len();
            (this.start, this.end, this.ended) = (0, n as u8, n == 0);
        }
        Poll::Ready(Ok(()))
    }
}

pass_writes_on!(Probe);
