//! Frames as slices of pooled blocks.
//!
//! A [`Decoder`] looks at the bytes at hand and says where the next frame ends; a [`FramedReader`] sees to it that the frame
//! is in one piece and hands it out. It reads many frames into one block and hands out slices of it. A frame that does not
//! end in its block is moved, once, into a block of its own size, and the rest of it is read right there.
//!
//! [`LengthDelimited`] and [`Lines`] are decoders; their frames are those of `tokio_util::codec`. What encoders there write,
//! through a [`PooledWriter`](super::PooledWriter) too, is read here.

mod length;
mod lines;
mod reader;

use std::fmt;
use std::io;

pub use length::LengthDelimited;
pub use lines::Lines;
pub use reader::FramedReader;

use crate::DirectBytes;

/// Finds frames in bytes.
///
/// # Examples
///
/// Records of eight bytes each:
///
/// ```
/// use std::io;
///
/// use offheap::io::{Decoder, Found, FramedReader};
/// use offheap::DirectBytes;
/// use futures::TryStreamExt;
///
/// struct Records;
///
/// impl Decoder for Records {
///     type Item = u64;
///     type Error = io::Error;
///
///     fn find(&mut self, _: &[u8]) -> io::Result<Found> {
///         Ok(Found::Frame(8))
///     }
///
///     fn decode(&mut self, frame: DirectBytes) -> io::Result<u64> {
///         let bytes: [u8; 8] = frame[..].try_into().map_err(io::Error::other)?;
///         Ok(u64::from_be_bytes(bytes))
///     }
///
///     fn max_frame(&self) -> usize {
///         8
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let source = &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8][..];
/// let records: Vec<u64> = FramedReader::new(source, Records, &pool).try_collect().await?;
/// assert_eq!(records, [7, 8]);
/// # Ok(())
/// # }
/// ```
pub trait Decoder {
    /// What a frame becomes.
    type Item;
    /// What can go wrong. Errors of the source and of the pool, and [`FrameError`]s, come as [`io::Error`].
    type Error: From<io::Error>;

    /// Where the frame that begins with `bytes` ends. Called again with more bytes after [`Found::More`], and after
    /// [`Found::Frame`] only for the next frame. `bytes` is never empty.
    ///
    /// # Errors
    ///
    /// Where the bytes can not be the beginning of a frame. The stream of frames ends with that.
    fn find(&mut self, bytes: &[u8]) -> Result<Found, Self::Error>;

    /// Makes an item of a frame, which is in one piece.
    ///
    /// # Errors
    ///
    /// Where it can not be understood. The stream of frames goes on.
    fn decode(&mut self, frame: DirectBytes) -> Result<Self::Item, Self::Error>;

    /// The largest frame in bytes, with all that belongs to it. No larger one is reserved memory for.
    fn max_frame(&self) -> usize;

    /// Whether what is left at the end of the source is a frame. By default it is an error to leave anything.
    fn is_frame_at_end(&mut self, rest: &[u8]) -> bool {
        let _ = rest;
        false
    }
}

/// What a [`Decoder`] knows of the next frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// It has so many bytes from its beginning, whether they are there yet or not. More than 0.
    Frame(usize),
    /// More bytes are needed to know.
    More,
}

/// Why bytes are no frame. Inside of an [`io::Error`], of kind `InvalidData` or `UnexpectedEof`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is larger than is allowed. No memory was reserved for it.
    #[non_exhaustive]
    TooLarge {
        /// The frame's size in bytes, or as much as is known of it.
        size: u64,
        /// The largest size that is allowed.
        max: u64,
    },
    /// The source ended inside a frame.
    #[non_exhaustive]
    Truncated {
        /// The bytes of the frame that came.
        have: u64,
        /// All of its bytes, where that is known.
        need: Option<u64>,
    },
    /// The frame's length is impossible.
    #[non_exhaustive]
    BadLength {
        /// What the length field says.
        length: u64,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLarge { size, max } => write!(
                f,
                "a frame of {size} bytes or more is larger than the {max} bytes that are allowed"
            ),
            FrameError::Truncated {
                have,
                need: Some(need),
            } => write!(
                f,
                "the source ended inside a frame: {have} of its {need} bytes came"
            ),
            FrameError::Truncated { have, need: None } => write!(
                f,
                "the source ended inside a frame: {have} of its bytes came"
            ),
            FrameError::BadLength { length } => write!(
                f,
                "a frame's length of {length} can not be: with its adjustment it is below zero, or nothing at all, or \
                 too large to count"
            ),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> io::Error {
        let kind = match error {
            FrameError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
