//! The load: seven kinds of users of one pool.
//!
//! None of them holds much while it waits for more (see "What waits for what" in the crate's documentation), and none waits for another
//! that does.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::BufMut;
use futures::StreamExt;
use offheap::{DirectBytes, Pool, ReferenceHandle, ReferenceQueue, ReserveError, SoftCache};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::tally::{add, Tally};

const RELAYS: u64 = 8;
const SUBSCRIBERS: usize = 4;
const READERS: u64 = 3;
const IMPATIENT: u64 = 12;
const KEYS: usize = 400;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// Of all magnitudes up to `most`.
    fn size(&mut self, most: usize) -> usize {
        let most = most >> self.below(8);
        1 + self.below(most)
    }
}

/// The `i`th byte of what belongs to `seed`.
fn byte(seed: u64, i: usize) -> u8 {
    ((seed ^ i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn fill(buffer: &mut impl BufMut, seed: u64, from: usize, n: usize) {
    (from..from + n).for_each(|i| buffer.put_u8(byte(seed, i)));
}

fn is_right(bytes: &[u8], seed: u64, from: usize) -> bool {
    (from..)
        .zip(bytes)
        .all(|(i, found)| *found == byte(seed, i))
}

/// What every user has.
#[derive(Clone)]
struct User {
    pool: Pool,
    tally: Arc<Tally>,
    seed: u64,
}

pub(crate) struct Load {
    tally: Arc<Tally>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    threads: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(runtime: &Runtime, pool: &Pool, seed: u64) -> Load {
        let tally = Arc::new(Tally::default());
        let mut next = seed << 16;
        let mut user = || {
            next += 1;
            User {
                pool: pool.clone(),
                tally: tally.clone(),
                seed: next,
            }
        };
        let cache = SoftCache::new(pool);
        let mut tasks = Vec::new();
        for _ in 0..RELAYS {
            tasks.push(runtime.spawn(relay(user())));
        }
        tasks.push(runtime.spawn(fan_out(user())));
        for _ in 0..READERS {
            tasks.push(runtime.spawn(read_through(user(), cache.clone())));
        }
        for _ in 0..IMPATIENT {
            tasks.push(runtime.spawn(give_up(user())));
        }
        tasks.push(runtime.spawn(resize(user())));
        let (gone, handle) = ReferenceQueue::new();
        tasks.push(runtime.spawn(count_tokens(user(), gone)));
        let threads = thread::spawn({
            let user = user();
            move || come_and_go(user, handle)
        });
        Load {
            tally,
            tasks,
            threads,
        }
    }

    pub(crate) fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// Ends the load; answers whether it came to its end in time.
    pub(crate) fn stop(self, runtime: &Runtime, patience: Duration) -> bool {
        self.tally.end();
        let tally = &self.tally;
        let all = async {
            for task in self.tasks {
                if let Err(error) = task.await {
                    tally.fault(format!("a task of the load ended: {error}"));
                }
            }
        };
        let joined = runtime.block_on(async { timeout(patience, all).await });
        if joined.is_err() {
            return false;
        }
        if self.threads.join().is_err() {
            tally.fault("a thread of the load panicked".to_owned());
        }
        true
    }
}

fn or_fault<T>(tally: &Tally, what: &str, result: Result<T, ReserveError>) -> Option<T> {
    result
        .inspect_err(|error| tally.fault(format!("{what}: {error}")))
        .ok()
}

// ---- relays ---------------------------------------------------------------------------------------------------------

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?);
    let (near, far) = tokio::join!(near, listener.accept());
    Ok((near?, far?.0))
}

/// Connections, one after the other, through a relay to an echo; some are cut in the middle.
async fn relay(user: User) {
    let mut random = Random::new(user.seed);
    while !user.tally.is_over() {
        let total = random.size(4 << 20);
        let cut = random.below(8) == 0;
        match timeout(Duration::from_secs(120), connection(&user, total, cut)).await {
            Ok(Ok(())) => add(&user.tally.connections, 1),
            Ok(Err(error)) => user.tally.fault(format!("relay: {error}")),
            Err(_) => user
                .tally
                .fault(format!("relay: {total} bytes not echoed after 120 s")),
        }
    }
}

async fn connection(user: &User, total: usize, cut: bool) -> io::Result<()> {
    let (client, mut a) = pair().await?;
    let (mut b, mut server) = pair().await?;
    let relay = offheap::io::copy_bidirectional(&mut a, &mut b, &user.pool);
    let echo = async {
        let (mut from, mut to) = server.split();
        tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await
    };
    let (mut from, mut to) = client.into_split();
    let talk = async {
        let send = async {
            let mut sent = 0;
            let mut chunk = Vec::new();
            while sent < total {
                let n = (total - sent).min(16 << 10);
                chunk.clear();
                fill(&mut chunk, user.seed, sent, n);
                to.write_all(&chunk).await?;
                sent += n;
            }
            to.shutdown().await
        };
        let receive = async {
            let mut chunk = vec![0; 32 << 10];
            let mut received = 0;
            loop {
                if cut && received > total / 2 {
                    return Ok(());
                }
                let n = from.read(&mut chunk).await?;
                if n == 0 && received == total {
                    return Ok(());
                }
                if n == 0 || !is_right(&chunk[..n], user.seed, received) {
                    let text = format!("wrong bytes, or too few, after {received} of {total}");
                    return Err(io::Error::other(text));
                }
                received += n;
                add(&user.tally.relayed_bytes, n as u64);
            }
        };
        if cut {
            tokio::select! {
                done = receive => done,
                never = async { send.await?; std::future::pending::<io::Result<()>>().await } => never,
            }
        } else {
            tokio::try_join!(send, receive).map(|_| ())
        }
    };
    if cut {
        // Relay and echo are dropped with what they have in flight.
        return tokio::select! {
            done = talk => done,
            done = async { tokio::join!(relay, echo) } => done.0.map(|_| ()),
        };
    }
    let (talked, relayed, echoed) = tokio::join!(talk, relay, echo);
    talked?;
    relayed?;
    echoed
}

// ---- fan-out --------------------------------------------------------------------------------------------------------

struct Message {
    bytes: DirectBytes,
    seed: u64,
    from: usize,
}

/// One writes, and all others get slices of it, which they keep for a while.
async fn fan_out(user: User) {
    let mut random = Random::new(user.seed);
    let mut senders = Vec::new();
    let mut tasks = Vec::new();
    for number in 0..SUBSCRIBERS {
        let (sender, receiver) = mpsc::channel(4);
        senders.push(sender);
        let mut user = user.clone();
        user.seed += 1000 + number as u64;
        tasks.push(tokio::spawn(subscribe(user, receiver)));
    }
    let mut seed = user.seed;
    while !user.tally.is_over() {
        let n = random.size(64 << 10);
        let reserved = user.tally.waiting(user.pool.reserve(n)).await;
        let Some(mut buffer) = or_fault(&user.tally, "fan-out", reserved) else {
            return;
        };
        seed += 1;
        fill(&mut buffer, seed, 0, n);
        let all = buffer.freeze();
        for sender in &senders {
            let from = random.below(n);
            let message = Message {
                bytes: all.slice(from..),
                seed,
                from,
            };
            // A slow one keeps the others waiting, but nobody who waits for memory.
            if sender.send(message).await.is_err() {
                return user.tally.fault("fan-out: a subscriber is gone".to_owned());
            }
        }
        if random.below(16) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    drop(senders);
    for task in tasks {
        if let Err(error) = task.await {
            user.tally.fault(format!("fan-out: {error}"));
        }
    }
}

async fn subscribe(user: User, mut messages: mpsc::Receiver<Message>) {
    let mut random = Random::new(user.seed);
    let mut kept = VecDeque::new();
    while let Some(message) = messages.recv().await {
        kept.push_back(message);
        if kept.len() > random.below(4) {
            let at = random.below(kept.len());
            if let Some(Message { bytes, seed, from }) = kept.swap_remove_back(at) {
                if !is_right(&bytes, seed, from) {
                    user.tally.fault("fan-out: wrong bytes".to_owned());
                }
                add(&user.tally.fanned_out, bytes.len() as u64);
            }
        }
    }
}

// ---- the soft cache -------------------------------------------------------------------------------------------------

/// Reads pages through a cache that would like to have more than there is.
async fn read_through(user: User, cache: SoftCache<usize>) {
    let mut random = Random::new(user.seed);
    while !user.tally.is_over() {
        // Low keys are asked for more often.
        let most = 1 + random.below(KEYS);
        let key = random.below(most);
        let n = 1000 + key * 97;
        match cache.get(&key) {
            Some(page) => {
                if page.len() != n || !is_right(&page, key as u64, 0) {
                    user.tally.fault(format!("cache: wrong bytes for {key}"));
                }
                add(&user.tally.cache_hits, 1);
            }
            None => {
                let reserved = user.tally.waiting(user.pool.reserve(n)).await;
                let Some(mut page) = or_fault(&user.tally, "cache", reserved) else {
                    return;
                };
                fill(&mut page, key as u64, 0, n);
                cache.insert(key, page.freeze());
                add(&user.tally.cache_misses, 1);
            }
        }
        if random.below(8) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

// ---- giving up, and resizing ----------------------------------------------------------------------------------------

/// Asks for much and has little patience: waits are cut off before, at and after the grant.
async fn give_up(user: User) {
    let mut random = Random::new(user.seed);
    let largest = user.pool.max_reserve() / 2;
    while !user.tally.is_over() {
        let n = random.size(largest);
        let patience = Duration::from_micros(random.below(20_000) as u64);
        let many = random.below(4) == 0;
        let outcome = if many {
            let sizes = [n / 3 + 1, 300, n / 3 + 1];
            let reserve = user.tally.waiting(user.pool.reserve_many(sizes));
            timeout(patience, reserve).await
        } else {
            let reserve = user.tally.waiting(user.pool.reserve(n));
            let one = async { reserve.await.map(|buffer| vec![buffer]) };
            timeout(patience, one).await
        };
        match outcome {
            Err(_) => add(&user.tally.given_up, 1),
            Ok(reserved) => {
                let mut buffers = or_fault(&user.tally, "impatient", reserved);
                for buffer in buffers.iter_mut().flatten() {
                    buffer.put_bytes(1, buffer.capacity());
                }
                sleep(Duration::from_micros(random.below(5000) as u64)).await;
                drop(buffers);
            }
        }
    }
}

/// Between half of the limit and all of it; gives memory back now and then.
async fn resize(user: User) {
    let mut random = Random::new(user.seed);
    let most = user.pool.limit();
    while !user.tally.is_over() {
        let limit = most / 2 + random.below(most / 2 + 1);
        if let Err(error) = user.pool.set_limit(limit) {
            user.tally.fault(format!("resize: {error}"));
        }
        if random.below(8) == 0 {
            user.pool.trim();
        }
        add(&user.tally.resizes, 1);
        sleep(Duration::from_millis(20 + random.below(200) as u64)).await;
    }
    if let Err(error) = user.pool.set_limit(most) {
        user.tally.fault(format!("resize: {error}"));
    }
}

// ---- threads --------------------------------------------------------------------------------------------------------

async fn count_tokens(user: User, mut gone: ReferenceQueue<u64>) {
    while gone.next().await.is_some() {
        add(&user.tally.tokens_seen, 1);
    }
}

/// Starts threads that work for a moment and end with what they have queued; what they still hold is dropped by the next.
fn come_and_go(user: User, handle: ReferenceHandle<u64>) {
    let mut random = Random::new(user.seed);
    let mut left = Vec::new();
    while !user.tally.is_over() {
        let threads: Vec<_> = (0..1 + random.below(4))
            .map(|_| {
                let mut user = user.clone();
                user.seed = random.below(1 << 40) as u64;
                let (handle, left) = (handle.clone(), std::mem::take(&mut left));
                thread::spawn(move || work(&user, &handle, left))
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(held) => left = held,
                Err(_) => user.tally.fault("a thread panicked".to_owned()),
            }
            add(&user.tally.threads, 1);
        }
        // Whoever waits must not wait for what only the next round would drop.
        left.truncate(4);
        thread::sleep(Duration::from_millis(random.below(10) as u64));
    }
}

/// Answers what it still holds.
fn work(user: &User, handle: &ReferenceHandle<u64>, left: Vec<DirectBytes>) -> Vec<DirectBytes> {
    drop(left);
    let mut random = Random::new(user.seed);
    let mut held: Vec<DirectBytes> = Vec::new();
    for round in 0..random.below(400) as u64 {
        let n = random.size(32 << 10);
        // Whoever holds something does not wait for more.
        let reserved = match held.is_empty() {
            true => {
                let reserved = user.tally.blocked(|| user.pool.reserve_blocking(n));
                or_fault(&user.tally, "thread", reserved)
            }
            false => user.pool.try_reserve(n).ok(),
        };
        let Some(mut buffer) = reserved else {
            held.clear();
            continue;
        };
        fill(&mut buffer, round, 0, n);
        let tally = user.tally.clone();
        if random.below(32) == 0 {
            add(&user.tally.hooks_set, 1);
            buffer.on_clean(move |_| add(&tally.hooks_run, 1));
        }
        let bytes = buffer.freeze();
        if random.below(32) == 0 {
            add(&user.tally.tokens_set, 1);
            bytes.notify(handle, round);
        }
        let weak = bytes.downgrade();
        if !weak
            .upgrade()
            .is_some_and(|bytes| is_right(&bytes, round, 0))
        {
            user.tally.fault("thread: wrong bytes".to_owned());
        }
        if random.below(4) == 0 {
            held.push(bytes);
            held.truncate(4);
        } else if random.below(4) == 0 {
            drop(bytes.try_into_mut());
        }
    }
    held
}
