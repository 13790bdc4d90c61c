//! The example itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use offheap::io::{send_file, splice_file, MappedFile};
use offheap::Pool;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const HELP: &str = "\
Sends a file over loopback in four ways and compares them.

Usage: four_ways [OPTIONS]

Options:
  --file PATH    the file to send, instead of one made for the purpose
  --size BYTES   how large a file to make [256MiB]
  --rounds N     how often each way is taken, by turns [5]
  -h, --help     this text";

/// What read and write move at once.
const BUFFER: usize = 256 << 10;

#[derive(Clone, Copy)]
enum Way {
    ReadWrite,
    MapWrite,
    SendFile,
    Splice,
}

impl Way {
    const ALL: [Way; 4] = [Way::ReadWrite, Way::MapWrite, Way::SendFile, Way::Splice];

    fn name(self) -> &'static str {
        match self {
            Way::ReadWrite => "read + write",
            Way::MapWrite => "mmap + write",
            Way::SendFile => "sendfile",
            Way::Splice => "splice",
        }
    }

    /// How often the processor copies each byte on its way from the page cache to the socket: by what the calls do.
    fn copies(self) -> &'static str {
        match self {
            Way::ReadWrite => "2: page cache → buffer → socket",
            Way::MapWrite => "1: page cache → socket",
            Way::SendFile | Way::Splice => "0: the socket refers to the page cache",
        }
    }
}

/// One transfer.
struct Run {
    calls: u64,
    cpu: Duration,
    took: Duration,
}

pub(crate) fn main() -> ExitCode {
    match options().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("four_ways: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    file: Option<PathBuf>,
    size: usize,
    rounds: usize,
}

fn options() -> io::Result<Options> {
    let mut options = Options {
        file: None,
        size: 256 << 20,
        rounds: 5,
    };
    let usage = |error: lexopt::Error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("file") => options.file = Some(args.value().map_err(usage)?.into()),
            Long("size") => {
                let text = args.value().and_then(ValueExt::string).map_err(usage)?;
                options.size = offheap::parse_bytes(&text).map_err(io::Error::other)?;
            }
            Long("rounds") => {
                options.rounds = args.value().and_then(|v| v.parse()).map_err(usage)?
            }
            Short('h') | Long("help") => {
                println!("{HELP}");
                std::process::exit(0);
            }
            _ => return Err(usage(arg.unexpected())),
        }
    }
    options.rounds = options.rounds.max(1);
    Ok(options)
}

/// A file of `size` bytes that repeat neither at a page's nor at a buffer's distance; it has no name any more.
fn make(size: usize) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("offheap-four-ways-{}", std::process::id()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    let mut state = 1_u64;
    let mut chunk = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        for bytes in chunk.chunks_mut(8) {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            bytes.copy_from_slice(&(state ^ state >> 32).to_le_bytes()[..bytes.len()]);
        }
        let n = left.min(chunk.len());
        file.write_all(&chunk[..n])?;
        left -= n;
    }
    Ok(file)
}

fn run(options: Options) -> io::Result<()> {
    let file = match &options.file {
        Some(path) => File::open(path)?,
        None => make(options.size)?,
    };
    let len = file.metadata()?.len();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let pool = {
        let _entered = runtime.enter();
        Pool::builder().name("four ways").limit(1 << 20).build()?
    };
    let mut runs: Vec<(Way, Vec<Run>)> = Way::ALL.iter().map(|&way| (way, Vec::new())).collect();
    // A round that does not count brings the file into the page cache.
    for round in 0..=options.rounds {
        for (way, runs) in &mut runs {
            let run = runtime.block_on(once(*way, &file, len, &pool))?;
            if round > 0 {
                runs.push(run);
            }
        }
    }
    println!(
        "{len} bytes over loopback, every byte compared; medians of {} rounds\n",
        options.rounds
    );
    println!("| way | copies by the processor | system calls | CPU ms | GB/s |");
    println!("| --- | --- | --- | --- | --- |");
    for (way, runs) in &runs {
        let median = |figure: &dyn Fn(&Run) -> f64| {
            let mut figures: Vec<f64> = runs.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        println!(
            "| {} | {} | {:.0} | {:.1} | {:.2} |",
            way.name(),
            way.copies(),
            median(&|run| run.calls as f64),
            median(&|run| run.cpu.as_secs_f64() * 1e3),
            median(&|run| len as f64 / 1e9 / run.took.as_secs_f64()),
        );
    }
    Ok(())
}

/// Sends the file one way, to a thread that compares it.
async fn once(way: Way, file: &File, len: u64, pool: &Pool) -> io::Result<Run> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    let expected = file.try_clone()?;
    let receiver = thread::spawn(move || compare(&listener, &expected));
    let (started, cpu) = (Instant::now(), cpu()?);
    let calls = match way {
        Way::ReadWrite => read_write(file, len, &mut stream, pool).await?,
        Way::MapWrite => {
            let mapped = MappedFile::open(file)?;
            let mut sending = mapped.send(.., &stream);
            (&mut sending).await?;
            // And those that map and unmap.
            sending.calls() + 2
        }
        Way::SendFile => {
            let mut sending = send_file(file, .., &stream);
            (&mut sending).await?;
            sending.calls()
        }
        Way::Splice => {
            let mut sending = splice_file(file, .., &stream);
            (&mut sending).await?;
            sending.calls()
        }
    };
    let cpu = self::cpu()? - cpu;
    stream.shutdown().await?;
    let received = receiver
        .join()
        .map_err(|_| io::Error::other("the receiver panicked"))??;
    if received != len {
        let text = format!("{}: {received} bytes of {len} arrived", way.name());
        return Err(io::Error::other(text));
    }
    Ok(Run {
        calls,
        cpu,
        took: started.elapsed(),
    })
}

/// Answers how many calls it took.
async fn read_write(file: &File, len: u64, stream: &mut TcpStream, pool: &Pool) -> io::Result<u64> {
    let mut calls = 0;
    let mut at = 0;
    let mut buffer = pool.reserve_zeroed(BUFFER).await?;
    while at < len {
        let n = file.read_at(&mut buffer, at)?;
        calls += 1;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += n as u64;
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let n = stream.write(rest).await?;
            calls += 1;
            rest = &rest[n..];
        }
    }
    Ok(calls)
}

/// Answers how many bytes came; an error where one of them is not the file's.
fn compare(listener: &TcpListener, file: &File) -> io::Result<u64> {
    let (mut stream, _) = listener.accept()?;
    let mut received = vec![0; 1 << 20];
    let mut expected = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = stream.read(&mut received)?;
        if n == 0 {
            return Ok(at);
        }
        file.read_exact_at(&mut expected[..n], at)?;
        if received[..n] != expected[..n] {
            let text = format!("the bytes between {at} and {} are wrong", at + n as u64);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        at += n as u64;
    }
}

/// CPU time of this thread so far, in user mode and in the kernel.
fn cpu() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ran = text.split(' ').next().and_then(|ns| ns.parse().ok());
    ran.map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other("no figures in /proc/thread-self/schedstat"))
}
