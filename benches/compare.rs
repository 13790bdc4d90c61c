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

use offheap_benches::figures::{interleave, time, times, Ratio, Runner, Series, Table};
use offheap_benches::peers::{Backoff, Heap, Jemalloc, Limited, Offheap, Peer, Permits, Semaphore};
use offheap_benches::scenario::contended::{self, Hold};
use offheap_benches::scenario::recovery::{self, Held};
use offheap_benches::scenario::wake::Place;
use offheap_benches::scenario::{pair, runtime};
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
struct Goals(Vec<(String, String, bool)>);

impl Goals {
    /// A ratio, ours to a peer's, that must not be above `most`. Two decimals decide.
    fn at_most(&mut self, what: String, ratio: Ratio, most: f64) {
        let holds = hundredths(ratio.median) <= hundredths(most);
        self.note(format!("{what}: ≤ {most} ×"), quartiles(ratio), holds);
    }

    /// The same for a ratio that must not be below `least`.
    fn at_least(&mut self, what: String, ratio: Ratio, least: f64) {
        let holds = hundredths(ratio.median) >= hundredths(least);
        self.note(format!("{what}: ≥ {least} ×"), quartiles(ratio), holds);
    }

    fn note(&mut self, goal: String, figure: String, holds: bool) {
        self.0.push((goal, figure, holds));
    }

    fn print(self) {
        let mut table = Table::new(&["goal", "median (quartiles) over rounds", "holds"]);
        for (goal, figure, holds) in self.0 {
            table.row([goal, figure, if holds { "yes" } else { "**no**" }.into()]);
        }
        table.print("Goals");
    }
}

fn hundredths(ratio: f64) -> f64 {
    (ratio * 100.0).round()
}

fn quartiles(ratio: Ratio) -> String {
    let Ratio { low, median, high } = ratio;
    format!("{median:.2} ({low:.2} – {high:.2})")
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
    let rounds = options.pick(41, 11);
    let round = options.pick(3 * MS, MS);
    let mut table = None;
    for plan in pair::plans() {
        let mut peers = [
            pair_runner::<Offheap>(plan, round),
            pair_runner::<Heap>(plan, round),
            pair_runner::<Semaphore>(plan, round),
            pair_runner::<Jemalloc>(plan, round),
            pair_runner::<Backoff>(plan, round),
        ];
        let all = interleave(rounds, &mut peers);
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
        table
            .get_or_insert_with(|| {
                let names = all.iter().map(|series| series.name);
                Table::new(&std::iter::once("pair").chain(names).collect::<Vec<_>>())
            })
            .row(std::iter::once(plan.name()).chain(cells));
        if plan.pattern == pair::Pattern::Lifo && plan.threads == 1 && plan.size == 4 * KIB {
            for (peer, most) in [(1, 1.0), (2, 0.4)] {
                let what = format!("{} / {}", plan.name(), all[peer].name);
                goals.at_most(what, ratios[peer], most);
            }
        }
    }
    if let Some(table) = table {
        table.print("Pair: time per pair and thread (in brackets: ours / theirs)");
    }
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
        for (hold, name) in [(Hold::Yields(4), "4 yields"), (Hold::Sleep(MS), "1 ms")] {
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
                unfair <= 1.1,
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
            failed == 0,
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
    let mut table = Table::new(&[
        "waiters",
        "held as",
        "held for",
        "peer",
        "last waiter runs after (ours / theirs)",
        "failed",
    ]);
    let runtime = runtime(2);
    for waiters in [8, 64, 1024] {
        for (held, held_name) in [(Held::Alike, "buffers alike"), (Held::AsOne, "one buffer")] {
            let plan = recovery::Plan {
                waiters,
                size: 64 * KIB,
                held,
                hold: 100 * MS,
            };
            let mut peers = [
                recovery_runner::<Offheap>(plan, &runtime),
                recovery_runner::<Semaphore>(plan, &runtime),
                recovery_runner::<Permits>(plan, &runtime),
                recovery_runner::<Backoff>(plan, &runtime),
            ];
            let all = interleave(options.pick(21, 5), &mut peers);
            let ratios = recovery_rows(&mut table, plan, held_name, &all);
            let name = format!("recovery, {waiters} waiters, held as {held_name}");
            goals.at_most(
                format!("{name}: last / Semaphore + BytesMut"),
                ratios[1],
                1.2,
            );
            if waiters <= 64 {
                let sooner = Ratio {
                    low: 1.0 / ratios[3].high,
                    median: 1.0 / ratios[3].median,
                    high: 1.0 / ratios[3].low,
                };
                goals.at_least(format!("{name}: sooner than backoff"), sooner, 100.0);
            }
        }
        let plan = recovery::Plan {
            waiters,
            size: 64 * KIB,
            held: Held::Alike,
            hold: 600 * MS,
        };
        let mut peers = [
            recovery_runner::<Offheap>(plan, &runtime),
            recovery_runner::<Backoff>(plan, &runtime),
        ];
        let all = interleave(options.pick(2, 1), &mut peers);
        recovery_rows(&mut table, plan, "buffers alike", &all);
        let failed = |series: &Series<recovery::Outcome>| {
            series
                .rounds
                .iter()
                .map(|outcome| outcome.failed)
                .sum::<usize>()
        };
        let (ours, theirs) = (failed(&all[0]), failed(&all[1]));
        goals.note(
            format!("recovery, {waiters} waiters, held for 600 ms: backoff fails all, ours none"),
            format!("{theirs} and {ours} of {}", waiters * all[0].rounds.len()),
            ours == 0 && theirs == waiters * all[1].rounds.len(),
        );
    }
    table.print(
        "Recovery: the whole limit is held, then freed at once; 64 KiB per waiter, 2 workers",
    );
}

fn recovery_rows(
    table: &mut Table,
    plan: recovery::Plan,
    held: &str,
    all: &[Series<recovery::Outcome>],
) -> Vec<Ratio> {
    let ratios = ratios(all, |outcome| outcome.last);
    for (peer, series) in all.iter().enumerate() {
        let failed: usize = series.rounds.iter().map(|outcome| outcome.failed).sum();
        let waited = plan.waiters * series.rounds.len();
        let last = series.median(|outcome| outcome.last);
        table.row([
            plan.waiters.to_string(),
            held.to_string(),
            time(plan.hold.as_nanos() as f64),
            series.name.to_string(),
            match peer {
                _ if failed == waited => "never".to_string(),
                0 => time(last),
                _ => format!("{} ({:.3} ×)", time(last), ratios[peer].median),
            },
            format!("{failed} of {waited}"),
        ]);
    }
    ratios
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
                _ => format!("{} ({:.2} ×)", time(ns), ratio.median),
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
            median: offheap_benches::figures::quantile(&latencies, 0.5),
            p99: offheap_benches::figures::quantile(&latencies, 0.99),
        }
    })
}
