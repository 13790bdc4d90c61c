//! Small requests and answers over a few dozen connections.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use offheap_benches::figures::{interleave, times, Ratio, Runner, Table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::process::{collect, Server};
use crate::Options;

const CONNECTIONS: usize = 64;
const SIZE: usize = 1 << 10;

/// Some requests: how long they took, and what CPU time the server took for them.
struct Load {
    requests: usize,
    took: Duration,
    cpu: Duration,
}

impl Load {
    fn per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    fn cpu_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }
}

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let servers = ["echo-pooled", "echo-fixed"];
    table("1 KiB requests to an echo server", &servers, options)?;
    let buffered = ["echo-pooledreader", "echo-bufreader"];
    table(
        "1 KiB requests through a buffered reader",
        &buffered,
        options,
    )?;
    let relays = ["offheap", "tokio-8", "tokio-64"];
    table("1 KiB requests through a relay", &relays, options)
}

fn table(title: &str, kinds: &[&'static str], options: &Options) -> io::Result<()> {
    let (rounds, requests) = options.pick((11, 1500), (1, 50));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Of the relays.
    let upstream = std::net::TcpListener::bind("127.0.0.1:0")?;
    upstream.set_nonblocking(true)?;
    let servers: io::Result<Vec<Server>> = kinds
        .iter()
        .map(|kind| Server::start(kind, Some(&upstream), None))
        .collect();
    let servers = servers?;
    let listener = upstream.try_clone()?;
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(echo(stream));
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    let once = |server: &Server| -> io::Result<Load> {
        let before = server.cpu()?;
        let took = runtime.block_on(load(server.address, requests))?;
        Ok(Load {
            requests: requests * CONNECTIONS,
            took,
            cpu: server.cpu()? - before,
        })
    };
    let mut runners: Vec<Runner<'_, io::Result<Load>>> = kinds
        .iter()
        .zip(&servers)
        .map(|(&name, server)| Runner {
            name,
            run: Box::new(move || once(server)),
        })
        .collect();
    let series = collect(interleave(rounds, &mut runners))?;
    let mut table = Table::new(&[
        "kind",
        "requests/s",
        "CPU µs per request",
        "requests/s: ours / theirs",
        "CPU: ours / theirs",
    ]);
    for theirs in &series {
        let ratio = |figure: fn(&Load) -> f64| {
            times(Ratio::of(&series[0].figures(figure), &theirs.figures(figure)).median)
        };
        table.row([
            theirs.name.to_string(),
            format!("{:.0}", theirs.median(Load::per_second)),
            format!("{:.2}", theirs.median(Load::cpu_per_request)),
            ratio(Load::per_second),
            ratio(Load::cpu_per_request),
        ]);
    }
    table.print(&format!("{title}, {CONNECTIONS} connections"));
    Ok(())
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; SIZE];
    loop {
        stream.read_exact(&mut buffer).await?;
        stream.write_all(&buffer).await?;
    }
}

/// So many requests on each connection, one after the other; the time without connecting.
async fn load(server: SocketAddr, requests: usize) -> io::Result<Duration> {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        exchange(&mut stream, 1).await?;
        streams.push(stream);
    }
    let started = Instant::now();
    let mut running = JoinSet::new();
    for mut stream in streams {
        running.spawn(async move { exchange(&mut stream, requests).await });
    }
    while let Some(done) = running.join_next().await {
        done.map_err(io::Error::other)??;
    }
    Ok(started.elapsed())
}

async fn exchange(stream: &mut TcpStream, requests: usize) -> io::Result<()> {
    let mut buffer = [0; SIZE];
    for _ in 0..requests {
        stream.write_all(&[7; SIZE]).await?;
        stream.read_exact(&mut buffer).await?;
    }
    Ok(())
}
