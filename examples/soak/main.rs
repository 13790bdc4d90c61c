//! A soak: everything at once for as long as one likes, and each second a look whether the pool still keeps its promises.
//!
//! ```sh
//! cargo run --release --example soak -- --seconds 3600
//! ```
//!
//! Relays, fan-out of shared slices, a soft cache, reservations that give up, a limit that goes up and down, and threads that come
//! and go share one pool, whose limit is so small that they wait for each other all the time. Every byte that is read is compared with
//! what was written. The exit code says whether all was well; [`watch`] says what that means.

mod load;
mod tally;
mod watch;

use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;
use offheap::Pool;

use load::Load;
use watch::Watch;

const HELP: &str = "\
Puts a pool under mixed load, and checks each second that it keeps its promises.

Prints a line each ten seconds and a summary at the end. The exit code is 0 where nothing was found, 1 where something was.

Usage: soak [OPTIONS]

Options:
  --seconds N           how long [60]
  --limit BYTES         the pool's highest limit, such as 16MiB [8MiB]
  --seed N              of all that is random; threads make a run differ from the next all the same [1]
  --starve SECONDS      nobody may wait longer than this for memory [10]
  -h, --help            this text";

#[derive(Debug, Clone, Copy)]
struct Options {
    seconds: u64,
    limit: usize,
    seed: u64,
    starve: u64,
}

fn parse(mut args: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        seconds: 60,
        limit: 8 << 20,
        seed: 1,
        starve: 10,
    };
    while let Some(arg) = args.next()? {
        match arg {
            Long("seconds") => options.seconds = value(&mut args, "--seconds", u64::from_str)?,
            Long("limit") => options.limit = value(&mut args, "--limit", limit)?,
            Long("seed") => options.seed = value(&mut args, "--seed", u64::from_str)?,
            Long("starve") => options.starve = value(&mut args, "--starve", u64::from_str)?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(options))
}

/// The load holds up to about a MiB at once while it waits for more.
fn limit(text: &str) -> Result<usize, String> {
    const LEAST: usize = 4 << 20;
    match offheap::parse_bytes(text) {
        Ok(limit) if limit < LEAST => Err(format!("at least {LEAST} bytes are needed")),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error.to_string()),
    }
}

/// The value of `option`, with an error that names the option.
fn value<T, E: Display>(
    args: &mut lexopt::Parser,
    option: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, lexopt::Error> {
    let text = args.value()?.string()?;
    parse(&text).map_err(|error| format!("{option} {text}: {error}").into())
}

fn main() -> ExitCode {
    let options = match parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("soak: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether nothing was found.
fn run(options: Options) -> std::io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let pool = runtime.block_on(async {
        Pool::builder()
            .name("soak")
            .limit(options.limit)
            .decommit_after(Duration::from_secs(2))
            .build()
    })?;
    let load = Load::start(&runtime, &pool, options.seed);
    // On this thread, which does nothing else: whatever becomes of the load, someone looks.
    let mut watch = Watch::new(pool, load.tally(), Duration::from_secs(options.starve));
    watch.run(Duration::from_secs(options.seconds));
    watch.finish(load, runtime);
    println!("\n{}", watch.summary());
    Ok(watch.complaints().is_empty())
}
