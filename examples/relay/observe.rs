//! Watches a running relay and prints a line a second.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use offheap::Stats;
use tokio::time::{interval_at, MissedTickBehavior};

use crate::books::Waits;
use crate::load::Outcome;
use crate::relay::Relay;
use crate::resident::resident;
use crate::summary::{gb_per_second, Maybe, Millis, Size, Summary};

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(100);
/// Samples from line to line.
const SAMPLES_PER_LINE: u32 = 10;

/// Watches a relay from its start on.
pub(crate) struct Observer<'a> {
    relay: &'a Relay,
    started: Instant,
    waits: Waits,
    peak_resident: Option<u64>,
    /// The first look at memory that found more of it than there may be: what there was, and what may be.
    excess: Option<(u64, u64)>,
    last_line: Line,
}

/// What the next line is compared with.
struct Line {
    at: Instant,
    relayed: u64,
    parked: u64,
}

/// One look at memory.
struct Sample {
    stats: Stats,
    resident: Option<u64>,
}

impl<'a> Observer<'a> {
    pub(crate) fn new(relay: &'a Relay) -> Self {
        let started = Instant::now();
        Observer {
            relay,
            started,
            waits: Waits::default(),
            peak_resident: None,
            excess: None,
            last_line: Line {
                at: started,
                relayed: 0,
                parked: 0,
            },
        }
    }

    /// Prints a line a second, for ever.
    pub(crate) async fn run(&mut self) -> Infallible {
        let mut ticks = interval_at((self.started + SAMPLE).into(), SAMPLE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for _ in 1..SAMPLES_PER_LINE {
                ticks.tick().await;
                self.sample().await;
            }
            ticks.tick().await;
            let sample = self.sample().await;
            self.print_line(&sample);
        }
    }

    async fn sample(&mut self) -> Sample {
        let range = self.relay.pool().address_range();
        // The kernel looks at every page of the range; the runtime's threads have better things to do.
        let resident = tokio::task::spawn_blocking(move || resident(&range)).await;
        let resident = resident.ok().flatten();
        // Headers are read after what they are compared with, for they only get more.
        let stats = self.relay.pool().stats();
        self.peak_resident = self.peak_resident.max(resident);
        let bound = bound(&stats);
        if self.excess.is_none() {
            self.excess = resident
                .filter(|&bytes| bytes > bound)
                .map(|bytes| (bytes, bound));
        }
        Sample { stats, resident }
    }

    fn print_line(&mut self, sample: &Sample) {
        let books = self.relay.books();
        let waits = books.take_waits();
        let (up, down) = books.relayed();
        let line = Line {
            at: Instant::now(),
            relayed: up + down,
            parked: sample.stats.parked_total,
        };
        println!(
            "{:>4.0} s: {} connections, {:.2} GB/s, live {}, queued {}, parked {} ({} now), p99 wait {}, resident {}",
            (line.at - self.started).as_secs_f64(),
            books.connections(),
            gb_per_second(line.relayed - self.last_line.relayed, line.at - self.last_line.at),
            Size(sample.stats.live),
            Size(sample.stats.queued),
            line.parked - self.last_line.parked,
            sample.stats.waiting,
            Millis(waits.percentile(99)),
            Maybe(sample.resident.map(Size)),
        );
        self.waits.merge(&waits);
        self.last_line = line;
    }

    /// The summary, once the relay is done; `outcome` is what the load generator found, if there was one.
    pub(crate) async fn finish(mut self, outcome: Option<Outcome>) -> Summary {
        let elapsed = self.started.elapsed();
        let stats = self.sample().await.stats;
        let books = self.relay.books();
        self.waits.merge(&books.take_waits());
        let (up, down) = books.relayed();
        Summary {
            elapsed,
            stats,
            peak_resident: self.peak_resident,
            excess: self.excess,
            waits: self.waits,
            connections: books.opened(),
            stalled: books.stalled(),
            up,
            down,
            troubles: books.troubles(),
            outcome,
        }
    }
}

/// What may be resident: the limit, and the headers of blocks, which lie in the same range of addresses but are not the
/// limit's concern.
fn bound(stats: &Stats) -> u64 {
    stats.limit + stats.metadata
}
