//! The pair of `offheap` alone, two numbers per run: nanoseconds per pair by `try_reserve`, and by awaiting `reserve`; medians of
//! many short rounds. For comparing two builds of the crate with each other, which can not be in one program: see
//! `benches/on-and-off`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use futures::FutureExt;
use offheap::Pool;
use offheap_benches::figures::median;
use offheap_benches::peers::{Offheap, Peer};
use offheap_benches::scenario::pair::plans;

const PAIRS: u64 = 50_000;
const ROUNDS: usize = 200;

fn main() {
    let plan = plans()[0];
    let peer = Offheap::new(plan.limit(), plan.size);
    let tried = rounds(|| plan.time(&peer, PAIRS));
    let pool = Pool::builder().limit(plan.limit()).build().expect("a pool");
    let awaited = rounds(|| {
        let start = Instant::now();
        for _ in 0..PAIRS {
            let mut buffer = pool.reserve(plan.size).now_or_never();
            drop(black_box(&mut buffer).take());
        }
        start.elapsed()
    });
    println!("{tried:.3} {awaited:.3}");
}

fn rounds(mut time: impl FnMut() -> Duration) -> f64 {
    let round = |_| time().as_nanos() as f64 / PAIRS as f64;
    median((0..ROUNDS).map(round).collect())
}
