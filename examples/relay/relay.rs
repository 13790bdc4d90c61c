//! The relay: how a server uses a pool.
//!
//! Each connection is two pumps, one per direction, and each pump waits for readability first and for a buffer second.
//! So an idle connection holds no memory, and the limit is shared by those who have bytes in flight: with a limit of 64
//! buffers a thousand connections work, they take turns. When all buffers are in use the pump parks, the sockets that it
//! does not read fill up, and TCP slows the senders down. That is all there is to back-pressure.
//!
//! Can the buffers all get stuck? A pump never waits for a buffer while it holds one, so waiting alone can not lock it
//! up. But it does hold its buffer while the receiver takes the bytes, and a receiver who takes none keeps it: as many
//! such receivers as there are buffers stop everyone. The same happens when an upstream only reads on once its answers
//! were taken, which takes buffers too. The relay can not know whether such a receiver is slow or dead, so it does what
//! other relays do: whoever does not take a buffer's bytes within [`PATIENCE`] is cut off. The built-in upstream and
//! load generator read whatever comes at any time, hence every buffer soon comes back, and the pool's FIFO gives each
//! pump its turn.
//!
//! `offheap::io::copy_bidirectional` does all this but the cutting off, with buffers that follow the traffic, in one line. Here the loop is
//! written out, because it is what there is to see, and because each wait for memory is timed: what the summary says of them is
//! measured where it hurts, not taken from the pool's own figures.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::poll;
use offheap::{DirectBytesMut, Pool, ReserveError};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::books::Books;

/// What one read takes, and one buffer holds.
const CHUNK: usize = 16 << 10;
/// How long a receiver may take for the bytes of one buffer before it is cut off.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the kernel may keep for a receiver that is behind. Left to itself it takes megabytes for each connection, and the
/// relay's limit would bound the smaller part of its memory.
const SEND_BUFFER: u32 = 64 << 10;
/// Connections that the kernel accepts ahead of the relay.
const BACKLOG: u32 = 1024;
/// How long to wait when accepting fails, for want of descriptors for example: at once it would fail again.
const RETRY: Duration = Duration::from_millis(100);

/// Listens at `address`, with bounded send buffers.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    // A port can be used again right after a relay has ended. Windows allows that anyway, and means theft by it.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket for `address` with a bounded send buffer. What a listener accepts inherits it.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    Ok(socket)
}

/// What all connections share.
pub(crate) struct Relay {
    pool: Pool,
    upstream: Vec<SocketAddr>,
    at_once: usize,
    chunk: usize,
    books: Books,
}

impl Relay {
    /// A relay to the first address of `upstream` that answers; it names at least one. Serves at most `at_once`
    /// connections at a time.
    pub(crate) fn new(
        pool: Pool,
        upstream: Vec<SocketAddr>,
        at_once: Option<usize>,
    ) -> io::Result<Arc<Relay>> {
        let chunk = CHUNK.min(pool.max_reserve());
        if chunk == 0 {
            let text = format!(
                "a limit of {} bytes has no room for a single buffer",
                pool.limit()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Arc::new(Relay {
            pool,
            upstream,
            at_once: at_once.unwrap_or(usize::MAX),
            chunk,
            books: Books::default(),
        }))
    }

    /// Where it relays to, unless there is no answer.
    pub(crate) fn upstream(&self) -> SocketAddr {
        self.upstream[0]
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn books(&self) -> &Books {
        &self.books
    }

    /// Serves until `end`, and passes on what it says; connections that are open then are cut.
    pub(crate) async fn serve<T>(
        self: &Arc<Self>,
        listener: TcpListener,
        end: impl Future<Output = T>,
    ) -> T {
        let mut end = pin!(end);
        let mut connections = JoinSet::new();
        let ended = loop {
            tokio::select! {
                ended = &mut end => break ended,
                accepted = listener.accept(), if connections.len() < self.at_once => match accepted {
                    Ok((client, _)) => drop(connections.spawn(self.clone().connection(client))),
                    Err(error) => {
                        eprintln!("relay: accepting a connection failed: {error}");
                        sleep(RETRY).await;
                    }
                },
                Some(done) = connections.join_next() => match done {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => self.books.broken(&error),
                    Err(panic) => self.books.fault(&panic),
                },
            }
        };
        connections.shutdown().await;
        ended
    }

    /// One connection, from accept to both ends of file.
    async fn connection(self: Arc<Self>, mut client: TcpStream) -> io::Result<()> {
        let account = self.books.open();
        client.set_nodelay(true)?;
        let mut upstream = self.connect().await?;
        upstream.set_nodelay(true)?;
        let (client_read, client_write) = client.split();
        let (upstream_read, upstream_write) = upstream.split();
        tokio::try_join!(
            self.pump(client_read, upstream_write, |n| account.up(n)),
            self.pump(upstream_read, client_write, |n| account.down(n)),
        )?;
        account.complete();
        Ok(())
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let mut failed = io::ErrorKind::AddrNotAvailable.into();
        for &address in &self.upstream {
            match socket(address)?.connect(address).await {
                Ok(upstream) => return Ok(upstream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Moves bytes until `from` ends, and passes the end on; the other direction may live longer.
    async fn pump(
        &self,
        from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        moved: impl Fn(usize),
    ) -> io::Result<()> {
        loop {
            from.readable().await?;
            let mut buffer = self.buffer().await?;
            match from.try_read_buf(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    timeout(PATIENCE, to.write_all(&buffer)).await??;
                    moved(n);
                }
                // A false alarm. The buffer goes back before the next wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        to.shutdown().await
    }

    /// `pool.reserve(n).await`, and a note of how long it took if it had to park.
    async fn buffer(&self) -> Result<DirectBytesMut, ReserveError> {
        let mut reservation = pin!(self.pool.reserve(self.chunk));
        let reserved = match poll!(reservation.as_mut()) {
            Poll::Ready(reserved) => reserved,
            Poll::Pending => {
                let parked = Instant::now();
                let reserved = reservation.await;
                self.books.waited(parked.elapsed());
                reserved
            }
        };
        reserved.inspect_err(|error| self.books.fault(error))
    }
}
