//! A TCP relay whose buffers never take more memory than it was given: the crate's main job.
//!
//! ```text
//!   client ◀──────▶ relay ◀──────▶ upstream        all of the relay's buffers come from one pool with a hard limit
//! ```
//!
//! `cargo run --release --example relay` starts an upstream that echoes, the relay in front of it, and a load generator
//! that checks every byte, with a limit so small that reservations park. It prints a line a second and a summary, and fails
//! when resident memory passed the limit or a byte was lost. With `--upstream` it is a relay in front of anything.
//!
//! What to read: [`relay`] is how a server uses a pool; [`load`] is the other side of it; [`observe`] watches both.

mod args;
mod books;
mod inspect;
mod load;
mod observe;
mod relay;
mod resident;
mod summary;

use std::fmt::Display;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use offheap::Pool;

use args::Options;
use inspect::Inspect;
use observe::Observer;
use relay::Relay;

/// How long the relay's buffers may take to come back once its connections are gone.
const CLOSE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let options = match args::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("relay: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("relay: {error}");
            let usage = error.kind() == io::ErrorKind::InvalidInput;
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// Answers whether the relay did what it is for.
async fn run(options: Options) -> io::Result<bool> {
    // Before the pool is built: what happens before there is a recorder is not recorded.
    let inspect = match &options.inspect {
        Some(address) => Some(Inspect::bind(address).await?),
        None => None,
    };
    let pool = Pool::builder()
        .name("relay")
        .limit(options.limit)
        .publish_resident(true)
        .publish_classes(true)
        .build()?;
    let built_in = options.upstream.is_none();
    let upstream = match &options.upstream {
        Some(upstream) => resolve("--upstream", upstream).await?,
        None => vec![load::start_echo().await?],
    };
    let at_once = options.connections.filter(|_| !built_in);
    let relay = Relay::new(pool.clone(), upstream, at_once)?;
    let listen = resolve("--listen", &options.listen).await?[0];
    let listener = relay::listen(listen).map_err(|error| named("--listen", listen, error))?;
    let address = listener.local_addr()?;
    println!("listening on {address}, relaying to {}", relay.upstream());
    let inspected = async {
        match inspect {
            Some(inspect) => inspect.serve(&pool).await,
            None => pending().await,
        }
    };

    let mut observer = Observer::new(&relay);
    let work = async {
        let end = time_is_up(options.seconds);
        if built_in {
            let clients = options.connections.unwrap_or(args::CLIENTS);
            let load = load::run(address, clients, end);
            Some(relay.serve(listener, load).await)
        } else {
            relay.serve(listener, end).await;
            None
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        never = observer.run() => match never {},
        Err(error) = inspected => return Err(error),
    };

    // All connections are gone, so all buffers must be back. The summary says if they are not.
    let _ = tokio::time::timeout(CLOSE, pool.closed()).await;
    let summary = observer.finish(outcome).await;
    println!("\n{summary}");
    Ok(summary.complaints().is_empty())
}

async fn resolve(option: &str, host: &str) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host(host).await;
    let found: Vec<_> = found.map_err(|error| named(option, host, error))?.collect();
    if found.is_empty() {
        let error = io::Error::other("the name has no address");
        return Err(named(option, host, error));
    }
    Ok(found)
}

fn named(option: &str, value: impl Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{option} {value}: {error}"))
}

/// Ends after `seconds` (0: never), or when the user has had enough.
async fn time_is_up(seconds: u64) {
    let time = async {
        match seconds {
            0 => pending().await,
            _ => tokio::time::sleep(Duration::from_secs(seconds)).await,
        }
    };
    tokio::select! {
        () = time => {}
        () = interrupted() => {}
    }
}

#[cfg(unix)]
async fn interrupted() {
    use tokio::signal::unix::{signal, SignalKind};

    // Without handlers both signals end the process all the same, only without a summary.
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        pending().await
    }
}
