//! File descriptors that can be polled, as streams.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use rustix::fs::{fcntl_getfl, fcntl_setfl, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::ReadReady;

/// A file descriptor that can be polled, as a stream: terminals, FIFOs, network devices, sockets of other crates.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// use offheap::io::{read_pooled, ReadyFd};
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let (here, there) = UnixStream::pair()?;
/// let (mut here, mut there) = (ReadyFd::new(here)?, ReadyFd::new(there)?);
/// there.write_all(b"hello").await?;
/// assert_eq!(read_pooled(&mut here, &pool, 4096).await?[..], *b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReadyFd(AsyncFd<OwnedFd>);

impl ReadyFd {
    /// Makes the descriptor non-blocking and registers it with the runtime.
    ///
    /// # Errors
    ///
    /// Where the descriptor can not be polled, as regular files can not.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        let fd = fd.into();
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        // Deprecated because some types change the descriptor that they stand for. An owned one does not, and the function
        // that replaces it is not in every tokio that is allowed.
        #[allow(deprecated)]
        let registered = AsyncFd::with_interest(fd, Interest::READABLE | Interest::WRITABLE);
        registered.map(ReadyFd)
    }

    /// Deregisters the descriptor. It stays non-blocking.
    pub fn into_inner(self) -> OwnedFd {
        self.0.into_inner()
    }
}

impl AsFd for ReadyFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsyncRead for ReadyFd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let space = buf.initialize_unfilled();
            if let Ok(done) = guard.try_io(|fd| Ok(rustix::io::read(fd, space)?)) {
                return Poll::Ready(done.map(|n| buf.advance(n)));
            }
        }
    }
}

impl ReadReady for ReadyFd {
    fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx).map_ok(drop)
    }
}

impl AsyncWrite for ReadyFd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(done) = guard.try_io(|fd| Ok(rustix::io::write(fd, buf)?)) {
                return Poll::Ready(done);
            }
        }
    }

    /// Does nothing: nothing is held back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: a descriptor has no other end that could be told, except by closing it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
