//! Relays: bytes from one stream to another, with memory only while they are in flight.
//!
//! The two directions of [`copy_bidirectional`] share one place in the pool's queue, and it stands there only while neither of
//! them holds anything. A direction that needs a buffer while the other one holds a block takes what is to be had at once;
//! if that is nothing, it takes the small part which every block keeps for the other direction. So a connection that holds memory
//! never waits for more: there is no "everyone holds one and wants another", whatever the limit and however many connections.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::ask::Ask;
use super::flow::{AtEnd, Flow, Memory};
use super::pace::Pace;
use super::ReadReady;
use crate::{DirectBytes, DirectBytesMut, Pool};

/// The part of a block that is kept for the other direction, and the least and the most of it.
const LENT: usize = 16;
const LEAST_LENT: usize = 256;
const MOST_LENT: usize = 4 << 10;

/// Moves all that `reader` brings to `writer`, until the reader ends; answers how many bytes that were. At the end the writer is
/// flushed, not shut down, as by tokio's `io::copy`.
///
/// While the reader is silent no buffer is held. The buffer's size follows the traffic: 4 KiB for those who chat, up to 1 MiB
/// for bulk, and never more than a sixteenth of the pool's limit (or 4 KiB).
///
/// # Errors
///
/// Those of the streams; `WriteZero` where the writer takes nothing; and those of [`Pool::reserve`] as [`io::Error`]. How far it
/// came is known then, too: see below.
///
/// # Cancel safety
///
/// Poll it by reference and nothing is lost: [`CopyOneWay::moved`] says how many bytes the writer has taken so far, and
/// [`CopyOneWay::take_in_flight`] hands out those that were read and not yet written.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let (mut from, mut to) = (&b"all of it"[..], Vec::new());
/// assert_eq!(offheap::io::copy(&mut from, &mut to, &pool).await?, 9);
/// assert_eq!(to, b"all of it");
/// # Ok(())
/// # }
/// ```
pub fn copy<'a, R, W>(reader: &'a mut R, writer: &'a mut W, pool: &Pool) -> CopyOneWay<'a, R, W>
where
    R: ReadReady + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    CopyOneWay {
        reader,
        writer,
        flow: Flow::new(),
        memory: Single(Ask::new(pool)),
    }
}

/// A copy in one direction. From [`copy`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct CopyOneWay<'a, R: ?Sized, W: ?Sized> {
    reader: &'a mut R,
    writer: &'a mut W,
    flow: Flow,
    memory: Single,
}

impl<R: ?Sized, W: ?Sized> CopyOneWay<'_, R, W> {
    /// Buffers of one size, in bytes, instead of a size that follows the traffic. Before the first poll.
    pub fn buffer_size(mut self, bytes: usize) -> Self {
        self.flow.set_pace(Pace::fixed(bytes));
        self
    }

    /// Bytes that the writer has taken so far.
    pub fn moved(&self) -> u64 {
        self.flow.moved()
    }

    /// Bytes that were read and not yet written.
    pub fn in_flight(&self) -> usize {
        self.flow.in_flight().len()
    }

    /// Takes the bytes that were read and not yet written; they belong behind what was [`moved`](Self::moved).
    pub fn take_in_flight(&mut self) -> DirectBytes {
        self.flow.take_in_flight()
    }
}

impl<R, W> Future for CopyOneWay<'_, R, W>
where
    R: ReadReady + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    type Output = io::Result<u64>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        let (flow, memory) = (&mut this.flow, &mut this.memory);
        let any = |_: &mut W, _: &mut Context<'_>| Poll::Ready(Ok(usize::MAX));
        flow.poll(cx, this.reader, this.writer, memory, AtEnd::Flush, any)
            .map_ok(|()| this.flow.moved())
    }
}

/// The memory of a copy in one direction.
#[derive(Debug)]
struct Single(Ask);

impl Single {
    /// Asks for `n` bytes and keeps asking for the same, so as to keep its place, until it has them.
    fn poll_reserve(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
        pace: &mut Pace,
    ) -> Poll<io::Result<DirectBytesMut>> {
        let was_waiting = self.0.is_waiting();
        let reserved = self.0.poll_paced(cx, n, pace);
        if reserved.is_pending() && !was_waiting {
            pace.waited();
        }
        reserved
    }
}

impl Memory for Single {
    fn pool(&self) -> &Pool {
        self.0.pool()
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
        pace: &mut Pace,
    ) -> Poll<io::Result<DirectBytesMut>> {
        self.poll_reserve(cx, n, pace)
    }

    fn give_back(&mut self, buffer: DirectBytesMut) {
        drop(buffer);
    }

    fn exchange(&mut self, n: usize, block: usize) -> Option<DirectBytesMut> {
        let small = self.pool().try_reserve(n).ok()?;
        (small.block_len() < block).then_some(small)
    }
}

/// Moves bytes between `a` and `b`, both ways, until both have ended; answers how many went from `a` to `b` and from `b` to
/// `a`. When one side ends its sending, the other side's sending end is shut down, and the other direction goes on, as by
/// tokio's `io::copy_bidirectional`.
///
/// While both sides are silent no buffer is held. The buffers' size follows the traffic: 4 KiB for those who chat, up to 1 MiB for
/// bulk, and never more than a sixteenth of the pool's limit (or 4 KiB). Where the streams can say how much they
/// [would take](ReadReady::poll_write_room), no more than that is read for them: what a slow reader does not read stays with its
/// sender instead of filling the pool.
///
/// Relays that share a pool do not stop each other: see the [module](super)'s text.
///
/// # Errors
///
/// Those of the streams; `WriteZero` where one of them takes nothing; and those of [`Pool::reserve`] as [`io::Error`]. The
/// first error ends both directions.
///
/// # Cancel safety
///
/// Poll it by reference and nothing is lost: [`CopyBidirectional::moved`] says how many bytes went each way so far, and
/// [`CopyBidirectional::take_in_flight`] hands out those that were read and not yet written.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tokio::io::AsyncWriteExt;
/// use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let (mut client, mut a) = UnixStream::pair()?;
/// let (mut b, server) = UnixStream::pair()?;
/// client.write_all(b"hello").await?;
///
/// let mut copy = offheap::io::copy_bidirectional(&mut a, &mut b, &pool);
/// let cut = tokio::time::timeout(Duration::from_millis(20), &mut copy).await;
/// assert!(cut.is_err());
/// assert_eq!(copy.moved(), (5, 0));
/// # drop(server);
/// # Ok(())
/// # }
/// ```
pub fn copy_bidirectional<'a, A, B>(
    a: &'a mut A,
    b: &'a mut B,
    pool: &Pool,
) -> CopyBidirectional<'a, A, B>
where
    A: ReadReady + AsyncWrite + Unpin + ?Sized,
    B: ReadReady + AsyncWrite + Unpin + ?Sized,
{
    CopyBidirectional {
        a,
        b,
        up: Flow::new(),
        down: Flow::new(),
        shared: Shared {
            single: Single(Ask::new(pool)),
            sides: Default::default(),
        },
    }
}

/// A copy in both directions. From [`copy_bidirectional`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct CopyBidirectional<'a, A: ?Sized, B: ?Sized> {
    a: &'a mut A,
    b: &'a mut B,
    up: Flow,
    down: Flow,
    shared: Shared,
}

impl<A: ?Sized, B: ?Sized> CopyBidirectional<'_, A, B> {
    /// Buffers of one size, in bytes, instead of a size that follows the traffic. Before the first poll.
    pub fn buffer_size(mut self, bytes: usize) -> Self {
        self.up.set_pace(Pace::fixed(bytes));
        self.down.set_pace(Pace::fixed(bytes));
        self
    }

    /// Bytes that `b` has taken so far, and that `a` has.
    pub fn moved(&self) -> (u64, u64) {
        (self.up.moved(), self.down.moved())
    }

    /// Bytes that were read and not yet written: to `b`, and to `a`.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.up.in_flight().len(), self.down.in_flight().len())
    }

    /// Takes the bytes that were read and not yet written: those for `b`, and those for `a`.
    pub fn take_in_flight(&mut self) -> (DirectBytes, DirectBytes) {
        let in_flight = (self.up.take_in_flight(), self.down.take_in_flight());
        // What was kept for the other direction is of no use any more.
        self.shared.sides = Default::default();
        in_flight
    }
}

impl<A, B> Future for CopyBidirectional<'_, A, B>
where
    A: ReadReady + AsyncWrite + Unpin + ?Sized,
    B: ReadReady + AsyncWrite + Unpin + ?Sized,
{
    type Output = io::Result<(u64, u64)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<(u64, u64)>> {
        let this = self.get_mut();
        loop {
            let mut side = this.shared.side(0, &this.down);
            let room = |b: &mut B, cx: &mut Context<'_>| Pin::new(b).poll_write_room(cx);
            let up = this
                .up
                .poll(cx, this.a, this.b, &mut side, AtEnd::Shutdown, room)?;
            let mut side = this.shared.side(1, &this.up);
            let room = |a: &mut A, cx: &mut Context<'_>| Pin::new(a).poll_write_room(cx);
            let down = this
                .down
                .poll(cx, this.b, this.a, &mut side, AtEnd::Shutdown, room)?;
            if up.is_ready() && down.is_ready() {
                return Poll::Ready(Ok(this.moved()));
            }
            // The grant that both waited for went to the second one; the first one can live off it.
            if !this.shared.is_forgotten() {
                return Poll::Pending;
            }
        }
    }
}

/// The memory of both directions.
#[derive(Debug)]
struct Shared {
    single: Single,
    sides: [Keeping; 2],
}

/// What is kept for one direction.
#[derive(Debug, Default)]
struct Keeping {
    /// It waits for memory.
    wants: bool,
    /// A part of the other direction's block, which is for this one.
    lent: DirectBytesMut,
    /// It uses that part.
    borrows: bool,
    /// Its own block, not needed now but pinned by the part that the other direction uses.
    kept: DirectBytesMut,
}

/// [`Shared`], as one direction sees it.
struct Side<'a> {
    shared: &'a mut Shared,
    mine: usize,
    other_holds: bool,
    other_is_done: bool,
}

impl Shared {
    fn side(&mut self, mine: usize, other: &Flow) -> Side<'_> {
        Side {
            shared: self,
            mine,
            other_holds: other.holds_memory(),
            other_is_done: other.is_done(),
        }
    }

    /// Someone wants memory, and nothing is asked for.
    fn is_forgotten(&self) -> bool {
        !self.single.0.is_waiting() && self.sides.iter().any(|side| side.wants)
    }
}

impl Side<'_> {
    fn mine(&mut self) -> &mut Keeping {
        &mut self.shared.sides[self.mine]
    }

    fn other(&mut self) -> &mut Keeping {
        &mut self.shared.sides[1 - self.mine]
    }

    /// Sets the other direction's part of a new block aside.
    fn divide(&mut self, mut block: DirectBytesMut, at: usize) -> DirectBytesMut {
        if !self.other_is_done {
            self.other().lent = block.split_off(at);
        }
        block
    }

    fn divide_block(&mut self, block: DirectBytesMut) -> DirectBytesMut {
        let size = block.capacity();
        self.divide(
            block,
            size - (size / LENT).clamp(LEAST_LENT, MOST_LENT).min(size / 2),
        )
    }

    /// Memory that can be had without waiting.
    fn take_at_once(&mut self, n: usize) -> Option<DirectBytesMut> {
        if self.pool().is_closed() {
            // The reservation says so.
            return None;
        }
        let kept = std::mem::take(&mut self.mine().kept);
        if kept.capacity() > 0 {
            return Some(kept);
        }
        if !self.other_holds {
            return None;
        }
        if let Ok(block) = self.pool().try_reserve(n) {
            return Some(self.divide_block(block));
        }
        let lent = std::mem::take(&mut self.mine().lent);
        let any = lent.capacity() > 0;
        self.mine().borrows = any;
        any.then_some(lent)
    }
}

impl Memory for Side<'_> {
    fn pool(&self) -> &Pool {
        self.shared.single.pool()
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
        pace: &mut Pace,
    ) -> Poll<io::Result<DirectBytesMut>> {
        self.mine().wants = false;
        if let Some(buffer) = self.take_at_once(n) {
            return Poll::Ready(Ok(buffer));
        }
        match self.shared.single.poll_reserve(cx, n, pace) {
            Poll::Ready(Ok(block)) => Poll::Ready(Ok(self.divide_block(block))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.mine().wants = true;
                Poll::Pending
            }
        }
    }

    fn give_back(&mut self, buffer: DirectBytesMut) {
        if self.mine().borrows {
            self.mine().borrows = false;
            // Its owner has no use for it now: then the block goes back, and otherwise this is here for the next time.
            let kept = std::mem::take(&mut self.other().kept);
            if kept.capacity() == 0 {
                self.mine().lent = buffer;
            }
        } else if self.other().borrows {
            self.mine().kept = buffer;
        } else {
            self.other().lent = DirectBytesMut::default();
        }
    }

    fn exchange(&mut self, n: usize, block: usize) -> Option<DirectBytesMut> {
        if self.mine().borrows || self.other().borrows {
            return None;
        }
        let small = self.pool().try_reserve(n + LEAST_LENT).ok()?;
        (small.block_len() < block).then(|| self.divide(small, n))
    }
}
