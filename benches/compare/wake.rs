//! The rows of wake-ups: from the drop to the one who waited for it.

use offheap_benches::figures::{interleave, quantile, Runner, Table};
use offheap_benches::peers::{Backoff, Limited, Offheap, Permits, Semaphore};
use offheap_benches::scenario::wake::Place;
use tokio::runtime::Runtime;

use super::{build, cell, ratios, runner, Options, Report, KIB};

/// One round.
struct Wakes {
    median: f64,
    p99: f64,
}

pub(crate) fn compare(options: &Options, report: &mut Report) {
    let mut table = Table::new(&[
        "waiter",
        "peer",
        "median (ours / theirs)",
        "p99 (ours / theirs)",
    ]);
    for place in [Place::SameThread, Place::BusyWorker, Place::ParkedWorker] {
        let samples = options.pick(500, 200);
        let runtime = place.runtime();
        let mut peers = [
            wakes::<Offheap>(place, samples, &runtime),
            wakes::<Permits>(place, samples, &runtime),
            wakes::<Semaphore>(place, samples, &runtime),
            // Each sample takes milliseconds.
            wakes::<Backoff>(place, 10, &runtime),
        ];
        let all = interleave(options.pick(21, 5), &mut peers);
        let medians = ratios(&all, |wakes| wakes.median);
        let p99s = ratios(&all, |wakes| wakes.p99);
        for (peer, series) in all.iter().enumerate() {
            table.row([
                if peer == 0 { place.name() } else { "" }.to_string(),
                series.name.to_string(),
                cell(peer, series.median(|wakes| wakes.median), &medians),
                cell(peer, series.median(|wakes| wakes.p99), &p99s),
            ]);
        }
        for peer in [1, 2] {
            let what = format!("wake, {}: median / {}", place.name(), all[peer].name);
            report.goals.at_most(what, medians[peer], 1.0);
        }
    }
    report.table(
        "Wake: from the drop to the waiter's next instruction, 64 KiB",
        table,
    );
}

fn wakes<P: Limited>(place: Place, samples: usize, runtime: &Runtime) -> Runner<'_, Wakes> {
    const SIZE: usize = 64 * KIB;
    let peer = build::<P>(runtime, SIZE, SIZE);
    runner::<P, _>(move || {
        let mut latencies = runtime.block_on(place.latencies(&peer, SIZE, samples));
        latencies.sort_by(f64::total_cmp);
        Wakes {
            median: quantile(&latencies, 0.5),
            p99: quantile(&latencies, 0.99),
        }
    })
}
