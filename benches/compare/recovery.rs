//! The rows of recovery: how soon all that waited run when everything is freed.

use std::iter::once;

use offheap_benches::figures::{interleave, Ratio, Runner, Series, Table};
use offheap_benches::peers::{Backoff, Limited, Offheap, Peer, Permits, Semaphore};
use offheap_benches::scenario::recovery::{Held, Outcome, Plan};
use offheap_benches::scenario::runtime;
use tokio::runtime::Runtime;

use super::{build, cell, ratios, runner, Options, Report, KIB, MS};

/// Ours, and whom it is compared with.
const PEERS: [&str; 4] = [Offheap::NAME, Semaphore::NAME, Permits::NAME, Backoff::NAME];
const SEMAPHORE: usize = 1;
const BACKOFF: usize = 3;

pub(crate) fn compare(options: &Options, report: &mut Report) {
    let head: Vec<_> = once("waiters, held as, for").chain(PEERS).collect();
    let mut table = Table::new(&head);
    let runtime = runtime(2);
    for waiters in [8, 64, 1024] {
        for (held, form, hold, rounds) in [
            (Held::Alike, "buffers alike", 100, options.pick(21, 5)),
            (Held::AsOne, "one buffer", 100, options.pick(21, 5)),
            (Held::Alike, "buffers alike", 600, options.pick(2, 1)),
        ] {
            let plan = Plan {
                waiters,
                size: 64 * KIB,
                held,
                hold: hold * MS,
            };
            let mut peers = [
                recoveries::<Offheap>(plan, &runtime),
                recoveries::<Semaphore>(plan, &runtime),
                recoveries::<Permits>(plan, &runtime),
                recoveries::<Backoff>(plan, &runtime),
            ];
            let all = interleave(rounds, &mut peers);
            let ratios = ratios(&all, |outcome| outcome.last);
            let name = format!("{waiters}, {form}, {hold} ms");
            let cells = all
                .iter()
                .enumerate()
                .map(|(peer, series)| match failed(series) {
                    0 => cell(peer, series.median(|outcome| outcome.last), &ratios),
                    failed => format!("{failed} fail"),
                });
            table.row(once(name.clone()).chain(cells));

            let goal = |what: String| format!("recovery, {name}: {what}");
            if hold == 600 {
                let [ours, theirs] = [&all[0], &all[BACKOFF]].map(failed);
                let what = goal(format!("{} fails everyone, ours nobody", PEERS[BACKOFF]));
                let figure = format!("{theirs} and {ours} of {}", waiters * rounds);
                report
                    .goals
                    .note(what, figure, ours == 0 && theirs == waiters * rounds);
                continue;
            }
            let what = goal(format!("last / {}", PEERS[SEMAPHORE]));
            report.goals.at_most(what, ratios[SEMAPHORE], 1.2);
            if waiters <= 64 {
                let [ours, theirs] =
                    [&all[0], &all[BACKOFF]].map(|all| all.figures(|outcome| outcome.last));
                let what = goal(format!("{} / ours", PEERS[BACKOFF]));
                report
                    .goals
                    .at_least(what, Ratio::of(&theirs, &ours), 100.0);
            }
        }
    }
    report.table("Recovery: how long after it is freed the last waiter runs; 64 KiB per waiter, 2 workers (in brackets: ours / theirs)", table);
}

fn failed(series: &Series<Outcome>) -> usize {
    series.rounds.iter().map(|outcome| outcome.failed).sum()
}

fn recoveries<P: Limited>(plan: Plan, runtime: &Runtime) -> Runner<'_, Outcome> {
    let peer = build::<P>(runtime, plan.limit(), plan.size);
    runner::<P, _>(move || runtime.block_on(plan.run(peer.clone())))
}
