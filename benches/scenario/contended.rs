//! More takers than room: each takes, holds for a while, gives back, and starts over, for a fixed time.
//!
//! What counts is how often anyone was served, how long each had to wait, and whether all were served alike. A wait is from
//! asking to having the buffer; those that end after the time is over count as waits, but not as served. Quantiles are over
//! waits, not over takers: a few who are served all the time hide the many who are not, so look at the longest wait and at
//! who was served least as well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::on_worker;
use crate::figures::{quantile, ratio};
use crate::peers::{Lease, Limited};

/// How long a buffer is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// While the task yields 2 to 6 times, at random: with a fixed number the scheduler settles into a rhythm in which some
    /// tasks hold longer than others, and take fewer turns for it, whatever the pool does.
    Yields,
    /// While it sleeps.
    Sleep(Duration),
}

/// How many take how much.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Tasks or threads.
    pub takers: usize,
    /// How many of them can hold a buffer at the same time.
    pub room: usize,
    /// Bytes of each buffer.
    pub size: usize,
    /// How long each buffer is held.
    pub hold: Hold,
    /// How long the whole takes.
    pub time: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// For each taker, how often it was served.
    served: Vec<u64>,
    /// How often anyone gave up.
    pub failed: u64,
    /// All waits in nanoseconds, in order of size.
    waits: Vec<f64>,
    time: Duration,
}

/// The same for one taker.
#[derive(Debug, Default)]
struct Log {
    served: u64,
    failed: u64,
    waits: Vec<f64>,
}

impl Plan {
    /// The limit that leaves just the room.
    pub fn limit(&self) -> usize {
        self.room * self.size
    }

    /// With tasks, in the runtime that this runs in.
    pub async fn tasks<P: Limited>(self, peer: P) -> Outcome {
        let stop: &'static AtomicBool = Box::leak(Box::default());
        on_worker(async move {
            let start = Instant::now();
            let task = |number| tokio::spawn(self.task(peer.clone(), number, stop));
            let tasks: Vec<_> = (0..self.takers).map(task).collect();
            tokio::time::sleep(self.time).await;
            stop.store(true, Ordering::Relaxed);
            let time = start.elapsed();
            let mut logs = Vec::new();
            for task in tasks {
                logs.push(task.await.expect("no panic"));
            }
            Outcome::new(time, logs)
        })
        .await
    }

    async fn task<P: Limited>(self, peer: P, number: usize, stop: &AtomicBool) -> Log {
        let mut log = Log::default();
        let mut yields = yields(number);
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let taken = peer.take(self.size).await;
            if let Some(_lease) = log.note(asked, taken, stop) {
                match self.hold {
                    Hold::Sleep(time) => tokio::time::sleep(time).await,
                    Hold::Yields => {
                        for _ in 0..yields() {
                            tokio::task::yield_now().await;
                        }
                    }
                }
            }
        }
        log
    }

    /// With plain threads.
    pub fn threads<P: Limited>(self, peer: P) -> Outcome {
        let stop = &AtomicBool::new(false);
        let peer = &peer;
        thread::scope(|scope| {
            let start = Instant::now();
            let thread = |number| scope.spawn(move || self.thread(peer, number, stop));
            let threads: Vec<_> = (0..self.takers).map(thread).collect();
            thread::sleep(self.time);
            stop.store(true, Ordering::Relaxed);
            let time = start.elapsed();
            let logs = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            Outcome::new(time, logs.collect())
        })
    }

    fn thread<P: Limited>(self, peer: &P, number: usize, stop: &AtomicBool) -> Log {
        let mut log = Log::default();
        let mut yields = yields(number);
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let taken = peer.take_blocking(self.size);
            if let Some(_lease) = log.note(asked, taken, stop) {
                match self.hold {
                    Hold::Sleep(time) => thread::sleep(time),
                    Hold::Yields => (0..yields()).for_each(|_| thread::yield_now()),
                }
            }
        }
        log
    }
}

/// How often to yield, each time it is called: the same numbers for the same taker of each peer.
fn yields(number: usize) -> impl FnMut() -> u32 + Send {
    let mut state = number as u32 + 1;
    move || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        2 + state % 5
    }
}

impl Log {
    fn note<L: Lease, E>(
        &mut self,
        asked: Instant,
        taken: Result<L, E>,
        stop: &AtomicBool,
    ) -> Option<L> {
        self.waits.push(asked.elapsed().as_nanos() as f64);
        let in_time = !stop.load(Ordering::Relaxed);
        match taken {
            Ok(mut lease) => {
                lease.touch();
                self.served += u64::from(in_time);
                Some(lease)
            }
            Err(_) => {
                self.failed += u64::from(in_time);
                None
            }
        }
    }
}

impl Outcome {
    fn new(time: Duration, logs: Vec<Log>) -> Self {
        let mut waits: Vec<f64> = logs.iter().flat_map(|log| &log.waits).copied().collect();
        waits.sort_by(f64::total_cmp);
        Outcome {
            served: logs.iter().map(|log| log.served).collect(),
            failed: logs.iter().map(|log| log.failed).sum(),
            waits,
            time,
        }
    }

    /// Buffers handed out, by all together.
    pub fn served(&self) -> u64 {
        self.served.iter().sum()
    }

    /// The least and the most that one taker was served.
    pub fn least_and_most(&self) -> (u64, u64) {
        let least = self.served.iter().min().copied().unwrap_or(0);
        (least, self.served.iter().max().copied().unwrap_or(0))
    }

    /// How unequally they were served: 1 is best, infinite where someone never was.
    pub fn unfairness(&self) -> f64 {
        let (least, most) = self.least_and_most();
        ratio(most as f64, least as f64)
    }

    /// Buffers handed out per second.
    pub fn per_second(&self) -> f64 {
        self.served() as f64 / self.time.as_secs_f64()
    }

    /// How long it took, without what was left when the time was over.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// A quantile of the waits, in nanoseconds; 1 is the longest.
    pub fn wait(&self, q: f64) -> f64 {
        quantile(&self.waits, q)
    }
}
