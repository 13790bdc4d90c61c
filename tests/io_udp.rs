//! Many datagrams by one call.

#![cfg(all(target_os = "linux", feature = "io"))]

use std::io;

use offheap::io::{enable_gro, recv_many, send_many};
use offheap::Pool;
use tokio::net::UdpSocket;

#[path = "support/net.rs"]
mod net;

use net::bytes;

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

async fn socket(address: &str) -> UdpSocket {
    UdpSocket::bind(address).await.unwrap()
}

#[tokio::test]
async fn datagrams_come_as_they_were_sent() {
    let addresses = ["127.0.0.1:0", "[::1]:0"];
    for address in addresses {
        let pool = pool(1 << 20);
        let here = match UdpSocket::bind(address).await {
            Ok(here) => here,
            // A machine without IPv6 has nothing to show for it.
            Err(error) if address.starts_with('[') => {
                eprintln!("SKIPPED: {address}: {error}");
                continue;
            }
            Err(error) => panic!("{address}: {error}"),
        };
        let there = socket(address).await;
        let to = there.local_addr().unwrap();
        let sent: Vec<_> = (0..100u64)
            .map(|i| {
                let bytes = bytes(i, (i as usize * 17) % 1400);
                (pool.try_copy_from_slice(&bytes).unwrap(), to)
            })
            .collect();
        let mut rest = &sent[..];
        let mut received = Vec::new();
        while !rest.is_empty() {
            let n = send_many(&here, rest).await.unwrap();
            assert!(0 < n && n <= 64);
            rest = &rest[n..];
            // Before the socket's buffer is full: datagrams have no back-pressure.
            let wanted = received.len() + n;
            while received.len() < wanted {
                received.extend(recv_many(&there, &pool, 16, 2048).await.unwrap());
            }
        }
        assert_eq!(received.len(), sent.len());
        for (received, (sent, _)) in received.iter().zip(&sent) {
            assert_eq!(received.bytes, *sent);
            assert_eq!(received.from, here.local_addr().unwrap());
            assert!(!received.truncated);
        }
        drop((received, sent));
        assert_eq!(pool.stats().live, 0);
    }
}

#[tokio::test]
async fn a_silent_socket_holds_nothing() {
    let pool = pool(1 << 20);
    let there = socket("127.0.0.1:0").await;
    let mut receiving = Box::pin(recv_many(&there, &pool, 64, 65_535));
    assert!(futures::poll!(receiving.as_mut()).is_pending());
    assert_eq!(pool.stats().reserved_total, 0);
}

#[tokio::test]
async fn buffers_that_are_too_small_or_too_many() {
    let pool = pool(16 << 10);
    let (here, there) = (socket("127.0.0.1:0").await, socket("127.0.0.1:0").await);
    let to = there.local_addr().unwrap();
    let long = pool.try_copy_from_slice(&[5; 1000]).unwrap();
    send_many(&here, &[(long.clone(), to), (long, to)])
        .await
        .unwrap();
    let received = recv_many(&there, &pool, 64, 300).await.unwrap();
    assert_eq!(received[0].bytes, [5; 300][..]);
    assert!(received[0].truncated);
    assert!(pool.stats().peak_live <= pool.stats().limit);

    for (count, size) in [(0, 100), (1, 0)] {
        let error = recv_many(&there, &pool, count, size).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(send_many(&here, &[]).await.unwrap(), 0);
    let huge = Pool::builder().limit(1 << 20).build().unwrap();
    let huge = huge.try_copy_from_slice(&[0; 70_000]).unwrap();
    let error = send_many(&here, &[(huge, to)]).await.unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::MSGSIZE.raw_os_error())
    );
    pool.close();
    send_many(&here, &[(offheap::DirectBytes::new(), to)])
        .await
        .unwrap();
    let error = recv_many(&there, &pool, 1, 100).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

/// Datagrams that the kernel hands out in one piece are told apart.
#[tokio::test]
async fn coalesced_datagrams_are_taken_apart() {
    let pool = pool(4 << 20);
    let (here, there) = (socket("127.0.0.1:0").await, socket("127.0.0.1:0").await);
    if !enable_gro(&there) {
        return eprintln!("SKIPPED: this kernel has no UDP_GRO");
    }
    here.connect(there.local_addr().unwrap()).await.unwrap();
    // One large send that the kernel cuts up by itself.
    let segment: libc::c_int = 500;
    // SAFETY: the kernel reads as many bytes from `segment` as it has.
    let done = unsafe {
        use std::os::fd::AsRawFd;
        libc::setsockopt(
            here.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            std::ptr::from_ref(&segment).cast(),
            size_of_val(&segment) as libc::socklen_t,
        )
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    let sent = bytes(0, 4700);
    here.send(&sent).await.unwrap();
    let mut received = Vec::new();
    while received.len() < 10 {
        received.extend(recv_many(&there, &pool, 4, 65_535).await.unwrap());
    }
    assert_eq!(received.len(), 10);
    for (received, sent) in received.iter().zip(sent.chunks(500)) {
        assert_eq!(received.bytes, *sent);
    }
}
