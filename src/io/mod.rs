//! tokio I/O over pooled buffers: readiness first, memory second.
//!
//! A connection that says nothing holds nothing. Everything here waits until a read would find bytes, and only then
//! reserves; what has been passed on is given back before the next wait. So a pool can give everyone large buffers at the
//! memory price of none, and its limit is shared by those who have bytes in flight.
//!
//! * [`read_pooled`]: one read into a pooled buffer.
//! * [`PooledReader`], [`PooledWriter`]: `BufReader` and `BufWriter` that hold memory only while it has bytes in it.
//! * [`FramedReader`]: frames as slices of pooled blocks.
//! * [`copy`], [`copy_bidirectional`]: a relay, with a buffer size that follows the traffic.
//!
//! What to use when, what it costs and how it fails is in `docs/io.md`.
//!
//! On Linux there is also what needs no buffer, or another kind: [`splice`] from socket to socket, [`send_file`],
//! [`splice_file`] and [`MappedFile`] from file to socket, [`DirectFile`] past the page cache, [`recv_many`] and [`send_many`] for datagrams.
//!
//! What can say whether a read would wait implements [`ReadReady`]: sockets and pipes of tokio do, [`ReadyFd`] makes
//! one of any file descriptor that can be polled, and [`Probe`] one of any [`AsyncRead`](tokio::io::AsyncRead), TLS streams for example.
//!
//! # What waits for what
//!
//! Nothing that moves bytes waits for memory while it holds memory. A [`PooledWriter`] writes what it has before it takes more, and writes
//! through when the pool is empty; the two directions of a [`copy_bidirectional`] live off one block if they must.
//! (A [`FramedReader`] inside a frame that is larger than its block is the exception.) So relays that share a pool can not stop each other by holding one buffer and wanting another. What can hold memory
//! for long is a peer that does not read; bounding that is a matter of time limits, and theirs to set who know the peers.
//!
//! ```
//! use tokio::net::{TcpListener, TcpStream};
//!
//! /// A relay: bounded memory, none of it for connections that are idle.
//! async fn serve(listener: TcpListener, upstream: &str, pool: offheap::Pool) -> std::io::Result<()> {
//!     loop {
//!         let (mut client, _) = listener.accept().await?;
//!         let mut upstream = TcpStream::connect(upstream).await?;
//!         let pool = pool.clone();
//!         tokio::spawn(async move {
//!             offheap::io::copy_bidirectional(&mut client, &mut upstream, &pool).await
//!         });
//!     }
//! }
//! ```

mod ask;
mod copy;
mod fd;
mod fill;
mod flow;
mod frame;
#[cfg(target_os = "linux")]
mod linux;
mod pace;
mod pass;
mod probe;
mod read;
mod reader;
mod ready;
#[cfg(target_os = "linux")]
mod room;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
mod uring;
mod writer;

pub use copy::{copy, copy_bidirectional, CopyBidirectional, CopyOneWay};
pub use fd::ReadyFd;
pub use frame::{Decoder, Found, FrameError, FramedReader, LengthDelimited, Lines};
#[cfg(target_os = "linux")]
pub use linux::{
    enable_gro, recv_many, send_file, send_many, splice, splice_bidirectional, splice_file,
    Datagram, DirectFile, MappedBytes, MappedFile, SendFile, SendMapped, Socket, Splice,
    SpliceBidirectional,
};
pub use probe::Probe;
pub use read::{read_pooled, ReadPooled};
pub use reader::PooledReader;
pub use ready::ReadReady;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
pub use uring::{register_fixed, FixedBuffer};
pub use writer::PooledWriter;
