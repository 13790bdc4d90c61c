//! Streams that wrap another one and have no part in its writing.

/// Passes all of `AsyncWrite` on to the field `inner`.
macro_rules! pass_writes_on {
    ($outer:ident) => {
        const _: () = {
            use std::io::{IoSlice, Result};
            use std::pin::Pin;
            use std::task::{Context, Poll};

            use tokio::io::AsyncWrite;

            impl<S: AsyncWrite + Unpin> AsyncWrite for $outer<S> {
                fn poll_write(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buf: &[u8],
                ) -> Poll<Result<usize>> {
                    Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
                }

                fn poll_write_vectored(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    bufs: &[IoSlice<'_>],
                ) -> Poll<Result<usize>> {
                    Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
                }

                fn is_write_vectored(&self) -> bool {
                    self.inner.is_write_vectored()
                }

                fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
                    Pin::new(&mut self.get_mut().inner).poll_flush(cx)
                }

                fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
                    Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
                }
            }
        };
    };
}

pub(super) use pass_writes_on;
