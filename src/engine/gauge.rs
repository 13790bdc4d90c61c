//! The level of pressure, from what the pool knows.

use std::time::{Duration, Instant};

use super::Engine;
use crate::budget::wake;
use crate::reclaim::{Gauge, Pressure, Reading};

impl Engine {
    /// How often the reclaimer looks, as long as anyone watches and it matters.
    pub(crate) const SAMPLE: Duration = Duration::from_millis(50);

    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Something has changed that may be of interest to those who watch. Without a lock.
    pub(super) fn note_pressure(&self) {
        if self.gauge.is_watched() {
            self.read_pressure();
            if self.is_sampled() {
                self.bell.ring();
            }
        }
    }

    /// Brings the level up to date.
    pub(crate) fn read_pressure(&self) -> Pressure {
        let reading = Reading {
            live: self.live_estimate(),
            limit: self.limit(),
            parked: self.waiting().0 > 0,
            now: Instant::now(),
        };
        let wakers = self.gauge.read(self.high_water, reading);
        wakers.into_iter().for_each(wake);
        self.gauge.level()
    }

    /// Whether the level can change without anyone passing by: live memory grows and shrinks unseen within what is committed.
    pub(crate) fn is_sampled(&self) -> bool {
        self.gauge.is_watched()
            && (self.gauge.level() != Pressure::Calm
                || self.committed() as f64 >= self.high_water * self.limit() as f64)
    }
}
