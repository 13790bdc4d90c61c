//! What is told to `tracing`: a span for each parked reservation, and events for what happens to the pool as a whole.
//!
//! A subscriber is user code. It is called where a reservation is polled or dropped, by whoever closes the pool or changes its
//! limit, and by the reclaimer; never by the drop of a buffer, and never under a lock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::field::Empty;
use tracing::Span;

use super::Engine;
use crate::pool::Label;
use crate::sync::Ordering;

/// The span of a reservation while it is parked.
#[derive(Debug, Default)]
pub(super) struct Trace(Mutex<Option<Span>>);

impl Trace {
    pub(super) fn parked(&self, engine: &Engine, bytes: u64, position: usize) {
        let span = tracing::debug_span!(
            "offheap::parked",
            pool = &**Label::of(engine).name(),
            bytes,
            position,
            wait_us = Empty,
            outcome = Empty
        );
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(span);
        engine.tell_pressure();
    }

    /// The reservation is done.
    pub(super) fn done(&self, engine: &Engine, outcome: &str, wait: Duration) {
        if let Some(span) = self.take() {
            span.record("wait_us", wait.as_micros() as u64);
            span.record("outcome", outcome);
        }
        engine.tell_pressure();
    }

    /// The reservation was dropped before it had its memory in hand.
    pub(super) fn cancelled(&self, engine: &Engine) {
        if let Some(span) = self.take() {
            span.record("outcome", "cancelled");
            drop(span);
            engine.tell_pressure();
        }
    }

    fn take(&self) -> Option<Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Engine {
    /// Says whether the pool is pressed, where that is news. Not for the drop path.
    pub(crate) fn tell_pressure(&self) {
        let pressed = self.account.is_pressed() && !self.is_closed();
        let said = &self.counters.tallies.said_pressed;
        // Looked at first: most calls have no news, and the word is shared.
        if said.load(Ordering::Relaxed) == pressed
            || said.swap(pressed, Ordering::Relaxed) == pressed
        {
            return;
        }
        let (waiting, waiting_bytes) = self.waiting();
        tracing::debug!(
            pool = &**Label::of(self).name(),
            pressed,
            waiting,
            waiting_bytes,
            limit = self.limit(),
            committed = self.committed(),
            "{}",
            if pressed {
                "pressed: reservations wait, or the limit is below what is committed"
            } else {
                "calm again: nobody waits"
            }
        );
    }
}
