//! Readiness first, buffer second: `read_pooled`, `PooledReader`, and what makes sources ready.

#![cfg(all(unix, feature = "io"))]

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::Poll;

use futures::StreamExt;
use offheap::io::{read_pooled, PooledReader, Probe, ReadReady, ReadyFd};
use offheap::Pool;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::UnixStream;

#[path = "support/net.rs"]
mod net;

use net::{bytes, tcp_pair};

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

/// While the peer is silent nothing is held and nothing is asked for; bytes, the end, and bytes again behind a wait for memory.
async fn reads<S>(mut source: S, mut peer: impl tokio::io::AsyncWrite + Unpin)
where
    S: ReadReady + Unpin,
{
    let pool = pool(64 << 10);
    {
        let mut silent = Box::pin(read_pooled(&mut source, &pool, 4096));
        assert!(futures::poll!(silent.as_mut()).is_pending());
        assert_eq!(pool.stats().live, 0);
        assert_eq!(pool.stats().reserved_total, 0);
    }
    peer.write_all(b"hello").await.unwrap();
    let buffer = read_pooled(&mut source, &pool, 4096).await.unwrap();
    assert_eq!(buffer[..], *b"hello");
    assert_eq!(pool.stats().buffers, 1);
    drop(buffer);

    let all = pool.try_reserve(64 << 10).unwrap();
    peer.write_all(b"later").await.unwrap();
    {
        let mut parked = Box::pin(read_pooled(&mut source, &pool, 4096));
        // The byte's arrival is an event; from then on it stands in the queue.
        while pool.stats().waiting == 0 {
            assert!(futures::poll!(parked.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        let mut second = Box::pin(pool.reserve(4096));
        assert!(futures::poll!(second.as_mut()).is_pending());
        assert!(
            futures::poll!(parked.as_mut()).is_pending(),
            "keeps its place across polls"
        );
        drop(all);
        assert_eq!(parked.await.unwrap()[..], *b"later");
        second.await.unwrap();
    }

    drop(peer);
    let end = read_pooled(&mut source, &pool, 4096).await.unwrap();
    assert!(end.is_empty());
    assert_eq!(end.block_len(), 0);
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn tcp_streams_are_read_when_ready() {
    let (near, far) = tcp_pair().await.unwrap();
    reads(near, far).await;
    let (near, far) = tcp_pair().await.unwrap();
    reads(near.into_split().0, far).await;
}

#[tokio::test]
async fn unix_streams_are_read_when_ready() {
    let (near, far) = UnixStream::pair().unwrap();
    reads(near, far).await;
    let (near, far) = UnixStream::pair().unwrap();
    reads(near.into_split().0, far).await;
    let (mut near, far) = UnixStream::pair().unwrap();
    reads(near.split().0, far).await;
}

#[tokio::test]
async fn pipes_are_read_when_ready() {
    let (sender, receiver) = pipe::pipe().unwrap();
    reads(receiver, sender).await;
}

#[tokio::test]
async fn any_descriptor_that_can_be_polled() {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    reads(ReadyFd::new(near).unwrap(), ReadyFd::new(far).unwrap()).await;
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(
        ReadyFd::new(file).unwrap_err().kind(),
        io::ErrorKind::PermissionDenied
    );
}

#[tokio::test]
async fn sources_without_readiness_are_probed() {
    let (near, far) = tokio::io::duplex(1024);
    reads(Probe::new(near), far).await;
}

/// A probe hands out what it read ahead, byte for byte, whatever the sizes.
#[tokio::test]
async fn a_probe_loses_nothing() {
    let pool = pool(1 << 20);
    let (near, mut far) = tokio::io::duplex(100);
    let sent = bytes(0, 10_000);
    let writer = tokio::spawn({
        let sent = sent.clone();
        async move {
            for (i, part) in sent.chunks(97).enumerate() {
                far.write_all(part).await.unwrap();
                if i % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    let mut probe = Probe::new(near);
    let mut received = Vec::new();
    loop {
        let part = read_pooled(&mut probe, &pool, 256).await.unwrap();
        if part.is_empty() {
            break;
        }
        received.extend_from_slice(&part);
        // Other ways of reading see the same bytes.
        let mut few = [0; 3];
        let n = probe.read(&mut few).await.unwrap();
        received.extend_from_slice(&few[..n]);
    }
    writer.await.unwrap();
    assert_eq!(received, sent);
}

/// A source that brings bytes and then an error: first the bytes, then the error.
#[tokio::test]
async fn an_error_behind_bytes_loses_no_bytes() {
    struct Failing(Vec<u8>);
    impl tokio::io::AsyncRead for Failing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let n = self.0.len().min(buf.remaining());
            buf.put_slice(&self.0.drain(..n).collect::<Vec<_>>());
            Poll::Ready(Ok(()))
        }
    }
    let pool = pool(1 << 20);
    let mut probe = Probe::new(Failing(bytes(0, 64)));
    let read = read_pooled(&mut probe, &pool, 4096).await.unwrap();
    assert_eq!(read[..], bytes(0, 64));
    let error = read_pooled(&mut probe, &pool, 4096).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(pool.stats().live, 1 << 12, "only what the test holds");
}

#[tokio::test]
async fn a_cancelled_read_loses_no_byte() {
    let pool = pool(4096);
    let (mut near, mut far) = tcp_pair().await.unwrap();
    let held = pool.try_reserve(4096).unwrap();
    far.write_all(b"kept").await.unwrap();
    {
        let mut parked = Box::pin(read_pooled(&mut near, &pool, 4096));
        while pool.stats().waiting == 0 {
            assert!(futures::poll!(parked.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        // Granted, and dropped before it knows.
        drop(held);
    }
    assert_eq!(pool.stats().live, 0);
    assert_eq!(
        read_pooled(&mut near, &pool, 4096).await.unwrap()[..],
        *b"kept"
    );
}

#[tokio::test]
async fn readiness_without_waiting() {
    let pool = pool(1 << 20);
    let (mut near, mut far) = tcp_pair().await.unwrap();
    let mut buffer = pool.try_reserve(4096).unwrap();
    let error = ReadReady::try_read_buf(Pin::new(&mut near), &mut buffer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    far.write_all(b"now").await.unwrap();
    near.readable().await.unwrap();
    let n = ReadReady::try_read_buf(Pin::new(&mut near), &mut buffer).unwrap();
    assert_eq!((n, &buffer[..]), (3, &b"now"[..]));
}

#[tokio::test]
async fn errors_of_the_pool_are_errors_of_the_read() {
    let pool = pool(4096);
    let (mut near, mut far) = tcp_pair().await.unwrap();
    far.write_all(b"x").await.unwrap();
    let error = read_pooled(&mut near, &pool, 8192).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("8192 bytes"), "{error}");
    pool.close();
    let error = read_pooled(&mut near, &pool, 1).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert!(read_pooled(&mut near, &pool, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_reader_gives_its_buffer_back_when_it_is_drained() {
    let pool = pool(1 << 20);
    let (near, mut far) = tcp_pair().await.unwrap();
    let mut reader = PooledReader::new(near, &pool);
    far.write_all(b"one\ntwo\nthr").await.unwrap();
    let mut lines = Vec::new();
    for _ in 0..2 {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        lines.push(line);
    }
    assert_eq!(lines, ["one\n", "two\n"]);
    far.write_all(b"ee").await.unwrap();
    drop(far);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "three");
    assert_eq!(pool.stats().live, 0);
    assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(reader.fill_buf().await.unwrap().is_empty());
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn the_reader_is_a_stream_of_what_reads_bring() {
    let pool = pool(8 << 20);
    let (near, mut far) = tcp_pair().await.unwrap();
    let sent = bytes(0, 3 << 20);
    let writer = tokio::spawn({
        let sent = sent.clone();
        async move { far.write_all(&sent).await }
    });
    let mut reader = PooledReader::new(near, &pool);
    let mut first = [0; 3];
    reader.read_exact(&mut first).await.unwrap();
    let mut received = first.to_vec();
    let mut largest = 0;
    while let Some(part) = reader.next().await {
        let part = part.unwrap();
        assert!(!part.is_empty());
        largest = largest.max(part.block_len());
        received.extend_from_slice(&part);
    }
    writer.await.unwrap().unwrap();
    assert!(received == sent);
    assert!(largest > 4096, "bulk gets larger buffers than {largest}");
    assert_eq!(pool.stats().live, 0);
}

/// A write-side that goes through the reader, and what is inside.
#[tokio::test]
async fn the_reader_passes_writes_on() {
    let pool = pool(1 << 20);
    let (near, far) = tcp_pair().await.unwrap();
    let mut reader = PooledReader::with_capacity(near, &pool, 5000);
    reader.write_all(b"ping").await.unwrap();
    let mut far = far.into_std().unwrap();
    far.set_nonblocking(false).unwrap();
    let mut four = [0; 4];
    far.read_exact(&mut four).unwrap();
    assert_eq!(four, *b"ping");
    far.write_all(b"pong").unwrap();
    assert_eq!(reader.fill_buf().await.unwrap(), b"pong");
    assert_eq!(pool.stats().requested, 5000);
    let taken = reader.take_buffer();
    assert_eq!(taken, b"pong"[..]);
    assert!(reader.buffer().is_empty());
}

#[tokio::test]
async fn a_reader_that_is_not_polled_gives_up_its_grant() {
    let pool = pool(4096);
    let (near, mut far) = tcp_pair().await.unwrap();
    let mut reader = PooledReader::new(near, &pool);
    let held = pool.try_reserve(4096).unwrap();
    far.write_all(b"x").await.unwrap();
    {
        let mut reading = Box::pin(reader.fill_buf());
        while pool.stats().waiting == 0 {
            assert!(futures::poll!(reading.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    }
    drop(held);
    assert!(pool.try_reserve(4096).is_err(), "the grant is the reader's");
    reader.release();
    drop(pool.try_reserve(4096).unwrap());
    assert_eq!(reader.fill_buf().await.unwrap(), b"x");
}
