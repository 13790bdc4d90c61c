//! All peers side by side: each row's peers run by turns in many short rounds, and what counts is the ratio within a round.
//!
//! ```text
//! cargo bench -p offheap-benches --bench compare -- [pair] [handles] [contended] [recovery] [wake] [seeds] [--quick]
//! ```
//!
//! Prints a Markdown table for each scenario (medians over rounds) and, at the end, the goals that the pool has set itself,
//! with the figures. A missed goal is a result and no error. The whole takes about five minutes.

mod contended;
mod goals;
mod handles;
mod pair;
mod recovery;
mod wake;

use std::process::ExitCode;
use std::time::Duration;

use offheap_benches::figures::{time, times, Ratio, Runner, Series};
use offheap_benches::peers::Peer;
use tokio::runtime::Runtime;

use goals::Goals;

const KIB: usize = 1 << 10;
const MS: Duration = Duration::from_millis(1);

type Scenario = fn(&Options, &mut Goals);

/// In the order in which they run: the pairs have to come first.
const SCENARIOS: [(&str, Scenario); 6] = [
    ("pair", pair::compare),
    ("handles", handles::compare),
    ("contended", contended::compare),
    ("recovery", recovery::compare),
    ("wake", wake::compare),
    ("seeds", contended::compare_seeds),
];

fn main() -> ExitCode {
    let Some(options) = Options::from_args() else {
        let names = SCENARIOS.map(|(name, _)| name).join("] [");
        eprintln!("usage: compare [{names}] [--quick]");
        return ExitCode::from(2);
    };
    let mut goals = Goals::default();
    for (name, compare) in SCENARIOS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            compare(&options, &mut goals);
        }
    }
    goals.print();
    ExitCode::SUCCESS
}

/// What to run, and how thoroughly.
#[derive(Default)]
struct Options {
    quick: bool,
    only: Vec<String>,
}

impl Options {
    fn from_args() -> Option<Options> {
        let mut options = Options::default();
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

/// A peer at something.
fn runner<'a, P: Peer, T>(run: impl FnMut() -> T + 'a) -> Runner<'a, T> {
    Runner {
        name: P::NAME,
        run: Box::new(run),
    }
}

/// A peer that is built in a runtime, so that our reclaimer is a task there.
fn build<P: Peer>(runtime: &Runtime, limit: usize) -> P {
    let _entered = runtime.enter();
    P::new(limit)
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
