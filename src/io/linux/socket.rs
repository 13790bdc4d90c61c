//! Sockets of tokio, as the kernel's own copying needs them.

use std::io;
use std::os::fd::AsFd;
use std::task::{ready, Context, Poll};

use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

mod sealed {
    pub trait Sealed {}
}

/// A socket that the kernel can move bytes to and from: tokio's `TcpStream` and `UnixStream`. Sealed.
pub trait Socket: AsFd + sealed::Sealed {
    #[doc(hidden)]
    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>>;

    #[doc(hidden)]
    fn try_call<T>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T>;
}

macro_rules! socket {
    ($($socket:ty),*) => {$(
        impl sealed::Sealed for $socket {}

        impl Socket for $socket {
            fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
                if interest.is_readable() {
                    self.poll_read_ready(cx)
                } else {
                    self.poll_write_ready(cx)
                }
            }

            fn try_call<T>(
                &self,
                interest: Interest,
                call: impl FnOnce() -> io::Result<T>,
            ) -> io::Result<T> {
                self.try_io(interest, call)
            }
        }
    )*};
}

socket!(TcpStream, UnixStream);

/// Makes a non-blocking call again and again until it does not say that it would block.
pub(super) fn poll_call<S: Socket, T>(
    socket: &S,
    cx: &mut Context<'_>,
    interest: Interest,
    mut call: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        ready!(socket.poll_ready(cx, interest))?;
        match socket.try_call(interest, &mut call) {
            Err(error) if is_no_answer(&error) => {}
            done => return Poll::Ready(done),
        }
    }
}

/// The call has done nothing: there was nothing to do, or it was cut short before.
pub(super) fn is_no_answer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
