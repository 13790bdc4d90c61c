//! The other side of the relay: an upstream that echoes, and clients that check every byte.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A client sends up to this much before it waits for the answer.
const LARGEST_BURST: u64 = 256 << 10;
/// What clients and upstream read or write at once.
const CHUNK: usize = 16 << 10;
/// Every so many clients one makes pauses.
const PAUSERS: u64 = 4;
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long the last bursts may take to come back.
const DRAIN: Duration = Duration::from_secs(10);

/// Starts an upstream that sends back what it gets.
pub(crate) async fn start_echo() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(echo(stream))),
                Err(error) => {
                    eprintln!("relay: the upstream can not accept: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(address)
}

/// Reads on while its answers wait to be taken, as servers that are fit to be relayed to do. What it has to keep is at
/// most one burst, since clients wait for the answer.
async fn echo(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let (queue, mut queued) = mpsc::unbounded_channel::<BytesMut>();
    let reading = async move {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            if read.read_buf(&mut chunk).await? == 0 || queue.send(chunk).is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let writing = async {
        while let Some(chunk) = queued.recv().await {
            write.write_all(&chunk).await?;
        }
        write.shutdown().await
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}

/// What became of the clients' bytes.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Bytes that came back, and were right.
    pub(crate) received: u64,
    /// Clients that did not get through, for whatever reason.
    pub(crate) failed: u64,
    pub(crate) last_failure: Option<String>,
    /// What the clients without pauses got: the one that got least, and the one that got most.
    pub(crate) least: Option<u64>,
    pub(crate) most: Option<u64>,
}

impl Outcome {
    fn add(&mut self, client: Client) {
        self.sent += client.sent;
        self.received += client.received;
        if !client.pauses {
            self.least = Some(self.least.unwrap_or(u64::MAX).min(client.received));
            self.most = self.most.max(Some(client.received));
        }
    }

    fn fail(&mut self, clients: usize, why: String) {
        self.failed += clients as u64;
        self.last_failure = Some(why);
    }
}

/// Runs clients against the relay until `end`, then lets them finish.
pub(crate) async fn run(relay: SocketAddr, clients: usize, end: impl Future<Output = ()>) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = JoinSet::new();
    for id in 0..clients as u64 {
        running.spawn(Client::new(id).run(relay, stop.clone()));
    }
    end.await;
    stop.store(true, Ordering::Relaxed);

    let mut outcome = Outcome::default();
    let drain = async {
        while let Some(done) = running.join_next().await {
            match done {
                Ok((client, result)) => {
                    if let Err(error) = result {
                        outcome.fail(1, format!("client {}: {error}", client.id));
                    }
                    outcome.add(client);
                }
                Err(panic) => outcome.fail(1, panic.to_string()),
            }
        }
    };
    if timeout(DRAIN, drain).await.is_err() {
        outcome.fail(running.len(), format!("not done {DRAIN:?} after the end"));
    }
    outcome
}

/// One client: sends a stream of bytes in bursts, and knows what must come back.
#[derive(Debug)]
struct Client {
    id: u64,
    pauses: bool,
    sent: u64,
    received: u64,
}

impl Client {
    fn new(id: u64) -> Client {
        Client {
            id,
            pauses: id % PAUSERS == 0,
            sent: 0,
            received: 0,
        }
    }

    async fn run(mut self, relay: SocketAddr, stop: Arc<AtomicBool>) -> (Client, io::Result<()>) {
        let result = self.exchange(relay, &stop).await;
        (self, result)
    }

    async fn exchange(&mut self, relay: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
        let mut stream = TcpStream::connect(relay).await?;
        stream.set_nodelay(true)?;
        let (mut read, mut write) = stream.split();
        let stream = Stream::new(self.id);
        let mut dice = Dice::new(self.id);
        loop {
            let last = stop.load(Ordering::Relaxed);
            let upto = self.sent + 1 + dice.below(LARGEST_BURST);
            // At the same time: a client that does not read while it sends would keep the relay's buffers.
            tokio::try_join!(
                async {
                    send(&stream, &mut write, &mut self.sent, upto).await?;
                    // The end of the last burst goes ahead of most of its bytes' return.
                    if last { write.shutdown().await } else { Ok(()) }
                },
                receive(&stream, &mut read, &mut self.received, upto),
            )?;
            if last {
                return expect_end(&mut read).await;
            }
            if self.pauses {
                sleep(LONGEST_PAUSE.mul_f64(dice.below(100) as f64 / 100.0)).await;
            }
        }
    }
}

async fn send(
    stream: &Stream,
    to: &mut (impl AsyncWriteExt + Unpin),
    sent: &mut u64,
    upto: u64,
) -> io::Result<()> {
    let mut chunk = Chunk::new();
    while *sent < upto {
        let len = CHUNK.min((upto - *sent) as usize);
        to.write_all(chunk.fill(stream, *sent, len)).await?;
        *sent += len as u64;
    }
    Ok(())
}
