//! The other side of the relay: an upstream that echoes, and clients that check every byte.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

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
    fn add(&mut self, client: &Client, result: io::Result<()>) {
        let received = client.receiver.received;
        self.sent += client.sender.sent;
        self.received += received;
        if !client.pauses {
            self.least = Some(self.least.map_or(received, |least| least.min(received)));
            self.most = self.most.max(Some(received));
        }
        if let Err(error) = result {
            self.fail(&format_args!("client {}: {error}", client.id));
        }
    }

    fn fail(&mut self, why: &dyn fmt::Display) {
        self.failed += 1;
        self.last_failure = Some(why.to_string());
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes sent, {} came back and were right",
            self.sent, self.received
        )?;
        if let (Some(least), Some(most)) = (self.least, self.most) {
            write!(f, "; each client without pauses got {least} to {most}")?;
        }
        Ok(())
    }
}

/// Runs clients against the relay until `end`, then lets them finish.
pub(crate) async fn run(
    relay: SocketAddr,
    clients: usize,
    end: impl Future<Output = ()>,
) -> Outcome {
    let (stop, stopping) = watch::channel(false);
    let mut running = JoinSet::new();
    for id in 0..clients as u64 {
        running.spawn(Client::new(id).run(relay, stopping.clone()));
    }
    end.await;
    stop.send_replace(true);

    let mut outcome = Outcome::default();
    while let Some(done) = running.join_next().await {
        match done {
            Ok((client, result)) => outcome.add(&client, result),
            Err(panic) => outcome.fail(&panic),
        }
    }
    outcome
}

/// One client: sends bursts of bytes, and knows what must come back.
#[derive(Debug)]
struct Client {
    id: u64,
    pauses: bool,
    sender: Sender,
    receiver: Receiver,
}

impl Client {
    fn new(id: u64) -> Client {
        Client {
            id,
            pauses: id % PAUSERS == 0,
            sender: Sender {
                data: Data::new(id),
                sent: 0,
            },
            receiver: Receiver {
                expected: Data::new(id),
                buffer: vec![0; CHUNK],
                received: 0,
            },
        }
    }

    async fn run(
        mut self,
        relay: SocketAddr,
        mut stopping: watch::Receiver<bool>,
    ) -> (Client, io::Result<()>) {
        let stop = stopping.clone();
        let too_late = async {
            // It fails when the generator is gone, which is too late as well.
            let _ = stopping.wait_for(|&stop| stop).await;
            sleep(DRAIN).await;
        };
        let result = tokio::select! {
            result = self.exchange(relay, stop) => result,
            () = too_late => Err(wrong(format!("not done {DRAIN:?} after the end"))),
        };
        (self, result)
    }

    async fn exchange(&mut self, relay: SocketAddr, stop: watch::Receiver<bool>) -> io::Result<()> {
        let mut stream = TcpStream::connect(relay).await?;
        stream.set_nodelay(true)?;
        let (mut read, mut write) = stream.split();
        let mut dice = Dice(self.id);
        loop {
            let last = *stop.borrow();
            let upto = self.sender.sent + 1 + dice.below(LARGEST_BURST);
            let send = async {
                self.sender.send(&mut write, upto).await?;
                if last {
                    // Half-closed ahead of most of the answer, which must come all the same.
                    write.shutdown().await?;
                }
                Ok(())
            };
            // Both at once: a client that reads only when all is sent would keep the relay's buffers meanwhile.
            tokio::try_join!(send, self.receiver.receive(&mut read, upto))?;
            if last {
                return self.receiver.expect_end(&mut read).await;
            }
            if self.pauses {
                sleep(LONGEST_PAUSE * dice.below(100) as u32 / 100).await;
            }
        }
    }
}

#[derive(Debug)]
struct Sender {
    data: Data,
    sent: u64,
}

impl Sender {
    async fn send(&mut self, to: &mut WriteHalf<'_>, upto: u64) -> io::Result<()> {
        while self.sent < upto {
            let len = (upto - self.sent).min(CHUNK as u64) as usize;
            // Not `write_all`: when this is cut short, `sent` must be what really was sent.
            self.sent += to.write(self.data.at(self.sent, len)).await? as u64;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Receiver {
    expected: Data,
    buffer: Vec<u8>,
    received: u64,
}

impl Receiver {
    async fn receive(&mut self, from: &mut ReadHalf<'_>, upto: u64) -> io::Result<()> {
        while self.received < upto {
            let n = from.read(&mut self.buffer).await?;
            let position = self.received;
            if n == 0 {
                return Err(wrong(format!(
                    "the stream ends at byte {position} of {upto}"
                )));
            }
            if self.buffer[..n] != *self.expected.at(position, n) {
                return Err(wrong(format!(
                    "wrong data in the {n} bytes after byte {position}"
                )));
            }
            self.received += n as u64;
        }
        Ok(())
    }

    async fn expect_end(&mut self, from: &mut ReadHalf<'_>) -> io::Result<()> {
        match from.read(&mut self.buffer).await? {
            0 => Ok(()),
            n => Err(wrong(format!("{n} bytes too many"))),
        }
    }
}

fn wrong(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The bytes that a client sends. Each depends on nothing but the client and its position, so that sender and receiver
/// agree without a word, and bytes that were lost, doubled, swapped or another client's are found out.
#[derive(Debug)]
struct Data {
    seed: u64,
    words: Vec<u8>,
}

impl Data {
    fn new(client: u64) -> Data {
        Data {
            seed: mix(client),
            words: Vec::new(),
        }
    }

    fn at(&mut self, position: u64, len: usize) -> &[u8] {
        let skip = (position % 8) as usize;
        self.words.resize((skip + len).next_multiple_of(8), 0);
        for (index, word) in (position / 8..).zip(self.words.chunks_exact_mut(8)) {
            word.copy_from_slice(&mix(self.seed.wrapping_add(index)).to_le_bytes());
        }
        &self.words[skip..skip + len]
    }
}

/// Random enough for sizes and pauses.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % n
    }
}

/// The output function of SplitMix64.
fn mix(n: u64) -> u64 {
    let n = n
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
