//! Many connections that have said something once and then say nothing: what each of them costs.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use offheap_benches::figures::{interleave, times, Ratio, Runner, Series, Table};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

use crate::process::{collect, Server};
use crate::Options;

const WANTED: usize = 10_000;
/// Descriptors that are for other things.
const OTHERS: usize = 100;
const MESSAGE: [u8; 1 << 10] = [7; 1 << 10];
/// Until the servers have seen that there is nothing more.
const SETTLE: Duration = Duration::from_millis(300);

/// One process with idle connections.
struct Idle {
    connections: usize,
    bytes: u64,
    live: u64,
}

impl Idle {
    fn kib_per_connection(&self) -> f64 {
        self.bytes as f64 / 1024.0 / self.connections as f64
    }
}

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let rounds = options.pick(3, 1);
    let wanted = options.pick(WANTED, 100);
    let relays = [
        "offheap",
        "tokio-8",
        "tokio-64",
        "tokio-256",
        "readiness",
        "splice",
    ];
    let readers = ["echo-pooledreader", "echo-bufreader"];
    // A relay has two descriptors for each connection, and so has this process.
    let allowed = allowed(2 * wanted);
    table(
        "Idle relayed connections",
        &relays,
        rounds,
        wanted.min(allowed / 2),
        true,
    )?;
    table(
        "Idle connections behind a buffered reader",
        &readers,
        rounds,
        wanted.min(allowed),
        false,
    )
}

/// As many of the `wanted` descriptors as this process and those that it starts may have, beside some for other things. The
/// limit is raised for them: as far as it goes, or, for root, beyond.
fn allowed(wanted: usize) -> usize {
    let needed = (wanted + OTHERS) as u64;
    let limit = getrlimit(Resource::Nofile);
    let most = |hard: Option<u64>| hard.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|soft| soft < needed) {
        let raised = |hard: u64| Rlimit {
            current: Some(needed.min(hard)),
            maximum: Some(hard),
        };
        let hard = most(limit.maximum);
        if setrlimit(Resource::Nofile, raised(hard.max(needed))).is_err() {
            // What is not allowed is seen below.
            let _ = setrlimit(Resource::Nofile, raised(hard));
        }
    }
    let soft = most(getrlimit(Resource::Nofile).current);
    usize::try_from(soft).map_or(wanted, |soft| soft.saturating_sub(OTHERS))
}

fn table(
    title: &str,
    kinds: &[&'static str],
    rounds: usize,
    connections: usize,
    relayed: bool,
) -> io::Result<()> {
    let mut runners: Vec<Runner<'_, io::Result<Idle>>> = kinds
        .iter()
        .map(|&name| Runner {
            name,
            run: Box::new(move || once(name, connections, relayed)),
        })
        .collect();
    let series = collect(interleave(rounds, &mut runners))?;
    let mut table = Table::new(&[
        "kind",
        "connections",
        "KiB per connection",
        "ours / theirs",
        "live bytes",
    ]);
    let ours = series[0].figures(Idle::kib_per_connection);
    for theirs in &series {
        let ratio = Ratio::of(&ours, &theirs.figures(Idle::kib_per_connection));
        table.row([
            theirs.name.to_string(),
            connections.to_string(),
            format!("{:.2}", theirs.median(Idle::kib_per_connection)),
            times(ratio.median),
            live(theirs),
        ]);
    }
    table.print(title);
    if connections < WANTED {
        println!("{connections} connections, because the machine allows no more descriptors (or in a hurry).");
    }
    Ok(())
}

fn live(series: &Series<Idle>) -> String {
    let most = series.rounds.iter().map(|round| round.live).max();
    most.unwrap_or_default().to_string()
}

fn once(kind: &str, connections: usize, relayed: bool) -> io::Result<Idle> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let mut server = Server::start(kind, Some(&upstream), None)?;
    // The first one pays for what is there once.
    let mut open = vec![connect(&server, &upstream, relayed)?];
    std::thread::sleep(SETTLE);
    let before = server.resident()?;
    while open.len() <= connections {
        open.push(connect(&server, &upstream, relayed)?);
    }
    std::thread::sleep(SETTLE);
    Ok(Idle {
        connections,
        bytes: server.resident()?.saturating_sub(before),
        live: server.figures()?.live,
    })
}

/// A connection that has been used in both directions.
fn connect(
    server: &Server,
    upstream: &TcpListener,
    relayed: bool,
) -> io::Result<(TcpStream, Option<TcpStream>)> {
    let mut message = MESSAGE;
    let mut client = TcpStream::connect(server.address)?;
    client.write_all(&message)?;
    let behind = match relayed {
        true => {
            let (mut behind, _) = upstream.accept()?;
            behind.read_exact(&mut message)?;
            behind.write_all(&message)?;
            Some(behind)
        }
        false => None,
    };
    client.read_exact(&mut message)?;
    Ok((client, behind))
}
