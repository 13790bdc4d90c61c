//! From socket to socket without entering this process: `splice`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use rustix::net::Shutdown as How;
use rustix::pipe::{splice as sys_splice, SpliceFlags};
use tokio::io::Interest;

use super::pipe::{Pipe, CAPACITY};
use super::socket::{poll_call, Socket};

/// Moves all that `from` brings to `to`, until `from` ends; answers how many bytes that were. The bytes stay in the kernel: no
/// buffer is needed, and no pool.
///
/// It holds a pipe, two descriptors and up to 1 MiB of the kernel's memory, while bytes are in flight, and nothing while `from`
/// is silent. That memory is not the pool's; the kernel bounds it per user (`pipe-user-pages-soft`).
///
/// For bulk it takes less CPU time than a copy; for small messages [`copy`](crate::io::copy) takes fewer system calls.
///
/// # Errors
///
/// Those of the sockets, and those of `pipe2`, for want of descriptors for example.
///
/// # Cancel safety
///
/// [`Splice::moved`] says how many bytes `to` has taken. Bytes in the pipe are lost with the future: [`Splice::in_flight`].
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut client, a) = UnixStream::pair()?;
/// let (b, mut server) = UnixStream::pair()?;
/// client.write_all(b"hello").await?;
/// drop(client);
/// assert_eq!(offheap::io::splice(&a, &b).await?, 5);
/// drop(b);
/// let mut received = Vec::new();
/// server.read_to_end(&mut received).await?;
/// assert_eq!(received, b"hello");
/// # Ok(())
/// # }
/// ```
pub fn splice<'a, A: Socket, B: Socket>(from: &'a A, to: &'a B) -> Splice<'a, A, B> {
    Splice {
        from,
        to,
        pipe: None,
        ended: false,
        moved: 0,
    }
}

/// A splice in one direction. From [`splice`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Splice<'a, A, B> {
    from: &'a A,
    to: &'a B,
    pipe: Option<Pipe>,
    ended: bool,
    moved: u64,
}

impl<A, B> Splice<'_, A, B> {
    /// Bytes that the receiving socket has taken so far.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Bytes in the pipe.
    pub fn in_flight(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.filled)
    }
}

/// One call, for as much as it takes. Answers 0 only at the end.
pub(super) fn step(
    from: impl std::os::fd::AsFd,
    offset: Option<&mut u64>,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(sys_splice(from, offset, to, None, most, flags)?)
}

impl<A: Socket, B: Socket> Splice<'_, A, B> {
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        while !self.ended {
            if self.pipe.is_none() {
                ready!(self.from.poll_ready(cx, Interest::READABLE))?;
                self.pipe = Some(Pipe::take()?);
            }
            let Some(pipe) = &mut self.pipe else { continue };
            if pipe.filled == 0 {
                // The pipe is empty, so what would block is the socket.
                let filled = poll_call(self.from, cx, Interest::READABLE, || {
                    step(self.from, None, &pipe.write, CAPACITY)
                });
                match filled {
                    Poll::Ready(Ok(n)) => {
                        pipe.filled = n;
                        self.ended = n == 0;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.put_back();
                        return Poll::Pending;
                    }
                }
            }
            while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.filled > 0) {
                let n = ready!(poll_call(self.to, cx, Interest::WRITABLE, || {
                    step(&pipe.read, None, self.to, pipe.filled)
                }))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                pipe.filled -= n;
                self.moved += n as u64;
            }
        }
        self.put_back();
        Poll::Ready(Ok(self.moved))
    }

    fn put_back(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.put_back();
        }
    }
}

impl<A: Socket, B: Socket> Future for Splice<'_, A, B> {
    type Output = io::Result<u64>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        self.get_mut().poll_move(cx)
    }
}

/// [`splice`] both ways, until both sides have ended; answers how many bytes went from `a` to `b` and from `b` to `a`. When one
/// side ends its sending, the other side's sending end is shut down, as by
/// [`copy_bidirectional`](crate::io::copy_bidirectional).
///
/// # Errors
///
/// As for [`splice`]. The first error ends both directions.
///
/// # Cancel safety
///
/// As for [`splice`].
pub fn splice_bidirectional<'a, A: Socket, B: Socket>(
    a: &'a A,
    b: &'a B,
) -> SpliceBidirectional<'a, A, B> {
    SpliceBidirectional {
        up: splice(a, b),
        down: splice(b, a),
        done: [None, None],
    }
}

/// A splice in both directions. From [`splice_bidirectional`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct SpliceBidirectional<'a, A, B> {
    up: Splice<'a, A, B>,
    down: Splice<'a, B, A>,
    done: [Option<u64>; 2],
}

impl<A, B> SpliceBidirectional<'_, A, B> {
    /// Bytes that `b` has taken so far, and that `a` has.
    pub fn moved(&self) -> (u64, u64) {
        (self.up.moved, self.down.moved)
    }

    /// Bytes in the pipes: to `b`, and to `a`.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.up.in_flight(), self.down.in_flight())
    }
}

/// One direction, and the end passed on.
fn poll_direction<A: Socket, B: Socket>(
    splice: &mut Splice<'_, A, B>,
    done: &mut Option<u64>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<u64>> {
    if let Some(moved) = *done {
        return Poll::Ready(Ok(moved));
    }
    let moved = ready!(splice.poll_move(cx))?;
    match rustix::net::shutdown(splice.to, How::Write) {
        // The other side is gone altogether; its own direction says how.
        Ok(()) | Err(rustix::io::Errno::NOTCONN) => {}
        Err(error) => return Poll::Ready(Err(error.into())),
    }
    *done = Some(moved);
    Poll::Ready(Ok(moved))
}

impl<A: Socket, B: Socket> Future for SpliceBidirectional<'_, A, B> {
    type Output = io::Result<(u64, u64)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let up = poll_direction(&mut this.up, &mut this.done[0], cx)?;
        let down = poll_direction(&mut this.down, &mut this.done[1], cx)?;
        match (up, down) {
            (Poll::Ready(up), Poll::Ready(down)) => Poll::Ready(Ok((up, down))),
            _ => Poll::Pending,
        }
    }
}
