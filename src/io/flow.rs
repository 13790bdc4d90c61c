//! One direction of a copy: what it has in flight, and what it does next.
//!
//! A flow waits for readability first, then, before a large read, for room at the other end, then for memory, and gives the
//! memory back as soon as all of it is written. In calm it has the same block again a moment later; where others wait, it is their
//! turn. Bytes are counted when they have been written.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use tokio::io::AsyncWrite;

use super::fill::poll_fill;
use super::pace::Pace;
use super::ReadReady;
use crate::{DirectBytes, DirectBytesMut, Pool};

/// Up to this size a read does not ask the other end for room: asking costs more than what may get stuck.
const UNASKED: usize = 16 << 10;
/// After the writer did not take all, so many reads ask for room, however small they are.
const CAUTION: u8 = 8;
/// Less room than this is not worth a read.
const WORTHWHILE: usize = 1 << 10;

/// A flow that has moved this much lets other tasks have the thread. The runtime's own budget counts calls, however much they move.
const TURN: u64 = 1 << 20;

/// Where a flow's memory comes from.
pub(super) trait Memory {
    fn pool(&self) -> &Pool;

    /// A buffer for about `n` bytes, or for less where that is all there is.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
        pace: &mut Pace,
    ) -> Poll<io::Result<DirectBytesMut>>;

    /// Takes back a buffer that is not needed any more.
    fn give_back(&mut self, buffer: DirectBytesMut);

    /// A buffer for `n` bytes that pins less than `block` bytes, if there is one at once, in exchange for the one that the flow
    /// has.
    fn exchange(&mut self, n: usize, block: usize) -> Option<DirectBytesMut>;
}

/// What to reserve for at most `most` bytes. One size as long as it is not far too much: the block that was just given back is the
/// one that is still in the cache.
fn fitting(size: usize, most: usize) -> usize {
    match most.checked_next_power_of_two() {
        Some(most) if most < size / 2 => most,
        _ => size,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Moving,
    /// The reader has ended; the writer is to be told.
    Ended,
    Done,
}

/// What becomes of the writer when the reader has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    Flush,
    Shutdown,
}

#[derive(Debug)]
pub(super) struct Flow {
    state: State,
    pace: Pace,
    /// Has capacity only while it has bytes in it, or is about to.
    buffer: DirectBytesMut,
    /// How many bytes of the buffer were written.
    written: usize,
    /// It waits for memory, and keeps its place.
    waiting: bool,
    /// The buffer is what got stuck, in a block of its size.
    shrunk: bool,
    /// Something was written since the last flush.
    unflushed: bool,
    /// So many more reads ask for room.
    caution: u8,
    moved: u64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Flow {
            state: State::Moving,
            pace: Pace::relayed(),
            buffer: DirectBytesMut::default(),
            written: 0,
            waiting: false,
            shrunk: false,
            unflushed: false,
            caution: 0,
            moved: 0,
        }
    }

    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Bytes that the writer has taken.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Bytes that were read and are not written yet.
    pub(super) fn in_flight(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    pub(super) fn take_in_flight(&mut self) -> DirectBytes {
        let mut bytes = std::mem::take(&mut self.buffer).freeze();
        bytes.advance(std::mem::take(&mut self.written));
        bytes
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn holds_memory(&self) -> bool {
        self.buffer.capacity() > 0
    }

    /// Moves bytes until something is missing; ready when the reader has ended and the writer knows.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        memory: &mut impl Memory,
        at_end: AtEnd,
        room: impl Fn(&mut W, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>>
    where
        R: ReadReady + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        let turn = self.moved + TURN;
        loop {
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ended => {
                    ready!(self.poll_end(cx, writer, at_end))?;
                    self.state = State::Done;
                    return Poll::Ready(Ok(()));
                }
                State::Moving => {}
            }
            if !self.in_flight().is_empty() {
                ready!(self.poll_write(cx, writer, memory))?;
                self.let_go(memory);
                if self.moved >= turn {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            match self.poll_read(cx, reader, writer, memory, &room) {
                Poll::Ready(Ok(0)) => {
                    self.let_go(memory);
                    self.state = State::Ended;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.let_go(memory);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    // Whatever is awaited, it is awaited without memory. A writer with a buffer of its own is not to
                    // keep what it was given meanwhile.
                    self.let_go(memory);
                    if self.unflushed {
                        ready!(Pin::new(writer).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_write<W: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        memory: &mut impl Memory,
    ) -> Poll<io::Result<()>> {
        while !self.in_flight().is_empty() {
            let bytes = &self.buffer[self.written..];
            match Pin::new(&mut *writer).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    self.moved += n as u64;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.caution = CAUTION;
                    self.shrink(memory);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        memory: &mut impl Memory,
        room: impl Fn(&mut W, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>>
    where
        R: ReadReady + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        let mut most = usize::MAX;
        if !self.waiting {
            ready!(Pin::new(&mut *reader).poll_read_ready(cx))?;
            if self.caution > 0 || self.pace.size(memory.pool()) > UNASKED {
                most = ready!(room(writer, cx))?.max(WORTHWHILE);
                self.caution = self.caution.saturating_sub(1);
            }
        }
        let n = fitting(self.pace.size(memory.pool()), most);
        let taken = memory.poll_take(cx, n, &mut self.pace);
        self.waiting = taken.is_pending();
        self.buffer = ready!(taken)?;
        let most = most.min(self.buffer.capacity());
        let n = ready!(poll_fill(Pin::new(reader), cx, &mut self.buffer, most))?;
        self.pace.read(n, most);
        Poll::Ready(Ok(n))
    }

    fn poll_end<W: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        at_end: AtEnd,
    ) -> Poll<io::Result<()>> {
        match at_end {
            AtEnd::Flush => Pin::new(writer).poll_flush(cx),
            AtEnd::Shutdown => Pin::new(writer).poll_shutdown(cx),
        }
    }

    fn let_go(&mut self, memory: &mut impl Memory) {
        if self.holds_memory() {
            self.written = 0;
            self.shrunk = false;
            self.buffer.clear();
            memory.give_back(std::mem::take(&mut self.buffer));
        }
    }

    /// What got stuck moves into a block of its own size, if that is much smaller and to be had at once. Once is enough.
    fn shrink(&mut self, memory: &mut impl Memory) {
        let (stuck, block) = (self.in_flight().len(), self.buffer.block_len());
        if self.shrunk || stuck > block / 2 {
            return;
        }
        self.shrunk = true;
        if let Some(mut small) = memory.exchange(stuck, block) {
            small.extend_from_slice(self.in_flight());
            self.buffer = small;
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_size_unless_it_is_far_too_much() {
        let size = 1 << 20;
        for most in [usize::MAX, size, 700_000, 300_000] {
            assert_eq!(fitting(size, most), size, "{most}");
        }
        assert_eq!(fitting(size, 200_000), 256 << 10);
        assert_eq!(fitting(size, 1000), 1024);
        assert_eq!(fitting(4096, 1024), 1024);
    }
}
