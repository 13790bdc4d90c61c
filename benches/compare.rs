//! All peers side by side: each row's peers run by turns in many short rounds, and what counts is the ratio within a round.
//!
//! ```text
//! cargo bench -p offheap-benches --bench compare -- [pair] [contended] [recovery] [wake] [seeds] [--quick]
//! ```
//!
//! Prints a Markdown table for each scenario (medians over rounds) and, at the end, the goals that the pool has set itself,
//! with the figures. A missed goal is a result and no error. The whole takes about five minutes.

use std::process::ExitCode;
use std::time::Duration;

use offheap_benches::figures::{interleave, quantile, time, times, Ratio, Runner, Series, Table};
use offheap_benches::peers::{Backoff, Heap, Jemalloc, Limited, Offheap, Peer, Permits, Semaphore};
use offheap_benches::scenario::contended::{self, Hold};
use offheap_benches::scenario::recovery::{self, Held};
use offheap_benches::scenario::wake::Place;
use offheap_benches::scenario::{local_runtime, pair, runtime};
use tokio::runtime::Runtime;

const KIB: usize = 1 << 10;
const MS: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let Some(options) = Options::from_args() else {
        eprintln!(
            "usage: compare [{}] [--quick]",
            SCENARIOS.map(|(name, _)| name).join("] [")
        );
        return ExitCode::from(2);
    };
    let mut goals = Goals::default();
    for (name, scenario) in SCENARIOS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            scenario(&options, &mut goals);
        }
    }
    goals.print();
    ExitCode::SUCCESS
}

type Scenario = fn(&Options, &mut Goals);

const SCENARIOS: [(&str, Scenario); 5] = [
    ("pair", pairs),
    ("contended", contended),
    ("recovery", recovery),
    ("wake", wake),
    ("seeds", seeds),
];

struct Options {
    quick: bool,
    only: Vec<String>,
}

impl Options {
    fn from_args() -> Option<Options> {
        let mut options = Options {
            quick: false,
            only: Vec::new(),
        };
        for arg in std::env::args().skip(1) {
            match arg.as_str() {
                // Cargo's own, for benchmarks with the usual harness.
                "--bench" => {}
                "--quick" => options.quick = true,
                only if SCENARIOS.iter().any(|(name, _)| *name == only) => options.only.push(arg),
                _ => return None,
            }
        }
        Some(options)
    }

    /// The first normally, the second in a hurry.
    fn pick<T>(&self, normal: T, quick: T) -> T {
        if self.quick {
            quick
        } else {
            normal
        }
    }
}

/// What must be shown, and whether it was.
#[derive(Default)]
struct Goals(Vec<[String; 3]>);

impl Goals {
    /// A ratio, ours to a peer's, that must not be above `most`.
    fn at_most(&mut self, what: String, ratio: Ratio, most: f64) {
        let holds = verdict(ratio.median <= most, ratio.low <= most);
        self.note(format!("{what}: ≤ {most} ×"), quartiles(ratio), holds);
    }

    /// The same for a ratio that must not be below `least`.
    fn at_least(&mut self, what: String, ratio: Ratio, least: f64) {
        let holds = verdict(ratio.median >= least, ratio.high >= least);
        self.note(format!("{what}: ≥ {least} ×"), quartiles(ratio), holds);
    }

    fn note(&mut self, goal: String, figure: String, holds: &str) {
        self.0.push([goal, figure, holds.to_string()]);
    }

    fn print(self) {
        let mut table = Table::new(&["goal", "median (quartiles) over rounds", "holds"]);
        for goal in self.0 {
            table.row(goal);
        }
        table.print("Goals");
    }
}

/// Whether a goal is met by the median, or at least by the better quarter of the rounds.
fn verdict(median: bool, quarter: bool) -> &'static str {
    match (median, quarter) {
        (true, _) => "yes",
        (false, true) => "within the noise",
        (false, false) => "**no**",
    }
}

fn quartiles(ratio: Ratio) -> String {
    let decimals = if ratio.median < 10.0 { 2 } else { 0 };
    let [low, median, high] =
        [ratio.low, ratio.median, ratio.high].map(|ratio| format!("{ratio:.decimals$}"));
    format!("{median} ({low} – {high})")
}

fn runner<'a, P: Peer, T>(run: impl FnMut() -> T + 'a) -> Runner<'a, T> {
    Runner {
        name: P::NAME,
        run: Box::new(run),
    }
}

/// Ours to each peer's; the first series is ours.
fn ratios<T>(all: &[Series<T>], figure: impl Fn(&T) -> f64) -> Vec<Ratio> {
    let ours = all[0].figures(&figure);
    let of = |series: &Series<T>| Ratio::of(&ours, &series.figures(&figure));
    all.iter().map(of).collect()
}

// ---- pair -----------------------------------------------------------------------------------------------------------

fn pairs(options: &Options, goals: &mut Goals) {
    let names = [
        Offheap::NAME,
        Heap::NAME,
        Semaphore::NAME,
        Jemalloc::NAME,
        Backoff::NAME,
    ];
    let mut table = Table::new(&["pair", names[0], names[1], names[2], names[3], names[4]]);
    let mut row = |name: String, plan: pair::Plan, is_goal: bool| {
        let round = options.pick(3 * MS, MS);
        let mut peers = [
            pair_runner::<Offheap>(plan, round),
            pair_runner::<Heap>(plan, round),
            pair_runner::<Semaphore>(plan, round),
            pair_runner::<Jemalloc>(plan, round),
            pair_runner::<Backoff>(plan, round),
        ];
        let all = interleave(options.pick(41, 11), &mut peers);
        let ratios = ratios(&all, |&ns| ns);
        let cells = all
            .iter()
            .zip(&ratios)
            .enumerate()
            .map(|(peer, (series, ratio))| {
                let ns = time(series.median(|&ns| ns));
                match peer {
                    0 => ns,
                    _ => format!("{ns} ({})", times(ratio.median)),
                }
            });
        table.row(std::iter::once(name.clone()).chain(cells));
        if is_goal {
            goals.at_most(format!("{name} / {}", names[1]), ratios[1], 1.0);
            goals.at_most(format!("{name} / {}", names[2]), ratios[2], 0.4);
        }
    };
    let plans = pair::plans();
    let first = plans[0];
    {
        // The system's allocator takes no locks while a process has but one thread. No server is like that, but many a
        // benchmark is, so here is such a row, before anyone starts a thread: in a runtime the pool starts none.
        let runtime = local_runtime();
        let _entered = runtime.enter();
        row(
            format!("{}, alone in its process", first.name()),
            first,
            true,
        );
    }
    // From here on there is another thread: the reclaimer of a pool that is built outside a runtime.
    for (number, plan) in plans.into_iter().enumerate() {
        row(plan.name(), plan, number == 0);
    }
    table.print("Pair: time per pair and thread (in brackets: ours / theirs)");
}

/// Nanoseconds per pair, in rounds of about the same length.
fn pair_runner<'a, P: Peer>(plan: pair::Plan, round: Duration) -> Runner<'a, f64> {
    const TRIAL: u64 = 2000;
    let peer = P::new(plan.limit());
    let trial = plan.time(&peer, TRIAL).max(Duration::from_micros(1));
    let pairs = (TRIAL as f64 * round.as_secs_f64() / trial.as_secs_f64()).max(200.0) as u64;
    runner::<P, _>(move || plan.time(&peer, pairs).as_nanos() as f64 / pairs as f64)
}

// ---- contended and the seeds' scenario ------------------------------------------------------------------------------

const CONTENDED_HEAD: [&str; 8] = [
    "",
    "peer",
    "served / s (ours / theirs)",
    "wait p50",
    "wait p99 (ours / theirs)",
    "wait max",
    "served per taker, least – most (most / least)",
    "failed",
];

fn contended(options: &Options, goals: &mut Goals) {
    let rounds = options.pick(11, 3);
    let mut table = Table::new(&CONTENDED_HEAD);
    for workers in [1, 2] {
        for (hold, name) in [(Hold::Yields, "2 to 6 yields"), (Hold::Sleep(MS), "1 ms")] {
            let plan = contended::Plan {
                takers: 64,
                room: 16,
                size: 64 * KIB,
                hold,
                time: options.pick(400, 200) * MS,
            };
            let runtime = runtime(workers);
            let mut peers = [
                contended_tasks::<Offheap>(plan, &runtime),
                contended_tasks::<Semaphore>(plan, &runtime),
                contended_tasks::<Backoff>(plan, &runtime),
            ];
            let all = interleave(rounds, &mut peers);
            let name = format!(
                "hold {name}, {workers} worker{}",
                if workers == 1 { "" } else { "s" }
            );
            let (served, p99) = contended_rows(&mut table, &name, &all);
            let name = format!("contended, {name}");
            goals.at_least(format!("{name}: throughput / Semaphore"), served[1], 1.0);
            goals.at_most(format!("{name}: p99 wait / Semaphore"), p99[1], 1.2);
            let unfair = all[0].median(contended::Outcome::unfairness);
            goals.note(
                format!("{name}: most / least served: ≤ 1.1"),
                format!("{unfair:.2}"),
                verdict(unfair <= 1.1, false),
            );
        }
    }
    table.print("Contended: 64 tasks, 64 KiB each, room for 16");
}

/// A row for each peer; answers ours / theirs of throughput and of p99.
fn contended_rows(
    table: &mut Table,
    name: &str,
    all: &[Series<contended::Outcome>],
) -> (Vec<Ratio>, Vec<Ratio>) {
    type Outcome = contended::Outcome;
    let served = ratios(all, Outcome::per_second);
    let p99 = ratios(all, |outcome| outcome.wait(0.99));
    for (peer, series) in all.iter().enumerate() {
        let wait = |q| time(series.median(|outcome: &Outcome| outcome.wait(q)));
        let least = series.median(|outcome| outcome.least_and_most().0 as f64);
        let most = series.median(|outcome| outcome.least_and_most().1 as f64);
        let unfair = series.median(Outcome::unfairness);
        let failed: u64 = series.rounds.iter().map(|outcome| outcome.failed).sum();
        let total: f64 = series
            .rounds
            .iter()
            .map(|outcome| outcome.time().as_secs_f64())
            .sum();
        let versus = |ratio: Ratio| match peer {
            0 => String::new(),
            _ => format!(" ({})", times(ratio.median)),
        };
        table.row([
            if peer == 0 { name } else { "" }.to_string(),
            series.name.to_string(),
            format!(
                "{:.0}{}",
                series.median(Outcome::per_second),
                versus(served[peer])
            ),
            wait(0.5),
            format!("{}{}", wait(0.99), versus(p99[peer])),
            wait(1.0),
            format!("{least} – {most} ({unfair:.2})"),
            format!("{failed} in {total:.1} s"),
        ]);
    }
    (served, p99)
}

fn contended_tasks<P: Limited>(
    plan: contended::Plan,
    runtime: &Runtime,
) -> Runner<'_, contended::Outcome> {
    let peer = build::<P>(runtime, plan.limit());
    runner::<P, _>(move || runtime.block_on(plan.tasks(peer.clone())))
}

/// In a runtime, so that a reclaimer is a task there.
fn build<P: Peer>(runtime: &Runtime, limit: usize) -> P {
    let _entered = runtime.enter();
    P::new(limit)
}

fn seeds(options: &Options, goals: &mut Goals) {
    let plan = contended::Plan {
        takers: 64,
        room: 16,
        size: 1024 * KIB,
        hold: Hold::Sleep(MS),
        time: options.pick(1000, 400) * MS,
    };
    let rounds = options.pick(5, 2);
    let mut table = Table::new(&CONTENDED_HEAD);
    let runtime = runtime(2);
    let mut tasks = [
        contended_tasks::<Offheap>(plan, &runtime),
        contended_tasks::<Backoff>(plan, &runtime),
        contended_tasks::<Semaphore>(plan, &runtime),
    ];
    let mut threads = [
        contended_threads::<Offheap>(plan),
        contended_threads::<Backoff>(plan),
        contended_threads::<Semaphore>(plan),
    ];
    for (name, peers) in [
        ("64 tasks, 2 workers", &mut tasks),
        ("64 threads", &mut threads),
    ] {
        let all = interleave(rounds, peers);
        contended_rows(&mut table, name, &all);
        let failed: u64 = all[0].rounds.iter().map(|outcome| outcome.failed).sum();
        goals.note(
            format!("seeds' scenario, {name}: nobody fails"),
            format!("{failed} failed"),
            verdict(failed == 0, false),
        );
    }
    table.print("The seeds' scenario: 1 MiB each, room for 16, held for 1 ms");
}

fn contended_threads<'a, P: Limited>(plan: contended::Plan) -> Runner<'a, contended::Outcome> {
    let peer = P::new(plan.limit());
    runner::<P, _>(move || plan.threads(peer.clone()))
}

// ---- recovery -------------------------------------------------------------------------------------------------------

fn recovery(options: &Options, goals: &mut Goals) {
    let names = [Offheap::NAME, Semaphore::NAME, Permits::NAME, Backoff::NAME];
    let mut table = Table::new(&[
        "waiters, held as, for",
        names[0],
        names[1],
        names[2],
        names[3],
    ]);
    let runtime = runtime(2);
    for waiters in [8, 64, 1024] {
        for (held, held_name, hold, rounds) in [
            (Held::Alike, "buffers alike", 100, options.pick(21, 5)),
            (Held::AsOne, "one buffer", 100, options.pick(21, 5)),
            (Held::Alike, "buffers alike", 600, options.pick(2, 1)),
        ] {
            let plan = recovery::Plan {
                waiters,
                size: 64 * KIB,
                held,
                hold: hold * MS,
            };
            let mut peers = [
                recovery_runner::<Offheap>(plan, &runtime),
                recovery_runner::<Semaphore>(plan, &runtime),
                recovery_runner::<Permits>(plan, &runtime),
                recovery_runner::<Backoff>(plan, &runtime),
            ];
            let all = interleave(rounds, &mut peers);
            let ratios = ratios(&all, |outcome| outcome.last);
            let name = format!("{waiters}, {held_name}, {hold} ms");
            let cells = all.iter().zip(&ratios).enumerate();
            table.row(
                std::iter::once(name.clone()).chain(
                    cells.map(|(peer, (series, ratio))| recovery_cell(peer, series, *ratio)),
                ),
            );
            if hold == 100 {
                let sooner = all[3].figures(|outcome| outcome.last);
                let sooner = Ratio::of(&sooner, &all[0].figures(|outcome| outcome.last));
                goals.at_most(
                    format!("recovery, {name}: last / {}", names[1]),
                    ratios[1],
                    1.2,
                );
                if waiters <= 64 {
                    goals.at_least(
                        format!("recovery, {name}: {} / last", names[3]),
                        sooner,
                        100.0,
                    );
                }
            } else {
                let (ours, theirs) = (failed(&all[0]), failed(&all[3]));
                goals.note(
                    format!("recovery, {name}: {} fails everyone, ours nobody", names[3]),
                    format!("{theirs} and {ours} of {}", waiters * rounds),
                    verdict(ours == 0 && theirs == waiters * rounds, false),
                );
            }
        }
    }
    table.print(
        "Recovery: how long after it is freed the last waiter runs; 64 KiB per waiter, 2 workers (in brackets: ours / theirs)",
    );
}

fn recovery_cell(peer: usize, series: &Series<recovery::Outcome>, ratio: Ratio) -> String {
    let last = series.median(|outcome| outcome.last);
    let mut cell = match (peer, failed(series)) {
        (0, _) => time(last),
        (_, 0) => format!("{} ({})", time(last), times(ratio.median)),
        _ => String::new(),
    };
    if failed(series) > 0 {
        cell.push_str(&format!("{} fail", failed(series)));
    }
    cell
}

fn failed(series: &Series<recovery::Outcome>) -> usize {
    series.rounds.iter().map(|outcome| outcome.failed).sum()
}

fn recovery_runner<P: Limited>(
    plan: recovery::Plan,
    runtime: &Runtime,
) -> Runner<'_, recovery::Outcome> {
    let peer = build::<P>(runtime, plan.limit());
    runner::<P, _>(move || runtime.block_on(plan.run(peer.clone())))
}

// ---- wake -----------------------------------------------------------------------------------------------------------

fn wake(options: &Options, goals: &mut Goals) {
    let rounds = options.pick(21, 5);
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
            wake_runner::<Offheap>(place, samples, &runtime),
            wake_runner::<Permits>(place, samples, &runtime),
            wake_runner::<Semaphore>(place, samples, &runtime),
            // Each sample takes milliseconds.
            wake_runner::<Backoff>(place, 10, &runtime),
        ];
        let all = interleave(rounds, &mut peers);
        let medians = ratios(&all, |wake| wake.median);
        let p99s = ratios(&all, |wake| wake.p99);
        for (peer, series) in all.iter().enumerate() {
            let cell = |ns, ratio: Ratio| match peer {
                0 => time(ns),
                _ => format!("{} ({})", time(ns), times(ratio.median)),
            };
            table.row([
                if peer == 0 { place.name() } else { "" }.to_string(),
                series.name.to_string(),
                cell(series.median(|wake| wake.median), medians[peer]),
                cell(series.median(|wake| wake.p99), p99s[peer]),
            ]);
        }
        for peer in [1, 2] {
            let what = format!("wake, {}: median / {}", place.name(), all[peer].name);
            goals.at_most(what, medians[peer], 1.2);
        }
    }
    table.print("Wake: from the drop to the waiter's next instruction, 64 KiB");
}

struct Wake {
    median: f64,
    p99: f64,
}

fn wake_runner<P: Limited>(place: Place, samples: usize, runtime: &Runtime) -> Runner<'_, Wake> {
    const SIZE: usize = 64 * KIB;
    let peer = build::<P>(runtime, SIZE);
    runner::<P, _>(move || {
        let mut latencies = runtime.block_on(place.latencies(&peer, SIZE, samples));
        latencies.sort_by(f64::total_cmp);
        Wake {
            median: quantile(&latencies, 0.5),
            p99: quantile(&latencies, 0.99),
        }
    })
}
