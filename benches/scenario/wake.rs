//! Wake latency: from just before the drop to the next instruction of the one who waited for it.
//!
//! One waiter, one buffer, which goes back and forth. What a peer does between the wake-up and handing out the memory is
//! part of it. What the runtime needs to run a woken task is too, and is most of it where threads are involved.

use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{mpsc, Arc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::yield_now;

use super::{local_runtime, runtime};
use crate::peers::{Lease, Limited};

/// Long enough for a worker without work to go to sleep.
const UNTIL_PARKED: Duration = Duration::from_micros(150);

/// Where the waiter is when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A task of the thread that drops.
    SameThread,
    /// A task of another thread, which runs other tasks meanwhile.
    BusyWorker,
    /// A task of another thread, which sleeps.
    ParkedWorker,
}

impl Place {
    /// As the tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Place::SameThread => "same thread",
            Place::BusyWorker => "another thread, busy",
            Place::ParkedWorker => "another thread, parked",
        }
    }

    /// A runtime to measure it in. Future and tasks share a thread in a local runtime only: the future of `block_on` is
    /// the one who drops.
    pub fn runtime(self) -> Runtime {
        match self {
            Place::SameThread => local_runtime(),
            Place::BusyWorker | Place::ParkedWorker => runtime(1),
        }
    }

    /// So many latencies, in nanoseconds. For `block_on` of the place's runtime; all of the peer's room is `size`.
    pub async fn latencies<P: Limited>(self, peer: &P, size: usize, samples: usize) -> Vec<f64> {
        let stop = Arc::new(AtomicBool::new(false));
        if self == Place::BusyWorker {
            tokio::spawn(be_busy(stop.clone()));
        }
        let mut lease = peer.try_take(size);
        let waiting = Arc::new(AtomicU64::new(0));
        let (send, receive) = mpsc::channel();
        let waiter = tokio::spawn(wait(peer.clone(), size, samples, waiting.clone(), send));

        let mut latencies = Vec::with_capacity(samples);
        for sample in 1..=samples {
            while waiting.load(Ordering::Acquire) < sample as u64 {
                yield_now().await;
            }
            if self == Place::ParkedWorker {
                thread::sleep(UNTIL_PARKED);
            }
            let dropped = Instant::now();
            drop(lease);
            let (woken, next): (Instant, P::Lease) = loop {
                match receive.try_recv() {
                    Ok(got) => break got,
                    Err(_) => yield_now().await,
                }
            };
            latencies.push(woken.saturating_duration_since(dropped).as_nanos() as f64);
            lease = next;
        }
        waiter.await.expect("no panic");
        stop.store(true, Ordering::Relaxed);
        latencies
    }
}

/// Waits `samples` times, says so once it really does, and passes each buffer on with the time at which it came.
async fn wait<P: Limited>(
    peer: P,
    size: usize,
    samples: usize,
    waiting: Arc<AtomicU64>,
    send: mpsc::Sender<(Instant, P::Lease)>,
) {
    for sample in 1..=samples {
        let mut take = pin!(peer.take(size));
        let taken = poll_fn(|cx| {
            let poll = take.as_mut().poll(cx);
            if poll.is_pending() {
                waiting.store(sample as u64, Ordering::Release);
            }
            poll
        });
        let taken = taken.await;
        let woken = Instant::now();
        let mut lease = taken.expect("memory");
        lease.touch();
        if send.send((woken, lease)).is_err() {
            return;
        }
    }
}

async fn be_busy(stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        yield_now().await;
    }
}
