//! Relays and servers over loopback: `offheap::io` beside plain tokio, by turns in the same run.
//!
//! `cargo bench -p offheap-benches --bench io`, with `-- --quick` and the names of what is wanted: `bulk`, `requests`, `idle`,
//! `slow`. What is measured is a process of its own, which this program starts with the arguments `serve KIND PORT`, so that its
//! CPU time and its resident memory are its own. Ratios are taken round by round, and their medians printed.

mod bulk;
mod idle;
mod load;
mod process;
mod requests;
mod serve;
mod slow;

use std::process::ExitCode;

/// What the user wants.
struct Options {
    quick: bool,
}

impl Options {
    /// The first normally, the second in a hurry.
    fn pick<T>(&self, normal: T, quick: T) -> T {
        if self.quick {
            quick
        } else {
            normal
        }
    }
}

type Scenario = fn(&Options) -> std::io::Result<()>;

const SCENARIOS: [(&str, Scenario); 4] = [
    ("bulk", bulk::run),
    ("requests", requests::run),
    ("idle", idle::run),
    ("slow", slow::run),
];

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "serve") {
        return report(serve::run(&args[1..]));
    }
    args.retain(|arg| arg != "--bench");
    let quick = args.iter().any(|arg| arg == "--quick");
    args.retain(|arg| arg != "--quick");
    let options = Options { quick };
    let known = |arg: &String| SCENARIOS.iter().any(|(name, _)| name == arg);
    if let Some(unknown) = args.iter().find(|arg| !known(arg)) {
        eprintln!("io: unknown: {unknown}; there are bulk, requests, idle, slow and --quick");
        return ExitCode::from(2);
    }
    for (name, scenario) in SCENARIOS {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            if let Err(error) = scenario(&options) {
                eprintln!("io: {name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn report(done: std::io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("io: {error}");
            ExitCode::FAILURE
        }
    }
}
