//! Frames that end in a line break.

use std::io;

use super::{Decoder, Found, FrameError};
use crate::DirectBytes;

/// Lines: frames that end in `\n` or `\r\n`, which is not part of what is handed out. What is left at the end of the source is a line,
/// too. Bytes are not looked at otherwise; whoever wants text asks `std::str::from_utf8`.
///
/// # Examples
///
/// ```
/// use futures::TryStreamExt;
/// use offheap::io::{FramedReader, Lines};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let lines = FramedReader::new(&b"one\r\n\ntwo"[..], Lines::new(), &pool);
/// let lines: Vec<_> = lines.try_collect().await?;
/// assert_eq!(lines.iter().map(|line| &line[..]).collect::<Vec<_>>(), [&b"one"[..], b"", b"two"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Lines {
    max_length: usize,
    /// So many bytes of the next line have been looked at.
    seen: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    /// Lines of up to 1 MiB.
    pub const fn new() -> Self {
        Self::with_max_length(1 << 20)
    }

    /// Lines of up to `bytes` bytes, without the line break. A longer one is an error as soon as that is known.
    pub const fn with_max_length(bytes: usize) -> Self {
        Lines {
            max_length: bytes,
            seen: 0,
        }
    }
}

impl Decoder for Lines {
    type Item = DirectBytes;
    type Error = io::Error;

    fn find(&mut self, bytes: &[u8]) -> io::Result<Found> {
        // `position` over bytes is vectorised; what was looked at is not looked at again.
        match bytes[self.seen..].iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                let size = self.seen + at + 1;
                self.seen = 0;
                Ok(Found::Frame(size))
            }
            None => {
                self.seen = bytes.len();
                Ok(Found::More)
            }
        }
    }

    fn decode(&mut self, mut line: DirectBytes) -> io::Result<DirectBytes> {
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.truncate(line.len() - 1);
            } else if end == b'\n' {
                // The last line, without a break: a `\r` is its own.
                break;
            }
        }
        if line.len() > self.max_length {
            // By a byte or two: where a line might still have ended in a break.
            let (size, max) = (line.len() as u64, self.max_length as u64);
            return Err(FrameError::TooLarge { size, max }.into());
        }
        Ok(line)
    }

    fn max_frame(&self) -> usize {
        self.max_length.saturating_add(2)
    }

    fn is_frame_at_end(&mut self, _: &[u8]) -> bool {
        true
    }
}
