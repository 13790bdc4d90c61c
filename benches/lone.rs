//! The pair of `offheap` alone, one number per run: nanoseconds per pair, the median of many short rounds. For comparing two
//! builds of the crate with each other, which can not be in one program: see `benches/on-and-off`.

use std::time::Duration;

use offheap_benches::figures::median;
use offheap_benches::peers::{Offheap, Peer};
use offheap_benches::scenario::pair::plans;

fn main() {
    let plan = plans()[0];
    let peer = Offheap::new(plan.limit());
    const PAIRS: u64 = 50_000;
    let round = |_| {
        let time: Duration = plan.time(&peer, PAIRS);
        time.as_nanos() as f64 / PAIRS as f64
    };
    println!("{:.3}", median((0..200).map(round).collect()));
}
