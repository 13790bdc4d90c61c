//! What happens after drop: the reclaimer.
//!
//! The reclaimer gives queued memory back to the OS when no one has used it for a while, cleans for whoever waits, and
//! finishes the closing of a pool. It is not needed for progress: the head of the queue and the dropping thread can do
//! all that it does. It sleeps without a timer while nothing is queued, and is rung by the first drop after that.
//!
//! [`Reclaimer`] is one turn of the work, without threads or runtimes; `driver` runs it as a tokio task, or on a
//! thread where there is no runtime, and starts it again when its runtime ends or it panics.

mod bell;
mod callbacks;
#[cfg(not(offheap_loom))]
mod driver;
mod hooks;
mod pressure;
mod references;

use std::time::{Duration, Instant};

use crate::arena::Idle;
use crate::engine::Engine;

pub(crate) use bell::Bell;
pub(crate) use callbacks::Callback;
pub use callbacks::{Need, Urgency};
#[cfg(not(offheap_loom))]
pub(crate) use driver::{start, Habits};
pub(crate) use hooks::{contain, show, FaultHandler, Hook, Job, Jobs, Token};
pub use hooks::{Fault, FaultKind};
pub use pressure::Pressure;
pub(crate) use pressure::{Gauge, Reading};
pub use references::{ReferenceHandle, ReferenceQueue};

/// When to take the next turn, unless the bell rings earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more to do at once; others have a turn first.
    Soon,
    /// Only when the bell rings.
    Rung,
    At(Instant),
}

impl Next {
    /// The same, but not later than `due`.
    fn at_latest(self, due: Instant) -> Next {
        match self {
            Next::Soon => Next::Soon,
            Next::Rung => Next::At(due),
            Next::At(time) => Next::At(time.min(due)),
        }
    }
}

/// The reclaimer's memory from turn to turn.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    /// How long memory may be queued and unused.
    idle: Duration,
    notes: Vec<Idle>,
    /// When the next round of ageing is due; none while there is nothing to age.
    round: Option<Instant>,
}

impl Reclaimer {
    pub(crate) fn new(engine: &Engine, idle: Duration) -> Self {
        Reclaimer {
            idle,
            notes: engine.idle_notes(),
            round: None,
        }
    }

    /// Does what is to be done at this time.
    pub(crate) fn turn(&mut self, engine: &Engine, now: Instant) -> Next {
        let next = self.reclaim(engine, now);
        if engine.is_sampled() {
            engine.read_pressure();
            return next.at_latest(now + Engine::SAMPLE);
        }
        next
    }

    fn reclaim(&mut self, engine: &Engine, now: Instant) -> Next {
        engine.touch_clock();
        engine.serve_denied();
        let more = engine.clean_some();
        engine.last_resort(true);
        engine.help();
        if more {
            return Next::Soon;
        }
        if engine.is_closed() {
            // Not earlier: what is being cleaned is not counted as home, and `closed` waits for no one but the users.
            if engine.outstanding() == 0 {
                engine.trim();
            }
            return Next::Rung;
        }
        let due = *self.round.get_or_insert(now + self.idle / Engine::ROUNDS);
        if now < due {
            return Next::At(due);
        }
        engine.age(&mut self.notes, Engine::ticks(self.idle));
        // Only here, so that at most one drop in a round has to ring.
        if engine.fall_asleep() {
            self.round = None;
            return Next::Rung;
        }
        let due = now + self.idle / Engine::ROUNDS;
        self.round = Some(due);
        Next::At(due)
    }
}
