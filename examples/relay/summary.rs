//! What is said at the end: for people, the verdict, and one line for programs.

use std::fmt;
use std::time::Duration;

use offheap::Stats;

use crate::books::{Troubles, Waits};
use crate::load::Outcome;

/// All that is known of a relay that is done.
pub(crate) struct Summary {
    pub(crate) elapsed: Duration,
    pub(crate) stats: Stats,
    pub(crate) peak_resident: Option<u64>,
    /// More memory was resident than may be: how much, and how much may.
    pub(crate) excess: Option<(u64, u64)>,
    pub(crate) waits: Waits,
    pub(crate) connections: u64,
    pub(crate) stalled: u64,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) troubles: Troubles,
    /// What the load generator found, if there was one.
    pub(crate) outcome: Option<Outcome>,
}

impl Summary {
    /// What did not go as it must; empty is a pass.
    ///
    /// Broken connections are not among it: whoever is at the other end may break them. If that was the relay's doing, the
    /// load generator finds bytes missing.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some((resident, allowed)) = self.excess {
            complaints.push(format!(
                "{resident} bytes were resident, {allowed} are allowed"
            ));
        }
        if let Some(lost) = self.lost().filter(|&lost| lost > 0) {
            complaints.push(format!("{lost} bytes were lost"));
        }
        if let Some(outcome) = self.outcome.as_ref().filter(|outcome| outcome.failed > 0) {
            let last = last(&outcome.last_failure);
            complaints.push(format!("{} clients failed{last}", outcome.failed));
        }
        if self.troubles.faults > 0 {
            let last = last(&self.troubles.last_fault);
            complaints.push(format!(
                "{} faults of the relay{last}",
                self.troubles.faults
            ));
        }
        if self.stats.live > 0 {
            complaints.push(format!(
                "{} bytes of buffers did not come back",
                self.stats.live
            ));
        }
        complaints
    }

    /// Bytes that were sent and did not come back, where that can be known.
    fn lost(&self) -> Option<u64> {
        self.outcome
            .as_ref()
            .map(|outcome| outcome.sent - outcome.received)
    }

    fn gb_per_second(&self) -> f64 {
        gb_per_second(self.up + self.down, self.elapsed)
    }

    /// The summary as `key=value` pairs.
    fn write_pairs(&self, f: &mut fmt::Formatter<'_>, verdict: &str) -> fmt::Result {
        let micros = |wait: Duration| wait.as_micros();
        write!(f, "summary: verdict={verdict}")?;
        write!(f, " seconds={:.2}", self.elapsed.as_secs_f64())?;
        write!(f, " connections={}", self.connections)?;
        write!(f, " stalled={}", self.stalled)?;
        write!(f, " broken={}", self.troubles.broken)?;
        write!(f, " bytes_up={} bytes_down={}", self.up, self.down)?;
        write!(f, " lost={}", Maybe(self.lost()))?;
        write!(f, " gb_per_second={:.3}", self.gb_per_second())?;
        write!(f, " parked_total={}", self.stats.parked_total)?;
        write!(f, " wait_p50_us={}", micros(self.waits.percentile(50)))?;
        write!(f, " wait_p99_us={}", micros(self.waits.percentile(99)))?;
        write!(f, " wait_max_us={}", micros(self.waits.longest()))?;
        write!(
            f,
            " limit={} metadata={}",
            self.stats.limit, self.stats.metadata
        )?;
        write!(f, " peak_live={}", self.stats.peak_live)?;
        write!(f, " peak_resident={}", Maybe(self.peak_resident))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} connections, {} stalled, {} broken{}",
            self.connections,
            self.stalled,
            self.troubles.broken,
            last(&self.troubles.last_broken),
        )?;
        writeln!(
            f,
            "relayed: {} bytes up and {} bytes down in {:.1} s, {:.2} GB/s",
            self.up,
            self.down,
            self.elapsed.as_secs_f64(),
            self.gb_per_second(),
        )?;
        if let Some(outcome) = &self.outcome {
            writeln!(f, "load: {outcome}")?;
        }
        writeln!(
            f,
            "waits: {} reservations parked, p50 {}, p99 {}, longest {}",
            self.stats.parked_total,
            Millis(self.waits.percentile(50)),
            Millis(self.waits.percentile(99)),
            Millis(self.waits.longest()),
        )?;
        writeln!(
            f,
            "memory: at most {} bytes live, {} bytes resident; allowed are {} bytes, the limit, and {} bytes of block headers",
            self.stats.peak_live,
            Maybe(self.peak_resident),
            self.stats.limit,
            self.stats.metadata,
        )?;
        let complaints = self.complaints();
        for complaint in &complaints {
            writeln!(f, "FAIL: {complaint}")?;
        }
        let verdict = if complaints.is_empty() {
            "PASS"
        } else {
            "FAIL"
        };
        self.write_pairs(f, verdict)
    }
}

pub(crate) fn gb_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e9 / time.as_secs_f64()
}

fn last(what: &Option<String>) -> String {
    what.as_ref()
        .map_or_else(String::new, |what| format!(" (the last one: {what})"))
}

/// Bytes, for people.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.0 as f64 / 1024.0;
        if kib < 1024.0 {
            write!(f, "{kib:.0} KiB")
        } else {
            write!(f, "{:.1} MiB", kib / 1024.0)
        }
    }
}

/// A time, for people.
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms", self.0.as_secs_f64() * 1e3)
    }
}

/// A figure that may not be had here.
pub(crate) struct Maybe<T>(pub(crate) Option<T>);

impl<T: fmt::Display> fmt::Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(figure) => figure.fmt(f),
            None => f.write_str("n/a"),
        }
    }
}
