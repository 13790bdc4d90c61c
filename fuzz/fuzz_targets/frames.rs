//! Frames out of hostile bytes that come in hostile pieces, beside tokio_util's codec and a plain way to cut lines.

#![no_main]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use arbitrary::{Result, Unstructured};
use bytes::BytesMut;
use futures::StreamExt;
use libfuzzer_sys::fuzz_target;
use offheap::io::{Decoder, FrameError, FramedReader, LengthDelimited, Lines, Probe, ReadReady};
use offheap::{DirectBytes, Pool};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Runtime;
use tokio_util::codec::{Decoder as _, LengthDelimitedCodec};

#[path = "../../tests/support/starved.rs"]
mod starved;

const LIMIT: usize = 1 << 20;
/// Larger frames are not asked of the codec: it reserves memory for them.
const LARGE: usize = 128 << 10;

thread_local! {
    static POOL: (Pool, Runtime) = starved::starved(Pool::builder().limit(LIMIT));
}

/// Brings its bytes in pieces of these sizes; where a size is zero it is not ready, though it may have said so.
#[derive(Clone)]
struct Hostile<'a> {
    wire: &'a [u8],
    cuts: &'a [u8],
    turn: usize,
    /// Says that it is ready whether it is or not.
    lies: bool,
    /// Ends with an error instead of the end.
    breaks: bool,
}

impl AsyncRead for Hostile<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let cut = self.cuts.get(self.turn % self.cuts.len().max(1));
        self.turn += 1;
        let most = match cut.copied().unwrap_or(255) {
            // Now and then it keeps silent, never for ever.
            0 if self.turn % 2 == 1 => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            small @ 0..=99 => usize::from(small).max(1),
            large => usize::from(large) * 61,
        };
        if self.wire.is_empty() && self.breaks {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let count = most.min(buf.remaining()).min(self.wire.len());
        let (now, later) = self.wire.split_at(count);
        buf.put_slice(now);
        self.wire = later;
        Poll::Ready(Ok(()))
    }
}

impl ReadReady for Hostile<'_> {
    fn poll_read_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lies || self.turn % 3 != 0 {
            return Poll::Ready(Ok(()));
        }
        self.turn += 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Frames, and what went wrong where.
type Frames = Vec<std::result::Result<Vec<u8>, Wrong>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    TooLarge,
    BadLength,
    Truncated,
    /// The source's or the pool's.
    Other,
}

fn wrong(error: &io::Error) -> Wrong {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(FrameError::TooLarge { .. }) => Wrong::TooLarge,
        Some(FrameError::BadLength { .. }) => Wrong::BadLength,
        Some(FrameError::Truncated { .. }) => Wrong::Truncated,
        _ => Wrong::Other,
    }
}

fn read<D>(source: &Hostile<'_>, probed: bool, decoder: D) -> Frames
where
    D: Decoder<Item = DirectBytes, Error = io::Error> + Unpin,
{
    fn all<R, D>(reader: FramedReader<R, D>) -> Frames
    where
        R: ReadReady + Unpin,
        D: Decoder<Item = DirectBytes, Error = io::Error> + Unpin,
    {
        let frames = reader.map(|frame| frame.map(|f| f.to_vec()).map_err(|error| wrong(&error)));
        futures::executor::block_on(frames.collect())
    }
    POOL.with(|(pool, _)| {
        let source = source.clone();
        let found = if probed {
            all(FramedReader::new(Probe::new(source), decoder, pool))
        } else {
            all(FramedReader::new(source, decoder, pool))
        };
        assert_eq!(pool.stats().live, 0, "held after the end");
        found
    })
}

fn lengths(input: &mut Unstructured<'_>, source: &Hostile<'_>, probed: bool) -> Result<()> {
    let width = input.int_in_range(1..=8)?;
    let offset = input.int_in_range(0..=5)?;
    let adjustment: isize = match input.int_in_range(0..=3)? {
        0 | 1 => 0,
        2 => input.int_in_range(-20..=20)?,
        _ => input.arbitrary::<i16>()?.into(),
    };
    let max: usize = match input.int_in_range(0..=3)? {
        0 => usize::MAX,
        1 => input.int_in_range(0..=LARGE)?,
        _ => input.int_in_range(0..=300)?,
    };
    // The codec takes an adjustment off the largest length that it accepts, so that it can write what it reads.
    let writable = (u64::MAX >> (64 - 8 * width)).saturating_add_signed(adjustment as i64);
    let max = max.min(usize::try_from(writable).unwrap_or(usize::MAX));
    let skip = if input.arbitrary()? {
        Some(input.int_in_range(0..=20)?)
    } else {
        None
    };
    let little = input.arbitrary()?;

    let mut ours = LengthDelimited::new()
        .length_field_length(width)
        .length_field_offset(offset)
        .length_adjustment(adjustment)
        .max_frame_length(max);
    let mut theirs = LengthDelimitedCodec::builder();
    theirs
        .length_field_length(width)
        .length_field_offset(offset)
        .length_adjustment(adjustment)
        .max_frame_length(max);
    if let Some(skip) = skip {
        ours = ours.num_skip(skip);
        theirs.num_skip(skip);
    }
    if little {
        ours = ours.little_endian();
        theirs.little_endian();
    }
    let found = read(source, probed, ours);
    if max > LARGE {
        return Ok(());
    }

    let (mut codec, mut wire) = (theirs.new_codec(), BytesMut::from(source.wire));
    let mut expected: Frames = Vec::new();
    let wrong_of = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => Wrong::TooLarge,
        _ => Wrong::BadLength,
    };
    loop {
        let before = wire.len();
        match codec.decode(&mut wire) {
            // The codec would hand out nothing, for ever.
            Ok(Some(_)) if wire.len() == before => {
                expected.push(Err(Wrong::BadLength));
                break;
            }
            Ok(Some(frame)) => expected.push(Ok(frame.to_vec())),
            Ok(None) => {
                // The codec waits for all that is skipped before it looks at the length; ours says at once that it is wrong.
                if wire.len() >= offset + width && wire.len() < skip.unwrap_or(0) {
                    wire.resize(skip.unwrap_or(0), 0);
                    let error = codec.decode(&mut wire).err();
                    expected.extend(error.map(|error| Err(wrong_of(error))));
                }
                break;
            }
            Err(error) => {
                expected.push(Err(wrong_of(error)));
                break;
            }
        }
    }
    // The codec says nothing of a frame whose head is all that came; nor does it know the source's error.
    match (&found[..], found.len() - expected.len().min(found.len())) {
        ([.., Err(Wrong::Truncated | Wrong::Other)], 1) => {
            assert_eq!(found[..expected.len()], expected);
        }
        _ => assert_eq!(found, expected),
    }
    Ok(())
}

fn lines(input: &mut Unstructured<'_>, source: &Hostile<'_>, probed: bool) -> Result<()> {
    let max = match input.int_in_range(0..=3)? {
        0 => usize::MAX,
        1 => input.int_in_range(0..=9000)?,
        _ => input.int_in_range(0..=40)?,
    };
    let found = read(source, probed, Lines::with_max_length(max));
    let mut expected: Frames = Vec::new();
    for raw in source.wire.split_inclusive(|&byte| byte == b'\n') {
        if raw.len() > max.saturating_add(2) {
            expected.push(Err(Wrong::TooLarge));
            break;
        }
        let line = match raw {
            [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => line,
            _ if source.breaks => {
                expected.push(Err(Wrong::Other));
                break;
            }
            line => line,
        };
        expected.push(if line.len() > max {
            Err(Wrong::TooLarge)
        } else {
            Ok(line.to_vec())
        });
    }
    if source.breaks && found.len() > expected.len() {
        expected.push(Err(Wrong::Other));
    }
    assert_eq!(found, expected);
    Ok(())
}

fn check(data: &[u8]) -> Result<()> {
    let mut input = Unstructured::new(data);
    let is_lines = input.arbitrary()?;
    let (lies, breaks, probed) = (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?);
    let count = input.int_in_range(0..=8)?;
    let cuts = input.bytes(count)?;
    let settings = input.bytes(16)?;
    let mut settings = Unstructured::new(settings);
    let source = Hostile {
        wire: input.take_rest(),
        cuts,
        turn: 0,
        lies,
        breaks,
    };
    if is_lines {
        lines(&mut settings, &source, probed)
    } else {
        lengths(&mut settings, &source, probed)
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = check(data);
});
