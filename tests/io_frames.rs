//! Frames: slices of blocks, whatever way they are cut up on their way, and what becomes of bad ones.

#![cfg(all(unix, feature = "io"))]

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt, TryStreamExt};
use offheap::io::{
    FrameError, FramedReader, LengthDelimited, Lines, PooledReader, PooledWriter, Probe,
};
use offheap::{DirectBytes, Pool};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio_util::codec::{Encoder, FramedRead, FramedWrite, LengthDelimitedCodec, LinesCodec};

#[path = "support/config.rs"]
mod config;
#[path = "support/net.rs"]
mod net;

use net::{bytes, tcp_pair};

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

fn frame_error(error: &io::Error) -> &FrameError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.unwrap_or_else(|| panic!("no frame error: {error}"))
}

/// Feeds `wire` in pieces of these sizes, over and over, and collects the frames.
fn frames<D>(wire: &[u8], cuts: &[usize], decoder: D, pool: &Pool) -> Vec<Result<Vec<u8>, String>>
where
    D: offheap::io::Decoder<Item = DirectBytes, Error = io::Error> + Unpin,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut there, here) = tokio::io::duplex(1 << 20);
        let reader = FramedReader::new(Probe::new(here), decoder, pool);
        let write = async move {
            let mut rest = wire;
            for cut in cuts.iter().cycle() {
                let (part, behind) = rest.split_at(rest.len().min(*cut));
                // The reader stops where it finds an error.
                if there.write_all(part).await.is_err() || behind.is_empty() {
                    break;
                }
                rest = behind;
                tokio::task::yield_now().await;
            }
        };
        let read = reader.map(|frame| match frame {
            Ok(frame) => Ok(frame.to_vec()),
            Err(error) => Err(error.to_string()),
        });
        tokio::join!(write, read.collect::<Vec<_>>()).1
    })
}

proptest! {
    #![proptest_config(config::cases(4))]

    /// What tokio_util's codec writes is what comes out, however it is cut up, and nothing is held afterwards.
    #[test]
    fn length_delimited_frames_are_those_of_the_codec(
        payloads in vec(vec(any::<u8>(), 0..9000), 0..12),
        cuts in vec(1..5000_usize, 1..6),
        (offset, width, little, whole) in (0..4_usize, 2..=8_usize, any::<bool>(), any::<bool>()),
    ) {
        let mut codec = LengthDelimitedCodec::builder();
        codec.length_field_length(width);
        let mut decoder = LengthDelimited::new().length_field_length(width).length_field_offset(offset);
        if little {
            codec.little_endian();
            decoder = decoder.little_endian();
        }
        if whole {
            decoder = decoder.num_skip(0).length_adjustment((offset + width) as isize);
        }
        let mut codec = codec.new_codec();
        let mut wire = BytesMut::new();
        let mut expected = Vec::new();
        for payload in &payloads {
            let start = wire.len();
            wire.extend_from_slice(&vec![0xee; offset]);
            codec.encode(Bytes::copy_from_slice(payload), &mut wire).unwrap();
            expected.push(Ok(if whole { wire[start..].to_vec() } else { payload.clone() }));
        }
        let pool = pool(1 << 20);
        prop_assert_eq!(frames(&wire, &cuts, decoder, &pool), expected);
        prop_assert_eq!(pool.stats().live, 0);
    }

    /// The same for lines.
    #[test]
    fn lines_are_those_of_the_codec(
        text in "([a-z\r]{0,300}\n?|\r\n|[a-z]{3000,9000}\n){0,12}",
        cuts in vec(1..5000_usize, 1..6),
    ) {
        let mut codec = LinesCodec::new();
        let mut wire = BytesMut::from(text.as_str());
        let mut expected = Vec::new();
        while let Some(line) = tokio_util::codec::Decoder::decode_eof(&mut codec, &mut wire).unwrap() {
            expected.push(Ok(line.into_bytes()));
        }
        let pool = pool(1 << 20);
        let found = frames(text.as_bytes(), &cuts, Lines::new(), &pool);
        // The codec takes the `\r` off a last line without a break, too.
        let trimmed: Vec<_> = found.into_iter().map(|line| line.map(|line| {
            let unbroken = !text.ends_with('\n') && text.as_bytes().ends_with(&line);
            match line.strip_suffix(b"\r") {
                Some(rest) if unbroken => rest.to_vec(),
                _ => line,
            }
        })).filter(|line| line.as_ref() != Ok(&Vec::new()) || !text.ends_with('\r')).collect();
        let expected: Vec<_> = expected.into_iter()
            .filter(|line| line != &Ok(Vec::new()) || !text.ends_with('\r')).collect();
        prop_assert_eq!(trimmed, expected);
        prop_assert_eq!(pool.stats().live, 0);
    }
}

/// Many frames in one block are slices of it, one block for all.
#[tokio::test]
async fn frames_inside_a_block_are_not_moved() {
    let pool = pool(1 << 20);
    let mut wire = Vec::new();
    for i in 0..50u8 {
        wire.extend_from_slice(&[0, 0, 0, 10]);
        wire.extend_from_slice(&[i; 10]);
    }
    let reader = FramedReader::new(&wire[..], LengthDelimited::new(), &pool);
    let frames: Vec<_> = reader.try_collect().await.unwrap();
    assert_eq!(frames.len(), 50);
    for (i, pair) in frames.windows(2).enumerate() {
        assert_eq!(pair[0][..], [i as u8; 10]);
        assert_eq!(pair[1].as_ptr() as usize - pair[0].as_ptr() as usize, 14);
    }
    assert_eq!(pool.stats().buffers, 1);
    // One for the frames, and one that saw the end.
    assert!(pool.stats().reserved_total <= 2);
}

/// A frame that does not end in its block gets one of its size, and is read right there.
#[tokio::test]
async fn a_frame_across_blocks_is_moved_once() {
    let pool = pool(8 << 20);
    let (near, mut far) = tcp_pair().await.unwrap();
    let body = bytes(0, 1_000_000);
    let sending = tokio::spawn({
        let body = body.clone();
        async move {
            far.write_all(&[0, 0, 0, 1, 7]).await.unwrap();
            far.write_all(&(body.len() as u32).to_be_bytes())
                .await
                .unwrap();
            far.write_all(&body).await.unwrap();
        }
    });
    let mut frames = FramedReader::new(near, LengthDelimited::new(), &pool);
    assert_eq!(frames.try_next().await.unwrap().unwrap()[..], [7]);
    let frame = frames.try_next().await.unwrap().unwrap();
    assert!(frame == body[..]);
    assert!(frame.block_len() >= 1_000_004 && frame.block_len() < 1_300_000);
    sending.await.unwrap();
    assert!(frames.try_next().await.unwrap().is_none());
    // At most: the first bytes, the frame, and the end.
    assert!(pool.stats().reserved_total <= 4, "{:?}", pool.stats());
}

#[tokio::test]
async fn a_frame_too_large_is_an_error_and_no_allocation() {
    let pool = pool(64 << 20);
    let wire = [&u32::MAX.to_be_bytes()[..], b"whatever"].concat();
    let decoder = LengthDelimited::new().max_frame_length(1000);
    let mut frames = FramedReader::new(&wire[..], decoder, &pool);
    let error = frames.try_next().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(matches!(
        frame_error(&error),
        FrameError::TooLarge {
            size: 4294967295,
            max: 1000,
            ..
        }
    ));
    let text = error.to_string();
    assert!(
        text.contains("4294967295 bytes") && text.contains("1000 bytes"),
        "{text}"
    );
    assert!(
        frames.try_next().await.unwrap().is_none(),
        "there is no way on"
    );
    let (_, _, rest) = frames.into_parts();
    assert_eq!(rest, wire[..]);
    assert_eq!(pool.stats().peak_live, 4 << 10);

    let line = vec![b'x'; 5000];
    let mut lines = FramedReader::new(&line[..], Lines::with_max_length(4999), &pool);
    let error = lines.try_next().await.unwrap_err();
    assert!(
        matches!(frame_error(&error), FrameError::TooLarge { .. }),
        "{error}"
    );
    let mut lines = FramedReader::new(&line[..], Lines::with_max_length(5000), &pool);
    assert_eq!(lines.try_next().await.unwrap().unwrap().len(), 5000);
}

#[tokio::test]
async fn impossible_lengths() {
    let pool = pool(1 << 20);
    let decoder = LengthDelimited::new().length_adjustment(-8);
    let mut frames = FramedReader::new(&[0, 0, 0, 3, 1, 2, 3][..], decoder, &pool);
    let error = frames.try_next().await.unwrap_err();
    assert_eq!(*frame_error(&error), frame_error(&error).clone());
    assert!(matches!(
        frame_error(&error),
        FrameError::BadLength { length: 3, .. }
    ));
    // Nor is nothing a frame: it would come for ever.
    let decoder = LengthDelimited::new().num_skip(0);
    let mut frames = FramedReader::new(&[0, 0, 0, 0, 9][..], decoder, &pool);
    let error = frames.try_next().await.unwrap_err();
    assert!(matches!(
        frame_error(&error),
        FrameError::BadLength { length: 0, .. }
    ));
    // A frame that the pool can never hold is the pool's error.
    let small = Pool::builder().limit(4096).build().unwrap();
    let wire = [&100_000u32.to_be_bytes()[..], &[0; 9000]].concat();
    let mut frames = FramedReader::new(&wire[..], LengthDelimited::new(), &small);
    let error = frames.try_next().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("100004 bytes"), "{error}");
}

/// Nor is there a way to have a frame that fits the pool, but not beside its own beginning.
#[tokio::test]
async fn a_frame_that_would_wait_for_itself() {
    const LIMIT: usize = 1 << 20;
    let pool = pool(LIMIT);
    for length in [LIMIT - 4, LIMIT - 5000] {
        let wire = [&(length as u32).to_be_bytes()[..], &[0; 9000]].concat();
        let mut frames = FramedReader::new(&wire[..], LengthDelimited::new(), &pool);
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), frames.try_next());
        let error = next.await.expect("waits for itself").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        drop(frames);
    }
    assert_eq!(pool.stats().live, 0);
    // Half of it is no problem.
    let wire = [&(LIMIT as u32 / 2).to_be_bytes()[..], &[7; LIMIT / 2]].concat();
    let mut frames = FramedReader::new(&wire[..], LengthDelimited::new(), &pool);
    assert_eq!(frames.try_next().await.unwrap().unwrap(), wire[4..]);
}

#[tokio::test]
async fn the_end_inside_a_frame() {
    let pool = pool(1 << 20);
    let mut frames = FramedReader::new(&b"\0\0\0\x05hel"[..], LengthDelimited::new(), &pool);
    let error = frames.try_next().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("7 of its 9 bytes"), "{error}");
    assert!(frames.try_next().await.unwrap().is_none());
    drop(frames);
    let mut frames = FramedReader::new(&b"\0\0"[..], LengthDelimited::new(), &pool);
    let error = frames.try_next().await.unwrap_err();
    assert!(matches!(
        frame_error(&error),
        FrameError::Truncated {
            have: 2,
            need: None,
            ..
        }
    ));
    drop(frames);
    assert_eq!(pool.stats().live, 0);
}

/// Between frames nothing is held.
#[tokio::test]
async fn an_idle_reader_holds_nothing() {
    let pool = pool(1 << 20);
    let (near, mut far) = tcp_pair().await.unwrap();
    let mut lines = FramedReader::new(near, Lines::new(), &pool);
    far.write_all(b"one\ntwo\n").await.unwrap();
    for line in ["one", "two"] {
        assert_eq!(lines.try_next().await.unwrap().unwrap(), line.as_bytes());
    }
    assert!(futures::poll!(lines.next()).is_pending());
    assert_eq!(pool.stats().live, 0);
}

/// tokio_util's own framing over our reader and writer, and a mix of both.
#[tokio::test]
async fn codecs_run_over_pooled_streams() {
    let pool = pool(1 << 20);
    let (near, far) = tcp_pair().await.unwrap();
    let sent: Vec<Vec<u8>> = (0..200)
        .map(|i| bytes(i, (i as usize * 37) % 5000))
        .collect();
    let sending = tokio::spawn({
        let (sent, pool) = (sent.clone(), pool.clone());
        async move {
            let mut sink =
                FramedWrite::new(PooledWriter::new(near, &pool), LengthDelimitedCodec::new());
            for frame in sent {
                sink.feed(Bytes::from(frame)).await.unwrap();
            }
            SinkExt::<Bytes>::close(&mut sink).await.unwrap();
        }
    });
    let (read, _write) = far.into_split();
    let mut theirs = FramedRead::new(PooledReader::new(read, &pool), LengthDelimitedCodec::new());
    for frame in &sent[..100] {
        assert_eq!(theirs.try_next().await.unwrap().unwrap(), frame[..]);
    }
    // What the other one has read already goes first.
    let rest = theirs.read_buffer().to_vec();
    let mut reader = theirs.into_inner();
    let ahead = reader.take_buffer();
    let rest = io::Cursor::new([rest, ahead.to_vec()].concat());
    let source = Probe::new(tokio::io::AsyncReadExt::chain(rest, reader.into_inner()));
    let mut ours = FramedReader::new(source, LengthDelimited::new(), &pool);
    for frame in &sent[100..] {
        assert_eq!(ours.try_next().await.unwrap().unwrap(), frame[..]);
    }
    assert!(ours.try_next().await.unwrap().is_none());
    sending.await.unwrap();
    drop(ours);
    assert_eq!(pool.stats().live, 0);
}
