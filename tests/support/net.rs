//! Pairs of connected sockets, and bytes that are known.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

/// Two ends of a TCP connection over loopback.
#[allow(dead_code)]
pub(crate) async fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    connect(|_| Ok(())).await
}

/// Two ends of a TCP connection whose buffers in the kernel have about `bytes` each, instead of the megabytes that they may grow to.
#[allow(dead_code)]
pub(crate) async fn tight_tcp_pair(bytes: u32) -> io::Result<(TcpStream, TcpStream)> {
    connect(|socket| {
        socket.set_send_buffer_size(bytes)?;
        socket.set_recv_buffer_size(bytes)
    })
    .await
}

async fn connect(
    prepare: impl Fn(&TcpSocket) -> io::Result<()>,
) -> io::Result<(TcpStream, TcpStream)> {
    let (listener, near) = (TcpSocket::new_v4()?, TcpSocket::new_v4()?);
    prepare(&listener)?;
    prepare(&near)?;
    listener.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let listener = listener.listen(1)?;
    let (near, far) = tokio::join!(near.connect(listener.local_addr()?), listener.accept());
    let (near, far) = (near?, far?.0);
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

/// `n` bytes from `at` on of an endless sequence that repeats neither at a page's nor at a buffer's distance.
pub(crate) fn bytes(at: u64, n: usize) -> Vec<u8> {
    (at..at + n as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}
