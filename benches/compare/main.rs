//! All peers side by side: each row's peers run by turns in many short rounds, and what counts is the ratio within a round.
//!
//! ```text
//! cargo bench -p offheap-benches --bench compare -- [SCENARIO ...] [--quick] [--report DIR]
//! ```
//!
//! Prints a Markdown table for each scenario (medians over rounds) and, at the end, the goals that the pool has set itself,
//! with the figures. A missed goal is a result and no error. The whole takes about seven minutes.
//!
//! `--report docs` writes all of it to `docs/benchmarks.md`, with plots beside it; `--features peers` adds the allocators and pools
//! that need a C++ compiler or many crates.

mod awaited;
mod contended;
mod counted;
mod goals;
mod handles;
mod page;
mod pair;
mod plot;
mod pressed;
mod recovery;
mod report;
mod start;
mod wake;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use offheap_benches::figures::{time, times, Ratio, Runner, Series};
use offheap_benches::peers::Peer;
use tokio::runtime::Runtime;

use report::Report;

const KIB: usize = 1 << 10;
const MS: Duration = Duration::from_millis(1);

type Scenario = fn(&Options, &mut Report);

/// In the order in which they run: the pairs have to come first.
const SCENARIOS: [(&str, Scenario); 10] = [
    ("pair", pair::compare),
    ("handles", handles::compare),
    ("awaited", awaited::compare),
    ("pressed", pressed::compare),
    ("wake", wake::compare),
    ("contended", contended::compare),
    ("recovery", recovery::compare),
    ("seeds", contended::compare_seeds),
    ("start", start::compare),
    ("counted", counted::compare),
];

fn main() -> ExitCode {
    let Some(options) = Options::from_args() else {
        let names = SCENARIOS.map(|(name, _)| name).join("] [");
        eprintln!("usage: compare [{names}] [--quick] [--report DIR]");
        return ExitCode::from(2);
    };
    let mut report = Report::default();
    for (name, compare) in SCENARIOS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            compare(&options, &mut report);
        }
    }
    report.print_goals();
    let Some(folder) = &options.report else {
        return ExitCode::SUCCESS;
    };
    match report.write(folder, options.quick) {
        Ok(page) => {
            println!("\nwritten: {}", page.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// What to run, and how thoroughly.
#[derive(Default)]
struct Options {
    quick: bool,
    only: Vec<String>,
    /// Where the page goes, if there is to be one.
    report: Option<PathBuf>,
}

impl Options {
    fn from_args() -> Option<Options> {
        let mut options = Options::default();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                // Cargo's own, for benchmarks with the usual harness.
                "--bench" => {}
                "--quick" => options.quick = true,
                // From the workspace's folder, wherever cargo runs benchmarks.
                "--report" => options.report = Some(page::root().join(args.next()?)),
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

/// A peer at something.
fn runner<'a, P: Peer, T>(run: impl FnMut() -> T + 'a) -> Runner<'a, T> {
    Runner {
        name: P::NAME,
        run: Box::new(run),
    }
}

/// A peer that is built in a runtime, so that our reclaimer is a task there.
fn build<P: Peer>(runtime: &Runtime, limit: usize, size: usize) -> P {
    let _entered = runtime.enter();
    P::new(limit, size)
}

/// Ours to each peer's, round by round; the first series is ours.
fn ratios<T>(all: &[Series<T>], figure: impl Fn(&T) -> f64) -> Vec<Ratio> {
    let ours = all[0].figures(&figure);
    let of = |series: &Series<T>| Ratio::of(&ours, &series.figures(&figure));
    all.iter().map(of).collect()
}

/// A median time of a peer, and behind it ours / theirs.
fn cell(peer: usize, median: f64, ratios: &[Ratio]) -> String {
    time(median) + &versus(peer, ratios)
}

fn versus(peer: usize, ratios: &[Ratio]) -> String {
    match peer {
        0 => String::new(),
        _ => format!(" ({})", times(ratios[peer].median)),
    }
}
