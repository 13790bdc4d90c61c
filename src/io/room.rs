//! How much a socket would take, so that no memory is filled with bytes that it would not.
//!
//! The kernel calls a socket writable when a third of its buffer is free (a Unix socket: three quarters), and says so once,
//! when a write failed before or someone asked by `poll`. Between these, `SO_MEMINFO` tells the figures. So: first the figures,
//! which usually say "plenty", and only when they do not, `poll`, which either says "writable" or sees to it that we are
//! told.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::task::{ready, Poll};

use rustix::event::{poll as poll_fds, PollFd, PollFlags, Timespec};

/// Which of the figures counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Tcp,
    Unix,
}

/// Below this much, a socket is asked whether it calls itself writable.
const PLENTY: usize = 64 << 10;
/// A socket that calls itself writable takes this much at least.
const SOME: usize = 4 << 10;

/// Waits for room: `ready` is the runtime's readiness to write, and `ask` asks the kernel and clears that readiness when
/// there is none.
pub(super) fn poll(
    mut ready: impl FnMut() -> Poll<io::Result<()>>,
    ask: impl Fn() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    // More than once only where the readiness is newer than the answer. A socket that is always ready, because it is
    // closed, gets its answer from the write.
    for _ in 0..2 {
        ready!(ready())?;
        match ask() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
    ready!(ready())?;
    Poll::Ready(Ok(SOME))
}

/// How much the socket would take; `WouldBlock` where it is nothing, and the kernel will tell when that changes.
pub(super) fn ask(socket: BorrowedFd<'_>, kind: Kind) -> io::Result<usize> {
    let room = free(socket, kind).unwrap_or(0);
    if room >= PLENTY {
        return Ok(room);
    }
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    poll_fds(&mut fds, Some(&Timespec::default()))?;
    if fds[0].revents().is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(room.max(SOME))
}

/// Bytes that are left of the socket's send buffer, as the kernel counts them.
fn free(socket: BorrowedFd<'_>, kind: Kind) -> Option<usize> {
    /// Places in the array that `SO_MEMINFO` fills: `linux/sock_diag.h`.
    const WMEM_ALLOC: usize = 2;
    const SNDBUF: usize = 3;
    const WMEM_QUEUED: usize = 5;

    let mut figures = [0u32; 9];
    let mut len = size_of_val(&figures) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is the size of `figures`, and any bits are valid there.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            figures.as_mut_ptr().cast(),
            &mut len,
        )
    };
    if done != 0 || (len as usize) < size_of_val(&figures[..=WMEM_QUEUED]) {
        return None;
    }
    let used = match kind {
        Kind::Tcp => figures[WMEM_QUEUED],
        Kind::Unix => figures[WMEM_ALLOC],
    };
    Some(figures[SNDBUF].saturating_sub(used) as usize)
}
