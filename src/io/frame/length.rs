//! Frames with their length in front.

use std::io;

use super::{Decoder, Found, FrameError};
use crate::DirectBytes;

/// Frames with their length in front, as `tokio_util::codec::LengthDelimitedCodec` has them: by default four bytes, big-endian, which
/// are not part of the frame that is handed out.
///
/// The setters have that codec's names and meanings.
///
/// # Examples
///
/// ```
/// use futures::TryStreamExt;
/// use offheap::io::{FramedReader, LengthDelimited};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let decoder = LengthDelimited::new().max_frame_length(3);
/// let mut frames = FramedReader::new(&b"\0\0\0\x05hello"[..], decoder, &pool);
/// let error = frames.try_next().await.unwrap_err();
/// assert!(error.to_string().contains("5 bytes") && error.to_string().contains("3 bytes"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LengthDelimited {
    max_frame_length: usize,
    length_field_offset: usize,
    length_field_length: usize,
    length_adjustment: isize,
    num_skip: Option<usize>,
    little_endian: bool,
}

impl Default for LengthDelimited {
    fn default() -> Self {
        Self::new()
    }
}

impl LengthDelimited {
    /// Four bytes of length, big-endian; frames of up to 8 MiB.
    pub const fn new() -> Self {
        LengthDelimited {
            max_frame_length: 8 << 20,
            length_field_offset: 0,
            length_field_length: 4,
            length_adjustment: 0,
            num_skip: None,
            little_endian: false,
        }
    }

    /// The largest length that a length field may say, in bytes. Above it is an error, not an allocation.
    pub const fn max_frame_length(mut self, bytes: usize) -> Self {
        self.max_frame_length = bytes;
        self
    }

    /// Bytes in front of the length field.
    pub const fn length_field_offset(mut self, bytes: usize) -> Self {
        self.length_field_offset = bytes;
        self
    }

    /// Bytes of the length field.
    ///
    /// # Panics
    ///
    /// If it is not 1 to 8.
    pub const fn length_field_length(mut self, bytes: usize) -> Self {
        assert!(0 < bytes && bytes <= 8, "a length field has 1 to 8 bytes");
        self.length_field_length = bytes;
        self
    }

    /// What is added to the length field's value to have the bytes behind those that are skipped: behind the length field, unless
    /// [`num_skip`](Self::num_skip) says otherwise.
    pub const fn length_adjustment(mut self, bytes: isize) -> Self {
        self.length_adjustment = bytes;
        self
    }

    /// Bytes at the front that are not handed out. Default: all up to the end of the length field.
    ///
    /// As in the codec, the frame that is handed out has as many bytes as the length field and its adjustment say, whatever is skipped.
    /// So to have what is in front of a frame handed out with it, add its bytes to the
    /// [`length_adjustment`](Self::length_adjustment).
    pub const fn num_skip(mut self, bytes: usize) -> Self {
        self.num_skip = Some(bytes);
        self
    }

    /// The length field has its least significant byte first.
    pub const fn little_endian(mut self) -> Self {
        self.little_endian = true;
        self
    }

    const fn head(&self) -> usize {
        self.length_field_offset
            .saturating_add(self.length_field_length)
    }

    fn skipped(&self) -> usize {
        self.num_skip.unwrap_or(self.head())
    }
}

impl Decoder for LengthDelimited {
    type Item = DirectBytes;
    type Error = io::Error;

    fn find(&mut self, bytes: &[u8]) -> io::Result<Found> {
        let Some(field) = bytes.get(self.length_field_offset..self.head()) else {
            return Ok(Found::More);
        };
        let mut wide = [0; 8];
        let length = if self.little_endian {
            wide[..field.len()].copy_from_slice(field);
            u64::from_le_bytes(wide)
        } else {
            wide[8 - field.len()..].copy_from_slice(field);
            u64::from_be_bytes(wide)
        };
        if length > self.max_frame_length as u64 {
            let (size, max) = (length, self.max_frame_length as u64);
            return Err(FrameError::TooLarge { size, max }.into());
        }
        usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add_signed(self.length_adjustment))
            .and_then(|length| length.checked_add(self.skipped()))
            // A frame without a byte, not even of its head, would come again and again.
            .filter(|&size| size > 0)
            .map(Found::Frame)
            .ok_or_else(|| FrameError::BadLength { length }.into())
    }

    fn decode(&mut self, mut frame: DirectBytes) -> io::Result<DirectBytes> {
        frame.advance(self.skipped().min(frame.len()));
        Ok(frame)
    }

    fn max_frame(&self) -> usize {
        self.max_frame_length
            .saturating_add(self.head().max(self.skipped()))
            .saturating_add_signed(self.length_adjustment.max(0))
    }
}
