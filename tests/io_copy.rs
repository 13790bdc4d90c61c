//! `copy` and `copy_bidirectional`: every byte, memory only in flight, and no way to hang on each other.

#![cfg(all(unix, feature = "io"))]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use offheap::io::{copy, copy_bidirectional, Probe, ReadReady};
use offheap::Pool;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

#[path = "support/net.rs"]
mod net;
#[path = "support/watchdog.rs"]
mod watchdog;

use net::{bytes, tcp_pair, tight_tcp_pair};
use watchdog::within;

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

/// Runs a test that must not hang.
fn run<F: std::future::Future<Output = ()> + Send>(test: impl FnOnce() -> F + Send + 'static) {
    within(60, || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    });
}

/// Lets all other tasks come to where only an event from outside helps.
async fn settle() {
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn one_way() {
    run(|| async {
        let pool = pool(8 << 20);
        for n in [0, 1, 4095, 4096, 4097, 5 << 20] {
            let (near, mut far) = tcp_pair().await.unwrap();
            let (mut read, _) = near.into_split();
            let sent = bytes(0, n);
            let sending = tokio::spawn({
                let sent = sent.clone();
                async move { far.write_all(&sent).await }
            });
            let mut received = Vec::new();
            let moved = copy(&mut read, &mut received, &pool).await.unwrap();
            sending.await.unwrap().unwrap();
            assert_eq!(moved, n as u64);
            assert!(received == sent);
            assert_eq!(pool.stats().live, 0);
        }
    });
}

/// Streams that are always ready, such as a loopback that is as fast as the relay, do not keep the thread.
#[test]
fn bulk_lets_others_have_a_turn() {
    run(|| async {
        const BYTES: usize = 8 << 20;
        let pool = pool(64 << 20);
        let source = vec![7; BYTES];
        let (mut from, mut to) = (&source[..], tokio::io::sink());
        let mut copy = copy(&mut from, &mut to, &pool);
        let mut before = 0;
        loop {
            let polled = futures::poll!(&mut copy);
            let now = copy.moved();
            assert!(
                now - before <= 2 << 20,
                "{} bytes in one turn",
                now - before
            );
            assert_eq!(pool.stats().live, 0, "nothing is held between turns");
            match polled {
                Poll::Ready(moved) => break assert_eq!(moved.unwrap(), BYTES as u64),
                Poll::Pending => assert!(now > before, "a turn for nothing"),
            }
            before = now;
        }
        assert_eq!(pool.stats().peak_live, 1 << 20);
    });
}

/// A relay between two pairs of sockets: the client's end and the server's.
async fn relay(pool: &Pool, tasks: &mut JoinSet<io::Result<(u64, u64)>>) -> (TcpStream, TcpStream) {
    let (client, mut a) = tcp_pair().await.unwrap();
    let (mut b, server) = tcp_pair().await.unwrap();
    let pool = pool.clone();
    tasks.spawn(async move { copy_bidirectional(&mut a, &mut b, &pool).await });
    (client, server)
}

#[test]
fn both_ways_at_once() {
    run(|| async {
        let pool = pool(1 << 20);
        let mut relays = JoinSet::new();
        let (client, server) = relay(&pool, &mut relays).await;
        let (up, down) = (bytes(0, 3 << 20), bytes(1 << 40, 5 << 20));
        let (mut client_read, client_write) = client.into_split();
        let (mut server_read, server_write) = server.into_split();
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        let write = |mut to: tokio::net::tcp::OwnedWriteHalf, bytes: Vec<u8>| async move {
            to.write_all(&bytes).await?;
            to.shutdown().await
        };
        tokio::try_join!(
            write(client_write, up.clone()),
            write(server_write, down.clone()),
            async { server_read.read_to_end(&mut at_server).await.map(drop) },
            async { client_read.read_to_end(&mut at_client).await.map(drop) },
        )
        .unwrap();
        assert!(at_server == up && at_client == down);
        let moved = relays.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(moved, (up.len() as u64, down.len() as u64));
        assert_eq!(pool.stats().live, 0);
        assert!(pool.stats().peak_live <= pool.stats().limit);
    });
}

/// What can not be asked for readiness or room is relayed, too.
#[test]
fn any_stream() {
    run(|| async {
        let pool = pool(1 << 20);
        let (mut client, a) = tokio::io::duplex(777);
        let (b, server) = tokio::io::duplex(1234);
        let echo = tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(server);
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await
        });
        let relaying = tokio::spawn({
            let pool = pool.clone();
            async move { copy_bidirectional(&mut Probe::new(a), &mut Probe::new(b), &pool).await }
        });
        let sent = bytes(7, 100_000);
        let (mut read, mut write) = tokio::io::split(&mut client);
        let mut received = Vec::new();
        tokio::try_join!(
            async {
                write.write_all(&sent).await?;
                write.shutdown().await
            },
            async { read.read_to_end(&mut received).await.map(drop) },
        )
        .unwrap();
        assert!(received == sent);
        echo.await.unwrap().unwrap();
        let moved = relaying.await.unwrap().unwrap();
        assert_eq!(moved, (sent.len() as u64, sent.len() as u64));
        assert_eq!(pool.stats().live, 0);
    });
}

#[test]
fn a_half_closed_peer_still_gets_its_answer() {
    run(|| async {
        let pool = pool(1 << 20);
        let mut relays = JoinSet::new();
        let (mut client, mut server) = relay(&pool, &mut relays).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        let moved = relays.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(moved, (8, 6));
        assert_eq!(pool.stats().live, 0);
    });
}

#[test]
fn a_reset_ends_it_and_gives_all_memory_back() {
    run(|| async {
        let pool = pool(1 << 20);
        let mut relays = JoinSet::new();
        let (client, mut server) = relay(&pool, &mut relays).await;
        // Much more than the kernel keeps, so that the relay is in the middle of it.
        let sending = tokio::spawn(async move {
            let chunk = vec![1; 1 << 20];
            while server.write_all(&chunk).await.is_ok() {}
        });
        client.readable().await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        let error = relays.join_next().await.unwrap().unwrap().unwrap_err();
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ),
            "{error}"
        );
        sending.await.unwrap();
        assert_eq!(pool.stats().live, 0);
    });
}

#[test]
fn one_byte_at_a_time() {
    run(|| async {
        let pool = pool(64 << 10);
        let mut relays = JoinSet::new();
        let (mut client, mut server) = relay(&pool, &mut relays).await;
        let sent = bytes(3, 2000);
        for byte in &sent {
            client.write_all(&[*byte]).await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), *byte);
            server.write_all(&[!*byte]).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), !*byte);
        }
        drop((client, server));
        let moved = relays.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(moved, (2000, 2000));
        // Chatty connections get small buffers.
        assert!(pool.stats().peak_live <= 4 << 10);
    });
}

#[test]
fn idle_connections_hold_nothing() {
    run(|| async {
        let pool = pool(1 << 20);
        let mut relays = JoinSet::new();
        let mut ends = Vec::new();
        for _ in 0..50 {
            let (mut client, mut server) = relay(&pool, &mut relays).await;
            client.write_all(b"once").await.unwrap();
            server.read_exact(&mut [0; 4]).await.unwrap();
            ends.push((client, server));
        }
        settle().await;
        let stats = pool.stats();
        assert_eq!((stats.live, stats.buffers, stats.waiting), (0, 0, 0));
    });
}

/// A reader that stops reading: what it does not take stays with its sender, except for a few bytes.
#[test]
fn a_slow_reader_fills_no_pool() {
    const CONNECTIONS: usize = 20;
    const MIB: usize = 4;
    run(|| async {
        let pool = pool(64 << 20);
        let mut relays = JoinSet::new();
        let mut senders = JoinSet::new();
        let mut readers = Vec::new();
        let part = bytes(0, 1 << 20);
        for _ in 0..CONNECTIONS {
            let (client, mut a) = tight_tcp_pair(200 << 10).await.unwrap();
            let (mut b, mut server) = tight_tcp_pair(200 << 10).await.unwrap();
            let pool = pool.clone();
            relays.spawn(async move { copy_bidirectional(&mut a, &mut b, &pool).await });
            let part = part.clone();
            senders.spawn(async move {
                for _ in 0..MIB {
                    server.write_all(&part).await.unwrap();
                }
            });
            readers.push(client);
        }
        // Until nothing moves: bulk got large buffers, and they are back.
        let mut before = None;
        while before != Some(pool.stats().reserved_total) {
            before = Some(pool.stats().reserved_total);
            settle().await;
        }
        assert!(senders.try_join_next().is_none(), "all senders are stuck");
        let stats = pool.stats();
        assert!(
            stats.peak_live > 16 << 10,
            "bulk got no more than {} bytes",
            stats.peak_live
        );
        if cfg!(target_os = "linux") {
            let live = stats.live;
            assert!(
                live <= CONNECTIONS as u64 * (16 << 10),
                "{live} bytes stuck"
            );
        }
        // And nothing is lost once they read on.
        for mut client in readers {
            let mut received = Vec::new();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut received).await.unwrap();
            assert_eq!(received.len(), MIB * part.len());
            assert!(received.chunks(part.len()).all(|chunk| chunk == part));
        }
        while let Some(sender) = senders.join_next().await {
            sender.unwrap();
        }
        while let Some(relay) = relays.join_next().await {
            relay.unwrap().unwrap();
        }
        assert_eq!(pool.stats().live, 0);
    });
}

/// A socket that does not say how much it would take, so that its relay gets stuck with a buffer in its hands.
struct Unasked(UnixStream);

impl AsyncRead for Unasked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl ReadReady for Unasked {
    fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }
}

impl AsyncWrite for Unasked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// As many connections as buffers, and each is stuck in one direction with a buffer in its hands. A relay that takes a
/// buffer for each direction hangs now: the other directions need one, and nobody gives one back before they move.
#[test]
fn every_connection_holds_one_buffer_and_wants_another() {
    const CONNECTIONS: usize = 8;
    const BUFFER: usize = 4096;
    run(|| async {
        let pool = pool(CONNECTIONS * BUFFER);
        let mut relays = JoinSet::new();
        let mut senders = JoinSet::new();
        let mut ends = Vec::new();
        for i in 0..CONNECTIONS as u64 {
            let (client, a) = UnixStream::pair().unwrap();
            let (b, server) = UnixStream::pair().unwrap();
            let pool = pool.clone();
            relays.spawn(async move {
                copy_bidirectional(&mut Unasked(a), &mut Unasked(b), &pool)
                    .buffer_size(BUFFER)
                    .await
            });
            let (client_read, mut client_write) = client.into_split();
            senders.spawn(async move {
                client_write.write_all(&bytes(i, 1 << 20)).await.unwrap();
                client_write.shutdown().await.unwrap();
            });
            ends.push((i, client_read, server));
        }
        settle().await;
        // All clients send, no server reads: all memory is held, and whoever asked for more would wait.
        assert_eq!(pool.stats().buffers, CONNECTIONS as u64);
        let mut more = Box::pin(pool.reserve(BUFFER));
        assert!(futures::poll!(more.as_mut()).is_pending());

        // The servers answer before they read. Their bytes get through on what the connections hold.
        for (i, client, server) in &mut ends {
            let answer = bytes(*i << 32, 300_000);
            let mut received = vec![0; answer.len()];
            let (sent, read) =
                tokio::join!(server.write_all(&answer), client.read_exact(&mut received));
            sent.unwrap();
            read.unwrap();
            assert!(received == answer);
        }
        assert!(futures::poll!(more.as_mut()).is_pending());
        drop(more);

        // Now they read, one after the other, and everyone gets on.
        for (i, mut client, mut server) in ends {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            assert!(received == bytes(i, 1 << 20));
            drop(server);
            assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        }
        while let Some(relay) = relays.join_next().await {
            assert_eq!(relay.unwrap().unwrap(), (1 << 20, 300_000));
        }
        assert_eq!(pool.stats().live, 0);
    });
}

/// Servers that read on only when their answer was taken, more connections than buffers, and buffers of all sizes.
#[test]
fn a_small_pool_serves_many_echoes() {
    for (connections, limit) in [(8, 8 * 4096), (40, 8 * 4096), (40, 4096), (20, 300 << 10)] {
        run(move || async move {
            let pool = pool(limit);
            let mut relays = JoinSet::new();
            let mut others = JoinSet::new();
            for i in 0..connections {
                let (client, server) = relay(&pool, &mut relays).await;
                others.spawn(async move {
                    let (mut read, mut write) = server.into_split();
                    let mut buffer = vec![0; 10_000];
                    loop {
                        let n = read.read(&mut buffer).await.unwrap();
                        if n == 0 {
                            return write.shutdown().await.unwrap();
                        }
                        write.write_all(&buffer[..n]).await.unwrap();
                    }
                });
                others.spawn(async move {
                    let sent = bytes(i, 1 << 20);
                    let mut received = Vec::new();
                    let (mut read, mut write) = client.into_split();
                    tokio::try_join!(
                        async {
                            write.write_all(&sent).await?;
                            write.shutdown().await
                        },
                        async { read.read_to_end(&mut received).await.map(drop) },
                    )
                    .unwrap();
                    assert!(received == sent);
                });
            }
            while let Some(done) = others.join_next().await {
                done.unwrap();
            }
            while let Some(relay) = relays.join_next().await {
                assert_eq!(relay.unwrap().unwrap(), (1 << 20, 1 << 20));
            }
            let stats = pool.stats();
            assert_eq!((stats.live, stats.waiting), (0, 0));
            assert!(stats.peak_live <= stats.limit);
        });
    }
}

#[test]
fn a_cancelled_copy_knows_where_it_stopped() {
    run(|| async {
        let pool = pool(1 << 20);
        let (mut client, mut a) = UnixStream::pair().unwrap();
        let (mut b, mut server) = UnixStream::pair().unwrap();
        let sent = bytes(0, 4 << 20);
        let sending = tokio::spawn({
            let sent = sent.clone();
            async move { client.write_all(&sent).await.map(|()| client) }
        });
        let mut received = Vec::new();
        // Cut again and again, at other moments each time; each copy begins where the last one stopped.
        let mut total = 0;
        while received.len() < sent.len() {
            let mut copying = copy_bidirectional(&mut a, &mut b, &pool);
            for _ in 0..received.len() % 5 + 1 {
                assert!(futures::poll!(&mut copying).is_pending());
                tokio::task::yield_now().await;
            }
            total += copying.moved().0;
            let (up, down) = copying.take_in_flight();
            assert_eq!((copying.in_flight(), down.len()), ((0, 0), 0));
            drop(copying);
            let mut have = vec![0; total as usize - received.len()];
            server.read_exact(&mut have).await.unwrap();
            received.extend(have);
            // What was read and not written is written by hand.
            let writing = async { b.write_all(&up).await.unwrap() };
            let mut rest = vec![0; up.len()];
            let reading = async { server.read_exact(&mut rest).await.unwrap() };
            tokio::join!(writing, reading);
            total += up.len() as u64;
            received.extend(rest);
        }
        assert!(received == sent);
        sending.await.unwrap().unwrap();
        assert_eq!(pool.stats().live, 0);
    });
}

#[test]
fn dropped_copies_give_everything_back() {
    run(|| async {
        let pool = pool(64 << 10);
        let mut relays = JoinSet::new();
        let mut ends = Vec::new();
        for _ in 0..20 {
            let (client, server) = relay(&pool, &mut relays).await;
            for mut end in [client, server] {
                ends.push(tokio::spawn(async move {
                    let chunk = vec![1; 100_000];
                    loop {
                        if let Err(error) = end.write_all(&chunk).await {
                            return error.kind();
                        }
                    }
                }));
            }
        }
        while pool.stats().reserved_total < 1000 {
            tokio::task::yield_now().await;
        }
        relays.shutdown().await;
        assert_eq!(pool.stats().live, 0);
        assert_eq!(pool.stats().waiting, 0);
        for end in ends {
            let kind = end.await.unwrap();
            assert!(
                matches!(
                    kind,
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ),
                "{kind}"
            );
        }
    });
}

#[test]
fn a_pool_closed_under_traffic() {
    run(|| async {
        let pool = pool(1 << 20);
        let mut relays = JoinSet::new();
        let mut others = JoinSet::new();
        for _ in 0..10 {
            let (client, server) = relay(&pool, &mut relays).await;
            for end in [client, server] {
                let (mut read, mut write) = end.into_split();
                others.spawn(async move {
                    let chunk = vec![5; 100_000];
                    while write.write_all(&chunk).await.is_ok() {}
                });
                others.spawn(async move {
                    let mut chunk = vec![0; 100_000];
                    while read.read(&mut chunk).await.is_ok_and(|n| n > 0) {}
                });
            }
        }
        while pool.stats().reserved_total < 100 {
            tokio::task::yield_now().await;
        }
        pool.closed().await;
        while let Some(relay) = relays.join_next().await {
            let error = relay.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
            assert!(error.to_string().contains("it is closed"), "{error}");
        }
        while let Some(other) = others.join_next().await {
            other.unwrap();
        }
    });
}

#[test]
fn a_lowered_limit_makes_buffers_smaller() {
    run(|| async {
        let pool = Pool::builder().limit(64 << 20).build().unwrap();
        let mut relays = JoinSet::new();
        let (client, mut server) = relay(&pool, &mut relays).await;
        let sent = bytes(0, 8 << 20);
        let sending = tokio::spawn({
            let sent = sent.clone();
            async move {
                server.write_all(&sent).await.unwrap();
                server.shutdown().await.unwrap();
                server
            }
        });
        let mut client = client;
        let mut received = vec![0; 4 << 20];
        client.read_exact(&mut received).await.unwrap();
        pool.set_limit(4096).unwrap();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
        drop(sending.await.unwrap());
        relays.join_next().await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn a_pool_without_memory_says_so() {
    run(|| async {
        let pool = pool(0);
        let mut sink = Vec::new();
        let error = copy(&mut &b"bytes"[..], &mut sink, &pool)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("raise the limit"), "{error}");
    });
}

/// A stream of two memories that fails where it is told to, and flushes late.
struct Scripted {
    input: &'static [u8],
    output: Vec<u8>,
    flushed: usize,
    takes: usize,
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = self.input.len().min(buf.remaining());
        buf.put_slice(&self.input[..n]);
        self.input = &self.input[n..];
        if n == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl ReadReady for Scripted {
    // A false alarm when there is nothing.
    fn poll_read_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = buf.len().min(self.takes);
        self.output.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = self.output.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[test]
fn writers_are_flushed_before_a_wait() {
    run(|| async {
        let pool = pool(1 << 20);
        let stream = |input| Scripted {
            input,
            output: Vec::new(),
            flushed: 0,
            takes: 3,
        };
        let (mut a, mut b) = (stream(&b"to the other side"[..]), stream(&b"and back"[..]));
        {
            let mut copying = copy_bidirectional(&mut a, &mut b, &pool);
            let cut = tokio::time::timeout(Duration::ZERO, &mut copying).await;
            assert!(cut.is_err());
            assert_eq!(copying.moved(), (17, 8));
            assert_eq!(pool.stats().live, 0, "a false alarm holds nothing");
        }
        assert_eq!((&b.output[..], b.flushed), (&b"to the other side"[..], 17));
        assert_eq!((&a.output[..], a.flushed), (&b"and back"[..], 8));
        b.takes = 0;
        a.input = b"x";
        let error = copy(&mut a, &mut b, &pool).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        assert_eq!(pool.stats().live, 0);
    });
}
