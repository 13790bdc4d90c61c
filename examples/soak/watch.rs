//! Looks each second, and says at the end what was found.
//!
//! | promise | how it is looked at |
//! | --- | --- |
//! | hard limit | `committed` at or below the highest limit, always; at or below the present one, but for a while after it was lowered |
//! | resident within limit | [`Pool::resident`], three times before it counts: memory on its way between sizes may be counted twice |
//! | exact books | sums and orders between the figures of a snapshot; counters that never go back; at the end, nothing live and no one waiting |
//! | nobody starves | the load's own clock: from a reservation's first poll until it is done |
//! | nothing is lost | every byte compared; hooks and tokens counted twice, where they are set and where they arrive |
//! | nothing leaks | a line through what the process has resident beside the pool's blocks, over the second half of the time |

use std::fmt::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use offheap::{Pool, Stats};
use tokio::runtime::Runtime;

use crate::load::Load;
use crate::tally::{get, Tally};

/// How long the limit may be exceeded by what was committed before it was lowered: until whoever holds a buffer drops it.
const DEBT: Duration = Duration::from_secs(5);
/// How long everything may take to come to its end.
const END: Duration = Duration::from_secs(60);
/// More than this, by the slope of the second half over its length, is a leak.
const LEAK: f64 = (8 << 20) as f64;

struct Sample {
    at: f64,
    process: f64,
    beside: f64,
}

pub(crate) struct Watch {
    pool: Pool,
    tally: Arc<Tally>,
    starve: Duration,
    most: u64,
    started: Instant,
    last: Stats,
    in_debt_since: Option<Instant>,
    longest_debt: Duration,
    peak_committed: u64,
    peak_resident: u64,
    peak_waiting: u64,
    looks: u64,
    samples: Vec<Sample>,
    complaints: Vec<String>,
}

impl Watch {
    pub(crate) fn new(pool: Pool, tally: Arc<Tally>, starve: Duration) -> Self {
        Watch {
            most: pool.limit() as u64,
            last: pool.stats(),
            pool,
            tally,
            starve,
            started: Instant::now(),
            in_debt_since: None,
            longest_debt: Duration::ZERO,
            peak_committed: 0,
            peak_resident: 0,
            peak_waiting: 0,
            looks: 0,
            samples: Vec::new(),
            complaints: Vec::new(),
        }
    }

    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    fn complain(&mut self, text: String) {
        if self.complaints.len() < 100 {
            println!("{:6.1} s  {text}", self.started.elapsed().as_secs_f64());
            self.complaints.push(text);
        }
    }

    /// Looks each second until `time` is over.
    pub(crate) fn run(&mut self, time: Duration) {
        let mut next = Duration::ZERO;
        while next < time {
            next = (next + Duration::from_secs(1)).min(time);
            thread::sleep(next.saturating_sub(self.started.elapsed()));
            self.look();
            if next.as_secs() % 10 == 0 {
                self.say();
            }
        }
    }

    fn look(&mut self) {
        self.looks += 1;
        let stats = self.pool.stats();
        self.look_at_limit(&stats);
        self.look_at_books(&stats);
        self.look_at_resident();
        let oldest = self.tally.oldest_wait();
        if oldest > self.starve {
            self.complain(format!("someone has waited for {oldest:.1?}: {stats:?}"));
        }
        for fault in self.tally.take_faults() {
            self.complain(fault);
        }
        self.peak_committed = self.peak_committed.max(stats.committed);
        self.peak_waiting = self.peak_waiting.max(stats.waiting);
        self.last = stats;
    }

    fn look_at_limit(&mut self, stats: &Stats) {
        if stats.committed > self.most {
            self.complain(format!("hard limit of {} bytes: {stats:?}", self.most));
        }
        if stats.committed <= stats.limit {
            self.in_debt_since = None;
            return;
        }
        // A look each second can see two debts as one; they are short all the same.
        let debt = self
            .in_debt_since
            .get_or_insert_with(Instant::now)
            .elapsed();
        self.longest_debt = self.longest_debt.max(debt);
        if debt > DEBT {
            self.complain(format!("in debt for {debt:.1?}: {stats:?}"));
        }
    }

    fn look_at_books(&mut self, stats: &Stats) {
        let last = self.last;
        let holds = [
            (
                "committed = live + queued",
                stats.committed == stats.live + stats.queued,
            ),
            ("stranded <= queued", stats.stranded <= stats.queued),
            ("requested <= live", stats.requested <= stats.live),
            ("live <= peak_live", stats.live <= stats.peak_live),
            (
                "reserved = reclaimed + buffers",
                stats.reserved_total == stats.reclaimed_total + stats.buffers,
            ),
            (
                "waiting has bytes",
                (stats.waiting == 0) == (stats.waiting_bytes == 0),
            ),
            (
                "counters never go back",
                stats.reserved_total >= last.reserved_total
                    && stats.reclaimed_total >= last.reclaimed_total
                    && stats.parked_total >= last.parked_total
                    && stats.cancelled_total >= last.cancelled_total
                    && stats.cleaned_bytes_total >= last.cleaned_bytes_total,
            ),
        ];
        for (what, holds) in holds {
            if !holds {
                self.complain(format!("books, {what}: {stats:?}, before {last:?}"));
            }
        }
    }

    fn look_at_resident(&mut self) {
        let looks = (0..3).map_while(|_| self.pool.resident());
        let most = self.most;
        let resident = looks.reduce(|a, b| if a > most { b } else { a });
        if let Some(resident) = resident {
            self.peak_resident = self.peak_resident.max(resident);
            if resident > most {
                self.complain(format!(
                    "{resident} bytes are resident, with a limit of {most}"
                ));
            }
        }
        if let Some(process) = process_resident() {
            self.samples.push(Sample {
                at: self.started.elapsed().as_secs_f64(),
                process: process as f64,
                beside: process.saturating_sub(resident.unwrap_or(0)) as f64,
            });
        }
    }

    fn say(&self) {
        let stats = &self.last;
        println!(
            "{:6.0} s  committed {:5.1} of {:5.1} MiB, live {:5.1}, waiting {:3}, oldest {:4.0} ms; {} reserved, {} parked",
            self.started.elapsed().as_secs_f64(),
            mib(stats.committed),
            mib(stats.limit),
            mib(stats.live),
            stats.waiting,
            self.tally.oldest_wait().as_secs_f64() * 1e3,
            stats.reserved_total,
            stats.parked_total
        );
    }

    /// Ends the load and looks whether everything is back.
    pub(crate) fn finish(&mut self, load: Load, runtime: Runtime) {
        if !load.stop(&runtime, END) {
            self.complain(format!(
                "the load did not end within {END:?}: {:?}",
                self.pool.stats()
            ));
        }
        let pool = self.pool.clone();
        if runtime.block_on(async { tokio::time::timeout(END, pool.closed()).await.is_err() }) {
            let holders = self.pool.holders();
            self.complain(format!("not closed within {END:?}, held by {holders:?}"));
        }
        drop(runtime);
        self.look();
        let stats = self.pool.stats();
        if (stats.live, stats.buffers, stats.waiting) != (0, 0, 0)
            || stats.reserved_total != stats.reclaimed_total
        {
            self.complain(format!("not all is back: {stats:?}"));
        }
        let tally = &self.tally;
        let hooks = (get(&tally.hooks_set), get(&tally.hooks_run));
        let tokens = (get(&tally.tokens_set), get(&tally.tokens_seen));
        if hooks.0 != hooks.1 || tokens.0 != tokens.1 {
            self.complain(format!("hooks set and run: {hooks:?}; tokens: {tokens:?}"));
        }
        if let Some(line) = self.line(|sample| sample.beside) {
            // Three times what chance may make of it.
            if line.growth() - 3.0 * line.error * line.seconds > LEAK {
                self.complain(format!("memory beside the pool grows by {line}"));
            }
        }
    }

    /// A line through the samples of the second half.
    fn line(&self, of: impl Fn(&Sample) -> f64) -> Option<Line> {
        let half = &self.samples[self.samples.len() / 2..];
        let n = half.len() as f64;
        if half.len() < 5 {
            return None;
        }
        let mean = |f: &dyn Fn(&Sample) -> f64| half.iter().map(f).sum::<f64>() / n;
        let (at, bytes) = (mean(&|s| s.at), mean(&of));
        let spread: f64 = half.iter().map(|s| (s.at - at).powi(2)).sum();
        let common: f64 = half.iter().map(|s| (s.at - at) * (of(s) - bytes)).sum();
        let slope = common / spread;
        let off: f64 = half
            .iter()
            .map(|s| (of(s) - bytes - slope * (s.at - at)).powi(2))
            .sum();
        Some(Line {
            mean: bytes,
            slope,
            error: (off / (n - 2.0) / spread).sqrt(),
            seconds: half.last()?.at - half.first()?.at,
        })
    }

    pub(crate) fn summary(&self) -> String {
        let (stats, tally) = (&self.last, &self.tally);
        let mut text = String::new();
        let mut say = |what: &str, value: &dyn fmt::Display| {
            let _ = writeln!(text, "{what:<28} {value}");
        };
        say(
            "seconds",
            &format_args!("{:.0}", self.started.elapsed().as_secs_f64()),
        );
        say("looks", &self.looks);
        say("bytes relayed", &get(&tally.relayed_bytes));
        say("connections", &get(&tally.connections));
        say("bytes fanned out", &get(&tally.fanned_out));
        say(
            "cache hits, misses",
            &format_args!("{}, {}", get(&tally.cache_hits), get(&tally.cache_misses)),
        );
        say("given up", &get(&tally.given_up));
        say("resizes", &get(&tally.resizes));
        say("threads", &get(&tally.threads));
        say(
            "hooks, tokens",
            &format_args!("{}, {}", get(&tally.hooks_run), get(&tally.tokens_seen)),
        );
        say("blocks reserved", &stats.reserved_total);
        say(
            "parked, cancelled",
            &format_args!("{}, {}", stats.parked_total, stats.cancelled_total),
        );
        say(
            "MiB given back",
            &format_args!("{:.0}", mib(stats.cleaned_bytes_total)),
        );
        say("most waiting at once", &self.peak_waiting);
        say(
            "longest wait",
            &format_args!("{:.0} ms", tally.longest_wait().as_secs_f64() * 1e3),
        );
        say(
            "longest debt seen",
            &format_args!("{:.1} s", self.longest_debt.as_secs_f64()),
        );
        say(
            "limit, most committed, MiB",
            &format_args!("{:.1}, {:.1}", mib(self.most), mib(self.peak_committed)),
        );
        say(
            "most resident, MiB",
            &format_args!("{:.1}", mib(self.peak_resident)),
        );
        if let Some(line) = self.line(|sample| sample.process) {
            say("process, resident", &line);
        }
        if let Some(line) = self.line(|sample| sample.beside) {
            say("of it beside the pool", &line);
        }
        say("complaints", &self.complaints.len());
        for complaint in &self.complaints {
            let _ = writeln!(text, "  {complaint}");
        }
        text
    }
}

struct Line {
    /// Bytes.
    mean: f64,
    /// Bytes a second.
    slope: f64,
    /// Its standard error.
    error: f64,
    seconds: f64,
}

impl Line {
    /// Bytes, over the time that the line is drawn through.
    fn growth(&self) -> f64 {
        self.slope * self.seconds
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MiB on average, {:+.1} ± {:.1} KiB a minute",
            self.mean / f64::from(1 << 20),
            self.slope * 60.0 / 1024.0,
            self.error * 60.0 / 1024.0
        )
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What the process has resident, in bytes. `None` where the system does not say.
fn process_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
