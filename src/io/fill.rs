//! Reading into what is left of a pooled buffer.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::DirectBytesMut;

/// Reads up to `most` bytes behind what the buffer has; answers how many they are.
pub(super) fn poll_fill<R: AsyncRead + ?Sized>(
    reader: Pin<&mut R>,
    cx: &mut Context<'_>,
    buffer: &mut DirectBytesMut,
    most: usize,
) -> Poll<io::Result<usize>> {
    let spare = buffer.spare_capacity_mut();
    let most = most.min(spare.len());
    let mut spare = ReadBuf::uninit(&mut spare[..most]);
    let start = spare.filled().as_ptr();
    ready!(reader.poll_read(cx, &mut spare))?;
    // A reader can put another `ReadBuf` in the place of ours; then nothing is known about our memory.
    assert_eq!(
        start,
        spare.filled().as_ptr(),
        "the reader swapped the buffer"
    );
    let n = spare.filled().len();
    let len = buffer.len() + n;
    // SAFETY: `ReadBuf` lets `filled` cover initialised bytes only, and it is ours, as just asserted: `n` bytes behind `len`.
    unsafe { buffer.set_len(len) };
    Poll::Ready(Ok(n))
}

/// Reads up to `most` bytes of a file, from `offset` on, behind what the buffer has; answers how many they are.
#[cfg(target_os = "linux")]
pub(super) fn read_at(
    file: std::os::fd::BorrowedFd<'_>,
    buffer: &mut DirectBytesMut,
    most: usize,
    offset: u64,
) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    let most = most.min(spare.len());
    let (read, _) = rustix::io::pread(file, &mut spare[..most], offset)?;
    let n = read.len();
    let len = buffer.len() + n;
    // SAFETY: `pread` has initialised the `n` bytes that it answers, which lie behind `len`.
    unsafe { buffer.set_len(len) };
    Ok(n)
}
