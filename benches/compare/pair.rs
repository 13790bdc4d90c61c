//! The rows of pairs: how long it takes to get a buffer and to give it back.

use std::iter::once;
use std::time::Duration;

use offheap_benches::figures::{interleave, Runner, Table};
use offheap_benches::peers::{Backoff, Heap, Jemalloc, Offheap, Peer, Semaphore};
use offheap_benches::scenario::local_runtime;
use offheap_benches::scenario::pair::{plans, Plan};

use super::{cell, ratios, runner, Goals, Options, MS};

/// Ours, and whom it is compared with.
const PEERS: [&str; 5] = [
    Offheap::NAME,
    Heap::NAME,
    Semaphore::NAME,
    Jemalloc::NAME,
    Backoff::NAME,
];

pub(crate) fn compare(options: &Options, goals: &mut Goals) {
    let head: Vec<_> = once("pair").chain(PEERS).collect();
    let mut table = Table::new(&head);
    let plans = plans();
    {
        // The system's allocator takes no locks while a process has but one thread. No server is like that, but many a
        // benchmark is, so here is such a row, before anyone starts a thread: in a runtime the pool starts none.
        let runtime = local_runtime();
        let _entered = runtime.enter();
        let name = format!("{}, alone in its process", plans[0].name());
        row(options, &mut table, Some(goals), name, plans[0]);
    }
    // From here on there is another thread: the reclaimer of a pool that is built outside a runtime.
    for (number, plan) in plans.into_iter().enumerate() {
        let goals = (number == 0).then_some(&mut *goals);
        row(options, &mut table, goals, plan.name(), plan);
    }
    table.print("Pair: time per pair and thread (in brackets: ours / theirs)");
}

fn row(options: &Options, table: &mut Table, goals: Option<&mut Goals>, name: String, plan: Plan) {
    let round = options.pick(3 * MS, MS);
    let mut peers = [
        pairs::<Offheap>(plan, round),
        pairs::<Heap>(plan, round),
        pairs::<Semaphore>(plan, round),
        pairs::<Jemalloc>(plan, round),
        pairs::<Backoff>(plan, round),
    ];
    let all = interleave(options.pick(41, 11), &mut peers);
    let ratios = ratios(&all, |&ns| ns);
    if let Some(goals) = goals {
        goals.at_most(format!("{name} / {}", PEERS[1]), ratios[1], 1.0);
        goals.at_most(format!("{name} / {}", PEERS[2]), ratios[2], 0.4);
    }
    let medians = all.iter().map(|series| series.median(|&ns| ns));
    let cells = medians
        .enumerate()
        .map(|(peer, ns)| cell(peer, ns, &ratios));
    table.row(once(name).chain(cells));
}

/// Nanoseconds per pair, in rounds of about the same length.
fn pairs<'a, P: Peer>(plan: Plan, round: Duration) -> Runner<'a, f64> {
    const TRIAL: u64 = 2000;
    let peer = P::new(plan.limit());
    let trial = plan.time(&peer, TRIAL).max(Duration::from_micros(1));
    let pairs = (TRIAL as f64 * round.as_secs_f64() / trial.as_secs_f64()).max(200.0) as u64;
    runner::<P, _>(move || plan.time(&peer, pairs).as_nanos() as f64 / pairs as f64)
}
