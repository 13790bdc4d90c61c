//! One connection that sends as fast as it can.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use offheap_benches::figures::{interleave, times, Ratio, Runner, Series, Table};

use crate::load;
use crate::process::{collect, Server};
use crate::Options;

const KINDS: [&str; 6] = [
    "offheap",
    "tokio-8",
    "tokio-64",
    "tokio-256",
    "readiness",
    "splice",
];

/// One transfer: how long it took, and what CPU time the relay took for it.
struct Transfer {
    bytes: usize,
    took: Duration,
    cpu: Duration,
}

impl Transfer {
    fn gb(&self) -> f64 {
        self.bytes as f64 / 1e9
    }

    fn gb_per_second(&self) -> f64 {
        self.gb() / self.took.as_secs_f64()
    }

    fn cpu_per_gb(&self) -> f64 {
        self.cpu.as_secs_f64() / self.gb()
    }
}

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let (rounds, bytes) = options.pick((7, 1 << 30), (1, 64 << 20));
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let servers: io::Result<Vec<Server>> = KINDS
        .iter()
        .map(|kind| Server::start(kind, Some(&upstream), None))
        .collect();
    let servers = servers?;
    let transfer = |server: &Server| -> io::Result<Transfer> {
        let before = server.cpu()?;
        let took = load::bulk(server.address, &upstream, bytes)?;
        let cpu = server.cpu()? - before;
        Ok(Transfer { bytes, took, cpu })
    };
    let mut runners: Vec<Runner<'_, io::Result<Transfer>>> = KINDS
        .iter()
        .zip(&servers)
        .map(|(&name, server)| Runner {
            name,
            run: Box::new(move || transfer(server)),
        })
        .collect();
    print(&collect(interleave(rounds, &mut runners))?);
    Ok(())
}

fn print(series: &[Series<Transfer>]) {
    let mut table = Table::new(&[
        "relay",
        "GB/s",
        "CPU s per GB",
        "throughput: ours / theirs",
        "CPU: ours / theirs",
    ]);
    let ours = &series[0];
    for theirs in series {
        let ratio = |figure: fn(&Transfer) -> f64| {
            times(Ratio::of(&ours.figures(figure), &theirs.figures(figure)).median)
        };
        table.row([
            theirs.name.to_string(),
            format!("{:.2}", theirs.median(Transfer::gb_per_second)),
            format!("{:.3}", theirs.median(Transfer::cpu_per_gb)),
            ratio(Transfer::gb_per_second),
            ratio(Transfer::cpu_per_gb),
        ]);
    }
    table.print("Bulk relay, one connection");
}
