//! Many datagrams by one call.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;
use std::task::{ready, Poll};

use rustix::net::{sendmmsg, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::socket::is_no_answer;
use crate::{DirectBytes, DirectBytesMut, Pool};

/// As many datagrams as one call receives or sends at most.
const AT_ONCE: usize = 64;
/// No call takes more than this share of the pool's limit.
const SHARE: usize = 4;

/// A datagram that was received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Datagram {
    /// What came.
    pub bytes: DirectBytes,
    /// Who sent it.
    pub from: SocketAddr,
    /// It was longer than the buffer; the rest is lost.
    pub truncated: bool,
}

/// Receives datagrams, at least one and at most `count`, by one call (`recvmmsg`), each into a pooled buffer for `size` bytes.
///
/// Readiness first, buffers second: while nothing comes nothing is held. Buffers that were not needed go back at once. One call
/// receives at most 64 datagrams, and takes no more than a quarter of the pool's limit unless that is less than one buffer.
///
/// With [`enable_gro`] the kernel hands out datagrams of the same sender in one piece, up to 64 KiB of them; they come as one
/// [`Datagram`] each all the same, slices of one block. Give `size` 65535 then.
///
/// # Errors
///
/// Those of the socket, and those of [`Pool::reserve`] as [`io::Error`]. `InvalidInput` where `count` or `size` is 0.
///
/// # Cancel safety
///
/// No datagram is lost that was not handed out.
///
/// # Examples
///
/// ```
/// use offheap::io::{recv_many, send_many};
/// use tokio::net::UdpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let (here, there) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
/// let to = there.local_addr()?;
/// let one = pool.try_copy_from_slice(b"one")?;
/// let two = pool.try_copy_from_slice(b"two")?;
/// assert_eq!(send_many(&here, &[(one, to), (two, to)]).await?, 2);
///
/// let received = recv_many(&there, &pool, 16, 2048).await?;
/// assert_eq!(received[0].bytes, b"one"[..]);
/// assert_eq!(received[0].from, here.local_addr()?);
/// # Ok(())
/// # }
/// ```
pub async fn recv_many(
    socket: &UdpSocket,
    pool: &Pool,
    count: usize,
    size: usize,
) -> io::Result<Vec<Datagram>> {
    if count == 0 || size == 0 {
        let text = "there must be room for at least one datagram of at least one byte";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    loop {
        poll_fn(|cx| socket.poll_recv_ready(cx)).await?;
        let fit = (pool.limit() / SHARE / size).clamp(1, AT_ONCE);
        let mut buffers = pool.reserve_many(vec![size; count.min(fit)]).await?;
        match socket.try_io(Interest::READABLE, || receive(socket, &mut buffers, size)) {
            Ok(datagrams) => return Ok(datagrams),
            // A false alarm: the buffers go back before the next wait.
            Err(error) if is_no_answer(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Asks the kernel to hand out datagrams of the same sender in one piece (`UDP_GRO`); answers whether it does.
pub fn enable_gro(socket: &UdpSocket) -> bool {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads as many bytes from `on` as it has.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            ptr::from_ref(&on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    done == 0
}

/// Room for the one control message that is asked for, aligned as such messages are.
type Control = [u64; 8];

fn receive(
    socket: &UdpSocket,
    buffers: &mut Vec<DirectBytesMut>,
    size: usize,
) -> io::Result<Vec<Datagram>> {
    let count = buffers.len();
    // SAFETY: all of these are plain data of C, for which zero is a value.
    let mut names: Vec<libc::sockaddr_storage> = vec![unsafe { mem::zeroed() }; count];
    let mut controls: Vec<Control> = vec![[0; 8]; count];
    let mut slices: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| {
            let spare = buffer.spare_capacity_mut();
            libc::iovec {
                iov_base: spare.as_mut_ptr().cast(),
                iov_len: spare.len().min(size),
            }
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = (0..count)
        .map(|i| {
            // SAFETY: as above; some systems have private fields for padding.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = ptr::from_mut(&mut names[i]).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            message.msg_hdr.msg_iov = &mut slices[i];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = controls[i].as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of::<Control>() as _;
            message
        })
        .collect();
    // SAFETY: each message refers to memory that lives until the end of this function, with its length: a name, a control
    // buffer, and a slice over the spare capacity of a buffer that is ours alone.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count as _,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let mut datagrams = Vec::with_capacity(received);
    for (i, mut buffer) in buffers.drain(..).take(received).enumerate() {
        let header = &messages[i].msg_hdr;
        let n = (messages[i].msg_len as usize).min(size);
        // SAFETY: the kernel has written `n` bytes to the front of the empty buffer's capacity, no more than there are.
        unsafe { buffer.set_len(n) };
        let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
        let Some(from) = address(&names[i]) else {
            continue;
        };
        let mut bytes = buffer.freeze();
        let step = segment(header).unwrap_or(usize::MAX);
        while bytes.len() > step {
            datagrams.push(Datagram {
                bytes: bytes.split_to(step),
                from,
                truncated: false,
            });
        }
        datagrams.push(Datagram {
            bytes,
            from,
            truncated,
        });
    }
    Ok(datagrams)
}

/// How long the datagrams are that came in one piece.
fn segment(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the header is as the kernel left it, and its control buffer lives as long.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: `CMSG_FIRSTHDR` and `CMSG_NXTHDR` answer null or a message that lies in the buffer whole.
    while let Some(message) = unsafe { control.as_ref() } {
        if (message.cmsg_level, message.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO) {
            // SAFETY: the kernel puts an `int` there.
            let size =
                unsafe { ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::c_int>()) };
            return usize::try_from(size).ok().filter(|&size| size > 0);
        }
        // SAFETY: as for `CMSG_FIRSTHDR`; `message` came from there.
        control = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// The sender's address; `None` for one of another family.
fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let start = ptr::from_ref(name);
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is this, and the storage has room for any of them.
            let name = unsafe { &*start.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*start.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Sends datagrams by one call (`sendmmsg`), at least one and at most 64; answers how many. Call it again with the rest.
///
/// # Errors
///
/// That of the first datagram; where a later one fails, those before it are answered, and the error comes with the next call.
///
/// # Cancel safety
///
/// A call that is dropped has sent nothing.
pub async fn send_many(
    socket: &UdpSocket,
    datagrams: &[(DirectBytes, SocketAddr)],
) -> io::Result<usize> {
    let datagrams = &datagrams[..datagrams.len().min(AT_ONCE)];
    if datagrams.is_empty() {
        return Ok(0);
    }
    poll_fn(|cx| loop {
        ready!(socket.poll_send_ready(cx))?;
        match socket.try_io(Interest::WRITABLE, || send(socket, datagrams)) {
            Err(error) if is_no_answer(&error) => {}
            done => return Poll::Ready(done),
        }
    })
    .await
}

fn send(socket: &UdpSocket, datagrams: &[(DirectBytes, SocketAddr)]) -> io::Result<usize> {
    let slices: Vec<[IoSlice<'_>; 1]> = datagrams
        .iter()
        .map(|(bytes, _)| [IoSlice::new(bytes)])
        .collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = datagrams
        .iter()
        .map(|_| SendAncillaryBuffer::new(&mut [] as &mut [MaybeUninit<u8>]))
        .collect();
    let addresses: Vec<SocketAddrAny> = datagrams.iter().map(|&(_, to)| to.into()).collect();
    let mut messages: Vec<MMsgHdr<'_>> = addresses
        .iter()
        .zip(&slices)
        .zip(&mut controls)
        .map(|((to, slice), control)| MMsgHdr::new_with_addr(to, slice, control))
        .collect();
    Ok(sendmmsg(socket, &mut messages, SendFlags::DONTWAIT)?)
}
