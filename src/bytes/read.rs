//! `io::Read` and `io::BufRead`: reading takes from the front, as [`Buf`] does.

use std::io::{self, BufRead, Read};

use bytes::Buf;

use super::{DirectBytes, DirectBytesMut, DirectRope};

macro_rules! read {
    ($($buffer:ident),+) => {$(
        impl Read for $buffer {
            /// Takes what there is from the front; never fails.
            fn read(&mut self, dst: &mut [u8]) -> io::Result<usize> {
                let len = dst.len().min(self.remaining());
                Buf::copy_to_slice(self, &mut dst[..len]);
                Ok(len)
            }
        }

        impl BufRead for $buffer {
            fn fill_buf(&mut self) -> io::Result<&[u8]> {
                Ok(Buf::chunk(&*self))
            }

            /// # Panics
            ///
            /// If `amt` is more than is left.
            fn consume(&mut self, amt: usize) {
                Buf::advance(self, amt);
            }
        }
    )+};
}

read!(DirectBytes, DirectBytesMut, DirectRope);
