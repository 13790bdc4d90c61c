//! Files: sent without a buffer, mapped, and read past the page cache; sockets spliced. Whole, in part, cut off, and full disks.

#![cfg(all(target_os = "linux", feature = "io"))]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use offheap::io::{send_file, splice, splice_bidirectional, splice_file, DirectFile, MappedFile};
use offheap::Pool;
use rustix::fs::{fcntl_add_seals, memfd_create, MemfdFlags, SealFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

#[path = "support/net.rs"]
mod net;

use net::{bytes, tcp_pair};

/// A file of the test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, contents: &[u8]) -> Scratch {
        let name = format!("offheap-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, contents).unwrap();
        Scratch(path)
    }

    fn open(&self) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(&self.0)
            .unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Reads all that comes, in the background.
fn collect(mut from: TcpStream) -> tokio::task::JoinHandle<Vec<u8>> {
    tokio::spawn(async move {
        let mut received = Vec::new();
        from.read_to_end(&mut received).await.unwrap();
        received
    })
}

#[tokio::test]
async fn three_ways_to_send_a_file_send_the_same() {
    let contents = bytes(0, 5_000_001);
    let scratch = Scratch::new("ways", &contents);
    let file = scratch.open();
    let mapped = MappedFile::open(&file).unwrap();
    assert_eq!((mapped.len(), mapped.is_empty()), (contents.len(), false));
    let ranges = [
        (0, 5_000_001),
        (1, 4_999_999),
        (4097, 4098),
        (700, 700),
        (1 << 20, 3 << 20),
    ];
    for (start, end) in ranges {
        for way in 0..3 {
            let (near, far) = tcp_pair().await.unwrap();
            let receiving = collect(far);
            let sent = match way {
                0 => send_file(&file, start..end, &near).await.unwrap(),
                1 => splice_file(&file, start..end, &near).await.unwrap(),
                _ => mapped.send(start..end, &near).await.unwrap(),
            };
            drop(near);
            assert_eq!(sent, end - start);
            let expected = &contents[start as usize..end as usize];
            assert!(
                receiving.await.unwrap() == expected,
                "way {way}, {start}..{end}"
            );
        }
    }
}

#[tokio::test]
async fn ranges_of_all_kinds() {
    let scratch = Scratch::new("ranges", b"0123456789");
    let file = scratch.open();
    let (near, mut far) = UnixStream::pair().unwrap();
    assert_eq!(send_file(&file, .., &near).await.unwrap(), 10);
    assert_eq!(send_file(&file, 8.., &near).await.unwrap(), 2);
    assert_eq!(send_file(&file, 100.., &near).await.unwrap(), 0);
    assert_eq!(send_file(&file, 1..=2, &near).await.unwrap(), 2);
    let mapped = MappedFile::open(&file).unwrap();
    assert_eq!(mapped.send(..3, &near).await.unwrap(), 3);
    let error = mapped.send(..11, &near).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    #[allow(clippy::reversed_empty_ranges)]
    let error = send_file(&file, 3..2, &near).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    drop(near);
    let mut received = String::new();
    far.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "01234567898912012");
    let empty = Scratch::new("empty", b"");
    let mapped = MappedFile::open(&empty.open()).unwrap();
    assert!(mapped.is_empty());
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_a_clear_error() {
    let scratch = Scratch::new("cut", &bytes(0, 1 << 20));
    let file = scratch.open();
    let mapped = MappedFile::open(&file).unwrap();
    file.set_len(10_000).unwrap();
    for way in 0..3 {
        let (near, far) = tcp_pair().await.unwrap();
        let receiving = collect(far);
        let error = match way {
            0 => send_file(&file, ..1 << 20, &near).await.unwrap_err(),
            1 => splice_file(&file, ..1 << 20, &near).await.unwrap_err(),
            _ => mapped.send(.., &near).await.unwrap_err(),
        };
        drop(near);
        assert_eq!(
            error.kind(),
            io::ErrorKind::UnexpectedEof,
            "way {way}: {error}"
        );
        let text = error.to_string();
        assert!(text.contains("10000") && text.contains("1048576"), "{text}");
        // What came before is what the file has. (The rest of its last page is zeros in the mapping; nothing else can come.)
        let received = receiving.await.unwrap();
        let mut may_come = bytes(0, 10_000);
        if way == 2 {
            may_come.resize(3 * 4096, 0);
        } else {
            assert_eq!(received.len(), 10_000);
        }
        assert!(may_come.starts_with(&received), "way {way}");
    }
}

#[tokio::test]
async fn a_sealed_file_is_bytes() {
    let contents = bytes(9, 100_000);
    let mut memory = File::from(memfd_create("sealed", MemfdFlags::ALLOW_SEALING).unwrap());
    memory.write_all(&contents).unwrap();
    let error = MappedFile::sealed(&memory).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::SHRINK).unwrap();
    let mut mapped = MappedFile::sealed(&memory).unwrap();
    drop(memory);
    assert!(mapped[..] == contents[..]);
    let again = mapped.clone();
    mapped.advance(10);
    assert_eq!(mapped.remaining(), contents.len() - 10);
    let all: Bytes = mapped.into();
    assert!(all == contents[10..]);
    assert!(again[..] == contents[..]);

    let scratch = Scratch::new("plain", &contents);
    let error = MappedFile::sealed(&scratch.open()).unwrap_err();
    assert!(error.to_string().contains("sealed"), "{error}");
    let mapped = MappedFile::open(&scratch.open()).unwrap();
    // SAFETY: the file is the test's own, and nobody writes to it.
    let mapped = unsafe { mapped.assume_stable() };
    assert!(mapped[..] == contents[..]);
}

#[tokio::test]
async fn a_receiver_that_is_gone() {
    let scratch = Scratch::new("gone", &bytes(0, 8 << 20));
    let file = scratch.open();
    for way in 0..2 {
        let (near, far) = tcp_pair().await.unwrap();
        far.set_zero_linger().unwrap();
        drop(far);
        let error = match way {
            0 => send_file(&file, .., &near).await.unwrap_err(),
            _ => splice_file(&file, .., &near).await.unwrap_err(),
        };
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_cancelled_send_knows_where_it_stopped() {
    let contents = bytes(0, 30 << 20);
    let scratch = Scratch::new("cancel", &contents);
    let file = scratch.open();
    let (near, far) = tcp_pair().await.unwrap();
    let mut sending = Box::pin(send_file(&file, .., &near));
    while sending.moved() == 0 {
        assert!(futures::poll!(sending.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let moved = sending.moved();
    drop(sending);
    let receiving = collect(far);
    send_file(&file, moved.., &near).await.unwrap();
    drop(near);
    assert!(receiving.await.unwrap() == contents);
}

#[tokio::test]
async fn spliced_both_ways() {
    let (client, a) = tcp_pair().await.unwrap();
    let (b, server) = tcp_pair().await.unwrap();
    let (up, down) = (bytes(1, 3_000_000), bytes(2, 5_000_000));
    let relaying = tokio::spawn(async move { splice_bidirectional(&a, &b).await });
    let (client_read, mut client_write) = client.into_split();
    let (server_read, mut server_write) = server.into_split();
    let read = |mut from: tokio::net::tcp::OwnedReadHalf| {
        tokio::spawn(async move {
            let mut received = Vec::new();
            from.read_to_end(&mut received).await.unwrap();
            received
        })
    };
    let (at_client, at_server) = (read(client_read), read(server_read));
    let (sent_up, sent_down) = (up.clone(), down.clone());
    tokio::try_join!(
        async {
            client_write.write_all(&sent_up).await?;
            client_write.shutdown().await
        },
        async {
            server_write.write_all(&sent_down).await?;
            server_write.shutdown().await
        },
    )
    .unwrap();
    assert!(at_server.await.unwrap() == up);
    assert!(at_client.await.unwrap() == down);
    let moved = relaying.await.unwrap().unwrap();
    assert_eq!(moved, (up.len() as u64, down.len() as u64));
}

#[tokio::test]
async fn a_splice_holds_its_pipe_only_in_flight() {
    let (mut client, a) = UnixStream::pair().unwrap();
    let (b, mut server) = UnixStream::pair().unwrap();
    let mut splicing = Box::pin(splice(&a, &b));
    for i in 0..20u64 {
        let sent = bytes(i, 1000);
        client.write_all(&sent).await.unwrap();
        while splicing.moved() < (i + 1) * 1000 {
            assert!(futures::poll!(splicing.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(splicing.in_flight(), 0);
        let mut received = vec![0; 1000];
        server.read_exact(&mut received).await.unwrap();
        assert_eq!(received, sent);
    }
    drop(client);
    assert_eq!(splicing.await.unwrap(), 20_000);
}

fn aligned_pool() -> Pool {
    let pool = Pool::builder().limit(4 << 20).page_aligned(true);
    pool.build().unwrap()
}

#[tokio::test]
async fn direct_reads_and_writes_of_any_shape() {
    let pool = aligned_pool();
    let scratch = Scratch::new("direct", b"");
    let file = DirectFile::create(&scratch.0).unwrap();
    let contents = bytes(0, 300_000);
    let mut at = 0;
    for n in [4096, 12_288, 5000, 1, 0, 100_000, 8192, 170_423] {
        let part = pool.copy_from_slice(&contents[at..at + n]).await.unwrap();
        file.write_at(part, at as u64).await.unwrap();
        at += n;
    }
    assert_eq!(at, contents.len());
    file.sync_all().await.unwrap();
    assert!(fs::read(&scratch.0).unwrap() == contents);
    assert_eq!(file.len().unwrap(), 300_000);
    assert!(!file.is_empty().unwrap());

    let ranges = [
        (0, 4096),
        (1, 1),
        (4095, 2),
        (0, 300_000),
        (299_999, 10),
        (300_000, 5),
        (1 << 40, 5),
        (7, 0),
    ];
    for (offset, len) in ranges {
        let read = file.read_at(&pool, offset, len).await.unwrap();
        let from = (offset as usize).min(contents.len());
        let to = (from + len).min(contents.len());
        assert!(read == contents[from..to], "{offset}, {len}");
        assert!(read.block_len() <= (len + 8192) * 2);
    }
    assert_eq!(pool.stats().live, 0);
}

#[tokio::test]
async fn pools_and_ranges_that_do_not_do() {
    let scratch = Scratch::new("unaligned", &[1; 10_000]);
    let file = DirectFile::open(&scratch.0).unwrap();
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    // Blocks of such a pool may begin anywhere; those that do not begin on a page are refused.
    let mut held = Vec::new();
    let refused = loop {
        match file.read_at(&pool, 0, 4096).await {
            Ok(read) => held.push(read),
            Err(error) => break error,
        }
        if held.len() == 100 {
            return;
        }
    };
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    assert!(
        refused.to_string().contains("page_aligned(true)"),
        "{refused}"
    );

    let pool = aligned_pool();
    let error = file.read_at(&pool, 1, usize::MAX).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let part = pool.try_copy_from_slice(b"x").unwrap();
    let error = file.write_at(part, u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let error = file.read_at(&pool, 0, 8 << 20).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    assert_eq!(
        DirectFile::open("/nowhere/at/all").unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

/// Where the file system has no `O_DIRECT`, it says so and works.
#[tokio::test]
async fn a_file_system_that_refuses() {
    let pool = aligned_pool();
    // Files of procfs can not be had past a page cache that they do not have.
    let file = DirectFile::open("/proc/self/status").unwrap();
    assert!(file.fallback().is_some_and(|why| why.contains("O_DIRECT")));
    let read = file.read_at(&pool, 0, 4096).await.unwrap();
    assert!(read.starts_with(b"Name:"));
}

#[tokio::test]
async fn a_disk_that_is_full() {
    let pool = aligned_pool();
    let file = DirectFile::create("/dev/full").unwrap();
    let page = pool.try_copy_from_slice(&[1; 4096]).unwrap();
    let error = file.write_at(page, 0).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(pool.stats().live, 0);
}
