//! A pair within a task, by awaiting and without: what a future costs that never has to wait.

use std::time::{Duration, Instant};

use super::on_worker;
use super::pair::taken;
use crate::peers::{Lease, Limited};

/// Pairs before the clock starts.
const WARM_UP: u64 = 256;

/// How the buffer is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Without a future.
    Tried,
    /// By a future, which is ready at once.
    Awaited,
}

/// How long `pairs` pairs take, in a task of the runtime that this runs in. There is room for all of them.
pub async fn time<P: Limited>(way: Way, peer: P, size: usize, pairs: u64) -> Duration {
    on_worker(async move {
        repeat(way, &peer, size, WARM_UP).await;
        let start = Instant::now();
        repeat(way, &peer, size, pairs).await;
        start.elapsed()
    })
    .await
}

#[inline(always)]
async fn repeat<P: Limited>(way: Way, peer: &P, size: usize, pairs: u64) {
    match way {
        Way::Tried => (0..pairs).for_each(|_| drop(taken(peer, size))),
        Way::Awaited => {
            for _ in 0..pairs {
                let mut lease = peer.take(size).await.expect("room");
                lease.touch();
            }
        }
    }
}
