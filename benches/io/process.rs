//! A process that is measured: what it says, what it costs.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use offheap_benches::figures::Series;

/// The series, or the first error in them.
pub(crate) fn collect<T>(series: Vec<Series<io::Result<T>>>) -> io::Result<Vec<Series<T>>> {
    let all = series.into_iter().map(|series| {
        Ok(Series {
            name: series.name,
            rounds: series.rounds.into_iter().collect::<io::Result<_>>()?,
        })
    });
    all.collect()
}

/// A server of some kind, until it is dropped.
pub(crate) struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

/// The pool of a server, in bytes.
pub(crate) struct Figures {
    pub(crate) live: u64,
    pub(crate) peak_live: u64,
    pub(crate) limit: u64,
}

impl Server {
    /// Starts this program again as a server of that kind in front of an upstream.
    pub(crate) fn start(
        kind: &str,
        upstream: Option<&TcpListener>,
        limit: Option<usize>,
    ) -> io::Result<Server> {
        let port = match upstream {
            Some(listener) => listener.local_addr()?.port(),
            None => 0,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", kind, &port.to_string()]);
        command.args(limit.map(|limit| limit.to_string()));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::other("the server has no pipes");
        let input = child.stdin.take().ok_or_else(gone)?;
        let mut output = BufReader::new(child.stdout.take().ok_or_else(gone)?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let port: u16 = line.trim().parse().map_err(io::Error::other)?;
        Ok(Server {
            child,
            input,
            output,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        })
    }

    /// CPU time so far, of all threads, in user mode and in the kernel.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let ran = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
            nanos += ran.ok_or_else(|| io::Error::other("no figures in schedstat"))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kib = line.and_then(|line| {
            line.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        });
        Ok(kib.ok_or_else(|| io::Error::other("no Rss"))? << 10)
    }

    pub(crate) fn figures(&mut self) -> io::Result<Figures> {
        writeln!(self.input)?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>());
        let mut next = || {
            let number = numbers.next().and_then(Result::ok);
            number.ok_or_else(|| io::Error::other("no figures"))
        };
        Ok(Figures {
            live: next()?,
            peak_live: next()?,
            limit: next()?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
