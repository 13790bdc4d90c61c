//! The rows of contended pools: more takers than room, and the seeds' own scenario.

use offheap_benches::figures::{interleave, time, Ratio, Runner, Series, Table};
use offheap_benches::peers::{Backoff, Limited, Offheap, Semaphore};
use offheap_benches::scenario::contended::{Hold, Outcome, Plan};
use offheap_benches::scenario::runtime;
use tokio::runtime::Runtime;

use super::{build, cell, ratios, runner, versus, Options, Report, KIB, MS};

const HEAD: [&str; 8] = [
    "",
    "peer",
    "served / s (ours / theirs)",
    "wait p50",
    "wait p99 (ours / theirs)",
    "wait max",
    "served per taker, least – most (most / least)",
    "failed",
];

pub(crate) fn compare(options: &Options, report: &mut Report) {
    for (takers, room, workers) in [(64, 16, &[1, 2][..]), (1024, 256, &[2])] {
        let mut table = Table::new(&HEAD);
        for &workers in workers {
            let of = Shape {
                takers,
                room,
                workers,
            };
            of.compare(options, report, &mut table);
        }
        let title = format!("Contended: {takers} tasks, 64 KiB each, room for {room}");
        report.table(&title, table);
    }
}

struct Shape {
    takers: usize,
    room: usize,
    workers: usize,
}

impl Shape {
    fn compare(&self, options: &Options, report: &mut Report, table: &mut Table) {
        // Long rounds: how long two workers keep a task from its turn is a matter of luck, which takes its time to even out.
        let yields = options.pick((5, 2000), (3, 400));
        let sleep = options.pick((9, 400), (3, 200));
        for (hold, held, (rounds, time), throughput) in [
            (Hold::Yields, "2 to 6 yields", yields, 1.5),
            // Nearly all of this is holding, whoever hands out.
            (Hold::Sleep(MS), "1 ms", sleep, 1.0),
        ] {
            let plan = Plan {
                takers: self.takers,
                room: self.room,
                size: 64 * KIB,
                hold,
                time: time * MS,
            };
            let runtime = runtime(self.workers);
            let mut peers = [
                tasks::<Offheap>(plan, &runtime),
                tasks::<Semaphore>(plan, &runtime),
                tasks::<Backoff>(plan, &runtime),
            ];
            let all = interleave(rounds, &mut peers);
            let plural = if self.workers == 1 { "" } else { "s" };
            let name = format!("hold {held}, {} worker{plural}", self.workers);
            let (served, p99) = rows(table, &name, &all);

            let Shape { takers, room, .. } = self;
            let goal = |what| format!("contended, {takers} tasks, room for {room}, {name}: {what}");
            let peer = all[1].name;
            let what = goal(format!("throughput / {peer}"));
            report.goals.at_least(what, served[1], throughput);
            let what = goal(format!("p99 wait / {peer}"));
            report.goals.at_most(what, p99[1], 1.0);
            let [ours, theirs] = [&all[0], &all[1]].map(|all| all.median(Outcome::unfairness));
            let figure = format!("{ours:.2} ({peer}: {theirs:.2})");
            let what = goal("most / least served: ≤ 1.1".into());
            report.goals.note(what, figure, ours <= 1.1);
        }
    }
}

pub(crate) fn compare_seeds(options: &Options, report: &mut Report) {
    let plan = Plan {
        takers: 64,
        room: 16,
        size: 1024 * KIB,
        hold: Hold::Sleep(MS),
        time: options.pick(1000, 400) * MS,
    };
    let mut table = Table::new(&HEAD);
    let runtime = runtime(2);
    let tasks = [
        tasks::<Offheap>(plan, &runtime),
        tasks::<Backoff>(plan, &runtime),
        tasks::<Semaphore>(plan, &runtime),
    ];
    let threads = [
        threads::<Offheap>(plan),
        threads::<Backoff>(plan),
        threads::<Semaphore>(plan),
    ];
    for (name, mut peers) in [("64 tasks, 2 workers", tasks), ("64 threads", threads)] {
        let all = interleave(options.pick(5, 2), &mut peers);
        rows(&mut table, name, &all);
        let failed = failed(&all[0]);
        let goal = format!("seeds' scenario, {name}: nobody fails");
        report
            .goals
            .note(goal, format!("{failed} failed"), failed == 0);
    }
    report.table(
        "The seeds' scenario: 1 MiB each, room for 16, held for 1 ms",
        table,
    );
}

/// A row for each peer; answers ours / theirs of throughput and of p99.
fn rows(table: &mut Table, name: &str, all: &[Series<Outcome>]) -> (Vec<Ratio>, Vec<Ratio>) {
    let served = ratios(all, Outcome::per_second);
    let p99 = ratios(all, |outcome| outcome.wait(0.99));
    for (peer, series) in all.iter().enumerate() {
        let wait = |q| series.median(|outcome| outcome.wait(q));
        let least = series.median(|outcome| outcome.least_and_most().0 as f64);
        let most = series.median(|outcome| outcome.least_and_most().1 as f64);
        let unfair = series.median(Outcome::unfairness);
        let seconds = series
            .rounds
            .iter()
            .map(|outcome| outcome.time().as_secs_f64());
        table.row([
            if peer == 0 { name } else { "" }.to_string(),
            series.name.to_string(),
            format!("{:.0}", series.median(Outcome::per_second)) + &versus(peer, &served),
            time(wait(0.5)),
            cell(peer, wait(0.99), &p99),
            time(wait(1.0)),
            format!("{least} – {most} ({unfair:.2})"),
            format!("{} in {:.1} s", failed(series), seconds.sum::<f64>()),
        ]);
    }
    (served, p99)
}

fn failed(series: &Series<Outcome>) -> u64 {
    series.rounds.iter().map(|outcome| outcome.failed).sum()
}

fn tasks<P: Limited>(plan: Plan, runtime: &Runtime) -> Runner<'_, Outcome> {
    let peer = build::<P>(runtime, plan.limit(), plan.size);
    runner::<P, _>(move || runtime.block_on(plan.tasks(peer.clone())))
}

fn threads<'a, P: Limited>(plan: Plan) -> Runner<'a, Outcome> {
    let peer = P::new(plan.limit(), plan.size);
    runner::<P, _>(move || plan.threads(peer.clone()))
}
