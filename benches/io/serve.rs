//! What is measured: relays and echo servers of each kind, in a process of their own, on one thread.
//!
//! The first line of output is the port. Each line of input is answered by a line with the pool's figures; the end of
//! input ends the process.

use std::future::Future;
use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr};

use offheap::io::{copy_bidirectional, read_pooled, splice_bidirectional, PooledReader};
use offheap::Pool;
use tokio::io::{
    copy_bidirectional_with_sizes, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader,
};
use tokio::net::tcp::{OwnedWriteHalf, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};

/// Of our relays, if the arguments name no other.
const LIMIT: usize = 256 << 20;
const READINESS: usize = 64 << 10;
const SEND_BUFFER: u32 = 64 << 10;

/// `KIND PORT [LIMIT]`: the port is the upstream's, 0 for servers that need none.
pub(crate) fn run(args: &[String]) -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "serve KIND PORT [LIMIT]");
    let kind = args.first().ok_or_else(usage)?.clone();
    let port: u16 = args
        .get(1)
        .and_then(|port| port.parse().ok())
        .ok_or_else(usage)?;
    let limit = match args.get(2) {
        Some(limit) => limit.parse().map_err(|_| usage())?,
        None => LIMIT,
    };
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let pool = Pool::builder().limit(limit).build()?;
        let socket = TcpSocket::new_v4()?;
        if kind.ends_with("-tight") {
            // So that a thousand clients that do not read do not take the kernel's memory. Connections inherit it.
            socket.set_send_buffer_size(SEND_BUFFER)?;
        }
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(4096)?;
        println!("{}", listener.local_addr()?.port());
        io::stdout().flush()?;
        let asked = pool.clone();
        std::thread::spawn(move || answer(&asked));
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            let pool = pool.clone();
            match kind.as_str() {
                "tokio-8" => relay(client, upstream, |a, b| with_sizes(a, b, 8 << 10)),
                "tokio-64" => relay(client, upstream, |a, b| with_sizes(a, b, 64 << 10)),
                "tokio-256" => relay(client, upstream, |a, b| with_sizes(a, b, 256 << 10)),
                "readiness" => relay(client, upstream, on_readiness),
                "splice" => relay(client, upstream, spliced),
                "offheap" | "offheap-tight" => relay(client, upstream, |a, b| pooled(a, b, pool)),
                "echo-fixed" => spawn(echo_fixed(client)),
                "echo-pooled" => spawn(echo_pooled(client, pool)),
                "echo-bufreader" => {
                    let (read, write) = client.into_split();
                    spawn(echo_buffered(BufReader::new(read), write));
                }
                "echo-pooledreader" => {
                    let (read, write) = client.into_split();
                    spawn(echo_buffered(PooledReader::new(read, &pool), write));
                }
                _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, kind)),
            }
        }
    })
}

fn answer(pool: &Pool) {
    for line in io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        let stats = pool.stats();
        println!("{} {} {}", stats.live, stats.peak_live, stats.limit);
        if io::stdout().flush().is_err() {
            break;
        }
    }
    std::process::exit(0);
}

/// Connections end however they like: what they do is measured at their other ends.
fn spawn<T: 'static + Send>(work: impl Future<Output = io::Result<T>> + Send + 'static) {
    drop(tokio::spawn(work));
}

fn relay<F, T>(
    client: TcpStream,
    upstream: SocketAddr,
    copy: impl FnOnce(TcpStream, TcpStream) -> F + Send + 'static,
) where
    F: Future<Output = io::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    tokio::spawn(async move {
        let upstream = TcpStream::connect(upstream).await?;
        upstream.set_nodelay(true)?;
        copy(client, upstream).await
    });
}

async fn with_sizes(mut a: TcpStream, mut b: TcpStream, size: usize) -> io::Result<(u64, u64)> {
    copy_bidirectional_with_sizes(&mut a, &mut b, size, size).await
}

async fn pooled(mut a: TcpStream, mut b: TcpStream, pool: Pool) -> io::Result<(u64, u64)> {
    copy_bidirectional(&mut a, &mut b, &pool).await
}

async fn spliced(a: TcpStream, b: TcpStream) -> io::Result<(u64, u64)> {
    splice_bidirectional(&a, &b).await
}

/// 64 KiB from the allocator when there is something to read, and back when it is written.
async fn on_readiness(mut a: TcpStream, mut b: TcpStream) -> io::Result<()> {
    let (a_read, a_write) = a.split();
    let (b_read, b_write) = b.split();
    tokio::try_join!(pump(a_read, b_write), pump(b_read, a_write)).map(drop)
}

async fn pump(from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = Vec::with_capacity(READINESS);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return to.shutdown().await,
            Ok(_) => to.write_all(&buffer).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A server with a buffer of its own for each connection.
async fn echo_fixed(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 8 << 10];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

async fn echo_pooled(mut stream: TcpStream, pool: Pool) -> io::Result<()> {
    loop {
        let buffer = read_pooled(&mut stream, &pool, 8 << 10).await?;
        if buffer.is_empty() {
            return Ok(());
        }
        stream.write_all(&buffer).await?;
    }
}

/// A server that reads through a buffered reader and answers out of its buffer.
async fn echo_buffered<R>(mut reader: R, mut writer: OwnedWriteHalf) -> io::Result<()>
where
    R: tokio::io::AsyncBufRead + Unpin,
{
    loop {
        let n = {
            let bytes = reader.fill_buf().await?;
            writer.write_all(bytes).await?;
            bytes.len()
        };
        if n == 0 {
            return Ok(());
        }
        reader.consume(n);
    }
}
