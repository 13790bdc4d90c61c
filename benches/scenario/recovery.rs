//! Recovery: everything is held, many wait, and all of it is freed at once. How long until the last one runs?
//!
//! The clock starts just before the first buffer is dropped. A waiter's time is taken when its reservation resolves, before
//! it touches the memory. Waiters keep what they get, so the limit has to be handed out once, not in turns.

use std::time::{Duration, Instant};

use super::on_worker;
use crate::peers::{Lease, Limited};

/// In which form the whole limit is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// As many buffers as there are waiters, each of the size that a waiter asks for.
    Alike,
    /// One buffer: its memory has to take another shape before the waiters can have it.
    AsOne,
}

/// How many wait for how much.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Tasks that wait.
    pub waiters: usize,
    /// Bytes that each asks for.
    pub size: usize,
    /// What is held.
    pub held: Held,
    /// For how long.
    pub hold: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// From the first drop to the last waiter running, in nanoseconds; of those that were served.
    pub last: f64,
    /// How many gave up.
    pub failed: usize,
}

impl Plan {
    /// The limit, of which nothing is left while it is held.
    pub fn limit(&self) -> usize {
        self.waiters * self.size
    }

    /// In the runtime that this runs in.
    pub async fn run<P: Limited>(self, peer: P) -> Outcome {
        on_worker(async move {
            let sizes = match self.held {
                Held::Alike => vec![self.size; self.waiters],
                Held::AsOne => vec![self.limit()],
            };
            let take = |size| {
                let mut lease = peer.try_take(size);
                lease.touch();
                lease
            };
            let held: Vec<_> = sizes.into_iter().map(take).collect();

            let waiter = || tokio::spawn(self.wait(peer.clone()));
            let waiters: Vec<_> = (0..self.waiters).map(|_| waiter()).collect();
            tokio::time::sleep(self.hold).await;

            let freed = Instant::now();
            drop(held);
            let mut leases = Vec::new();
            let mut last = Duration::ZERO;
            for waiter in waiters {
                if let Some((at, lease)) = waiter.await.expect("no panic") {
                    last = last.max(at.saturating_duration_since(freed));
                    leases.push(lease);
                }
            }
            Outcome {
                last: last.as_nanos() as f64,
                failed: self.waiters - leases.len(),
            }
        })
        .await
    }

    async fn wait<P: Limited>(self, peer: P) -> Option<(Instant, P::Lease)> {
        let mut lease = peer.take(self.size).await.ok()?;
        let at = Instant::now();
        lease.touch();
        Some((at, lease))
    }
}
