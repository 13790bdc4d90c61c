//! `PooledWriter`: gathers, writes vectored, never waits for memory.

#![cfg(all(unix, feature = "io"))]

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Sink, SinkExt};
use offheap::io::PooledWriter;
use offheap::{DirectBytes, Pool};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

#[path = "support/net.rs"]
mod net;

use net::{bytes, tcp_pair};

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

async fn flush(writer: &mut (impl Sink<DirectBytes, Error = io::Error> + Unpin)) -> io::Result<()> {
    SinkExt::flush(writer).await
}

/// Keeps each write apart, and takes only so many bytes by each.
struct Calls {
    calls: Vec<Vec<u8>>,
    at_once: usize,
    vectored: bool,
    /// What the next writes fail with.
    errors: Vec<io::ErrorKind>,
}

impl Calls {
    fn new(at_once: usize, vectored: bool) -> Self {
        Calls {
            calls: Vec::new(),
            at_once,
            vectored,
            errors: Vec::new(),
        }
    }

    fn all(&self) -> Vec<u8> {
        self.calls.concat()
    }
}

impl AsyncWrite for Calls {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.errors.pop() {
            return Poll::Ready(Err(error.into()));
        }
        let mut call: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        call.truncate(self.at_once);
        let n = call.len();
        self.calls.push(call);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn small_writes_leave_together() {
    let pool = pool(1 << 20);
    let mut writer = PooledWriter::new(Calls::new(usize::MAX, true), &pool);
    for i in 0..100u8 {
        writer.write_all(&[i; 10]).await.unwrap();
    }
    assert_eq!(writer.buffered(), 1000);
    assert!(writer.get_ref().calls.is_empty());
    assert_eq!(pool.stats().buffers, 1);
    flush(&mut writer).await.unwrap();
    assert_eq!(writer.get_ref().calls.len(), 1);
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn a_rope_leaves_by_one_call() {
    let pool = pool(1 << 20);
    let mut writer = PooledWriter::new(Calls::new(usize::MAX, true), &pool);
    writer.write_all(b"head ").await.unwrap();
    for word in ["one ", "two ", "three "] {
        let word = pool.try_copy_from_slice(word.as_bytes()).unwrap();
        writer.feed(word).await.unwrap();
    }
    writer.feed(DirectBytes::new()).await.unwrap();
    writer.write_all(b"tail").await.unwrap();
    flush(&mut writer).await.unwrap();
    assert_eq!(writer.get_ref().calls, [b"head one two three tail"]);
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn without_writev_the_pieces_leave_one_by_one() {
    let pool = pool(1 << 20);
    let mut writer = PooledWriter::new(Calls::new(usize::MAX, false), &pool);
    for word in ["one ", "two"] {
        let word = pool.try_copy_from_slice(word.as_bytes()).unwrap();
        writer.feed(word).await.unwrap();
    }
    flush(&mut writer).await.unwrap();
    assert_eq!(writer.get_ref().calls, [&b"one "[..], b"two"]);
}

/// Whatever the stream takes at once, all bytes arrive in order, and each piece goes back when its last byte is written.
#[tokio::test]
async fn short_writes_lose_nothing() {
    for at_once in [1, 3, 7, 100] {
        let pool = pool(1 << 20);
        let mut writer = PooledWriter::with_capacity(Calls::new(at_once, true), &pool, 64);
        let sent = bytes(0, 3000);
        let mut at = 0;
        let mut step = 1;
        while at < sent.len() {
            let part = &sent[at..sent.len().min(at + step)];
            if step % 2 == 0 {
                writer.write_all(part).await.unwrap();
            } else {
                let part = pool.try_copy_from_slice(part).unwrap();
                writer.feed(part).await.unwrap();
            }
            at += part.len();
            step = step % 90 + 1;
            assert!(writer.buffered() <= 64 + 90);
        }
        AsyncWriteExt::shutdown(&mut writer).await.unwrap();
        assert!(writer.get_ref().all() == sent, "{at_once} at once");
        assert_eq!(pool.stats().live, 0);
    }
}

#[tokio::test]
async fn large_writes_go_through() {
    let pool = pool(1 << 20);
    let mut writer = PooledWriter::with_capacity(Calls::new(usize::MAX, true), &pool, 1000);
    writer.write_all(b"before").await.unwrap();
    writer.write_all(&[1; 1000]).await.unwrap();
    let calls = &writer.get_ref().calls;
    assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [6, 1000]);
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn an_empty_pool_is_written_through() {
    let pool = pool(4096);
    let held = pool.try_reserve(4096).unwrap();
    let mut writer = PooledWriter::new(Calls::new(usize::MAX, true), &pool);
    writer.write_all(b"straight").await.unwrap();
    assert_eq!(writer.get_ref().calls, [b"straight"]);
    writer.feed(held.freeze()).await.unwrap();
    let others = Pool::builder().limit(4096).build().unwrap();
    writer
        .feed(others.try_copy_from_slice(b"held ").unwrap())
        .await
        .unwrap();
    let held = pool.try_reserve(4096).unwrap();
    writer.write_all(b"behind").await.unwrap();
    assert_eq!(writer.get_ref().all(), b"straightheld behind");
    drop(held);
}

#[tokio::test]
async fn a_rope_is_bounded() {
    let pool = pool(1 << 20);
    let mut writer = PooledWriter::with_capacity(Calls::new(usize::MAX, true), &pool, 10_000);
    for _ in 0..100 {
        let piece = pool.try_copy_from_slice(&[3; 1000]).unwrap();
        writer.feed(piece).await.unwrap();
        assert!(writer.buffered() <= 10_000);
    }
    // Small pieces cost more than their bytes.
    let piece = pool.try_copy_from_slice(&[4; 1000]).unwrap();
    flush(&mut writer).await.unwrap();
    for i in 0..1000 {
        writer.feed(piece.slice(i..=i)).await.unwrap();
    }
    flush(&mut writer).await.unwrap();
    assert_eq!(writer.get_ref().all().len(), 101_000);
}

#[tokio::test]
async fn errors_leave_the_bytes_in_place() {
    let pool = pool(1 << 20);
    let mut calls = Calls::new(usize::MAX, true);
    calls.errors = vec![io::ErrorKind::StorageFull];
    let mut writer = PooledWriter::new(calls, &pool);
    writer.write_all(b"kept").await.unwrap();
    let error = flush(&mut writer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(writer.buffered(), 4);
    flush(&mut writer).await.unwrap();
    assert_eq!(writer.get_ref().all(), b"kept");

    writer.write_all(b"not sent").await.unwrap();
    let (_, rest) = writer.into_parts();
    assert_eq!(rest, b"not sent"[..]);
}

#[tokio::test]
async fn a_disk_that_is_full() {
    let pool = pool(1 << 20);
    let open = tokio::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .await;
    let full = match open {
        Ok(full) => full,
        // Other systems do not all have it.
        Err(error) if cfg!(not(target_os = "linux")) => return eprintln!("SKIPPED: {error}"),
        Err(error) => panic!("/dev/full: {error}"),
    };
    let mut writer = PooledWriter::new(full, &pool);
    writer.write_all(b"nowhere to go").await.unwrap();
    let error = flush(&mut writer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    drop(writer);
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_an_error() {
    let pool = pool(1 << 20);
    let mut writer = PooledWriter::new(Calls::new(0, true), &pool);
    writer.write_all(b"x").await.unwrap();
    let error = flush(&mut writer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[tokio::test]
async fn on_a_closed_pool_only_what_is_held_leaves() {
    let pool = pool(1 << 20);
    let mut writer = PooledWriter::new(Calls::new(usize::MAX, true), &pool);
    writer.write_all(b"held").await.unwrap();
    pool.close();
    let error = writer.write_all(b"new").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert!(error.to_string().contains("closed"), "{error}");
    flush(&mut writer).await.unwrap();
    assert_eq!(writer.get_ref().all(), b"held");
    pool.closed().await;
}

#[tokio::test]
async fn over_a_socket_whose_reader_is_slow() {
    let pool = pool(256 << 10);
    let (near, mut far) = tcp_pair().await.unwrap();
    let sent = bytes(0, 4 << 20);
    let sending = {
        let (sent, pool) = (sent.clone(), pool.clone());
        tokio::spawn(async move {
            let mut writer = PooledWriter::new(near, &pool);
            for (i, part) in sent.chunks(5000).enumerate() {
                if i % 3 == 0 {
                    writer.write_all(part).await.unwrap();
                } else {
                    let part = pool.copy_from_slice(part).await.unwrap();
                    writer.feed(part).await.unwrap();
                }
            }
            AsyncWriteExt::shutdown(&mut writer).await.unwrap();
        })
    };
    let mut received = Vec::new();
    let mut few = [0; 1];
    for _ in 0..1000 {
        far.read_exact(&mut few).await.unwrap();
        received.push(few[0]);
        tokio::task::yield_now().await;
    }
    far.read_to_end(&mut received).await.unwrap();
    sending.await.unwrap();
    assert!(received == sent);
    assert_eq!(pool.stats().live, 0);
    assert!(pool.stats().peak_live <= pool.stats().limit);
}
