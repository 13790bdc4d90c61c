//! The pool's buffers under io_uring.

#![cfg(all(target_os = "linux", feature = "io-uring"))]

use std::io;

use offheap::io::register_fixed;
use offheap::Pool;
use tokio_uring::fs::File;
use tokio_uring::net::{TcpListener, TcpStream};

#[path = "support/net.rs"]
mod net;

use net::bytes;

/// Whether this kernel, or what surrounds it, has io_uring at all.
fn has_io_uring(test: &str) -> bool {
    match tokio_uring::Runtime::new(tokio_uring::builder().entries(4)) {
        Ok(_) => true,
        Err(error) => {
            let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
            assert!(!ci, "{test} needs io_uring: {error}");
            eprintln!("SKIPPED: {test}: no io_uring: {error}");
            false
        }
    }
}

#[test]
fn a_file_through_pooled_buffers() {
    if !has_io_uring("a_file_through_pooled_buffers") {
        return;
    }
    let path = std::env::temp_dir().join(format!("offheap-uring-{}", std::process::id()));
    let contents = bytes(0, 50_000);
    tokio_uring::start(async {
        let pool = Pool::builder().limit(1 << 20).build().unwrap();
        let file = File::create(&path).await.unwrap();
        let data = pool.try_copy_from_slice(&contents).unwrap();
        let (done, data) = file.write_all_at(data, 0).await;
        done.unwrap();
        drop(data);
        file.close().await.unwrap();

        let file = File::open(&path).await.unwrap();
        let mut read = Vec::new();
        loop {
            let buffer = pool.try_reserve(7000).unwrap();
            let (n, buffer) = file.read_at(buffer, read.len() as u64).await;
            let n = n.unwrap();
            assert_eq!(buffer.len(), n);
            if n == 0 {
                break;
            }
            read.extend_from_slice(&buffer.freeze());
        }
        assert!(read == contents);
        file.close().await.unwrap();
        assert_eq!(pool.stats().live, 0);
    });
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_socket_through_pooled_buffers() {
    if !has_io_uring("a_socket_through_pooled_buffers") {
        return;
    }
    tokio_uring::start(async {
        let pool = Pool::builder().limit(1 << 20).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(connecting, listener.accept());
        let (near, (far, _)) = (near.unwrap(), far.unwrap());
        let sent = pool.try_copy_from_slice(&bytes(3, 2000)).unwrap();
        let (done, sent) = near.write_all(sent).await;
        done.unwrap();
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let (n, buffer) = far.read(pool.try_reserve(4096).unwrap()).await;
            assert!(n.unwrap() > 0);
            received.extend_from_slice(&buffer);
        }
        assert_eq!(sent, received);
        drop(sent);
        assert_eq!(pool.stats().live, 0);
    });
}

#[test]
fn fixed_buffers_where_the_kernel_allows_it() {
    if !has_io_uring("fixed_buffers_where_the_kernel_allows_it") {
        return;
    }
    tokio_uring::start(async {
        let pool = Pool::builder()
            .limit(1 << 20)
            .page_aligned(true)
            .build()
            .unwrap();
        let Some(fixed) = register_fixed(&pool, 4, 16 << 10).await.unwrap() else {
            // The limit is lower than these few pages: nothing is held.
            assert_eq!((pool.stats().live, pool.stats().registered), (0, 0));
            return;
        };
        assert_eq!(pool.stats().buffers, 4);
        assert_eq!(pool.stats().registered, 4 * (16 << 10));
        let file = File::open("/proc/self/exe").await.unwrap();
        let capacity = 16 << 10;
        let buffer = fixed.try_next(capacity).unwrap();
        let (n, buffer) = file.read_fixed_at(buffer, 0).await;
        assert!(n.unwrap() > 4);
        assert_eq!(buffer[..4], *b"\x7fELF");
        drop(buffer);
        file.close().await.unwrap();
        fixed.unregister().unwrap();
        drop(fixed);
        assert_eq!((pool.stats().live, pool.stats().registered), (0, 0));

        // More than the pool has is the pool's error.
        let error = register_fixed(&pool, 100, 16 << 10).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        let error = register_fixed(&pool, 1025, 1).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!((pool.stats().live, pool.stats().registered), (0, 0));
    });
}
