//! Reads blocks, hands out frames.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use futures::Stream;

use super::{Decoder, Found, FrameError};
use crate::io::ask::Ask;
use crate::io::fill::poll_fill;
use crate::io::pace::Pace;
use crate::io::ReadReady;
use crate::{DirectBytes, DirectBytesMut, Pool};

/// What is reserved for a frame whose end is not in sight, times what is there of it.
const AHEAD: usize = 4;

/// A [`Stream`] of frames.
///
/// Between frames it holds nothing: memory is reserved when there is something to read. Inside a frame it holds the block where
/// the frame begins. The frames that it hands out are slices of blocks: each keeps its whole block, so copy small ones that are to
/// be kept for long.
///
/// After an error of the source, of the pool or of a frame's size the stream ends; [`into_parts`](Self::into_parts) has the bytes
/// that are left. An error of [`Decoder::decode`] concerns one frame only.
///
/// # What waits for what
///
/// A frame that does not end in its block needs another one, and its beginning stays where it is meanwhile. A frame that can never be
/// had beside its own beginning is an error. But readers that share
/// a pool can wait for each other if the limit has no room for the largest frames that come at the same time. Give them
/// a pool with room for as many largest frames, twice, as there may be unfinished ones, or a time limit.
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
/// let source = &b"\0\0\0\x05hello\0\0\0\x05world"[..];
/// let mut frames = FramedReader::new(source, LengthDelimited::new(), &pool);
/// assert_eq!(frames.try_next().await?, Some(pool.try_copy_from_slice(b"hello")?));
/// assert_eq!(frames.try_next().await?, Some(pool.try_copy_from_slice(b"world")?));
/// assert_eq!(frames.try_next().await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FramedReader<R, D> {
    inner: R,
    decoder: D,
    ask: Ask,
    pace: Pace,
    /// What is read and not handed out, and the room behind it.
    block: DirectBytesMut,
    /// The size of the frame at the front of the block, where it is known.
    size: Option<usize>,
    /// The decoder has seen all of the block and wants more.
    wants_more: bool,
    ended: bool,
}

impl<R, D> FramedReader<R, D> {
    /// A reader without memory.
    pub fn new(inner: R, decoder: D, pool: &Pool) -> Self {
        FramedReader {
            inner,
            decoder,
            ask: Ask::new(pool),
            pace: Pace::new(),
            block: DirectBytesMut::default(),
            size: None,
            wants_more: false,
            ended: false,
        }
    }

    /// What is inside. Reading from it directly overtakes the bytes in the block.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// What is inside; see [`get_ref`](Self::get_ref).
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// What finds the frames.
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// Gives back what is inside, and what was read and not handed out.
    pub fn into_parts(self) -> (R, D, DirectBytes) {
        (self.inner, self.decoder, self.block.freeze())
    }
}

impl<R: ReadReady + Unpin, D: Decoder> FramedReader<R, D> {
    /// The next frame, if it is in the block whole.
    fn take_frame(&mut self) -> Result<Option<DirectBytes>, D::Error> {
        if self.block.is_empty() || self.wants_more {
            return Ok(None);
        }
        let size = match self.size {
            Some(size) => size,
            None => {
                let found = self.decoder.find(&self.block)?;
                let max = self.decoder.max_frame();
                let known = match found {
                    Found::Frame(size) => size.max(1),
                    Found::More => self.block.len(),
                };
                if known > max {
                    let (size, max) = (known as u64, max as u64);
                    return Err(io::Error::from(FrameError::TooLarge { size, max }).into());
                }
                if found == Found::More {
                    self.wants_more = true;
                    return Ok(None);
                }
                self.size = Some(known);
                known
            }
        };
        if self.block.len() < size {
            return Ok(None);
        }
        self.size = None;
        let frame = self.block.split_to(size).freeze();
        if self.block.is_empty() {
            // Nothing is begun, so nothing is held. In calm the same block comes back.
            self.block = DirectBytesMut::default();
        }
        Ok(Some(frame))
    }

    /// How much room the block lacks for the frame at its front.
    fn lacking(&self) -> Option<usize> {
        let whole = match self.size {
            Some(size) => size,
            // As long as there is room the end may be found in it.
            None if self.block.len() < self.block.capacity() => return None,
            None if self.block.is_empty() => self.pace.size(self.ask.pool()),
            None => {
                let max = self.decoder.max_frame().saturating_add(1);
                self.block.len().saturating_mul(AHEAD).min(max)
            }
        };
        (whole > self.block.capacity()).then_some(whole)
    }

    /// Reads more behind what is there; answers how many bytes.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.ask.is_waiting() {
            ready!(Pin::new(&mut self.inner).poll_read_ready(cx))?;
        }
        if let Some(lacking) = self.lacking() {
            // What is begun stays where it is meanwhile, so that a frame as large as the pool would wait for itself.
            let mut larger = ready!(self.ask.poll_beside(cx, lacking, &self.block))?;
            larger.extend_from_slice(&self.block);
            self.block = larger;
        }
        let source = Pin::new(&mut self.inner);
        let filled = poll_fill(source, cx, &mut self.block, usize::MAX);
        if self.block.is_empty() {
            // A false alarm, or the end.
            self.block = DirectBytesMut::default();
        }
        let n = ready!(filled)?;
        self.pace.read(n, self.block.capacity());
        Poll::Ready(Ok(n))
    }

    /// What the end of the source makes of what is left.
    fn last_frame(&mut self) -> Option<Result<DirectBytes, D::Error>> {
        if self.block.is_empty() {
            return None;
        }
        if self.size.is_none() && self.decoder.is_frame_at_end(&self.block) {
            return Some(Ok(std::mem::take(&mut self.block).freeze()));
        }
        let error = FrameError::Truncated {
            have: self.block.len() as u64,
            need: self.size.map(|size| size as u64),
        };
        Some(Err(io::Error::from(error).into()))
    }
}

impl<R: ReadReady + Unpin, D: Decoder + Unpin> Stream for FramedReader<R, D> {
    type Item = Result<D::Item, D::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            match this.take_frame() {
                Ok(Some(frame)) => return Poll::Ready(Some(this.decoder.decode(frame))),
                Ok(None) => {}
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(this.poll_more(cx)) {
                Ok(0) => {
                    this.ended = true;
                    let last = this.last_frame();
                    return Poll::Ready(last.map(|frame| this.decoder.decode(frame?)));
                }
                Ok(_) => this.wants_more = false,
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }
}
