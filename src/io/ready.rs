//! Sources that can say whether a read would wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncRead;
use tokio::net::{tcp, unix, TcpStream, UnixStream};

use super::fill::poll_fill;
use crate::DirectBytesMut;

/// A source that can say whether a read would wait, so that memory is needed only when there are bytes for it.
///
/// tokio's sockets and pipes implement it. For other file descriptors see [`ReadyFd`](super::ReadyFd), for sources that have no
/// readiness, such as TLS streams, [`Probe`](super::Probe).
///
/// # Examples
///
/// Of one's own streams, usually by passing the question on:
///
/// ```
/// use std::io;
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
///
/// use offheap::io::ReadReady;
/// use tokio::io::{AsyncRead, ReadBuf};
/// use tokio::net::TcpStream;
///
/// /// Counts what is read.
/// struct Counted {
///     stream: TcpStream,
///     bytes: u64,
/// }
///
/// impl AsyncRead for Counted {
///     fn poll_read(
///         mut self: Pin<&mut Self>,
///         cx: &mut Context<'_>,
///         buf: &mut ReadBuf<'_>,
///     ) -> Poll<io::Result<()>> {
///         let before = buf.filled().len();
///         let done = Pin::new(&mut self.stream).poll_read(cx, buf);
///         self.bytes += (buf.filled().len() - before) as u64;
///         done
///     }
/// }
///
/// impl ReadReady for Counted {
///     fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
///         self.stream.poll_read_ready(cx)
///     }
/// }
/// ```
pub trait ReadReady: AsyncRead {
    /// Ready when a read would not wait: there are bytes, or the end, or an error. It may be a false alarm.
    ///
    /// # Errors
    ///
    /// When the source can not be asked. Errors of the stream itself are better left to the read.
    fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what is there into what is left of `buf`, without waiting; answers the number of bytes, 0 at the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing is there. Nobody is woken then: ask [`poll_read_ready`](Self::poll_read_ready).
    fn try_read_buf(self: Pin<&mut Self>, buf: &mut DirectBytesMut) -> io::Result<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        match poll_fill(self, &mut cx, buf, usize::MAX) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Of a stream that is written, too: how many bytes a write would take at once, about; pending while it is none.
    ///
    /// [`copy_bidirectional`](super::copy_bidirectional) asks before it takes a large buffer, so that what a peer does not
    /// read stays where it is instead of filling the pool. `usize::MAX`, the default, stands for "can not be known".
    ///
    /// # Errors
    ///
    /// When the stream can not be asked.
    fn poll_write_room(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let _ = cx;
        Poll::Ready(Ok(usize::MAX))
    }
}

impl<S: ReadReady + Unpin + ?Sized> ReadReady for &mut S {
    fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.get_mut()).poll_read_ready(cx)
    }

    fn poll_write_room(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.get_mut()).poll_write_room(cx)
    }
}

impl<S: ReadReady + Unpin + ?Sized> ReadReady for Box<S> {
    fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.get_mut()).poll_read_ready(cx)
    }

    fn poll_write_room(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.get_mut()).poll_write_room(cx)
    }
}

/// Sockets: readiness is tokio's, room is the kernel's.
macro_rules! socket {
    ($($socket:ty => $kind:ident),*) => {$(
        impl ReadReady for $socket {
            fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$socket>::poll_read_ready(&self, cx)
            }

            #[cfg(target_os = "linux")]
            fn poll_write_room(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<usize>> {
                use super::room::{self, Kind};
                use std::os::fd::AsFd;
                use tokio::io::Interest;

                room::poll(
                    || <$socket>::poll_write_ready(&self, cx),
                    || self.try_io(Interest::WRITABLE, || room::ask(self.as_fd(), Kind::$kind)),
                )
            }
        }
    )*};
}

socket!(TcpStream => Tcp, UnixStream => Unix);

/// Halves that are only read: the other half is not theirs to ask.
macro_rules! half {
    ($($half:ty),*) => {$(
        impl ReadReady for $half {
            fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.as_ref().get_ref().as_ref().poll_read_ready(cx)
            }
        }
    )*};
}

half!(
    tcp::ReadHalf<'_>,
    tcp::OwnedReadHalf,
    unix::ReadHalf<'_>,
    unix::OwnedReadHalf
);

impl ReadReady for unix::pipe::Receiver {
    fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        unix::pipe::Receiver::poll_read_ready(&self, cx)
    }
}

/// What is in memory never waits.
impl ReadReady for &[u8] {
    fn poll_read_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl<T: AsRef<[u8]> + Unpin> ReadReady for io::Cursor<T> {
    fn poll_read_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
