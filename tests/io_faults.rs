//! What peers, disks and operators do to I/O: each fault ends in an error that says so, and with all memory back. Relays, files and
//! frames have tests of their own for most of them; here is what those leave out.

#![cfg(all(target_os = "linux", feature = "io"))]

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt, TryStreamExt};
use offheap::io::{
    copy_bidirectional, read_pooled, splice_bidirectional, FramedReader, LengthDelimited,
    MappedFile, PooledReader, PooledWriter,
};
use offheap::{DirectBytes, Pool};
use rustix::fs::{memfd_create, MemfdFlags};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, timeout};

#[path = "support/net.rs"]
mod net;

use net::{bytes, tcp_pair, tight_tcp_pair};

/// How long nothing takes here, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

/// Ends a connection as a crashed peer does.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

fn assert_reset(error: &io::Error) {
    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
}

fn relay(pool: &Pool, mut a: TcpStream, mut b: TcpStream) -> JoinHandle<io::Result<(u64, u64)>> {
    let pool = pool.clone();
    tokio::spawn(async move { copy_bidirectional(&mut a, &mut b, &pool).await })
}

#[tokio::test]
async fn a_reset_reaches_readers_and_writers() {
    let pool = pool(1 << 20);

    let (mut near, far) = tcp_pair().await.unwrap();
    reset(far);
    assert_reset(&read_pooled(&mut near, &pool, 4096).await.unwrap_err());

    let (near, mut far) = tcp_pair().await.unwrap();
    far.write_all(b"one line\nhalf of ano").await.unwrap();
    let mut reader = PooledReader::new(near, &pool);
    let mut line = String::new();
    reader.read_line(&mut line).await.unwrap();
    assert_eq!(line, "one line\n");
    reset(far);
    assert_reset(&reader.read_line(&mut line).await.unwrap_err());
    drop(reader);

    let (near, mut far) = tcp_pair().await.unwrap();
    far.write_all(b"\0\0\0\x03one\0\0\0\x64half").await.unwrap();
    let mut frames = FramedReader::new(near, LengthDelimited::new(), &pool);
    assert_eq!(frames.try_next().await.unwrap().unwrap(), b"one"[..]);
    assert!(futures::poll!(frames.next()).is_pending());
    reset(far);
    assert_reset(&frames.try_next().await.unwrap_err());
    assert!(frames.try_next().await.unwrap().is_none());
    drop(frames);

    let (near, far) = tcp_pair().await.unwrap();
    let mut writer = PooledWriter::new(near, &pool);
    reset(far);
    let error = loop {
        // The first write may still be taken: the kernel says what it knows.
        writer.write_all(&[1; 1000]).await.unwrap();
        if let Err(error) = AsyncWriteExt::flush(&mut writer).await {
            break error;
        }
    };
    assert_reset(&error);
    drop(writer);
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn a_splice_passes_resets_and_half_closes_on() {
    let (client, a) = tcp_pair().await.unwrap();
    let (b, mut server) = tcp_pair().await.unwrap();
    let relay = tokio::spawn(async move { splice_bidirectional(&a, &b).await });
    let sending = tokio::spawn(async move {
        let chunk = vec![1; 1 << 20];
        while server.write_all(&chunk).await.is_ok() {}
    });
    client.readable().await.unwrap();
    reset(client);
    assert_reset(&relay.await.unwrap().unwrap_err());
    sending.await.unwrap();

    let (mut client, a) = tcp_pair().await.unwrap();
    let (b, mut server) = tcp_pair().await.unwrap();
    let relay = tokio::spawn(async move { splice_bidirectional(&a, &b).await });
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
    assert_eq!(relay.await.unwrap().unwrap(), (8, 6));
}

/// Readers that take a byte a second, for as long as a test may last: they hold next to nothing, and others go on beside them.
#[tokio::test]
async fn readers_of_a_byte_a_second() {
    const SLOW: usize = 30;
    let pool = pool(1 << 20);
    // More than the kernel keeps for them on the way.
    let endless: Arc<[u8]> = bytes(0, 2 << 20).into();
    let mut relays = Vec::new();
    let mut senders = JoinSet::new();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let (client, a) = tight_tcp_pair(64 << 10).await.unwrap();
        let (b, mut server) = tight_tcp_pair(64 << 10).await.unwrap();
        relays.push(relay(&pool, a, b));
        let endless = endless.clone();
        senders.spawn(async move { server.write_all(&endless).await });
        slow.push(client);
    }
    let mut seconds = interval(Duration::from_secs(1));
    for received in 0..3 {
        seconds.tick().await;
        for client in &mut slow {
            assert_eq!(client.read_u8().await.unwrap(), bytes(received, 1)[0]);
        }
        // One that reads beside them gets all of it meanwhile.
        let (mut client, a) = tcp_pair().await.unwrap();
        let (b, mut server) = tcp_pair().await.unwrap();
        let fast = relay(&pool, a, b);
        let sent = bytes(7, 3 << 20);
        let sending = tokio::spawn({
            let sent = sent.clone();
            async move { server.write_all(&sent).await }
        });
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        let reading = client.read_to_end(&mut got);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
        assert!(got == sent);
        sending.await.unwrap().unwrap();
        assert_eq!(fast.await.unwrap().unwrap(), (0, 3 << 20));
    }
    let stats = pool.stats();
    assert!(
        stats.live <= SLOW as u64 * (16 << 10),
        "{} bytes are stuck",
        stats.live
    );
    slow.into_iter().for_each(reset);
    for relay in relays {
        assert_reset(&relay.await.unwrap().unwrap_err());
    }
    senders.shutdown().await;
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn frames_and_writes_of_single_bytes() {
    let pool = pool(64 << 10);
    let (mut near, far) = tcp_pair().await.unwrap();
    let sending = tokio::spawn(async move {
        for byte in b"\0\0\0\x05hello\0\0\0\0\0\0\0\x01!" {
            near.write_all(&[*byte]).await.unwrap();
            // So that each is a segment of its own, and most are reads of their own.
            tokio::task::yield_now().await;
        }
    });
    let frames = FramedReader::new(far, LengthDelimited::new(), &pool);
    let frames: Vec<DirectBytes> = frames.try_collect().await.unwrap();
    assert_eq!(frames, [&b"hello"[..], b"", b"!"]);
    sending.await.unwrap();

    let (near, mut far) = tcp_pair().await.unwrap();
    let sent = bytes(1, 20_000);
    let mut writer = PooledWriter::new(near, &pool);
    for byte in &sent {
        writer.write_all(&[*byte]).await.unwrap();
    }
    AsyncWriteExt::shutdown(&mut writer).await.unwrap();
    drop((frames, writer));
    let mut received = Vec::new();
    far.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    assert_eq!(pool.stats().live, 0);
}

/// Set for the process that is to be ended.
const CUT_OFF: &str = "OFFHEAP_TEST_CUT_OFF";

#[test]
fn a_slice_of_a_file_that_was_cut_off_ends_the_process_and_shows_nothing_else() {
    const NAME: &str = "a_slice_of_a_file_that_was_cut_off_ends_the_process_and_shows_nothing_else";
    if std::env::var_os(CUT_OFF).is_some() {
        let mut file = File::from(memfd_create("cut", MemfdFlags::empty()).unwrap());
        file.write_all(&bytes(0, 100_000)).unwrap();
        // SAFETY: none: the promise that nobody cuts the file off is broken below, to see what it comes to.
        let mapped = unsafe { MappedFile::open(&file).unwrap().assume_stable() };
        assert!(mapped[..] == bytes(0, 100_000));
        file.set_len(10).unwrap();
        let sum: u64 = mapped[50_000..].iter().map(|&byte| u64::from(byte)).sum();
        println!("survived with {sum}");
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CUT_OFF, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(!said.contains("survived"), "{said}");
    assert_eq!(child.status.signal(), Some(libc::SIGBUS), "{said}");
}

#[tokio::test]
async fn a_pool_closed_under_readers_and_writers() {
    let pool = pool(1 << 20);
    let mut work: JoinSet<io::Error> = JoinSet::new();
    for kind in 0..12 {
        let (near, far) = tcp_pair().await.unwrap();
        let (mut read, mut write) = far.into_split();
        tokio::spawn(async move { while read.read(&mut [0; 5000]).await.is_ok_and(|n| n > 0) {} });
        tokio::spawn(async move {
            let frame = [&1000_u32.to_be_bytes()[..], &[1; 1000]].concat();
            while write.write_all(&frame).await.is_ok() {}
        });
        let pool = pool.clone();
        work.spawn(async move {
            match kind % 3 {
                0 => {
                    let mut reader = PooledReader::new(near, &pool);
                    loop {
                        match reader.next().await {
                            Some(Ok(bytes)) => assert!(!bytes.is_empty()),
                            Some(Err(error)) => return error,
                            None => panic!("the end of an endless stream"),
                        }
                    }
                }
                1 => {
                    let mut frames = FramedReader::new(near, LengthDelimited::new(), &pool);
                    loop {
                        match frames.next().await {
                            Some(Ok(frame)) => assert_eq!(frame.len(), 1000),
                            Some(Err(error)) => return error,
                            None => panic!("the end of an endless stream"),
                        }
                    }
                }
                _ => {
                    let mut writer = PooledWriter::new(near, &pool);
                    loop {
                        let sent = match writer.write_all(&[2; 3000]).await {
                            Ok(()) => SinkExt::<DirectBytes>::flush(&mut writer).await,
                            error => error,
                        };
                        if let Err(error) = sent {
                            return error;
                        }
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
    }
    while pool.stats().reserved_total < 100 {
        tokio::task::yield_now().await;
    }
    timeout(PATIENCE, pool.closed()).await.unwrap();
    while let Some(ended) = work.join_next().await {
        let error = ended.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
        assert!(error.to_string().contains("closed"), "{error}");
    }
}
