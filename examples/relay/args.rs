//! The command line.

use std::fmt::Display;
use std::str::FromStr;

use lexopt::prelude::*;

pub(crate) const HELP: &str = "\
Relays TCP connections with buffers from one pool under a hard memory limit.

Without --upstream it relays between an echo server and a load generator of its own, which checks every byte, and the
exit code says whether all went well. Prints a line a second and a summary at the end.

Usage: relay [OPTIONS]

Options:
  --listen HOST:PORT    where to listen; port 0 takes a free one, and the first line says which [127.0.0.1:0]
  --upstream HOST:PORT  where to relay to, instead of the built-in echo server; no load is generated
  --limit BYTES         the pool's limit, such as 512k or 64MiB [256KiB]
  --connections N       how many connections the load generator opens [200];
                        with --upstream: how many are served at once, later ones wait [any number]
  --inspect [HOST:]PORT serves a live page of the pool, and /metrics for Prometheus; without HOST on loopback only
  --seconds N           when to end; 0 is not before Ctrl-C [5; with --upstream 0]
  -h, --help            this text";

/// How many connections the load generator opens. Each takes four descriptors of this process, and the usual limit is
/// 1024.
pub(crate) const CLIENTS: usize = 200;

/// What the user wants.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) listen: String,
    pub(crate) upstream: Option<String>,
    pub(crate) limit: usize,
    pub(crate) connections: Option<usize>,
    pub(crate) inspect: Option<String>,
    pub(crate) seconds: u64,
}

/// `None` where the user only wants help.
pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut listen = "127.0.0.1:0".to_owned();
    let mut upstream = None;
    let mut limit = 256 << 10;
    let mut connections = None;
    let mut inspect = None;
    let mut seconds = None;
    while let Some(arg) = args.next()? {
        match arg {
            Long("listen") => listen = args.value()?.string()?,
            Long("upstream") => upstream = Some(args.value()?.string()?),
            Long("limit") => limit = value(&mut args, "--limit", offheap::parse_bytes)?,
            Long("connections") => {
                connections = Some(value(&mut args, "--connections", at_least_one)?);
            }
            Long("inspect") => inspect = Some(args.value()?.string()?),
            Long("seconds") => seconds = Some(value(&mut args, "--seconds", u64::from_str)?),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    let default_seconds = if upstream.is_some() { 0 } else { 5 };
    Ok(Some(Options {
        listen,
        upstream,
        limit,
        connections,
        inspect,
        seconds: seconds.unwrap_or(default_seconds),
    }))
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

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one is needed".to_owned()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}")),
    }
}
